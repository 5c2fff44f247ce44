"""The media types of a call, its metadata, and its answer: the edges of the canonical wire."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from gateway.dialects.base import Call
from gateway.dialects.canonical import decode, media, render
from gateway.dialects.canonical.media import Format, Wire
from gateway.dialects.canonical.metadata import Echo
from gateway.domain import Forecast, Notice, SeriesError, SeriesForecast, Usage
from gateway.errors import Code, Fault, GatewayError
from gateway.pacing import at_once

JSON, MSGPACK = Format.JSON, Format.MSGPACK


def call_of(body: bytes = b"", **headers: str) -> Call:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(method="POST", path="/v1/forecast", headers=names, body=body, request_id="r")


# -- media types ---


@pytest.mark.parametrize(
    ("content_type", "accept", "expected"),
    [
        ("", "", (JSON, JSON)),
        ("application/json", "*/*", (JSON, JSON)),
        ("application/json; charset=UTF-8", "", (JSON, JSON)),
        ("application/vnd.api+json", "", (JSON, JSON)),
        ("Application/MsgPack", "", (MSGPACK, MSGPACK)),
        ("application/x-msgpack", "*/*", (MSGPACK, MSGPACK)),
        ("application/msgpack", "application/json", (MSGPACK, JSON)),
        ("application/json", "application/x-msgpack", (JSON, MSGPACK)),
        ("application/json", "application/msgpack, application/json", (JSON, JSON)),
        ("application/json", "application/json;q=0.5, application/msgpack", (JSON, MSGPACK)),
        ("application/json", "text/html, application/xhtml+xml, */*;q=0.8", (JSON, JSON)),
        ("application/json", "*/*, application/json;q=0", (JSON, MSGPACK)),
        ("application/json", "application/*;q=0.1, text/html", (JSON, JSON)),
        ("application/json", "application/json;q=nonsense", (JSON, JSON)),
    ],
)
def test_forms_are_negotiated(content_type: str, accept: str, expected: tuple[Format, Format]) -> None:
    wire = media.negotiate(call_of(content_type=content_type, accept=accept))
    assert (wire.asked, wire.answered) == expected


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content_type": "text/plain"}, Code.UNSUPPORTED_MEDIA_TYPE),
        ({"content_type": "application/x-www-form-urlencoded"}, Code.UNSUPPORTED_MEDIA_TYPE),
        ({"content_type": "application/json; charset=latin-1"}, Code.UNSUPPORTED_MEDIA_TYPE),
        ({"accept": "text/html"}, Code.NOT_ACCEPTABLE),
        ({"accept": "*/*;q=0"}, Code.NOT_ACCEPTABLE),
    ],
)
def test_forms_that_are_not_served_are_refused_before_the_body_is_read(headers: dict[str, str], code: Code) -> None:
    with pytest.raises(GatewayError) as caught:
        at_once(decode.forecast(call_of(b"{", **headers)))
    assert caught.value.code is code
    reply = render.error(call_of(**headers), caught.value, 499)
    assert (reply.status, reply.media_type) == (499, "application/json")


def test_an_error_comes_in_the_form_of_the_answer() -> None:
    error = GatewayError(Code.INVALID_ARGUMENT, "no", faults=(Fault(("a", 1), "wrong", "type_error"),))
    reply = render.error(call_of(content_type="application/msgpack"), error, 422)
    assert isinstance(reply.body, bytes)
    assert msgspec.msgpack.decode(reply.body) == {
        "error": "no",
        "code": "INVALID_ARGUMENT",
        "endpoint": "/v1/forecast",
        "request_id": "r",
        "detail": [{"loc": ["body", "a", 1], "msg": "wrong", "type": "type_error"}],
    }


def test_a_body_that_cannot_be_read_is_an_invalid_argument_on_the_wire() -> None:
    reply = render.error(call_of(), GatewayError(Code.MALFORMED, "no"), 400)
    assert isinstance(reply.body, bytes)
    answer = json.loads(reply.body)
    assert answer["code"] == "INVALID_ARGUMENT"
    assert "detail" not in answer


# -- metadata ---

VERBATIM = b'{"n": 123456789012345678901234567890,\n "f":1.0, "e" : 1e400, "a":1,"a":2, "u":"\\u00e9\xc3\xa9", "z":[ ]}'


def echoed(metadata: bytes, more: bytes = b"", wire: Wire | None = None) -> Echo:
    """What one series' metadata will be answered with."""
    wire = wire or Wire(JSON, JSON)
    if wire.asked is JSON:
        body = b'{"model":"m","inputs":[{"target":[[1]],"metadata":%s%s}],"parameters":{"horizon":1}}' % (
            metadata,
            more,
        )
    else:
        body = b"\x83\xa5model\xa1m\xa6inputs\x91\x82\xa6target\x91\x91\x01\xa8metadata" + metadata + more
        body += b"\xaaparameters\x81\xa7horizon\x01"
    request = at_once(
        decode.forecast(call_of(body, content_type=wire.asked.value, accept=wire.answered.value)),
    )
    found = request.series[0].metadata
    assert isinstance(found, Echo)
    return found


def test_metadata_is_echoed_byte_for_byte() -> None:
    assert echoed(VERBATIM).content == VERBATIM
    assert echoed(b"null").content == b"null"
    assert (
        echoed(b"\x82\x01\xc4\x01x\xa1n\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", wire=Wire(MSGPACK, MSGPACK)).content[1]
        == 1
    )


def test_metadata_of_a_large_body_is_echoed_byte_for_byte() -> None:
    numbers = b"[" + b",".join(b"[%d]" % i for i in range(40_000)) + b"]"
    metadata = b'{"target": %s, "text": "\\": [1,2] @0"}' % numbers
    assert len(numbers) > 200_000
    assert echoed(metadata).content == metadata


@pytest.mark.parametrize(
    ("metadata", "item_id", "expected"),
    [
        (b"{}", b'"x"', b'{"item_id":"x"}'),
        (b"null", b"7", b'{"item_id":7}'),
        (b'{"a": 1.0 }', b'"x"', b'{"a": 1.0,"item_id":"x"}'),
        (b'{"item_id": "x", "a":1}', b'"x"', b'{"item_id": "x", "a":1}'),
        (b'{"a":1}', b"123456789012345678901234567890", b'{"a":1,"item_id":123456789012345678901234567890}'),
    ],
)
def test_an_item_id_is_added_to_the_metadata(metadata: bytes, item_id: bytes, expected: bytes) -> None:
    assert echoed(metadata, b',"item_id":' + item_id).content == expected


def test_an_item_id_without_metadata_becomes_the_metadata() -> None:
    body = b'{"model":"m","inputs":[{"target":[[1]],"item_id":"x"}],"parameters":{"horizon":1}}'
    assert at_once(decode.forecast(call_of(body))).series[0].metadata == Echo(JSON, b'{"item_id":"x"}')


@pytest.mark.parametrize("size", [0, 1, 14, 15, 16, 65535, 65536])
def test_an_item_id_is_added_to_a_msgpack_map_of_any_size(size: int) -> None:
    metadata = {f"k{i}": i for i in range(size)}
    request = {
        "model": "m",
        "inputs": [{"target": [[1]], "metadata": metadata, "item_id": "x"}],
        "parameters": {"horizon": 1},
    }
    call = call_of(msgspec.msgpack.encode(request), content_type="application/msgpack")
    found = at_once(decode.forecast(call)).series[0].metadata
    assert isinstance(found, Echo)
    assert msgspec.msgpack.decode(found.content) == {**metadata, "item_id": "x"}


def test_metadata_is_carried_from_one_form_to_the_other() -> None:
    content = {"a": [1, 2.5, None, True, {"b": "é"}], "big": 2**63}
    as_json, as_msgpack = msgspec.json.encode(content), msgspec.msgpack.encode(content)
    assert echoed(as_json, wire=Wire(JSON, MSGPACK)) == Echo(MSGPACK, as_msgpack)
    assert echoed(as_msgpack, wire=Wire(MSGPACK, JSON)) == Echo(JSON, as_json)


@pytest.mark.parametrize(
    ("metadata", "wire"),
    [
        (b'{"n": 123456789012345678901234567890}', Wire(JSON, MSGPACK)),
        (b'{"n": 1e400}', Wire(JSON, MSGPACK)),
        (msgspec.msgpack.encode({"n": float("nan")}), Wire(MSGPACK, JSON)),
        (msgspec.msgpack.encode({"n": b"x"}), Wire(MSGPACK, JSON)),
        (msgspec.msgpack.encode({"n": msgspec.msgpack.Ext(5, b"x")}), Wire(MSGPACK, JSON)),
        (msgspec.msgpack.encode({1: 2}), Wire(MSGPACK, JSON)),
        (b"\x81\xa1n\xa1\xff", Wire(MSGPACK, JSON)),
    ],
)
def test_metadata_that_the_other_form_cannot_hold_is_refused(metadata: bytes, wire: Wire) -> None:
    with pytest.raises(GatewayError) as caught:
        echoed(metadata, wire=wire)
    assert [f.loc for f in caught.value.faults] == [("inputs", 0, "metadata")]
    assert f"ask for an answer in {wire.asked.value}" in caught.value.sentence


# -- answers ---


@pytest.fixture
def answer() -> Forecast:
    output = SeriesForecast(
        mean=np.array([[1.5, 2.0]]),
        quantiles=np.array([[[1.0, 1.5]], [[2.0, 2.5]]]),
        samples=np.array([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]]),
        notices=(Notice(code="fallback", sentence="A sentence."),),
        truncated_from=9000,
    )
    return Forecast(
        id="i",
        created=1,
        model="m",
        model_revision="r",
        provider="p",
        point="mean",
        horizon=1,
        quantile_levels=(0.1, 0.95),
        input_points=3,
        outputs=(output, SeriesError(code=Code.MODEL_FAILED, sentence="It failed.")),
        usage=Usage(input_tokens=1, output_tokens=2),
        latency_ms=1.23456,
        cached=True,
        truncated_from=9000,
        max_context_length=2048,
        metadata=Echo(JSON, VERBATIM),
    )


def parts(answer: Forecast, **headers: str) -> Iterator[bytes]:
    return iter(render.forecast(call_of(**headers), answer).body)


def test_every_extension_is_there_when_it_has_something_to_say(answer: Forecast) -> None:
    content = b"".join(parts(answer))
    assert b'"metadata":' + VERBATIM in content
    found = json.loads(content)
    assert (found["truncated_from"], found["max_context_length"], found["cached"]) == (9000, 2048, True)
    assert (found["quantile_levels"], found["latency_ms"]) == ([0.1, 0.95], 1.235)
    first, second = found["outputs"]
    assert first == {
        "mean": [[1.5, 2.0]],
        "quantile_predictions": [
            {"level": 0.1, "values": [[1.0, 1.5]]},
            {"level": 0.95, "values": [[2.0, 2.5]]},
        ],
        "samples": [[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]],
        "truncated_from": 9000,
        "notices": ["A sentence."],
    }
    assert second == {"status": "failed", "error": {"error": "It failed.", "code": "MODEL_FAILED"}}


@pytest.mark.parametrize("level", [0.1, 1e-1, 0.30000000000000004, 1e-9, 0.95, 0.123456789012345678])
def test_levels_come_back_as_they_were_sent(answer: Forecast, level: float) -> None:
    (output, _) = answer.outputs
    assert isinstance(output, SeriesForecast)
    alone = dataclasses.replace(output, quantiles=output.quantiles[:1])
    content = b"".join(parts(dataclasses.replace(answer, quantile_levels=(level,), outputs=(alone,))))
    found = json.loads(content)
    assert found["quantile_levels"] == [level] == [found["outputs"][0]["quantile_predictions"][0]["level"]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["mean", "quantiles", "samples"])
@pytest.mark.parametrize("accept", ["application/json", "application/msgpack"])
def test_a_number_that_is_not_finite_is_never_sent(answer: Forecast, field: str, value: float, accept: str) -> None:
    output = answer.outputs[0]
    assert isinstance(output, SeriesForecast)
    array = getattr(output, field).copy()
    array.flat[-1] = value
    broken = dataclasses.replace(output, **{field: array})
    sent = parts(dataclasses.replace(answer, outputs=(broken,), metadata=None), accept=accept)
    with pytest.raises(GatewayError) as caught:
        list(sent)
    assert caught.value.code is Code.INTERNAL


def test_levels_and_values_that_do_not_match_are_never_sent(answer: Forecast) -> None:
    with pytest.raises(ValueError, match="zip"):
        list(parts(dataclasses.replace(answer, quantile_levels=(0.1, 0.5, 0.95))))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 300])
@pytest.mark.parametrize("accept", ["application/json", "application/msgpack"])
def test_no_step_of_an_answer_holds_two_series(answer: Forecast, count: int, accept: str) -> None:
    many = dataclasses.replace(answer, outputs=answer.outputs[:1] * count, metadata=None)
    steps = list(parts(many, accept=accept))
    form = Format(accept)
    assert len(form.decode(b"".join(steps), dict)["outputs"]) == count
    assert max(step.count(b"quantile_predictions") for step in steps) <= 1
