"""Bodies of the canonical contract, valid and broken at random places."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import arrays, decode, diagnose, envelope, malformed, shapes, sliced, slices, walk
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.media import Format, Wire
from gateway.domain import METRICS, SeriesInput
from gateway.errors import MAX_FAULTS, Code, Fault, GatewayError
from gateway.pacing import at_once

EXAMPLES = settings(max_examples=200, deadline=None)
EXAMPLES_A_SHAPE = settings(max_examples=100, deadline=None)  # of code that the shapes share

numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False, width=64))
cells = st.one_of(numbers, st.none())
FORMS = st.sampled_from(Format)


@st.composite
def targets(draw: st.DrawFn) -> list[list[float | None]]:
    """At least one row and one channel; the last row is observed."""
    width = draw(st.integers(1, 3))
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=6))
    return [*rows, draw(st.lists(numbers, min_size=width, max_size=width))]


@st.composite
def inputs(draw: st.DrawFn, horizon: int) -> dict[str, Any]:
    target = draw(targets())
    rows, names = len(target), st.sampled_from(["p", "q", "a b", "ö"])
    past = st.one_of(*(st.lists(v, min_size=rows, max_size=rows) for v in (cells, st.text(max_size=3))))
    ahead = st.lists(numbers, min_size=horizon, max_size=horizon + 2)
    optional = {
        "start": st.sampled_from(["2026-03-01", None]),
        "past_covariates": st.one_of(st.none(), st.dictionaries(names, past, max_size=2)),
        "future_covariates": st.one_of(st.none(), st.dictionaries(names, ahead, max_size=2)),
        "static_covariates": st.dictionaries(names, numbers, max_size=2),
        "channels": st.just([f"c{i}" for i in range(len(target[0]))]),
        "metadata": st.one_of(
            st.none(), st.dictionaries(names, st.one_of(st.text(), st.integers(-(2**63), 2**64 - 1)))
        ),
    }
    return {"target": target, **draw(st.fixed_dictionaries({}, optional=optional))}


@st.composite
def parameters(draw: st.DrawFn, horizon: int) -> dict[str, Any]:
    """Valid parameters of any operation."""
    levels = st.sets(st.floats(0.001, 0.999), max_size=4).map(sorted)
    optional = {
        "frequency": st.sampled_from(["D", None]),
        "quantile_levels": levels,
        "num_samples": st.integers(1, 1000),
        "context_length": st.integers(1, 100),
        "seed": st.integers(0, 2**63 - 1),
        "top_p": st.floats(0.01, 1.0),
        "sample_method": st.sampled_from(["native", "copula"]),
    }
    length = draw(st.sampled_from(["prediction_length", "horizon"]))
    return {length: horizon, **draw(st.fixed_dictionaries({}, optional=optional))}


@st.composite
def plain(draw: st.DrawFn) -> dict[str, Any]:
    """What the body of every operation but an ensemble's has."""
    horizon = draw(st.integers(1, 4))
    return {
        "model": draw(st.text(min_size=1, max_size=5)),
        "inputs": draw(st.lists(inputs(horizon), min_size=1, max_size=3)),
        "parameters": draw(parameters(horizon)),
        **draw(st.fixed_dictionaries({}, optional={"metadata": st.just({"k": [1, {"x": None}]})})),
    }


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A valid forecast."""
    body = draw(plain())
    body["parameters"] |= draw(st.fixed_dictionaries({}, optional={"dry_run": st.booleans()}))
    return body


def placed(draw: st.DrawFn, body: dict[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
    """`body` with each control in its parameters, beside them, or at both places."""
    for name, value in controls.items():
        place = draw(st.sampled_from(["in", "beside", "both"]))
        if place != "beside":
            body["parameters"][name] = value
        if place != "in":
            body[name] = value
    return body


@st.composite
def backtests(draw: st.DrawFn) -> dict[str, Any]:
    optional = {
        "windows": st.integers(1, 1000),
        "step": st.integers(1, 9),
        "metrics": st.sets(st.sampled_from(METRICS)).map(sorted),
        "return_forecasts": st.one_of(st.none(), st.booleans()),
    }
    return placed(draw, draw(plain()), draw(st.fixed_dictionaries({}, optional=optional)))


@st.composite
def detections(draw: st.DrawFn) -> dict[str, Any]:
    optional = {"sensitivity": st.floats(0.1, 9), "scored_from": st.integers(1, 9)}
    body = placed(draw, draw(plain()), draw(st.fixed_dictionaries({}, optional=optional)))
    if draw(st.booleans()):  # the horizon may be left out
        for name in ("prediction_length", "horizon"):
            body["parameters"].pop(name, None)
    return body


@st.composite
def ensembles(draw: st.DrawFn) -> dict[str, Any]:
    optional = {
        "models": st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=3).map(sorted),
        "top_n": st.integers(1, 100),
        "max_models": st.one_of(st.none(), st.integers(1, 100)),
        "scoring_metric": st.sampled_from(["smape", "mase", "crps"]),
        "budget": st.floats(0.1, 3600),
        "windows": st.integers(1, 100),
        "step": st.integers(1, 9),
        "weighting": st.sampled_from(["inverse_score", "equal", "best", "greedy"]),
        "selection": st.sampled_from(["global", "per_series"]),
    }
    body = draw(plain())
    del body["model"]
    lifted = {name: body["parameters"].pop(name) for name in list(body["parameters"]) if name in LIFTED}
    body = placed(draw, body, {**lifted, **draw(st.fixed_dictionaries({}, optional=optional))})
    if not body["parameters"] and draw(st.booleans()):
        del body["parameters"]
    return body


LIFTED = ("prediction_length", "horizon", "frequency", "quantile_levels")
SHAPES: dict[str, tuple[shapes.Shape[Any, Any, Any], st.SearchStrategy[dict[str, Any]], Any]] = {
    "forecast": (shapes.FORECAST, bodies(), decode.forecast),
    "backtest": (shapes.BACKTEST, backtests(), decode.backtest),
    "anomalies": (shapes.ANOMALIES, detections(), decode.anomalies),
    "ensemble": (shapes.ENSEMBLE, ensembles(), decode.ensemble),
}
every_shape = pytest.mark.parametrize("name", SHAPES)


JUNK = st.sampled_from(
    [None, True, False, 0, 1, -1, 1.0, 0.5, 2, 10**12, "", "x", "1", [], [1], [[1]], [[1, 2]], [[None]], {}, {"p": 1}]
)
FIELDS = st.sampled_from(["target", "strat", "freq", "quantiles", "horizon", "item_id", "metadata", "p", ""])


def places(node: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a body, the body itself included."""
    yield path
    members = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, member in members:
        yield from places(member, (*path, name))


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> Any:
    """A body with up to three places replaced, removed, added or repeated; it may still be valid."""
    body: Any = draw(whole)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(body))))
        if not path:
            continue
        body = copy.deepcopy(body)
        parent = body
        for step in path[:-1]:
            parent = parent[step]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                parent[path[-1]] = draw(JUNK)
            case "remove":
                del parent[path[-1]]
            case "add" if isinstance(parent, list):
                parent.insert(path[-1], draw(JUNK))
            case "add":
                parent[draw(FIELDS)] = draw(JUNK)
    return body


@st.composite
def encoded(
    draw: st.DrawFn, contents: st.SearchStrategy[Any], forms: st.SearchStrategy[Format] = FORMS
) -> tuple[Any, bytes, Format]:
    """A body, its bytes in one of the forms and spacings that clients use, and the form."""
    content, form = draw(contents), draw(forms)
    if form is Format.MSGPACK:
        return content, msgspec.msgpack.encode(content), form
    indent = draw(st.sampled_from([None, 0, 2]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
    return content, json.dumps(content, indent=indent, separators=separators).encode(), form


def parsed(raw: bytes, form: Format, name: str = "forecast") -> Any:
    _, _, read = SHAPES[name]
    try:
        return at_once(read(Call(method="POST", path="/", body=raw, headers={"content-type": form.value})))
    except GatewayError as error:
        return error


def series_of(request: Any) -> tuple[SeriesInput, ...]:
    found: tuple[SeriesInput, ...] = getattr(request, "forecast", request).series
    return found


@every_shape
@EXAMPLES_A_SHAPE
@given(data=st.data())
def test_a_valid_body_is_read_as_sent(name: str, data: st.DataObject) -> None:
    shape, whole, _ = SHAPES[name]
    content, raw, form = data.draw(encoded(whole))
    request = parsed(raw, form, name)
    assert not isinstance(request, GatewayError), request
    for series, source in zip(series_of(request), content["inputs"], strict=True):
        np.testing.assert_array_equal(series.target, np.array(source["target"], dtype=np.float64))
        for covariate, values in (source.get("past_covariates") or {}).items():
            found = series.past_covariates[covariate]
            if isinstance(found, tuple):
                assert list(found) == values
            else:
                np.testing.assert_array_equal(found, np.array(values, dtype=np.float64))
    assert at_once(diagnose.faults(Envelope(raw), Wire(form, form), shape)) == []


@every_shape
@EXAMPLES_A_SHAPE
@given(data=st.data())
def test_the_typed_decode_and_the_diagnosis_accept_the_same_bodies(name: str, data: st.DataObject) -> None:
    shape, whole, _ = SHAPES[name]
    content, raw, form = data.draw(encoded(broken(whole)))
    answer = parsed(raw, form, name)
    faults = at_once(diagnose.faults(Envelope(raw), Wire(form, form), shape))
    assert (faults == []) == (not isinstance(answer, GatewayError))
    if isinstance(answer, GatewayError):
        assert answer.code is Code.INVALID_ARGUMENT
        assert 1 <= len(answer.faults) <= MAX_FAULTS
        assert {f.loc for f in answer.faults} == {f.loc for f in faults}
        known = {*places(content), ("parameters", "prediction_length")}
        assert all(f.loc in known or f.loc[:-1] in known for f in answer.faults)


@EXAMPLES
@given(encoded(st.lists(st.one_of(bodies(), broken(bodies()), JUNK), min_size=1, max_size=4)), st.data())
def test_a_request_of_a_batch_is_read_as_it_is_alone(sent: tuple[Any, bytes, Format], data: st.DataObject) -> None:
    contents, _, form = sent
    raws = [data.draw(encoded(st.just(c), st.just(form)))[1] for c in contents]
    if form is Format.JSON:
        raw = b'{"requests":[' + b" , ".join(raws) + b"]}"
    else:
        raw = b"\x81\xa8requests" + bytes([0x90 | len(raws)]) + b"".join(raws)
    long = data.draw(st.integers(2, 40))
    for body in (Envelope(raw), at_once(envelope.of(raw, form, large=0, long=long))):
        found = at_once(decode.requests(body, Wire(form, form), 4)).requests
        alone = [parsed(r, form) for r in raws]
        assert [told(f) for f in found] == [told(a) for a in alone]


def told(outcome: Any) -> Any:
    """A request or an error as it can be compared."""
    return (outcome.sentence, outcome.faults) if isinstance(outcome, GatewayError) else repr(outcome)


@EXAMPLES
@given(encoded(bodies()), st.data())
def test_bytes_changed_at_random_are_answered(sent: tuple[Any, bytes, Format], data: st.DataObject) -> None:
    _, raw, form = sent
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + data.draw(st.binary(max_size=3)) + raw[at + data.draw(st.integers(0, 3)) :]
    answer = parsed(changed, form)
    if isinstance(answer, GatewayError):
        assert answer.code in (Code.INVALID_ARGUMENT, Code.MALFORMED)
        if answer.code is Code.INVALID_ARGUMENT:
            assert answer.faults


def request_of(body: Envelope, wire: Wire, name: str) -> str | None:
    """What a body is read as, in text that can be compared; None where it is refused."""
    try:
        return repr(at_once(decode.typed(body, wire, SHAPES[name][0])))
    except (GatewayError, msgspec.DecodeError, UnicodeDecodeError):
        return None


@every_shape
@EXAMPLES_A_SHAPE
@given(long=st.integers(2, 40), data=st.data())
def test_cutting_arrays_out_changes_nothing(name: str, long: int, data: st.DataObject) -> None:
    shape, whole, _ = SHAPES[name]
    _, raw, form = data.draw(encoded(broken(whole), st.just(Format.JSON)))
    wire = Wire(form, form)
    cut = at_once(envelope.of(raw, form, large=0, long=long))
    assert request_of(cut, wire, name) == request_of(Envelope(raw), wire, name)
    assert at_once(diagnose.faults(cut, wire, shape)) == at_once(diagnose.faults(Envelope(raw), wire, shape))
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = (
        raw[:at] + data.draw(st.sampled_from([b"", b",", b"[", b"]", b'"', b"NaN", b"\xff", b"1"])) + raw[at + 1 :]
    )
    try:
        cut = at_once(envelope.of(changed, form, large=0, long=long))
        uncut = at_once(envelope.of(changed, form))
    except UnicodeDecodeError:
        return
    assert request_of(cut, wire, name) == request_of(uncut, wire, name)


@EXAMPLES
@given(encoded(bodies(), st.just(Format.JSON)), st.data())
def test_every_place_of_a_body_is_found_by_its_offset(sent: tuple[Any, bytes, Format], data: st.DataObject) -> None:
    content, _, _ = sent
    path = data.draw(st.sampled_from([p for p in places(content) if p]))
    marked = copy.deepcopy(content)
    parent = marked
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = "@here"
    indent = data.draw(st.sampled_from([None, 1]))
    raw = json.dumps(marked, indent=indent, ensure_ascii=False).encode()
    assert at_once(malformed.place_at(raw, raw.index(b'"@here"'))) == path


TEXT = st.lists(
    st.sampled_from(
        ["[", "]", "[[", "]]", "],[", "], [", ",", "1", "2.5", "-3e2", "null", " ", '"', ";", "{", "}", "\n"]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(TEXT, TEXT.map(lambda t: f"[[{t}]]"), targets().map(json.dumps)))
def test_a_matrix_is_read_where_it_is_one_and_nowhere_else(text: str) -> None:
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = "no JSON"
    rows = value if isinstance(value, list) and value and all(isinstance(r, list) and r for r in value) else []
    is_matrix = bool(rows) and len({len(r) for r in rows}) == 1
    is_matrix = is_matrix and all(c is None or type(c) in (int, float) for r in rows for c in r)
    try:
        found = at_once(arrays.matrix(msgspec.Raw(text.encode()), Format.JSON))
    except msgspec.DecodeError:
        assert not is_matrix
    else:
        assert is_matrix
        np.testing.assert_array_equal(found, np.array(value, dtype=np.float64))
    if value != "no JSON":
        faults: list[Fault] = list(walk.target(value, ()))
        assert (faults == []) == is_matrix


@EXAMPLES
@given(targets(), st.sampled_from(["float64", "float32", "mixed"]), st.data())
def test_a_msgpack_matrix_is_read_whatever_its_number_types(
    target: list[list[float | None]], kind: str, data: st.DataObject
) -> None:
    if kind == "mixed":
        raw = msgspec.msgpack.encode(target)
    else:
        size, sign = (">f8", b"\xcb") if kind == "float64" else (">f4", b"\xca")
        target = [[float(np.array(c or 0, dtype=size)) if abs(c or 0) < 1e30 else 1.0 for c in row] for row in target]
        rows = [bytes([0x90 | len(r)]) + b"".join(sign + np.array(c, dtype=size).tobytes() for c in r) for r in target]
        raw = b"\xdc" + len(rows).to_bytes(2, "big") + b"".join(rows)
    np.testing.assert_array_equal(
        at_once(arrays.matrix(msgspec.Raw(raw), Format.MSGPACK)), np.array(target, dtype=np.float64)
    )
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + data.draw(st.binary(min_size=1, max_size=1)) + raw[at + 1 :]
    try:
        expected = np.array(msgspec.msgpack.decode(changed, type=list[list[float | None]]), dtype=np.float64)
    except (msgspec.DecodeError, ValueError):
        expected = None  # not a matrix of numbers, or ragged
    if expected is None or expected.ndim != 2 or not expected.size:
        return
    try:
        np.testing.assert_array_equal(at_once(arrays.matrix(msgspec.Raw(changed), Format.MSGPACK)), expected)
    except msgspec.ValidationError:
        assert not np.isfinite(expected).all()


words = st.lists(st.one_of(st.none(), st.text('a\\",[{é', max_size=4)), min_size=1, max_size=12)
ODD = st.one_of(targets(), words, st.lists(cells), st.lists(JUNK), st.lists(st.lists(JUNK, max_size=2), max_size=30))


@EXAMPLES
@given(encoded(ODD), st.integers(40, 60))
def test_a_long_array_is_split_into_arrays_of_its_members(sent: tuple[Any, bytes, Format], window: int) -> None:
    content, raw, form = sent
    pieces = [p for p in slices.of_array(raw, form, window) if p]
    assert [member for p in pieces for member in form.decode(p, list[Any])] == content
    assert all(len(p) <= 2 * window or len(form.decode(p, list[Any])) == 1 for p in pieces)


OBJECTS = st.dictionaries(st.text('a\\",[{}é', max_size=6), st.one_of(ODD, JUNK), max_size=12)


@EXAMPLES
@given(encoded(OBJECTS), st.integers(40, 60))
def test_a_long_object_is_split_into_objects_of_its_members(sent: tuple[Any, bytes, Format], window: int) -> None:
    content, raw, form = sent
    pieces = [form.decode(p, dict[str, Any]) for p in slices.of_object(raw, form, window) if p]
    assert [member for piece in pieces for member in piece.items()] == list(content.items())


@EXAMPLES
@given(encoded(st.one_of(ODD, OBJECTS, JUNK)))
def test_a_value_is_named_by_its_first_byte_as_it_is_read(sent: tuple[Any, bytes, Format]) -> None:
    _, raw, form = sent
    assert walk.noun_of(raw, form) == walk.noun(walk.untyped(raw, form))


@EXAMPLES
@given(encoded(ODD), st.integers(40, 60))
def test_slices_change_nothing_in_what_is_read(sent: tuple[Any, bytes, Format], window: int) -> None:
    _, raw, form = sent

    def outcome(steps: Steps[Any]) -> str:
        try:
            return repr(at_once(steps))
        except msgspec.ValidationError:
            return "refused"

    array = msgspec.Raw(raw)
    assert outcome(arrays.matrix(array, form, window)) == outcome(arrays.matrix(array, form))
    assert outcome(arrays.values(array, form, window)) == outcome(arrays.values(array, form))
    for read, faults_in in ((arrays.matrix, sliced.target), (arrays.values, sliced.covariate)):
        refused = outcome(read(array, form, window)) == "refused"
        found = at_once(faults_in(raw, form, (), window))
        assert bool(found) == refused
        assert len(found) <= MAX_FAULTS


@EXAMPLES
@given(encoded(ODD, st.just(Format.JSON)), st.integers(40, 60), st.data())
def test_a_long_array_with_a_byte_changed_is_json_only_where_all_its_slices_are(
    sent: tuple[Any, bytes, Format], window: int, data: st.DataObject
) -> None:
    _, raw, form = sent
    at = data.draw(st.integers(1, len(raw) - 1))
    changed = raw[:at] + data.draw(st.sampled_from([b"", b",", b"[", b"]", b'"', b"1"])) + raw[at + 1 :]

    def is_array(content: bytes) -> bool:
        try:
            return isinstance(json.loads(content), list)
        except ValueError:
            return False

    assert is_array(changed) == all(is_array(p) for p in slices.of_array(changed, form, window) if p)


@EXAMPLES
@given(encoded(OBJECTS.filter(bool), st.just(Format.JSON)), st.integers(40, 60), st.data())
def test_a_long_object_with_a_byte_changed_is_json_only_where_all_its_slices_are(
    sent: tuple[Any, bytes, Format], window: int, data: st.DataObject
) -> None:
    _, raw, form = sent
    at = data.draw(st.integers(1, len(raw) - 1))
    changed = raw[:at] + data.draw(st.sampled_from([b"", b",", b"{", b"}", b'"', b":", b"1"])) + raw[at + 1 :]

    def is_object(content: bytes) -> bool:
        try:
            return isinstance(json.loads(content), dict)
        except ValueError:
            return False

    assert is_object(changed) == all(is_object(p) for p in slices.of_object(changed, form, window) if p)
