"""What tests of jobs share: a gateway with a model that waits, and words for what callers send."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

LENGTH = 33  # rows of a series that stops at the gate
GATED = "test/gated"
NDJSON = {"content-type": "application/x-ndjson"}
Body = dict[str, Any]


def request(series: int = 1, *, model: str = "seasonal-naive", rows: int = 24, **parameters: object) -> Body:
    """A forecast of `series` different series."""
    return {
        "model": model,
        "inputs": [one(i, rows=rows) for i in range(series)],
        "parameters": {"prediction_length": 3, **parameters},
    }


def one(i: int, *, rows: int = 24) -> Body:
    return {"target": [[100.0 * i + t % 7] for t in range(rows)], "item_id": f"s{i}"}


def lines(head: Mapping[str, object], inputs: Iterable[Mapping[str, object]]) -> bytes:
    """An upload."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in (head, *inputs))


def head(*, model: str = "seasonal-naive", **order: object) -> Body:
    """The first line of an upload."""
    return {"type": "forecast", "request": {"model": model, "parameters": {"prediction_length": 3}}, **order}


def submitted(client: httpx.Client, type: str, body: Mapping[str, object], **order: object) -> Body:
    """A job that was taken."""
    answer = client.post("/v1/jobs", json={"type": type, "request": body, **order})
    assert answer.status_code == 202, answer.text
    found: Body = answer.json()
    return found


def events(client: httpx.Client, id: str) -> Iterator[tuple[str, Body]]:
    """Name and data of every event of a job, until there are no more."""
    with client.stream("GET", f"/v1/jobs/{id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            if line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def ended(client: httpx.Client, id: str) -> Body:
    """The job when it is over."""
    name, job = list(events(client, id))[-1]
    assert name == "done", job
    return job
