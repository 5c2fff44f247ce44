"""Every fault of a body that failed its typed decode, with places.

Types are walked first; then what is of the right type, alone, goes through the same rules as in a valid body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, inspect

from gateway.dialects.base import Steps
from gateway.dialects.canonical import parameters, series, slices, walk
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.group_types import BatchEnvelope
from gateway.dialects.canonical.media import Format, Wire
from gateway.dialects.canonical.shapes import Shape
from gateway.dialects.canonical.types import ABSENT, SeriesEnvelope
from gateway.errors import MAX_FAULTS, Fault, GatewayError, Place

Value = TypeVar("Value")
Fields = dict[Any, Raw]  # msgpack has keys of every kind

_UNCUT = Envelope(b"")  # of parts that are whole already
_STAND_INS: Mapping[str, object] = {"an object": {}, "an array": [], "a string": "a long text", "a number": 0.5}
_APART = ("inputs", "parameters")  # fields of a request that are walked by themselves


def _struct(kind: type, apart: tuple[str, ...] = ()) -> inspect.StructType:
    """What a struct is made of; the fields `apart` are walked by others."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    raw = inspect.RawType()
    members = (msgspec.structs.replace(f, type=raw) if f.name in apart else f for f in found.fields)
    return msgspec.structs.replace(found, fields=tuple(members))


_SERIES = _struct(SeriesEnvelope)


def error(body: Envelope, wire: Wire, shape: Shape[Any, Any, Any], failure: Exception) -> Steps[GatewayError]:
    """The error to answer for a body whose typed decode ended in `failure`; raises as `faults` does."""
    found = yield from faults(body, wire, shape)
    return GatewayError.invalid(*(found or walk.found((), failure, ())))


def faults(body: Envelope, wire: Wire, shape: Shape[Any, Any, Any]) -> Steps[list[Fault]]:
    """Up to 20 faults of a body; none for one that the typed decode accepts.

    Raises msgspec.DecodeError or UnicodeDecodeError where it is not well formed.
    """
    form = wire.asked
    if walk.noun_of(body.content, form) != "an object":
        form.decode(body.content, Raw)  # to its end, where it may not be well formed
        return [_not_an("object", body.content, form, ())]
    kind = _struct(shape.envelope, _APART)
    sent = yield from _fields(body.content, kind, form)
    walked = walk.fields(sent, kind, (), lambda _, raw: _plain(raw, form))
    found = [f for f in islice(walked, MAX_FAULTS) if f.loc != parameters.PLACE]
    series.echo(body.whole(sent.get("metadata", ABSENT)), wire, (), found)
    beside = {name: body.whole(sent[name]) for name in shape.beside if name in sent}
    horizon = _parameters(body.whole(sent.get("parameters", ABSENT)), beside, shape, form, found)
    count = 0
    for raw in _inputs(sent.get("inputs"), form, found):
        if len(found) >= MAX_FAULTS:
            break
        if raw is not None:
            found += yield from _series(body.whole(raw), wire, horizon, ("inputs", count))
            count += 1
        yield
    return found[:MAX_FAULTS]


def batch_error(body: Envelope, form: Format) -> Steps[GatewayError]:
    """The error to answer for a body that is no batch; raises as `faults` does."""
    if walk.noun_of(body.content, form) != "an object":
        form.decode(body.content, Raw)
        return GatewayError.invalid(_not_an("object", body.content, form, ()))
    kind = _struct(BatchEnvelope)
    sent = yield from _fields(body.content, kind, form)
    found = list(islice(walk.fields(sent, kind, (), lambda _, raw: raw), MAX_FAULTS))
    return GatewayError.invalid(*(found or [_not_an("array", sent["requests"], form, ("requests",))]))


def _fields(content: bytes, kind: inspect.StructType, form: Format) -> Steps[Fields]:
    """The members of an object by name: all that are known, and of others as many as can be told."""
    known = {f.encode_name for f in kind.fields}
    found: Fields = {}
    others = 0
    for piece in slices.of_object(content.strip() if form is Format.JSON else content, form):
        for name, raw in form.decode(piece, Fields).items() if piece else ():
            if name in known or others < MAX_FAULTS:
                found[name] = raw
                others += name not in known
        yield
    return found


def _plain(raw: Raw, form: Format) -> object:
    """A value of a field that is short where it is right; of a longer one no more than tells what it is."""
    if len(bytes(raw)) <= slices.WINDOW:
        return walk.untyped(raw, form)
    return _STAND_INS.get(walk.noun_of(raw, form), 0)


def _parameters(
    raw: Raw, beside: Mapping[str, Raw], shape: Shape[Any, Any, Any], form: Format, found: list[Fault]
) -> int | None:
    """Append the faults of the parameters; return the horizon that series are held against, where it is known."""
    kind, place = _struct(shape.controls), parameters.PLACE
    told = False  # whether a horizon that is not there is told, or cannot be
    mistyped: list[Fault] = []
    try:
        gathered = parameters.gathered(raw, beside, form)
    except msgspec.ValidationError as failure:
        found += walk.found(walk.faults_of(walk.untyped(raw, form), kind, place), failure, place)
        gathered, told = parameters.gathered(ABSENT, beside, form), True
    try:
        sent = form.decode(gathered.content, shape.controls)
    except msgspec.ValidationError as failure:
        value = walk.untyped(gathered.content, form)
        mistyped = walk.found(walk.faults_of(value, kind, place), failure, place)
        told = told or not isinstance(value, dict) or "horizon" in value
        sent = msgspec.convert(_sound(value, kind, mistyped, place) if isinstance(value, dict) else {}, shape.controls)
    ruled = [*parameters.faults(sent, shape.default_horizon), *shape.rules(sent)]
    further = [f for f in _further(ruled, mistyped) if not (told and f.type == "missing")]
    found += gathered.relocated([*mistyped, *further])
    return None if told or mistyped else parameters.horizon_of(sent, shape.default_horizon)


def _inputs(raw: Raw | None, form: Format, found: list[Fault]) -> Iterator[Raw | None]:
    """Each series; None after a step that ended none."""
    if raw is None:
        return  # told as a missing field
    if walk.noun_of(raw, form) != "an array":
        found.append(_not_an("array", raw, form, ("inputs",)))
        return
    empty = True
    for piece in slices.of_array(bytes(raw), form):
        members = form.decode(piece, list[Raw]) if piece else [None]
        empty = empty and not members
        yield from members
    if empty:
        found.append(Fault(("inputs",), "Expected at least one series, got none"))


def _series(raw: Raw, wire: Wire, horizon: int | None, place: Place) -> Steps[list[Fault]]:
    form = wire.asked
    mistyped: list[Fault] = []
    try:
        sent = form.decode(raw, SeriesEnvelope)
    except msgspec.ValidationError as failure:
        if walk.noun_of(raw, form) != "an object":
            return [_not_an("object", raw, form, place)]
        fields = yield from _fields(bytes(raw), _SERIES, form)
        walked = walk.fields(fields, _SERIES, place, lambda _, r: _plain(r, form))
        mistyped = walk.found(walked, failure, place)
        sound = {"target": Raw(form.encode([])), **_sound(fields, _SERIES, mistyped, place)}
        sent = form.decode(form.encode(sound), SeriesEnvelope)
    _, more = yield from series.read(sent, _UNCUT, wire, horizon, place)
    return mistyped + _further(more, mistyped)


def _sound(
    fields: Mapping[Any, Value], kind: inspect.StructType, mistyped: list[Fault], place: Place
) -> dict[str, Value]:
    """The known fields without a fault."""
    faulty = {f.loc[len(place)] for f in mistyped if len(f.loc) > len(place)}
    return {f.name: fields[f.name] for f in kind.fields if f.name in fields and f.name not in faulty}


def _further(faults: Iterable[Fault], told: list[Fault]) -> list[Fault]:
    """Those of `faults` at places of which nothing is told yet."""
    places = {f.loc for f in told}
    return [f for f in faults if f.loc not in places]


def _not_an(noun: str, raw: bytes | Raw, form: Format, place: Place) -> Fault:
    return Fault(place, f"Expected an {noun}, got {walk.noun_of(raw, form)}", "type_error")
