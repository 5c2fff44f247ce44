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


MANY = 100_000
NAMED = {f"c{i}": [1, 2] for i in range(MANY)}
NUMBERS: dict[str, object] = dict.fromkeys(NAMED, 1)
PLAIN = {"model": "m", "parameters": {"prediction_length": 2}}
GOOD = {"target": [[1], [2]]}

# name: a body, and what its first fault says where it has one
BODIES: dict[str, tuple[object, str]] = {
    "an array": ([1] * MANY, "Expected an object, got an array"),
    "fields": ({**PLAIN, **NUMBERS}, "Unknown field"),
    "inputs of scalars": ({**PLAIN, "inputs": [1] * MANY}, "Expected an object, got an integer"),
    "inputs of empty objects": ({**PLAIN, "inputs": [{}] * MANY}, "Field required"),
    "inputs no array": ({**PLAIN, "inputs": NUMBERS}, "Expected an array, got an object"),
    "fields of a series": ({**PLAIN, "inputs": [{**GOOD, **NUMBERS}]}, "Unknown field"),
    "past covariates": (
        {**PLAIN, "inputs": [{**GOOD, "past_covariates": NAMED}]},
        f"at most 1000 covariates, got {MANY}",
    ),
    "future covariates": ({**PLAIN, "inputs": [{**GOOD, "future_covariates": NAMED}]}, "at most 1000 covariates"),
    "static covariates": ({**PLAIN, "inputs": [{**GOOD, "static_covariates": NUMBERS}]}, "at most 1000 covariates"),
    "channels": ({**PLAIN, "inputs": [{**GOOD, "channels": ["a"] * MANY}]}, "at most 10000 names"),
    "channels of numbers": ({**PLAIN, "inputs": [{**GOOD, "channels": [1] * MANY}]}, "a string, got an integer"),
    "parameters": ({**PLAIN, "inputs": [GOOD], "parameters": NUMBERS}, "at most 65536 bytes of parameters"),
    "levels": ({**PLAIN, "inputs": [GOOD], "parameters": {"quantiles": [0.5] * MANY}}, "bytes of parameters"),
    "metadata": ({**PLAIN, "inputs": [{**GOOD, "metadata": NAMED}], "metadata": NUMBERS}, ""),
    "metadata of words": ({**PLAIN, "inputs": [{**GOOD, "metadata": {"a": ["word"] * MANY}}]}, ""),
}


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("name", BODIES)
def test_odd_bodies_are_told_what_they_are(name: str, form: Format) -> None:
    """What they are is told with no more of them made into values than that takes."""
    content, message = BODIES[name]
    _, error = steps_of(Call(method="POST", path="/", body=form.encode(content), headers={"content-type": form.value}))
    assert message in (error.faults[0].msg if error else "")
    assert bool(error) == bool(message)


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize(
    "name", ["inputs of scalars", "fields", "fields of a series", "past covariates", "static covariates"]
)
def test_odd_objects_and_arrays_are_looked_through_in_steps(name: str, form: Format) -> None:
    """At least one step for all that is read of them but where nothing more need be."""
    body = form.encode(BODIES[name][0])
    count, _ = steps_of(Call(method="POST", path="/", body=body, headers={"content-type": form.value}))
    assert count >= (1 if name == "inputs of scalars" else len(body) // (2 * WINDOW))


def test_a_truncated_msgpack_body_is_sought_through_in_steps() -> None:
    body = call_of(TARGETS["valid"][0], Format.MSGPACK).body[:-9]
    count, error = steps_of(Call(method="POST", path="/", body=body, headers={"content-type": Format.MSGPACK.value}))
    assert count >= len(body) // (2 * WINDOW)
    assert error is not None
    assert f"byte {len(body)}" in error.sentence
