"""Metadata of callers: never read, echoed byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from gateway.dialects.canonical.media import Format


class _ItemId(msgspec.Struct):
    item_id: Raw = Raw(b"")


@dataclass(frozen=True, slots=True)
class Echo:
    """Metadata in the form it will be answered in: big integers, `1.0`, order and repeated keys as sent."""

    form: Format
    content: bytes


def is_object(content: bytes, form: Format) -> bool:
    """Whether well-formed `content` is an object, or the null that stands for none."""
    first = content[:1]
    if form is Format.JSON:
        return first in (b"{", b"n")
    return first in (b"\xc0", b"\xde", b"\xdf") or b"\x80" <= first <= b"\x8f"


def carried(content: bytes, form: Format, to: Format) -> bytes:
    """`content` in another form; raises ValueError where that form cannot hold it.

    JSON has no NaN, binary or extension types; msgpack has no integers beyond 64 bits. What reads back as it was is
    carried; of a repeated key the last value is.
    """
    if form is to:
        return content
    try:
        value = form.decode(content, Any)
        found = to.encode(value)
        kept = to.decode(found, Any) == value
    except (ValueError, TypeError, OverflowError):
        kept = False
    if not kept:
        raise ValueError(f"holds something that {to.value} cannot carry; ask for an answer in {form.value}")
    return found


def with_item_id(content: bytes, item_id: str | int, form: Format) -> bytes:
    """`content` (empty or null: none) with `item_id` added; raises ValueError where it holds another one."""
    added = form.encode(item_id)
    if not content or content in (b"null", b"\xc0"):
        return form.encode({"item_id": item_id})
    there = bytes(form.decode(content, _ItemId).item_id)
    if there:
        known: object = form.decode(there, Any)
        if type(known) is type(item_id) and known == item_id:
            return content
        raise ValueError("differs from metadata.item_id; send one of them")
    return _appended(content, added, form)


def _appended(content: bytes, item_id: bytes, form: Format) -> bytes:
    """An object with one more member at its end, the others untouched."""
    if form is Format.JSON:
        members = content[:-1].rstrip()
        return members + (b"" if members == b"{" else b",") + b'"item_id":' + item_id + b"}"
    head = {0xDE: 3, 0xDF: 5}.get(content[0], 1)
    count = (int.from_bytes(content[1:head]) if head > 1 else content[0] & 0x0F) + 1
    if count <= 15:
        header = bytes([0x80 | count])
    elif count < 2**16:
        header = b"\xde" + count.to_bytes(2)
    else:
        header = b"\xdf" + count.to_bytes(4)
    return header + content[head:] + msgspec.msgpack.encode("item_id") + item_id
