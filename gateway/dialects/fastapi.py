"""Bodies and errors of servers that are written with FastAPI, for the dialects that speak like one.

Such a server refuses a body that is not of its schema with 422 and a list of places in `detail`. pydantic, which finds
them, has changed its words between its versions: a dialect says which it speaks. Like pydantic, types are lax: a
number may come as a string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Raw, UnsetType

from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import envelope, malformed, walk
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.media import Format
from gateway.errors import MAX_FAULTS, Code, Fault, FaultType, GatewayError, Place

Body = TypeVar("Body", bound=msgspec.Struct)

Kind = Literal[
    "missing",
    "null",
    "number",
    "integer",
    "string",
    "list",
    "object",
    "choice",
    "least",
    "above",
    "below",
    "finite",
    "json",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One place of a body that is not of its schema."""

    loc: Place
    kind: Kind
    limit: str = ""  # the choices, the least number, or what is wrong with the JSON


# kind -> (msg, type); {} is the problem's limit.
Words = Mapping[Kind, tuple[str, str]]

PYDANTIC_1: Words = {
    "missing": ("field required", "value_error.missing"),
    "null": ("none is not an allowed value", "type_error.none.not_allowed"),
    "number": ("value is not a valid float", "type_error.float"),
    "integer": ("value is not a valid integer", "type_error.integer"),
    "string": ("str type expected", "type_error.str"),
    "list": ("value is not a valid list", "type_error.list"),
    "object": ("value is not a valid dict", "type_error.dict"),
    "choice": ("value is not a valid enumeration member; permitted: {}", "type_error.enum"),
    "least": ("ensure this value is greater than or equal to {}", "value_error.number.not_ge"),
    "above": ("ensure this value is greater than {}", "value_error.number.not_gt"),
    "below": ("ensure this value is less than {}", "value_error.number.not_lt"),
    "finite": ("ensure this value is a finite number", "value_error.number.not_finite_number"),
    "json": ("{}", "value_error.jsondecode"),
}
PYDANTIC_2: Words = {
    "missing": ("Field required", "missing"),
    "null": ("Input should not be null", "value_error"),
    "number": ("Input should be a valid number", "float_type"),
    "integer": ("Input should be a valid integer", "int_type"),
    "string": ("Input should be a valid string", "string_type"),
    "list": ("Input should be a valid list", "list_type"),
    "object": ("Input should be a valid dictionary or object to extract fields from", "model_attributes_type"),
    "choice": ("Input should be {}", "enum"),
    "least": ("Input should be greater than or equal to {}", "greater_than_equal"),
    "above": ("Input should be greater than {}", "greater_than"),
    "below": ("Input should be less than {}", "less_than"),
    "finite": ("Input should be a finite number", "finite_number"),
    "json": ("JSON decode error: {}", "json_invalid"),
}


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """One place in FastAPI's words."""

    loc: list[str | int]
    msg: str
    type: str


class SchemaError(GatewayError):
    """A body that is not of its schema: the 422 of FastAPI, whatever else is answered with 400."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems[:MAX_FAULTS]
        invalid = GatewayError.invalid(*(_fault(p) for p in self.problems))
        super().__init__(Code.INVALID_ARGUMENT, invalid.sentence, faults=invalid.faults)

    def detail(self, words: Words) -> list[Detail]:
        """Every place, in the words of one pydantic."""
        return [
            Detail(loc=["body", *p.loc], msg=words[p.kind][0].format(p.limit), type=words[p.kind][1])
            for p in self.problems
        ]


def _fault(problem: Problem) -> Fault:
    of_value = ("choice", "least", "above", "below", "finite", "json")
    kind: FaultType = (
        "missing" if problem.kind == "missing" else "value_error" if problem.kind in of_value else "type_error"
    )
    return Fault(problem.loc, PYDANTIC_2[problem.kind][0].format(problem.limit), kind)


# -- reading ---


def read(call: Call, kind: type[Body], documented: type[msgspec.Struct] | None = None) -> Steps[tuple[Body, Envelope]]:
    """The body of a call, and the envelope that holds what its `Raw` fields stand for.

    Raises SchemaError with the places where it is not of `documented` (None: of `kind`), and MALFORMED for a body that
    is nested too deeply.
    """
    try:
        found = yield from envelope.of(call.body, Format.JSON)
        try:
            return msgspec.json.decode(found.content, type=kind, strict=False), found
        except msgspec.ValidationError as failure:
            problems = tuple(
                islice(problems_of(walk.untyped(found.content, Format.JSON), documented or kind, ()), MAX_FAULTS)
            )
            raise SchemaError(problems or (as_told(failure, ()),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise (yield from not_json(call.body, failure)) from None
    except RecursionError:
        raise malformed.too_deep() from None


def not_json(body: bytes, failure: Exception) -> Steps[SchemaError]:
    """The error for a body of which some part could not be parsed: where, and what is wrong there."""
    found = yield from malformed.error(body, Format.JSON, failure)
    told = _AT_BYTE.search(found.sentence)
    return SchemaError((Problem((int(told[1]) if told else 0,), "json", found.sentence),))


def problems_of(value: object, kind: type[msgspec.Struct], place: Place) -> Iterator[Problem]:
    """Every place of a plain value that is not of a struct's schema, one a field; `Raw` fields are not looked into."""
    if not isinstance(value, dict):
        yield Problem(place, "null" if value is None else "object")
        return
    for field in msgspec.structs.fields(kind):
        here = (*place, field.encode_name)
        if field.encode_name not in value:
            if field.required:
                yield Problem(here, "missing")
            continue
        yield from _field_problems(value[field.encode_name], field.type, here)


def _field_problems(value: object, declared: Any, place: Place) -> Iterator[Problem]:
    kind = _plain(declared)
    member = get_args(kind)[0] if get_origin(kind) in (list, tuple) else None
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from problems_of(value, kind, place)
    elif isinstance(member, type) and issubclass(member, msgspec.Struct) and isinstance(value, list):
        for i, item in enumerate(value):
            yield from problems_of(item, member, (*place, i))
    elif get_origin(kind) is Literal and value not in get_args(kind):
        yield Problem(place, "choice", " or ".join(repr(choice) for choice in get_args(kind)))
    elif kind is not Raw:
        try:
            msgspec.convert(value, declared, strict=False)
        except msgspec.ValidationError as failure:
            yield as_told(failure, place)


def _plain(declared: Any) -> Any:
    """A type without what is said of it, and without that it may be absent."""
    if UnsetType in get_args(declared):
        declared = next(member for member in get_args(declared) if member is not UnsetType)
    return get_args(declared)[0] if get_origin(declared) is Annotated else declared


_AT_BYTE = re.compile(r"byte (\d+)")
_EXPECTED: Mapping[str, Kind] = {
    "float": "number",
    "int": "integer",
    "str": "string",
    "array": "list",
    "object": "object",
}
_TOLD = re.compile(r"Expected `(\w+)[^`]*`(?: >= ([\d.]+)|, got `(\w+)`)?")
_PLACE = re.compile(r"\.([^.\[\]`]+)|\[(\d+)\]")


def as_told(failure: Exception, place: Place) -> Problem:
    """msgspec's account of a value, in pydantic's kinds."""
    what, _, where = str(failure).partition(" - at `$")
    loc = (*place, *(name or int(index) for name, index in _PLACE.findall(where)))
    told = _TOLD.match(what)
    if told is None:
        return Problem(loc, "finite")  # a number beyond 64 bits
    if told[2] is not None:
        return Problem(loc, "least", told[2])
    if told[3] == "null":
        return Problem(loc, "null")
    return Problem(loc, _EXPECTED.get(told[1], "object"))
