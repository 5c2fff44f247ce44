"""The life of a job as a gateway tells it; `python -m tests.contract.job_life` asks again and keeps the answers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.contract.goldens import FOLDER, REQUEST_ID, differences, printed, rounded
from tests.live.jobs import ended
from tests.serving import serving

ID = "5b8f3c0e9a7d4f2e8c1b6a0d3e9f7a24"  # stands for the ids that gateways make
TIMES = {"created": 1772323200.0, "started": 1772323200.125, "finished": 1772323200.5, "deadline": 1772323800.0}


@dataclass(frozen=True)
class Told:
    """One answer in the life of a job."""

    name: str
    status: int
    body: Any


def life(caller: httpx.Client) -> Iterator[Told]:
    """A job handed in, read, listed, paged through and cancelled when it is over, and an order that is refused."""
    body = json.loads((FOLDER / "job.request.json").read_bytes())
    made = caller.post("/v1/jobs", json=body)
    id = made.json()["id"]
    path = f"/v1/jobs/{id}"
    yield _told("job", made, id)
    ended(caller, id)
    yield _told("job-completed", caller.get(path), id)
    yield _told("job-result", caller.get(f"{path}/result"), id)
    yield _told("job-result-page", caller.get(f"{path}/result", params={"offset": "1", "limit": "1"}), id)
    yield _told("job-cancelled-too-late", caller.post(f"{path}/cancel"), id)
    newest = caller.get("/v1/jobs", params={"limit": "1"})
    yield _told("job-list", newest, id)
    refused = (FOLDER / "job-refused.request.json").read_bytes()
    yield _told("job-refused", caller.post("/v1/jobs", json=json.loads(refused)), id)


def _told(name: str, answer: httpx.Response, id: str) -> Told:
    return Told(name, answer.status_code, settled(json.loads(answer.text.replace(id, ID))))


def settled(value: Any) -> Any:
    """A body without what differs from run to run."""
    if isinstance(value, list):
        return [settled(v) for v in value]
    if not isinstance(value, dict):
        return value
    found = {k: settled(v) for k, v in value.items()}
    times: Mapping[str, float] = TIMES if "started" in found else {"created": int(TIMES["created"])}
    found |= {k: v for k, v in times.items() if found.get(k) is not None}
    if "next" in found and found["next"] is not None and not str(found["next"]).startswith("/"):
        found["next"] = "1"  # where a list goes on depends on what else there is
    return found


def refresh() -> None:
    """Play the life of a job, and write down what has changed."""
    asking = {"x-request-id": REQUEST_ID}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as gateway,
        gateway.client(**asking) as caller,
    ):
        for told in life(caller):
            kept = FOLDER / f"{told.name}.response.json"
            changes = differences(json.loads(kept.read_bytes()), told.body) if kept.exists() else ["new"]
            if changes:
                kept.write_text(printed(settled(rounded(told.body))) + "\n")
            print(f"{told.name}: {told.status}", *changes[:5], sep="\n  ")


if __name__ == "__main__":
    refresh()
