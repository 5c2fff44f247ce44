"""Jobs of many series: uploaded as lines or as a table, answered once and in order, fetched as a stream."""

from __future__ import annotations

import gzip
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from tests.live.gated import Gate
from tests.live.jobs import GATED, LENGTH, NDJSON, Body, ended, head, lines, one
from tests.serving import COMMAND, REPOSITORY, START_LIMIT_S, Gateway

PARQUET = {"content-type": "application/vnd.apache.parquet"}
SERIES = 600  # more than two chunks


def outputs(client: httpx.Client, id: str, **query: int) -> list[Body]:
    with client.stream(
        "GET", f"/v1/jobs/{id}/result", params=query, headers={"accept": "application/x-ndjson"}
    ) as answer:
        assert answer.status_code == 200
        return [json.loads(line) for line in answer.iter_lines()]


@pytest.fixture(scope="module")
def bulk(gateway: Gateway) -> Iterator[Body]:
    """A job of many series that is over."""
    with gateway.client() as client:
        content = lines(head(priority=2), (one(i) for i in range(SERIES)))
        answer = client.post("/v1/jobs", content=content, headers=NDJSON)
        assert answer.status_code == 202, answer.text
        job = ended(client, answer.json()["id"])
        assert job["progress"] == {"done": SERIES, "total": SERIES, "failed": 0}
        yield job


def test_every_series_is_answered_once_and_in_order(client: httpx.Client, bulk: Body) -> None:
    found = outputs(client, bulk["id"])
    assert [o["index"] for o in found] == list(range(SERIES))
    assert [o["metadata"] for o in found] == [{"item_id": f"s{i}"} for i in range(SERIES)]
    some = [one(i) for i in (0, 255, 256, SERIES - 1)]
    request = {"model": "seasonal-naive", "inputs": some, "parameters": {"prediction_length": 3}}
    at_once = client.post("/v1/forecast", json=request).json()["outputs"]
    assert [{k: v for k, v in found[i].items() if k != "index"} for i in (0, 255, 256, SERIES - 1)] == at_once


def test_parts_of_a_result_are_those_of_the_whole(client: httpx.Client, bulk: Body) -> None:
    found = outputs(client, bulk["id"])
    assert outputs(client, bulk["id"], offset=250, limit=10) == found[250:260]
    assert outputs(client, bulk["id"], offset=SERIES - 3) == found[-3:]
    assert outputs(client, bulk["id"], offset=SERIES) == []
    url: str | None = f"/v1/jobs/{bulk['id']}/result?limit=250"
    pages: list[Body] = []
    while url is not None:
        page = client.get(url).json()
        assert (page["offset"], page["total"]) == (len(pages), SERIES)
        pages += page["data"]
        url = page["next"]
    assert pages == found


def test_a_result_is_a_table(client: httpx.Client, bulk: Body) -> None:
    answer = client.get(f"/v1/jobs/{bulk['id']}/result", headers={"accept": "application/vnd.apache.parquet"})
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pydict()
    found = outputs(client, bulk["id"])
    assert table["index"] == [i for i in range(SERIES) for _ in range(3)]
    assert table["item_id"] == [f"s{i}" for i in range(SERIES) for _ in range(3)]
    assert table["mean"] == [row[0] for o in found for row in o["mean"]]
    assert table["q0.9"] == [row[0] for o in found for row in o["quantile_predictions"][2]["values"]]


def test_a_table_is_uploaded(client: httpx.Client) -> None:
    days = np.arange("2026-01-01", "2026-02-01", dtype="datetime64[D]")
    table = pa.table(
        {
            "store": np.repeat([f"s{i}" for i in range(300)], len(days)),
            "day": np.tile(days, 300),
            "units": np.arange(300.0 * len(days)),
        }
    )
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, row_group_size=1000)
    query = {"model": "seasonal-naive", "prediction_length": 2, "quantile_levels": "0.5", "target": "units"}
    answer = client.post("/v1/jobs", content=file.getvalue(), params=query, headers=PARQUET)
    assert answer.status_code == 202, answer.text
    job = ended(client, answer.json()["id"])
    found = outputs(client, job["id"])
    assert [o["metadata"]["item_id"] for o in found] == [f"s{i}" for i in range(300)]
    assert found[7]["timestamps"] == ["2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z"]
    assert client.post("/v1/jobs", content=file.getvalue()[:-5], params=query, headers=PARQUET).status_code == 400


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_an_upload_may_be_compressed(client: httpx.Client, encoding: str) -> None:
    content = lines(head(), (one(i) for i in range(20)))
    packed = gzip.compress(content) if encoding == "gzip" else zstandard.compress(content)
    answer = client.post("/v1/jobs", content=packed, headers={**NDJSON, "content-encoding": encoding})
    assert answer.json()["progress"]["total"] == 20


def test_faulty_lines_are_told_together_and_leave_nothing_behind(client: httpx.Client) -> None:
    inputs: list[Body] = [one(i) for i in range(SERIES)]
    inputs[3] = {"target": [1, 2]}
    inputs[400] = {"tagret": [[1]]}
    key = {"idempotency-key": "test-faulty-lines"}
    answer = client.post("/v1/jobs", content=lines(head(), inputs), headers={**NDJSON, **key})
    assert answer.status_code == 422
    places = [fault["loc"] for fault in answer.json()["detail"]]
    assert places == [
        ["body", "lines", 5, "target"],
        ["body", "lines", 402, "tagret"],
        ["body", "lines", 402, "target"],
    ]
    broken = lines(head(), inputs[:3]) + b"{\n"
    answer = client.post("/v1/jobs", content=broken, headers={**NDJSON, **key})
    assert (answer.status_code, "Line 5" in answer.json()["error"] or "lines[5]" in answer.json()["error"]) == (
        400,
        True,
    )
    mended = client.post("/v1/jobs", content=lines(head(), inputs[:3]), headers={**NDJSON, **key})
    assert mended.status_code == 202


def test_an_upload_that_breaks_off_leaves_no_job(client: httpx.Client, gateway: Gateway) -> None:
    before = [job["id"] for job in client.get("/v1/jobs", params={"limit": "1"}).json()["data"]]
    counted = gateway.metric("gateway_requests_total", endpoint="/v1/jobs", code="CLIENT_LEFT")
    content = lines(head(), (one(i) for i in range(SERIES)))
    headers = f"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: {NDJSON['content-type']}\r\n"
    with socket.create_connection(gateway.address) as leaving:
        leaving.sendall(f"{headers}content-length: {len(content)}\r\n\r\n".encode() + content[:-100])
    limit = time.monotonic() + START_LIMIT_S
    while gateway.metric("gateway_requests_total", endpoint="/v1/jobs", code="CLIENT_LEFT") == counted:
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert [job["id"] for job in client.get("/v1/jobs", params={"limit": "1"}).json()["data"]] == before


@pytest.mark.parametrize(
    ("content", "status", "place"),
    [
        (b"", 400, None),
        (lines(head(), []), 422, ["body", "lines"]),
        (lines({**head(), "type": "batch"}, [one(0)]), 422, ["body", "type"]),
        (lines(head(model="nope"), [one(0)]), 404, ["body", "request", "model"]),
        (lines(head(), [one(0), {"target": [[1, 2, 3]] * 9}, one(2)]), 422, ["body", "lines", 3, "target"]),
    ],
)
def test_an_upload_that_cannot_be_is_refused(
    client: httpx.Client, content: bytes, status: int, place: list[object] | None
) -> None:
    if b"[1, 2, 3]" in content:  # more channels than a card promises
        content = content.replace(b"[1, 2, 3]", json.dumps([1] * 5000).encode())
    answer = client.post("/v1/jobs", content=content, headers=NDJSON)
    assert answer.status_code == status, answer.text
    if place is not None:
        assert place in [fault["loc"] for fault in answer.json()["detail"]], answer.text


# -- the command line ---


def command(*args: object) -> list[str]:
    return [sys.executable, "-c", COMMAND, *map(str, args)]


def run(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), cwd=REPOSITORY, capture_output=True, text=True, timeout=START_LIMIT_S)


def table_file(path: Path, *, series: int, rows: int) -> Path:
    days = [str(d) for d in np.datetime64("2026-01-01") + np.arange(rows)]
    text = [f"s{i},{day},{i + t % 7}" for i in range(series) for t, day in enumerate(days)]
    path.write_text("\n".join(["item_id,date,y", *text]))
    return path


def test_a_file_is_one_job_and_the_same_file_is_the_same_job(gateway: Gateway, tmp_path: Path) -> None:
    file = table_file(tmp_path / "sales.csv", series=300, rows=30)
    asked = ("forecast", file, "--horizon", 4, "--model", "seasonal-naive", "--url", gateway.base_url)
    first = run(*asked, "--jobs", "--out", tmp_path / "first.csv")
    again = run(*asked, "--jobs", "--out", tmp_path / "again.csv")
    plain = run(*asked, "--out", tmp_path / "plain.csv")
    assert (first.returncode, again.returncode, plain.returncode) == (0, 0, 0), first.stderr + again.stderr
    written = (tmp_path / "first.csv").read_text()
    assert written == (tmp_path / "again.csv").read_text() == (tmp_path / "plain.csv").read_text()
    assert len(written.splitlines()) == 1 + 300 * 4
    (job,) = [line.split()[1] for line in first.stderr.splitlines() if line.startswith("job ")]
    assert f"job {job}: done" in again.stderr


def test_an_interrupted_command_takes_its_job_up_again(jobs_gateway: Gateway, gate: Gate, tmp_path: Path) -> None:
    file = table_file(tmp_path / "gated.csv", series=1, rows=LENGTH)
    asked = command("forecast", file, "--horizon", 2, "--model", GATED, "--url", jobs_gateway.base_url, "--jobs")
    # A run in a shell's background ignores interrupts, and what it starts would too.
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)
    first = subprocess.Popen(asked, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heard)
    gate.wait_until_started()
    assert first.stderr is not None
    for line in first.stderr:  # it watches its job
        if "running" in line:
            break
    first.send_signal(signal.SIGINT)
    told = first.stderr.read()
    assert first.wait(START_LIMIT_S) == 130, told
    assert "jobs cancel" in told and "Traceback" not in told
    gate.open()
    again = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, timeout=START_LIMIT_S)
    assert again.returncode == 0, again.stderr
    assert len((tmp_path / "gated.forecast.csv").read_text().splitlines()) == 3
    with jobs_gateway.client() as client:
        made = [job for job in client.get("/v1/jobs").json()["data"] if job["model"] == GATED]
    assert [job["status"] for job in made][:1] == ["completed"]
    assert len([job for job in made if job["status"] == "completed"]) == 1


def test_jobs_are_listed_shown_watched_cancelled_and_forgotten(gateway: Gateway, bulk: Body) -> None:
    to = ("--url", gateway.base_url)
    listed = run("jobs", "list", *to).stdout
    assert bulk["id"][:8] in listed and "600/600" in listed
    shown = run("jobs", "show", bulk["id"][:8], *to).stdout
    assert bulk["id"] in shown and "completed" in shown and bulk["result_url"] in shown
    assert json.loads(run("jobs", "show", bulk["id"], "--json", *to).stdout)["id"] == bulk["id"]
    watched = run("jobs", "watch", bulk["id"], *to)
    assert watched.returncode == 0 and f"{bulk['id']}: completed, 600/600" in watched.stdout
    assert "completed" in run("jobs", "cancel", bulk["id"], *to).stdout
    assert run("jobs", "webhook-secret", *to).stdout.startswith("whsec_")
    for action in ("show", "watch", "cancel", "delete"):
        nobody = run("jobs", action, "no-such-job", *to)
        assert nobody.returncode == 1 and "no job" in nobody.stderr and "Traceback" not in nobody.stderr
    unreachable = run("jobs", "list", "--url", "http://127.0.0.1:9")
    assert unreachable.returncode == 1 and "127.0.0.1:9 does not answer" in unreachable.stderr
