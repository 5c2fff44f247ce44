"""Orders of jobs as bodies and as lines: what is read, and where each fault is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.dialects import canonical
from gateway.dialects.base import Call
from gateway.dialects.canonical import job_lines, jobs
from gateway.dialects.canonical.job_lines import Lines
from gateway.dialects.canonical.jobs import Shape
from gateway.domain import MAX_REQUESTS, BacktestRequest, BatchRequest, ForecastRequest, JobOrder, SeriesInput, Work
from gateway.errors import Code, GatewayError
from gateway.pacing import at_once

OPERATIONS = canonical.JOBS
REQUEST = {"model": "m", "inputs": [{"target": [[1], [2]]}], "parameters": {"prediction_length": 2}}
ORDER = {"type": "forecast", "request": REQUEST}
HEAD = {"type": "forecast", "request": {"model": "m", "parameters": {"prediction_length": 2}}, "priority": 3}


def call(body: bytes, content_type: str = "application/json", **headers: str) -> Call:
    return Call(method="POST", path="/v1/jobs", headers={"content-type": content_type, **headers}, body=body)


def order(body: object, **headers: str) -> tuple[JobOrder, Work]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return at_once(jobs.order(call(content, **headers), OPERATIONS))


def refused(body: object) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        order(body)
    return caught.value


def places(error: GatewayError) -> list[tuple[str | int, ...]]:
    return [f.loc for f in error.faults]


def test_every_type_of_job_has_an_endpoint_whose_request_it_holds() -> None:
    assert tuple(OPERATIONS) == jobs.TYPES
    assert {o.path: o.job for o in OPERATIONS.values()} == {o.path: o.job for o in canonical.OPERATIONS if o.job}


def test_an_order_is_read_with_its_request() -> None:
    told = {"priority": -3, "deadline_s": 60, "callback_url": "https://example.com/"}
    found, work = order({**ORDER, **told}, **{"idempotency-key": "k"})
    assert (found.type, found.priority, found.deadline_s) == ("forecast", -3, 60)
    assert (found.callback_url, found.idempotency_key) == ("https://example.com/", "k")
    assert isinstance(work, ForecastRequest) and work.model == "m"


def test_the_request_is_read_as_its_endpoint_reads_it() -> None:
    _, work = order({"type": "backtest", "request": {**REQUEST, "windows": 2}})
    assert isinstance(work, BacktestRequest) and work.windows == 2


def test_a_batch_may_be_longer_than_one_call_takes() -> None:
    _, work = order({"type": "batch", "request": {"requests": [REQUEST] * (MAX_REQUESTS + 1)}})
    assert isinstance(work, BatchRequest) and len(work.requests) == MAX_REQUESTS + 1


def test_msgpack_is_read_alike() -> None:
    body = msgspec.msgpack.encode({**ORDER, "priority": 1})
    found, work = at_once(jobs.order(call(body, "application/msgpack"), OPERATIONS))
    assert found.priority == 1 and isinstance(work, ForecastRequest)


def test_long_arrays_are_read_whole() -> None:
    target = [[i / 2] for i in range(40_000)]
    inputs = [{"target": target, "metadata": {"n": i}} for i in range(3)]
    _, work = order({"type": "forecast", "request": {**REQUEST, "inputs": inputs}})
    assert isinstance(work, ForecastRequest)
    assert [s.target[:, 0].tolist() for s in work.series] == [[i / 2 for i in range(40_000)]] * 3


def test_faults_of_order_and_request_are_told_together() -> None:
    request = {**REQUEST, "inputs": [{"target": [1, 2]}]}
    error = refused({"type": "forecast", "request": request, "priority": 99, "dead_line": 1})
    assert error.code is Code.INVALID_ARGUMENT
    assert sorted(map(str, places(error))) == sorted(
        map(str, [("priority",), ("dead_line",), ("request", "inputs", 0, "target")])
    )


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"type": "x", "request": REQUEST}, ("type",)),
        ({"request": REQUEST}, ("type",)),
        ({"type": "forecast"}, ("request",)),
        ({"type": "forecast", "request": 3}, ("request",)),
        ([1], ()),
        (
            {"type": "forecast", "request": {**REQUEST, "parameters": {}}},
            ("request", "parameters", "prediction_length"),
        ),
        ({**ORDER, "deadline_s": 0}, ("deadline_s",)),
    ],
)
def test_a_fault_has_its_place(body: object, place: tuple[str | int, ...]) -> None:
    assert place in places(refused(body))


@pytest.mark.parametrize("padding", [0, 300_000])
def test_a_body_that_is_not_json_is_told_by_its_own_bytes(padding: int) -> None:
    """However its arrays were read."""
    body = json.dumps({**ORDER, "request": {**REQUEST, "inputs": [{"target": [[1.5]] * (2 + padding // 6)}]}}).encode()
    at = body.rindex(b"[1.5]") + 4
    error = refused(body[:at] + b"}" + body[at + 1 :])
    assert error.code is Code.MALFORMED
    assert f"at byte {at}" in error.sentence


def test_faults_of_the_service_are_told_within_the_request() -> None:
    error = GatewayError(Code.NOT_FOUND, "no such model", faults=refused({"type": "forecast"}).faults)
    assert places(jobs.within_request(error)) == [("request", "request")]
    assert jobs.within_request(error).sentence == "no such model"


# -- lines ---


def first(line: bytes) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        at_once(job_lines.first(3, line, call(b"", "application/x-ndjson"), OPERATIONS))
    return caught.value


def test_a_first_line_that_is_no_order_is_told_by_its_number() -> None:
    series = first(b'{"target": [1, 2, 3]}')
    assert series.code is Code.INVALID_ARGUMENT
    assert places(series) == [("lines", 3)]
    assert "first line of an upload is its order" in series.sentence
    broken = first(b'{"type": "forecast", "request": ')
    assert broken.code is Code.MALFORMED
    assert broken.sentence.startswith("Line 3 is not JSON: ")
    assert places(broken)[0][:2] == ("lines", 3)
    deep = first(b'{"type": "forecast", "request": ' + b"[" * 100_000)
    assert (deep.code, deep.sentence[:6]) == (Code.MALFORMED, "Line 3")
    assert first(b'{"type": "\xff"}').code is Code.MALFORMED
    assert places(first(b"[1, 2]")) == [("lines", 3)]
    assert places(first(json.dumps({**HEAD, "type": "batch"}).encode())) == [("type",)]


def test_another_content_type_is_told_of_the_forms_of_uploads() -> None:
    with pytest.raises(GatewayError) as caught:
        at_once(jobs.order(call(b"a,b", "text/csv"), OPERATIONS))
    assert caught.value.code is Code.UNSUPPORTED_MEDIA_TYPE
    for form in ("application/json", "application/msgpack", jobs.LINES, jobs.TABLE):
        assert form in caught.value.sentence


def head(line: object) -> tuple[JobOrder, ForecastRequest]:
    content = line if isinstance(line, bytes) else json.dumps(line).encode()
    return at_once(job_lines.head(content, call(b"", "application/x-ndjson"), OPERATIONS))


def one(line: bytes) -> SeriesInput:
    return at_once(job_lines.one_series(line, 17, 2, OPERATIONS["forecast"]))


def test_a_first_line_is_an_order_without_series() -> None:
    found, request = head(HEAD)
    assert (found.priority, request.series, request.parameters.prediction_length) == (3, (), 2)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ({**HEAD, "type": "ensemble"}, ("type",)),
        ({**HEAD, "request": {}}, ("request", "model")),
        ({**HEAD, "request": {**HEAD["request"], "inputs": []}}, ("request", "inputs")),  # type: ignore[dict-item]
        ({}, ("request",)),
        ({"type": "forecast", "request": {"model": "m", "parameters": {"prediction_length": 2, "dry_run": True}}},
         ("request", "parameters", "dry_run")),
    ],
)  # fmt: skip
def test_a_fault_of_the_first_line_has_its_place(line: Any, place: tuple[str | int, ...]) -> None:
    with pytest.raises(GatewayError) as caught:
        head(line)
    assert place in places(caught.value)


def test_a_line_is_an_input() -> None:
    found = one(b'{"target": [[1],[null]], "item_id": "a", "start": "2026-01-01"}')
    assert (found.target.shape, found.start) == ((2, 1), "2026-01-01")


@pytest.mark.parametrize(
    ("line", "code", "place"),
    [
        (b'{"target": [1]}', Code.INVALID_ARGUMENT, ("lines", 17, "target")),
        (b'{"target": [[1],["x"]]}', Code.INVALID_ARGUMENT, ("lines", 17, "target", 1, 0)),
        (b'{"tagret": [[1]]}', Code.INVALID_ARGUMENT, ("lines", 17, "tagret")),
        (b"[[1]]", Code.INVALID_ARGUMENT, ("lines", 17)),
        (b'{"target": [[null]]}', Code.INVALID_ARGUMENT, ("lines", 17, "target")),
        (b'{"target": [[NaN]]}', Code.MALFORMED, ("lines", 17, "target", 0, 0)),
        (b'{"target": [[1]]', Code.MALFORMED, ("lines", 17, "target")),
        (b"\xff", Code.MALFORMED, ("lines", 17)),
    ],
)
def test_a_fault_of_a_line_names_the_line(line: bytes, code: Code, place: tuple[str | int, ...]) -> None:
    with pytest.raises(GatewayError) as caught:
        one(line)
    assert caught.value.code is code
    assert place in places(caught.value)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_the_same_however_the_bytes_come(size: int) -> None:
    content = b"one\n\n  two\r\nthree"
    lines = Lines()
    found = [line for i in range(0, len(content), size) for line in lines.feed(content[i : i + size])]
    assert [*found, *lines.rest()] == [(1, b"one"), (3, b"two"), (4, b"three")]


@pytest.mark.parametrize("content", [b"12345678901\n", b"1\n12345678901"])
def test_a_line_without_an_end_is_refused_before_it_is_held(content: bytes) -> None:
    lines = Lines(limit=10)
    with pytest.raises(GatewayError) as caught:
        list(lines.feed(content))
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE


# -- results ---


@pytest.mark.parametrize(
    ("accept", "shape"),
    [
        ("", Shape.WHOLE),
        ("*/*", Shape.WHOLE),
        ("application/json, */*", Shape.WHOLE),
        ("application/x-ndjson", Shape.LINES),
        ("application/x-ndjson;q=0.5, application/vnd.apache.parquet", Shape.TABLE),
        ("application/json, application/x-ndjson;q=0.9", Shape.WHOLE),
    ],
)
def test_a_stream_is_sent_to_those_who_name_it(accept: str, shape: Shape) -> None:
    asking = Call(method="GET", path="/", headers={"accept": accept})
    assert jobs.shape_of(asking) is shape
