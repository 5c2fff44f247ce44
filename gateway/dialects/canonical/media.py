"""Which of the two media types a body is in, and which one the caller wants back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from gateway.dialects.base import Call
from gateway.errors import Code, GatewayError

T = TypeVar("T")


class Format(Enum):
    """A form of bodies; the value is the media type that answers carry."""

    JSON = "application/json"
    MSGPACK = "application/msgpack"

    def __init__(self, media_type: str) -> None:
        # By kind, what reads bytes as it: making that takes longer than reading a short value.
        self._decoders: dict[Any, Callable[[bytes | msgspec.Raw], Any]] = {}

    def decode(self, raw: bytes | msgspec.Raw, kind: type[T]) -> T:
        """Raises msgspec.DecodeError, and msgspec.ValidationError where `raw` is well formed but no `kind`."""
        read = self._decoders.get(kind)
        if read is None:
            make = msgspec.json.Decoder if self is Format.JSON else msgspec.msgpack.Decoder
            read = self._decoders[kind] = make(kind).decode
        found: T = read(raw)
        return found

    def encode(self, value: object) -> bytes:
        return (msgspec.json.encode if self is Format.JSON else msgspec.msgpack.encode)(value)


def array_head(count: int) -> bytes:
    """The head of a msgpack array."""
    return bytes([0x90 | count]) if count < 16 else b"\xdd" + count.to_bytes(4)


def map_head(count: int) -> bytes:
    """The head of a msgpack map."""
    return bytes([0x80 | count]) if count < 16 else b"\xdf" + count.to_bytes(4)


NAMES = {
    Format.JSON: ("application/json", "text/json"),
    Format.MSGPACK: ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"),
}


@dataclass(frozen=True, slots=True)
class Wire:
    """The form of the request and the form of its answer."""

    asked: Format
    answered: Format


def negotiate(call: Call) -> Wire:
    """Both forms of a call; raises GatewayError UNSUPPORTED_MEDIA_TYPE or NOT_ACCEPTABLE."""
    return _negotiated(call.headers.get("content-type", ""), call.headers.get("accept", ""))


@lru_cache(maxsize=64)
def _negotiated(content_type: str, accept: str) -> Wire:
    asked = _of_request(content_type)
    if asked is None:
        raise GatewayError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            f"The content-type {content_type[:80]!r} is not read here: send application/json (in UTF-8) or "
            "application/msgpack.",
        )
    answered = _of_answer(accept, asked)
    if answered is None:
        raise GatewayError(
            Code.NOT_ACCEPTABLE,
            f"Nothing that the header accept: {accept[:80]!r} names is served here: application/json or "
            "application/msgpack.",
        )
    return Wire(asked, answered)


def of_error(call: Call) -> Format:
    """The form of an error: as the answer's, and JSON for a caller who asked for neither form."""
    asked = _of_request(call.headers.get("content-type", "")) or Format.JSON
    return _of_answer(call.headers.get("accept", ""), asked) or Format.JSON


def _of_request(content_type: str) -> Format | None:
    """The form that a content-type names; without one, JSON."""
    name, _, options = content_type.lower().partition(";")
    name = name.strip()
    charset = options.partition("charset=")[2].strip(' "')
    if not name or name in NAMES[Format.JSON] or name.endswith("+json"):
        return Format.JSON if charset in ("", "utf-8", "utf8", "us-ascii") else None
    return Format.MSGPACK if name in NAMES[Format.MSGPACK] else None


def _of_answer(accept: str, asked: Format) -> Format | None:
    """The form that an accept header prefers (RFC 9110, 12.5.1); between equals, that of the request."""
    if not accept.strip():
        return asked
    order = sorted(Format, key=lambda f: f is not asked)
    best = max(order, key=lambda f: _quality(accept, f))
    return best if _quality(accept, best) > 0 else None


def _quality(accept: str, offered: Format) -> float:
    """The weight of the most specific range that matches; 0 where none does."""
    found = (0, 0.0)
    for part in accept.lower().split(","):
        name, *options = (p.strip() for p in part.split(";"))
        if name in NAMES[offered]:
            rank = 3
        elif name in {"application/*", "*/*"}:
            rank = 2 if name == "application/*" else 1
        else:
            continue
        weight = next((o[2:] for o in options if o.startswith("q=")), "1")
        try:
            found = max(found, (rank, min(float(weight), 1.0)))
        except ValueError:
            found = max(found, (rank, 1.0))
    return found[1]
