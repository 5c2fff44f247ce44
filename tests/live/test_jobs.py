"""Jobs as callers meet them: handed in, watched, read, stopped and forgotten, over a real gateway."""

from __future__ import annotations

import time
from typing import get_args

import httpx
import msgspec
import pytest

from gateway.domain import JobStatus
from tests.live.gated import Gate
from tests.live.jobs import GATED, LENGTH, Body, ended, events, request, submitted
from tests.serving import START_LIMIT_S, Gateway

SERIES = {name: value for name, value in request().items() if name != "model"}
ANOMALIES = {**request(), "parameters": {}}
WORK: list[tuple[str, str, Body]] = [
    ("forecast", "/v1/forecast", request()),
    ("batch", "/v1/forecast/batch", {"requests": [request(), {"model": "nope"}]}),
    ("ensemble", "/v1/forecast/ensemble", {**SERIES, "models": ["seasonal-naive", "auto-ets"]}),
    ("backtest", "/v1/backtest", {**request(), "windows": 2}),
    ("anomalies", "/v1/detect-anomalies", ANOMALIES),
]


def waiting(client: httpx.Client, gate: Gate, **order: object) -> str:
    """The id of a job that stands at the gate."""
    job = submitted(client, "forecast", request(model=GATED, rows=LENGTH), **order)
    gate.wait_until_started()
    id: str = job["id"]
    return id


def test_a_job_from_its_order_to_its_end(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json={"type": "forecast", "request": request(2), "priority": 3})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["type"], job["priority"]) == ("job", "forecast", 3)
    assert (job["status"], job["result_url"], job["error"], job["finished"]) == ("queued", None, None, None)
    assert job["progress"] == {"done": 0, "total": 2, "failed": 0}

    over = ended(client, job["id"])
    assert (over["status"], over["progress"]) == ("completed", {"done": 2, "total": 2, "failed": 0})
    assert over["created"] <= over["started"] <= over["finished"]

    read = client.get(answer.headers["location"]).json()
    result = client.get(read["result_url"]).json()
    assert read.pop("result") == result
    assert read == over == client.get(answer.headers["location"], params={"result": "false"}).json()
    at_once = client.post("/v1/forecast", json=request(2)).json()
    assert result["outputs"] == at_once["outputs"]
    assert result["usage"] == at_once["usage"] == read["usage"]

    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    for path in ("", "/result", "/events"):
        assert client.get(f"/v1/jobs/{job['id']}{path}").status_code == 404


@pytest.mark.parametrize(("kind", "path", "body"), WORK, ids=[w[0] for w in WORK])
def test_every_endpoint_can_answer_later(client: httpx.Client, kind: str, path: str, body: Body) -> None:
    """As a job, or by the caller's preference, with the answer that it would have given at once."""
    deferred = client.post(path, json=body, headers={"prefer": "respond-async"})
    assert deferred.status_code == 202, deferred.text
    assert deferred.headers["preference-applied"] == "respond-async"
    found = []
    for job in (deferred.json(), submitted(client, kind, body)):
        assert job["type"] == kind
        over = ended(client, job["id"])
        assert over["status"] in ("completed", "partial"), over
        found.append(client.get(over["result_url"]).json())
    at_once = client.post(path, json=body).json()
    assert shape(found[0]) == shape(found[1]) == shape(at_once)


def test_a_batch_of_a_job_may_be_longer_than_a_call_takes(client: httpx.Client) -> None:
    body = {"requests": [{**request(), "parameters": {"prediction_length": 1 + i % 3}} for i in range(300)]}
    assert client.post("/v1/forecast/batch", json=body).status_code == 422
    deferred = client.post("/v1/forecast/batch", json=body, headers={"prefer": "respond-async"})
    over = ended(client, deferred.json()["id"])
    assert over["progress"] == {"done": 300, "total": 300, "failed": 0}
    found = client.get(over["result_url"]).json()["data"]
    assert [member["result"]["horizon"] for member in found] == [1 + i % 3 for i in range(300)]


def shape(value: object) -> object:
    """A body without its numbers and texts."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items() if k not in ("metrics", "latency_ms", "timings_ms")}
    if isinstance(value, list):
        return [shape(v) for v in value]
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.mark.parametrize(
    ("body", "status", "place"),
    [
        ({"type": "forecast", "request": {**request(), "model": "nope"}}, 404, ["body", "request", "model"]),
        ({"type": "forecast", "request": request(prediction_length=10**6)}, 422,
         ["body", "request", "parameters", "prediction_length"]),
        ({"type": "forecast", "request": {"model": "m"}}, 422, ["body", "request", "inputs"]),
        ({"type": "nope", "request": {}}, 422, ["body", "type"]),
        ({"type": "forecast", "request": request(), "callback_url": "http://127.0.0.1:1/"}, 422,
         ["body", "callback_url"]),
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_is_refused_with_its_places(
    client: httpx.Client, body: Body, status: int, place: list[str]
) -> None:
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == status
    assert place in [fault["loc"] for fault in answer.json()["detail"]], answer.text


def test_a_key_hands_in_once(client: httpx.Client) -> None:
    order = {"type": "forecast", "request": request()}
    headers = {"idempotency-key": "test-a-key-hands-in-once"}
    first, again = (client.post("/v1/jobs", json=order, headers=headers) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    other = client.post("/v1/jobs", json={**order, "priority": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")


def test_a_key_is_answered_once_on_any_post(client: httpx.Client) -> None:
    headers = {"idempotency-key": "test-a-key-is-answered-once"}
    first, again = (client.post("/v1/forecast", json=request(), headers=headers) for _ in range(2))
    assert first.content == again.content and first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-scope" not in again.headers  # there is a Redis
    assert client.post("/v1/forecast", json=request(2), headers=headers).status_code == 409


def test_a_head_of_a_stream_is_no_stream(jobs_client: httpx.Client, gate: Gate) -> None:
    id = waiting(jobs_client, gate)
    assert jobs_client.head(f"/v1/jobs/{id}/events").headers["content-type"].startswith("text/event-stream")
    lines = jobs_client.head(f"/v1/jobs/{id}/result", headers={"accept": "application/x-ndjson"})
    assert (lines.status_code, lines.headers["content-type"]) == (200, "application/x-ndjson")
    jobs_client.delete(f"/v1/jobs/{id}").raise_for_status()


def test_msgpack_is_answered_in_kind(client: httpx.Client) -> None:
    headers = {"content-type": "application/msgpack"}
    body = msgspec.msgpack.encode({"type": "forecast", "request": request(2)})
    job = msgspec.msgpack.decode(client.post("/v1/jobs", content=body, headers=headers).content)
    ended(client, job["id"])
    accept = {"accept": "application/msgpack"}
    whole = msgspec.msgpack.decode(client.get(f"/v1/jobs/{job['id']}/result", headers=accept).content)
    page = msgspec.msgpack.decode(client.get(f"/v1/jobs/{job['id']}/result?limit=1", headers=accept).content)
    read = msgspec.msgpack.decode(client.get(f"/v1/jobs/{job['id']}", headers=accept).content)
    assert read["result"] == whole
    assert page["data"] == [{"index": 0, **whole["outputs"][0]}]


def test_the_list_is_the_newest_first_and_comes_in_pages(client: httpx.Client) -> None:
    made = [submitted(client, "backtest", request())["id"] for _ in range(3)]
    for id in made:
        ended(client, id)
    found: list[str] = []
    query: dict[str, str] = {"limit": "1", "type": "backtest", "status": "completed"}
    while len(found) < 3:
        page = client.get("/v1/jobs", params=query).json()
        found += [job["id"] for job in page["data"]]
        query["cursor"] = page["next"] or "none"
    assert found == made[::-1]
    refused = client.get("/v1/jobs", params={"limit": "0", "status": "done", "type": "backtest"})
    assert refused.status_code == 422
    told = refused.json()["error"]
    assert "limit is a whole number from 1 to 200, not '0'." in told
    assert all(word in told for word in (*get_args(JobStatus), "not 'done'."))
    assert "type" not in told
    assert client.get("/v1/jobs", params={"nope": "1"}).status_code == 422
    page = client.get(f"/v1/jobs/{made[0]}/result", params={"offset": "-1"})
    assert (page.status_code, page.json()["error"]) == (422, "offset is a whole number from 0 on, not '-1'.")
    read = client.get(f"/v1/jobs/{made[0]}", params={"result": "perhaps"})
    assert (read.status_code, read.json()["error"]) == (422, "result is true or false, not 'perhaps'.")
    assert client.get("/v1/jobs", params={"cursor": "2"}).status_code == 422


def test_a_job_that_runs_is_seen_running_and_can_be_stopped(jobs_client: httpx.Client, gate: Gate) -> None:
    id = waiting(jobs_client, gate)
    seen = next(job for _, job in events(jobs_client, id) if job["status"] == "running")
    assert seen["progress"]["done"] == 0
    early = jobs_client.get(f"/v1/jobs/{id}/result")
    assert (early.status_code, early.json()["code"]) == (409, "CONFLICT")
    with httpx.Client(base_url=jobs_client.base_url, timeout=START_LIMIT_S) as other:
        watched = events(other, id)
        assert next(watched)[0] == "progress"
        stopped = jobs_client.post(f"/v1/jobs/{id}/cancel").json()
        assert stopped["status"] == "cancelled"
        assert [name for name, _ in watched][-1] == "done"
    assert jobs_client.post(f"/v1/jobs/{id}/cancel").json()["status"] == "cancelled"
    # The worker that stood at the gate was killed: another one takes what comes.
    after = submitted(jobs_client, "forecast", request())
    assert ended(jobs_client, after["id"])["status"] == "completed"


def test_a_job_whose_deadline_passes_ends_so(jobs_client: httpx.Client, gate: Gate) -> None:
    id = waiting(jobs_client, gate, deadline_s=2.0)
    over = ended(jobs_client, id)
    assert (over["status"], over["error"]["code"]) == ("expired", "DEADLINE_EXCEEDED")


def test_a_watcher_that_leaves_is_noticed(jobs_client: httpx.Client, jobs_gateway: Gateway, gate: Gate) -> None:
    id = waiting(jobs_client, gate)
    path = "/v1/jobs/{id}/events"
    before = jobs_gateway.metric("gateway_requests_total", endpoint=path)
    with httpx.Client(base_url=jobs_client.base_url, timeout=START_LIMIT_S) as leaving:
        assert next(events(leaving, id))[0] == "progress"
    limit = time.monotonic() + START_LIMIT_S
    while jobs_gateway.metric("gateway_requests_total", endpoint=path) == before:
        assert time.monotonic() < limit
        time.sleep(0.05)
    jobs_client.delete(f"/v1/jobs/{id}").raise_for_status()
