"""How much of a body one step reads: odd bodies of some hundred windows, told by counting steps."""

from __future__ import annotations

import msgspec
import pytest

from gateway.dialects.base import Call
from gateway.dialects.canonical import arrays, decode, malformed, slices
from gateway.dialects.canonical.media import Format
from gateway.errors import GatewayError, Place
from gateway.pacing import at_once

ROWS = 200_000
WINDOW = slices.WINDOW

# name: a target in JSON, and the place of its first fault
TARGETS: dict[str, tuple[str, Place | None]] = {
    "valid": ("[" + "[1.5]," * ROWS + "[1]]", None),
    "ragged at its end": ("[" + "[1.5]," * ROWS + "[1,2]]", (ROWS,)),
    "ragged at its start": ("[[1,2]," + "[1.5]," * ROWS + "[1]]", (1,)),
    "empty rows": ("[" + "[]," * ROWS + "[1]]", (0,)),
    "plain numbers": ("[" + "1.5," * ROWS + "1]", ()),
    "rows of words": ("[" + '["],["],' * ROWS + "[1]]", (0, 0)),
    "a row without end": ("[[1],[" + "1," * 4 * ROWS + "1]]", (1,)),
}


def steps_of(call: Call) -> tuple[int, GatewayError | None]:
    steps, count = decode.forecast(call), 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration:
            return count, None
        except GatewayError as error:
            return count, error


def call_of(target: str, form: Format) -> Call:
    content = f'{{"model":"m","parameters":{{"prediction_length":2}},"inputs":[{{"target":{target}}}]}}'
    body = content.encode() if form is Format.JSON else msgspec.msgpack.encode(msgspec.json.decode(content))
    return Call(method="POST", path="/", body=body, headers={"content-type": form.value})


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("name", TARGETS)
def test_a_long_target_is_read_and_refused_in_steps_of_a_window(name: str, form: Format) -> None:
    target, place = TARGETS[name]
    call = call_of(target, form)
    count, error = steps_of(call)
    if place is None or place == (ROWS,):
        assert count >= len(call.body) // (2 * WINDOW)
    if place is None:
        assert error is None
    else:
        assert error is not None
        assert error.faults[0].loc == ("inputs", 0, "target", *place)
        assert len(error.faults) <= 20


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("name", TARGETS)
def test_no_slice_is_longer_than_a_window_but_where_one_member_is(name: str, form: Format) -> None:
    content = TARGETS[name][0].encode()
    if form is Format.MSGPACK:
        content = msgspec.msgpack.encode(msgspec.json.decode(content))
    for piece in slices.of_array(content, form):
        assert len(piece) <= 2 * WINDOW or len(form.decode(piece, list[msgspec.Raw])) == 1


@pytest.mark.parametrize("content", [b"[" + b"[1]," * ROWS, b" " * 4 * ROWS, b"[" + b"1," * 2 * ROWS, b"{" * 4 * ROWS])
def test_the_place_of_a_byte_is_sought_in_steps(content: bytes) -> None:
    steps, count = malformed.place_at(content, len(content)), 0
    for _ in steps:
        count += 1
    assert count >= len(content) // (4 * WINDOW)


@pytest.mark.parametrize("form", Format)
def test_long_covariates_are_read_in_steps(form: Format) -> None:
    def count(content: object) -> int:
        steps = arrays.values(msgspec.Raw(form.encode(content)), form)
        return sum(1 for _ in iter(lambda: next(steps, "end"), "end"))

    assert count([None, 1.5] * ROWS) >= len(form.encode([None, 1.5] * ROWS)) // (2 * WINDOW)


@pytest.mark.parametrize(
    ("past", "message"),
    [
        ({f"c{i}": [1] for i in range(1001)}, "at most 1000 covariates, got 1001"),
        ({"c": ["word"] * 300_000}, "at most 1048576 bytes of categories"),
    ],
)
def test_covariates_without_measure_are_refused(past: object, message: str) -> None:
    body = {"model": "m", "parameters": {"horizon": 1}, "inputs": [{"target": [[1]], "past_covariates": past}]}
    _, error = steps_of(Call(method="POST", path="/", body=msgspec.json.encode(body)))
    assert error is not None
    assert message in error.sentence


def test_a_thousand_covariates_are_read() -> None:
    past = {f"c{i}": [1] for i in range(1000)}
    body = {"model": "m", "parameters": {"horizon": 1}, "inputs": [{"target": [[1]], "past_covariates": past}]}
    request = at_once(decode.forecast(Call(method="POST", path="/", body=msgspec.json.encode(body))))
    assert len(request.series[0].past_covariates) == 1000
