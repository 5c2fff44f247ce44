"""Every rule of a request that can be decided without the model's card: what is read, and what is refused where."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.dialects.base import Call
from gateway.dialects.canonical import decode
from gateway.domain import ForecastRequest
from gateway.errors import Code, Fault, GatewayError
from gateway.pacing import at_once

MSGPACK = {"content-type": "application/msgpack"}
SERIES = {"target": [[1], [2], [3]]}


def body(series: object = None, parameters: object = None, **more: object) -> dict[str, Any]:
    inputs = [SERIES if series is None else series]
    return {"model": "m", "inputs": inputs, "parameters": parameters or {"prediction_length": 2}, **more}


def read(content: object, headers: dict[str, str] | None = None) -> ForecastRequest:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return at_once(decode.forecast(Call(method="POST", path="/", body=raw, headers=headers or {})))


def refused(content: object, headers: dict[str, str] | None = None) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read(content, headers)
    return caught.value


def faults(content: object, headers: dict[str, str] | None = None) -> tuple[Fault, ...]:
    error = refused(content, headers)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.faults
    return error.faults


# -- what is read ---


def test_a_full_request_is_read() -> None:
    series = {
        "target": [[1, None], [2.5, 3], [None, 4]],
        "start": "2026-03-01T00:00:00Z",
        "past_covariates": {"promo": [0, None, 1], "shop": ["a", None, "b"]},
        "future_covariates": {"promo": [1, 0, 1], "shop": ["a", "b"]},
        "static_covariates": {"size": 2},
        "channels": ["open", "close"],
    }
    parameters = {
        "prediction_length": 2,
        "frequency": "D",
        "quantile_levels": [0.1, 0.5, 9e-1],
        "num_samples": 1000,
        "context_length": 1,
        "sensitivity": -1,
        "temperature": 0.5,
        "top_p": 1,
        "top_k": 0,
        "seed": 2**63 - 1,
        "cross_learning": True,
        "sample_method": "copula",
        "dry_run": True,
    }
    request = read(body(series, parameters))
    (found,) = request.series
    np.testing.assert_array_equal(found.target, [[1, np.nan], [2.5, 3], [np.nan, 4]])
    assert found.target.dtype == np.float64
    assert found.start == "2026-03-01T00:00:00Z"
    np.testing.assert_array_equal(found.past_covariates["promo"], [0, np.nan, 1])
    assert found.past_covariates["shop"] == ("a", None, "b")
    np.testing.assert_array_equal(found.future_covariates["promo"], [1, 0, 1])
    assert found.future_covariates["shop"] == ("a", "b")
    assert (found.static_covariates, found.channels) == ({"size": 2.0}, ("open", "close"))
    expected = {**parameters, "quantile_levels": (0.1, 0.5, 0.9), "clip_levels": False}
    assert msgspec.to_builtins(request.parameters) == expected
    assert read(msgspec.msgpack.encode(body(series, parameters)), MSGPACK).parameters == request.parameters


def test_null_in_an_optional_field_is_as_if_it_was_not_sent() -> None:
    nothing = dict.fromkeys(
        ("start", "past_covariates", "future_covariates", "static_covariates", "channels", "item_id")
    )
    names = ("frequency", "quantile_levels", "num_samples", "seed", "dry_run", "freq", "quantiles", "horizon")
    request = read(body({**SERIES, **nothing}, {"prediction_length": 2, **dict.fromkeys(names)}))
    plain = read(body())
    assert request.parameters == plain.parameters
    assert (request.series[0].past_covariates, request.series[0].channels) == ({}, None)


def test_aliases_stand_for_their_names() -> None:
    found = read(body(parameters={"horizon": 7, "freq": "h", "quantiles": [0.1, 0.9]})).parameters
    assert (found.prediction_length, found.frequency, found.quantile_levels) == (7, "h", (0.1, 0.9))
    both = {"horizon": 7, "prediction_length": 7, "quantiles": [1e-1], "quantile_levels": [0.1]}
    assert read(body(parameters=both)).parameters.quantile_levels == (0.1,)


def test_the_last_of_a_repeated_key_counts() -> None:
    raw = b'{"model":"a","model":"b","inputs":[{"target":[1],"target":[[1]]}],"parameters":{"prediction_length":1}}'
    assert read(raw).model == "b"


def test_a_repeated_key_whose_first_value_is_wrong_is_refused_at_its_place() -> None:
    raw = b'{"model":"b","inputs":[{"target":[[1]],"start":1,"start":"2026"}],"parameters":{"prediction_length":1}}'
    (fault,) = faults(raw)
    assert (fault.loc, fault.type) == (("inputs", 0, "start"), "type_error")


# -- targets ---

TARGETS: dict[str, tuple[str, tuple[object, ...], str, str]] = {
    # name: target as JSON, place below it, part of the message, type
    "1D": ("[1, 2, null]", (), "wrap each value, [v1, v2] becomes [[v1], [v2]]", "type_error"),
    "1D of one": ("[5]", (), "1D array", "type_error"),
    "ragged": ("[[1], [2], [3, 4]]", (2,), "as many channels as in the rows before: 1, got 2", "value_error"),
    "ragged, right sum": ("[[1, 2, 3], [4]]", (1,), "3, got 1", "value_error"),
    "ragged, narrow first": ("[[1], [2, 3, 4], [5, 6]]", (1,), "1, got 3", "value_error"),
    "empty row": ("[[1], []]", (1,), "at least one channel", "value_error"),
    "only empty rows": ("[[], []]", (0,), "at least one channel", "value_error"),
    "empty": ("[]", (), "at least one observation", "value_error"),
    "null": ("null", (), "2D array [time][channel], got null", "type_error"),
    "string": ('"[[1],[2]]"', (), "got a string", "type_error"),
    "object": ('{"a": 1}', (), "got an object", "type_error"),
    "row is a string": ('[[1], "[2]"]', (1,), "row of channels, got a string", "type_error"),
    "row is a number": ("[[1], 2]", (1,), "wrap it, [v]", "type_error"),
    "row is an object": ("[[1], {}]", (1,), "got an object", "type_error"),
    "cell is a string": ('[[1], ["2"]]', (1, 0), "number or null, got a string", "type_error"),
    "cell is a boolean": ("[[1], [true]]", (1, 0), "got a boolean", "type_error"),
    "cell is an array": ("[[1], [[2]]]", (1, 0), "got an array", "type_error"),
    "beyond a float": ("[[1], [1e400]]", (1, 0), "64-bit float", "value_error"),
    "integer beyond a float": (f"[[1], [1{'0' * 400}]]", (1, 0), "64-bit float", "value_error"),
    "integer beyond Python's text": (f"[[1], [{'9' * 5000}]]", (1, 0), "64-bit float", "value_error"),
    "never observed": ("[[null], [null]]", (), "The target has no observed value", "value_error"),
    "a channel never observed": ("[[1, null], [2, null]]", (), "Channel 1 has no observed value", "value_error"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_refused_with_its_own_message_and_place(name: str) -> None:
    target, below, message, kind = TARGETS[name]
    good = json.dumps(SERIES)
    raw = f'{{"model":"m","inputs":[{good},{good},{good},{{"target":{target}}}],"parameters":{{"horizon":1}}}}'
    fault = faults(raw.encode())[0]
    assert (fault.loc, fault.type) == (("inputs", 3, "target", *below), kind)
    assert message in fault.msg


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("series", "place"),
    [
        ({"target": [[1.0], ["?"], [3.0]]}, ("target", 1, 0)),
        ({"target": [[1.0, 2.0], [1.0, "?"], [None, 3.0]]}, ("target", 1, 1)),
        ({**SERIES, "past_covariates": {"p": [1.0, "?", None]}}, ("past_covariates", "p", 1)),
        ({**SERIES, "future_covariates": {"p": [1.0, "?"]}}, ("future_covariates", "p", 1)),
        ({**SERIES, "static_covariates": {"s": "?"}}, ("static_covariates", "s")),
    ],
)
def test_msgpack_cannot_send_what_is_not_finite(
    series: dict[str, Any], place: tuple[object, ...], value: float
) -> None:
    def filled(node: object) -> object:
        if isinstance(node, dict):
            return {k: filled(v) for k, v in node.items()}
        if isinstance(node, list):
            return [filled(v) for v in node]
        return value if node == "?" else node

    (fault,) = faults(msgspec.msgpack.encode(body(filled(series))), MSGPACK)
    assert (fault.loc, fault.type) == (("inputs", 0, *place), "value_error")


# -- the rest of a series ---

SERIES_FAULTS: dict[str, tuple[dict[str, object], tuple[object, ...], str, str]] = {
    "no target": ({"target": ...}, ("target",), "Field required", "missing"),
    "unknown field": ({"strat": "x"}, ("strat",), "did you mean start?", "unknown_field"),
    "start": ({"start": 2026}, ("start",), "Expected a string, got an integer", "type_error"),
    "past: short": ({"past_covariates": {"p": [1, 2]}}, ("past_covariates", "p"), "rows: 3, got 2", "value_error"),
    "past: long": ({"past_covariates": {"p": [1] * 4}}, ("past_covariates", "p"), "3, got 4", "value_error"),
    "past: no object": ({"past_covariates": [1]}, ("past_covariates",), "Expected an object", "type_error"),
    "past: no array": ({"past_covariates": {"p": 1}}, ("past_covariates", "p"), "array over time", "type_error"),
    "past: mixed": (
        {"past_covariates": {"p": ["a", 2, "c"]}},
        ("past_covariates", "p", 1),
        "strings throughout",
        "type_error",
    ),
    "past: a boolean": (
        {"past_covariates": {"p": [1, True, 3]}},
        ("past_covariates", "p", 1),
        "a boolean",
        "type_error",
    ),
    "future: short": ({"future_covariates": {"p": [1]}}, ("future_covariates", "p"), "2 steps", "value_error"),
    "future: null": ({"future_covariates": {"p": [1, 2, None]}}, ("future_covariates", "p", 2), "null", "value_error"),
    "future: null word": (
        {"future_covariates": {"p": ["a", None]}},
        ("future_covariates", "p", 1),
        "null",
        "value_error",
    ),
    "static: string": ({"static_covariates": {"s": "x"}}, ("static_covariates", "s"), "a number", "type_error"),
    "static: null": ({"static_covariates": {"s": None}}, ("static_covariates", "s"), "a number", "type_error"),
    "channels: too few": ({"channels": []}, ("channels",), "one name a channel: 1, got 0", "value_error"),
    "channels: empty": ({"channels": [""]}, ("channels", 0), "must not be empty", "value_error"),
    "channels: twice": ({"target": [[1, 2]], "channels": ["a", "a"]}, ("channels",), "there twice", "value_error"),
    "metadata": ({"metadata": [1]}, ("metadata",), "Expected an object", "type_error"),
    "metadata: string": ({"metadata": "{}"}, ("metadata",), "Expected an object", "type_error"),
    "item_id": ({"item_id": 1.5}, ("item_id",), "a string or an integer", "type_error"),
    "item_id: other": ({"item_id": 1, "metadata": {"item_id": "1"}}, ("item_id",), "differs", "value_error"),
}


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize("name", SERIES_FAULTS)
def test_a_series_is_refused_with_its_own_message_and_place(name: str, form: str) -> None:
    changed, below, message, kind = SERIES_FAULTS[name]
    content = body({k: v for k, v in {**SERIES, **changed}.items() if v is not ...})
    sent = (msgspec.msgpack.encode(content), MSGPACK) if form == "msgpack" else (content, None)
    (fault,) = faults(*sent)
    assert (fault.loc, fault.type) == (("inputs", 0, *below), kind)
    assert message in fault.msg


def test_what_is_right_in_a_series_that_is_wrong_elsewhere_is_still_held_to_its_rules() -> None:
    series = {**SERIES, "colour": 1, "past_covariates": {"p": [1], "q": ["a", 1, 2]}, "channels": ["a", "b"]}
    places = {f.loc[2:] for f in faults(body(series))}
    assert places == {
        ("colour",),
        ("past_covariates", "p"),
        ("past_covariates", "q", 1),
        ("past_covariates", "q", 2),
        ("channels",),
    }


# -- parameters and the envelope ---

PARAMETERS: dict[str, tuple[dict[str, object], tuple[object, ...], str, str]] = {
    "horizon 0": ({"prediction_length": 0}, ("prediction_length",), "at least 1, got 0", "value_error"),
    "horizon 1.0": ({"prediction_length": 1.0}, ("prediction_length",), "Expected an integer", "type_error"),
    "horizon true": ({"prediction_length": True}, ("prediction_length",), "a boolean", "type_error"),
    "horizon null": ({"prediction_length": None}, ("prediction_length",), "got null", "type_error"),
    "horizon text": ({"prediction_length": "2"}, ("prediction_length",), "a string", "type_error"),
    "horizon huge": ({"prediction_length": 10**30}, ("prediction_length",), "at most", "value_error"),
    "alias 0": ({"prediction_length": ..., "horizon": 0}, ("horizon",), "at least 1", "value_error"),
    "alias differs": ({"horizon": 3}, ("horizon",), "alias of prediction_length", "value_error"),
    "freq differs": ({"freq": "D", "frequency": "h"}, ("freq",), "alias of frequency", "value_error"),
    "quantiles differ": (
        {"quantiles": [0.1], "quantile_levels": [0.2]},
        ("quantiles",),
        "alias of quantile_levels",
        "value_error",
    ),
    "level 0": ({"quantile_levels": [0, 0.5]}, ("quantile_levels", 0), "greater than 0", "value_error"),
    "level 1": ({"quantile_levels": [0.5, 1]}, ("quantile_levels", 1), "less than 1", "value_error"),
    "levels descend": ({"quantile_levels": [0.5, 0.1]}, ("quantile_levels", 1), "must ascend", "value_error"),
    "level twice": ({"quantile_levels": [0.5, 0.5]}, ("quantile_levels", 1), "there twice", "value_error"),
    "quantiles twice": ({"quantiles": [0.5, 0.5]}, ("quantiles", 1), "there twice", "value_error"),
    "level null": ({"quantile_levels": [None]}, ("quantile_levels", 0), "a number, got null", "type_error"),
    "levels text": ({"quantile_levels": "0.5"}, ("quantile_levels",), "an array, got a string", "type_error"),
    "100 levels": (
        {"quantile_levels": [i / 101 for i in range(1, 101)]},
        ("quantile_levels",),
        "at most 99, got 100",
        "value_error",
    ),
    "no samples": ({"num_samples": 0}, ("num_samples",), "at least 1", "value_error"),
    "1001 samples": ({"num_samples": 1001}, ("num_samples",), "at most 1000", "value_error"),
    "context 0": ({"context_length": 0}, ("context_length",), "at least 1", "value_error"),
    "temperature 0": ({"temperature": 0}, ("temperature",), "greater than 0", "value_error"),
    "top_p 0": ({"top_p": 0.0}, ("top_p",), "greater than 0", "value_error"),
    "top_p > 1": ({"top_p": 1.1}, ("top_p",), "at most 1", "value_error"),
    "top_k": ({"top_k": -1}, ("top_k",), "at least 0", "value_error"),
    "seed": ({"seed": -1}, ("seed",), "at least 0", "value_error"),
    "sensitivity": ({"sensitivity": "3"}, ("sensitivity",), "a number", "type_error"),
    "dry_run": ({"dry_run": 1}, ("dry_run",), "a boolean, got an integer", "type_error"),
    "sample_method": ({"sample_method": "x"}, ("sample_method",), '"copula" or "native"', "value_error"),
    "frequency": ({"frequency": 1}, ("frequency",), "a string", "type_error"),
    "unknown": ({"quantile_level": [0.5]}, ("quantile_level",), "did you mean quantile_levels?", "unknown_field"),
}


@pytest.mark.parametrize(
    ("name", "form"),
    [(n, f) for n in PARAMETERS for f in ("json", "msgpack") if (n, f) != ("horizon huge", "msgpack")],
)
def test_parameters_are_refused_with_their_own_message_and_place(name: str, form: str) -> None:
    changed, below, message, kind = PARAMETERS[name]
    sent = {k: v for k, v in {"prediction_length": 2, **changed}.items() if v is not ...}
    content: object = body(parameters=sent)
    headers = MSGPACK if form == "msgpack" else None
    (fault,) = faults(msgspec.msgpack.encode(content) if headers else content, headers)
    assert (fault.loc, fault.type) == (("parameters", *below), kind)
    assert message in fault.msg


ENVELOPES: dict[str, tuple[object, tuple[object, ...], str]] = {
    "array": ([], (), "Expected an object, got an array"),
    "null": (None, (), "got null"),
    "number": (1, (), "got an integer"),
    "no model": ({"inputs": [SERIES], "parameters": {"horizon": 1}}, ("model",), "Field required"),
    "model null": ({**body(), "model": None}, ("model",), "a string, got null"),
    "model empty": ({**body(), "model": ""}, ("model",), "must not be empty"),
    "no inputs": ({"model": "m", "parameters": {"horizon": 1}}, ("inputs",), "Field required"),
    "inputs empty": ({**body(), "inputs": []}, ("inputs",), "at least one series"),
    "inputs object": ({**body(), "inputs": SERIES}, ("inputs",), "an array, got an object"),
    "inputs null": ({**body(), "inputs": None}, ("inputs",), "an array, got null"),
    "input number": ({**body(), "inputs": [SERIES, 5]}, ("inputs", 1), "an object, got an integer"),
    "parameters array": ({**body(), "parameters": []}, ("parameters",), "an object, got an array"),
    "metadata": ({**body(), "metadata": 1}, ("metadata",), "Expected an object"),
    "unknown": ({**body(), "modle": "m"}, ("modle",), "did you mean model?"),
    "unlike any": ({**body(), "zzzz": "m"}, ("zzzz",), "known are model, inputs, parameters, metadata"),
    "a long name": ({**body(), "z" * 10_000: 1}, ("z" * 63 + "…",), "Unknown field"),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_the_envelope_is_refused_with_its_own_message_and_place(name: str) -> None:
    content, place, message = ENVELOPES[name]
    (fault,) = faults(content)
    assert fault.loc == place
    assert message in fault.msg


def test_a_key_that_is_no_string_is_refused() -> None:
    places = [f.loc for f in faults(msgspec.msgpack.encode({**body(), 7: 1}), MSGPACK)]
    assert places == [("7",)]
    series = {**SERIES, "past_covariates": {1: [1, 2, 3]}}
    assert faults(msgspec.msgpack.encode(body(series)), MSGPACK)[0].loc[:3] == ("inputs", 0, "past_covariates")


def test_all_faults_come_at_once_up_to_twenty() -> None:
    content = {"model": 1, "inputs": [{"target": [[1], ["x"]]}, {"target": []}], "parameters": {"top_p": 2}}
    places = [f.loc for f in faults(content)]
    assert places == [
        ("model",),
        ("parameters", "top_p"),
        ("parameters", "prediction_length"),
        ("inputs", 0, "target", 1, 0),
        ("inputs", 1, "target"),
    ]
    many = {**body(), "inputs": [{"target": [["x"]] * 15}] * 1000}
    assert len(faults(many)) == 20
    assert len(faults({**body(), "inputs": [{"target": [[None]]}] * 1000})) == 20


def test_the_sentence_can_be_read_alone() -> None:
    error = refused(body({"target": [1, 2]}))
    assert error.sentence.startswith("inputs[0].target: Expected a 2D array [time][channel], got a 1D array")


# -- bodies that are no JSON or no msgpack ---

MALFORMED: dict[str, tuple[bytes, int, tuple[object, ...], str]] = {
    "cut": (b'{"model":"m","inputs":[{"target":[[1],[2', 40, ("inputs", 0, "target", 1, 0), "too early"),
    "NaN": (b'{"inputs":[{"target":[[1],[ NaN ]]}]}', 28, ("inputs", 0, "target", 1, 0), "send null"),
    "Infinity": (b'{"inputs":[{"target":[[1,Infinity]]}]}', 25, ("inputs", 0, "target", 0, 1), "Infinity"),
    "-Infinity": (b'{"metadata":{"a":[0,-Infinity]}}', 20, ("metadata", "a", 1), "-Infinity"),
    "NaN after a type fault": (b'{"model":1,"parameters":{"top_p":NaN}}', 33, ("parameters", "top_p"), "NaN"),
    "NaN as covariate": (
        b'{"inputs":[{"past_covariates":{"p q":[1,\n NaN]}}]}',
        42,
        ("inputs", 0, "past_covariates", "p q", 1),
        "NaN",
    ),
    "trailing comma": (b'{"inputs":[{"target":[[1],]}]}', 26, ("inputs", 0, "target", 1), "trailing comma"),
    "leading zero": (b'{"inputs":[{"target":[[01]]}]}', 24, ("inputs", 0, "target", 0, 0), "invalid number"),
    "after the end": (b'{"model":"m"} {', 14, (), "trailing characters"),
    "byte order mark": (b"\xef\xbb\xbf{}", 0, (), "byte order mark"),
    "UTF-16": ("\ufeff{}".encode("utf-16-le"), 0, (), "byte order mark"),
    "not UTF-8": (b'{"model":"a\xff"}', 11, ("model",), "UTF-8"),
    "not UTF-8 in metadata": (b'{"metadata":{"k":"\xc3("}}', 18, ("metadata", "k"), "UTF-8"),
    "not UTF-8 in a key": (b'{"\xff":1}', 2, (), "UTF-8"),
    "blank": (b" \n ", 3, (), "too early"),
    "single quotes": (b"{'model':1}", 1, (), "expected '\"'"),
    "a quote in a string": (b'{"model":"a\\"],[","inputs":[,]}', 28, ("inputs", 0), "invalid character"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_that_is_not_json_is_refused_at_its_byte_and_place(name: str) -> None:
    raw, offset, place, message = MALFORMED[name]
    error = refused(raw)
    assert error.code is Code.MALFORMED
    assert f"at byte {offset}" in error.sentence
    assert message in error.sentence
    assert [f.loc for f in error.faults] == [place]


@pytest.mark.parametrize(
    ("raw", "offset"),
    [(b"\x82\xa5model", 7), (b"\xc1", 0), (b"\x80\x80", 1), (b"\x81\xa5mo\xffel\x01", 4), (b"\x81\x81\x01\x01\x01", 5)],
)
def test_a_body_that_is_not_msgpack_is_refused_at_its_byte(raw: bytes, offset: int) -> None:
    error = refused(raw, MSGPACK)
    assert (error.code, error.faults) == (Code.MALFORMED, ())
    assert f"at byte {offset}" in error.sentence


@pytest.mark.parametrize("headers", [{}, MSGPACK])
def test_an_empty_body_is_refused(headers: dict[str, str]) -> None:
    assert refused(b"", headers).sentence.startswith("The body is empty (byte 0)")


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"model":' * 100_000,
        b'{"metadata":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"model":1,"inputs":[{"target":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
)
def test_deep_nesting_is_refused(raw: bytes) -> None:
    assert refused(raw).code is Code.MALFORMED


def test_deep_nesting_in_msgpack_is_refused() -> None:
    assert refused(b"\x91" * 100_000 + b"\xc0", MSGPACK).code is Code.MALFORMED
