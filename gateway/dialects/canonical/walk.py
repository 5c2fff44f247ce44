"""Walk a decoded value against a type and tell every fault, where a typed decode stops at the first.

The types are those of the typed decode, so both accept the same values. What a type keeps raw is not walked.
"""

from __future__ import annotations

import difflib
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeGuard, TypeVar

import msgspec
from msgspec import Raw, inspect

from gateway.dialects.canonical.media import Format
from gateway.errors import MAX_FAULTS, Fault, Place

Value = TypeVar("Value")

_LONGEST_DIGITS = 400  # beyond the range of float64; int() itself refuses more than 4300
_PLACE = re.compile(r"\.([^.\[\]`]+)|\[(\d+)\]")


def untyped(raw: Raw | bytes, form: Format) -> object:
    """`raw` as plain Python values; JSON numbers beyond float64 become infinities, to be found.

    Raises msgspec.DecodeError where `raw` is not well formed.
    """
    if form is Format.MSGPACK:
        return msgspec.msgpack.decode(raw)
    msgspec.json.decode(raw, type=Raw)  # the standard library takes NaN for JSON
    return json.loads(bytes(raw), parse_int=lambda t: int(t) if len(t) < _LONGEST_DIGITS else float(t))


def shown(text: str, limit: int = 64) -> str:
    """A caller's text as a sentence or a place can hold it."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def found(faults: Iterable[Fault], failure: Exception, place: Place) -> list[Fault]:
    """The first faults of a value whose typed decode ended in `failure`; at least the failure itself."""
    return list(islice(faults, MAX_FAULTS)) or [_as_told(failure, place)]


def _as_told(failure: Exception, place: Place) -> Fault:
    """msgspec's own account: what stays for a body that the walk finds right (a repeated key's first value)."""
    what, _, where = str(failure).partition(" - at `$")
    steps = tuple(name or int(index) for name, index in _PLACE.findall(where))
    return Fault((*place, *steps), what.replace("`", ""), "type_error")


def fields(
    sent: Mapping[Any, Value], kind: inspect.StructType, place: Place, field: Callable[[str, Value], object]
) -> Iterator[Fault]:
    """Faults of an object: fields unknown and missing, and those of each value, which `field` makes plain."""
    known = {f.encode_name: f for f in kind.fields}
    for name, value in sent.items():
        if name in known:
            if not isinstance(known[name].type, inspect.RawType):
                yield from faults_of(field(name, value), known[name].type, (*place, name))
        else:
            yield _unknown(name, list(known), place)
    for name, declared in known.items():
        if declared.required and name not in sent:
            yield Fault((*place, name), "Field required", "missing")


def _unknown(name: object, known: list[str], place: Place) -> Fault:
    text = shown(name if isinstance(name, str) else repr(name))
    near = difflib.get_close_matches(text.lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return Fault((*place, text), f"Unknown field; {hint}", "unknown_field")


def faults_of(value: object, kind: inspect.Type, place: Place) -> Iterator[Fault]:
    """Faults of a plain value against a type."""
    match kind:
        case inspect.Metadata():
            yield from faults_of(value, kind.type, place)
        case inspect.RawType() | inspect.AnyType():
            return
        case inspect.UnionType():
            yield from _union(value, kind, place)
        case inspect.StructType():
            if isinstance(value, dict):
                yield from fields(value, kind, place, lambda _, v: v)
            else:
                yield _mistyped(value, kind, place)
        case inspect.DictType():
            yield from _mapping(value, kind, place)
        case inspect.ListType() | inspect.VarTupleType():
            yield from _sequence(value, kind, place)
        case _:
            yield from _scalar(value, kind, place)


def _union(value: object, kind: inspect.UnionType, place: Place) -> Iterator[Fault]:
    members = [m for m in kind.types if not isinstance(m, inspect.NoneType)]
    if value is None and len(members) < len(kind.types):
        return
    accounts = [list(islice(faults_of(value, m, place), MAX_FAULTS)) for m in members]
    if not all(accounts):
        return
    if len(accounts) == 1:
        yield from accounts[0]
    else:
        yield _mistyped(value, kind, place)


def _mapping(value: object, kind: inspect.DictType, place: Place) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield _mistyped(value, kind, place)
        return
    for name, item in value.items():
        if isinstance(name, str):
            yield from faults_of(item, kind.value_type, (*place, shown(name)))
        else:
            yield Fault((*place, shown(repr(name))), f"Expected a string as name, got {noun(name)}", "type_error")


def _sequence(value: object, kind: inspect.ListType | inspect.VarTupleType, place: Place) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield _mistyped(value, kind, place)
        return
    if kind.min_length is not None and len(value) < kind.min_length:
        yield Fault(place, f"Expected at least {kind.min_length}, got {len(value)}")
    if kind.max_length is not None and len(value) > kind.max_length:
        yield Fault(place, f"Expected at most {kind.max_length}, got {len(value)}")
        return
    for i, item in enumerate(value):
        yield from faults_of(item, kind.item_type, (*place, i))


def _scalar(value: object, kind: inspect.Type, place: Place) -> Iterator[Fault]:
    match kind, value:
        case inspect.IntType(), int() if type(value) is int:
            yield from _range(value, kind, place)
        case inspect.FloatType(), int() | float() if type(value) is not bool:
            yield from _not_finite(value, place) or _range(value, kind, place)
        case inspect.StrType(), str():
            if kind.min_length is not None and len(value) < kind.min_length:
                yield Fault(place, "must not be empty")
        case inspect.BoolType(), bool():
            return
        case inspect.LiteralType(), str():
            if value not in kind.values:
                yield Fault(place, f"Expected {_words(kind)}, got {shown(repr(value))}")
        case _:
            yield _mistyped(value, kind, place)


def _not_finite(value: float, place: Place) -> list[Fault]:
    try:
        finite = math.isfinite(float(value))
    except OverflowError:
        finite = False
    return [] if finite else [Fault(place, "must be a finite number within the range of a 64-bit float")]


def _range(value: float, kind: inspect.IntType | inspect.FloatType, place: Place) -> Iterator[Fault]:
    bounds = (
        (kind.gt, "greater than", operator.gt),
        (kind.ge, "at least", operator.ge),
        (kind.lt, "less than", operator.lt),
        (kind.le, "at most", operator.le),
    )
    for bound, words, holds in bounds:
        if bound is not None and not holds(value, bound):
            yield Fault(place, f"must be {words} {bound:g}, got {shown(repr(value), 24)}")


def target(value: object, place: Place) -> Iterator[Fault]:
    """Faults of a target: `[time][channel]` of number or null."""
    if not isinstance(value, list):
        yield Fault(place, f"Expected a 2D array [time][channel], got {noun(value)}", "type_error")
    elif not value:
        yield Fault(place, "Expected at least one observation, got an empty array")
    elif all(row is None or _is_number(row) for row in value):
        msg = "Expected a 2D array [time][channel], got a 1D array: wrap each value, [v1, v2] becomes [[v1], [v2]]"
        yield Fault(place, msg, "type_error")
    else:
        yield from rows(value, width_of(value), 0, place)


def width_of(value: list[object]) -> int:
    """Channels of the first row that has any, against which the others are held; 0: there is none."""
    return next((len(row) for row in value if isinstance(row, list) and row), 0)


def rows(value: list[object], width: int, start: int, place: Place) -> Iterator[Fault]:
    """Faults of rows of a target, of which `start` is the first one's index."""
    for i, row in enumerate(value, start):
        yield from _row(row, width, (*place, i))


def _row(row: object, width: int, place: Place) -> Iterator[Fault]:
    if not isinstance(row, list):
        hint = ": wrap it, [v]" if row is None or _is_number(row) else ""
        yield Fault(place, f"Expected a row of channels, got {noun(row)}{hint}", "type_error")
    elif not row:
        yield Fault(place, "A row needs at least one channel")
    else:
        if len(row) != width:
            yield Fault(place, f"Expected as many channels as in the rows before: {width}, got {len(row)}")
        yield from _cells(row, place, "a number or null")


def covariate(value: object, place: Place) -> Iterator[Fault]:
    """Faults of one covariate: numbers and nulls, or strings and nulls."""
    if not isinstance(value, list):
        yield Fault(place, f"Expected an array over time, got {noun(value)}", "type_error")
    else:
        yield from over_time(value, is_categorical(value), 0, place)


def is_categorical(value: list[object]) -> bool | None:
    """Whether the first value that is not null is a string; None: all are null."""
    first = next((v for v in value if v is not None), None)
    return None if first is None else isinstance(first, str)


def over_time(value: list[object], categorical: bool | None, start: int, place: Place) -> Iterator[Fault]:
    """Faults of values of a covariate, of which `start` is the first one's index."""
    if not categorical:
        yield from _cells(value, place, "a number or null", start)
        return
    for i, v in enumerate(value, start):
        if v is not None and not isinstance(v, str):
            yield Fault((*place, i), f"Expected strings throughout, got {noun(v)}", "type_error")


def _cells(cells: list[object], place: Place, expected: str, start: int = 0) -> Iterator[Fault]:
    for i, cell in enumerate(cells, start):
        if cell is None:
            continue
        if not _is_number(cell):
            yield Fault((*place, i), f"Expected {expected}, got {noun(cell)}", "type_error")
        else:
            yield from _not_finite(cell, (*place, i))


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) is float or type(value) is int


def _mistyped(value: object, kind: inspect.Type, place: Place) -> Fault:
    return Fault(place, f"Expected {_words(kind)}, got {noun(value)}", "type_error")


_NOUNS: Mapping[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
    bytes: "binary data",
}
_WORDS: Mapping[type[inspect.Type], str] = {
    inspect.IntType: "an integer",
    inspect.FloatType: "a number",
    inspect.StrType: "a string",
    inspect.BoolType: "a boolean",
    inspect.ListType: "an array",
    inspect.VarTupleType: "an array",
    inspect.DictType: "an object",
    inspect.StructType: "an object",
    inspect.NoneType: "null",
}


def noun(value: object) -> str:
    return _NOUNS.get(type(value), "a value of an extension type")


_OPENINGS: Mapping[bytes, str] = {
    b"{": "an object",
    b"[": "an array",
    b'"': "a string",
    b"t": "a boolean",
    b"f": "a boolean",
    b"n": "null",
}
_FIRST_BYTES: tuple[tuple[int, str], ...] = (  # of msgpack: the last byte of each kind
    (0x7F, "an integer"),
    (0x8F, "an object"),
    (0x9F, "an array"),
    (0xBF, "a string"),
    (0xC0, "null"),
    (0xC1, "a value of an extension type"),
    (0xC3, "a boolean"),
    (0xC6, "binary data"),
    (0xC9, "a value of an extension type"),
    (0xCB, "a number"),
    (0xD3, "an integer"),
    (0xD8, "a value of an extension type"),
    (0xDB, "a string"),
    (0xDD, "an array"),
    (0xDF, "an object"),
    (0xFF, "an integer"),
)


def noun_of(raw: Raw | bytes, form: Format) -> str:
    """What a well-formed value is, by its first byte: it may be long."""
    content = bytes(raw).lstrip() if form is Format.JSON else bytes(raw)
    if form is Format.MSGPACK:
        return next(word for last, word in _FIRST_BYTES if content[0] <= last)
    if content[:1] in _OPENINGS:
        return _OPENINGS[content[:1]]
    return "a number" if re.search(rb"[.eE]", content) or len(content) >= _LONGEST_DIGITS else "an integer"


NUMBERS = ("a number", "an integer")


def _words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata):
        return _words(kind.type)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(dict.fromkeys(_words(t) for t in kind.types))
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f'"{v}"' for v in kind.values)
    return _WORDS[type(kind)]
