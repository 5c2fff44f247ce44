"""JSON bodies of the dialects beside the canonical one: decoded in steps, with every doubt told as a fault.

Extra fields are a dialect's own matter: the types it decodes to say whether they are allowed. Long arrays stay raw
until `numbers` or `values` reads them, slice by slice.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Raw

from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import arrays, envelope, malformed, slices, walk
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.media import Format
from gateway.domain import Array, CovariateValues
from gateway.errors import Code, Fault, GatewayError, Place

T = TypeVar("T")

_MISSING = "Object missing required field "
_CELLS = msgspec.json.Decoder(list[float | None])

# What callers name JSON, and what their libraries send when they name nothing.
_TYPES = (
    "",
    "application/json",
    "text/json",
    "application/octet-stream",
    "text/plain",
    "application/x-www-form-urlencoded",
)


def require_json(call: Call) -> None:
    """Raise UNSUPPORTED_MEDIA_TYPE for a body that calls itself something else."""
    sent = call.headers.get("content-type", "")
    name = sent.partition(";")[0].strip().lower()
    if name not in _TYPES and not name.endswith("+json"):
        raise GatewayError(
            Code.UNSUPPORTED_MEDIA_TYPE, f"The content-type {sent[:80]!r} is not read here: send application/json."
        )


def told(body: bytes, steps: Steps[T]) -> Steps[T]:
    """`steps`, which read `body`, with all that a decoder raises in them told as a GatewayError."""
    try:
        return (yield from steps)
    except msgspec.ValidationError as failure:
        raise GatewayError.invalid(*map(_missing, walk.found((), failure, ()))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise (yield from malformed.error(body, Format.JSON, failure)) from None
    except RecursionError:
        raise malformed.too_deep() from None


def _missing(fault: Fault) -> Fault:
    """A field that the decoder misses, told at its own place."""
    name = fault.msg.removeprefix(_MISSING)
    return Fault((*fault.loc, name), "Field required", "missing") if name != fault.msg else fault


def decoded(body: bytes, decoder: msgspec.json.Decoder[T]) -> Steps[tuple[T, Envelope]]:
    """A body without its long arrays, and the envelope that holds those. Raises msgspec.DecodeError."""
    whole = yield from envelope.of(body, Format.JSON)
    return decoder.decode(whole.content), whole


def values(raw: Raw, body: Envelope, place: Place) -> Steps[CovariateValues]:
    """A list of number or null, or of string or null. Raises GatewayError, and msgspec.DecodeError."""
    try:
        return (yield from arrays.values(body.whole(raw), Format.JSON))
    except msgspec.ValidationError as failure:
        raise GatewayError.invalid(*walk.found((), failure, place)) from None


def numbers(raw: Raw, body: Envelope, place: Place) -> Steps[Array]:
    """A list of number or null as `(time,)`, NaN for null. Raises as `values`."""
    whole = body.whole(raw)
    try:
        found = yield from arrays.values(whole, Format.JSON)
    except msgspec.ValidationError:
        found = ()
    if isinstance(found, tuple):
        raise (yield from _no_number(bytes(whole), place))
    return found


def _no_number(content: bytes, place: Place) -> Steps[GatewayError]:
    """The first member of a list that is neither a number nor null; the list itself where it is none."""
    before = 0
    for piece in slices.of_array(content, Format.JSON):
        try:
            before += len(_CELLS.decode(piece)) if piece else 0
        except msgspec.ValidationError as failure:
            (fault, *_) = walk.found((), failure, ())
            at = fault.loc and (before + int(fault.loc[0]), *fault.loc[1:])
            return GatewayError.invalid(Fault((*place, *at), fault.msg.replace("float", "number"), "type_error"))
        yield
    return GatewayError.invalid(Fault(place, "Expected finite numbers"))


def in_words_of(error: GatewayError, names: dict[Place, Place]) -> GatewayError:
    """`error` with the places of the domain renamed to those of a dialect's body, the longest known first."""
    if not error.faults or error.code is not Code.INVALID_ARGUMENT:
        return error
    faults = tuple(Fault(_renamed(f.loc, names), f.msg, f.type) for f in error.faults)
    if GatewayError.invalid(*error.faults).sentence != error.sentence:
        return GatewayError(error.code, error.sentence, faults=faults, retry_after_s=error.retry_after_s)
    return GatewayError.invalid(*faults)


def _renamed(place: Place, names: dict[Place, Place]) -> Place:
    for length in range(len(place), 0, -1):
        if place[:length] in names:
            return (*names[place[:length]], *place[length:])
    return place
