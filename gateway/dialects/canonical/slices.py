"""Large values in slices, so that no step reads more than a window of bytes.

JSON is split at commas: their depth is counted window by window, without a Python object a character. msgpack is split
by its parser, which tells where trailing bytes begin. Either way each slice is an array of its own, and an array is
well formed where all its slices are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.dialects.canonical.media import Format, array_head, map_head

WINDOW = 64 * 1024  # bytes of a step: half a millisecond of parsing, four of diagnosis
LONGEST = 1024 * 1024  # bytes of what can only be read whole: one row, one covariate of categories
DEEPEST = 1000

_QUOTE, _COMMA = ord('"'), ord(",")
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_DELTA = np.zeros(256, dtype=np.int64)
_DELTA[list(b"[{")], _DELTA[list(b"]}")] = 1, -1

Positions = npt.NDArray[np.int64]


def of_array(content: bytes, form: Format, window: int = WINDOW) -> Iterator[bytes]:
    """An array as shorter arrays of its members, in order; b"" after a step that ended none.

    A slice is longer than a window only where one member is. Slices of what is no array are no arrays.
    """
    if len(content) <= window:
        return iter((content,))
    return _of_json(content, window, b"[]") if form is Format.JSON else _of_msgpack(content, window, array_head, 1)


def of_object(content: bytes, form: Format, window: int = WINDOW) -> Iterator[bytes]:
    """An object as smaller objects of its members, in order; b"" after a step that ended none."""
    if len(content) <= window:
        return iter((content,))
    return _of_json(content, window, b"{}") if form is Format.JSON else _of_msgpack(content, window, map_head, 2)


def structure(
    text: bytes, characters: bytes, window: int = WINDOW
) -> Iterator[tuple[Positions, npt.NDArray[np.uint8], Positions]]:
    """Window by window: where `characters` stand outside of strings, which, and how deep it is after each.

    Depth counts those of `characters` that open and close.
    """
    wanted = np.zeros(256, dtype=np.bool_)
    wanted[[*characters, _QUOTE]] = True
    start, quoted, depth = 0, 0, 0
    while start < len(text):
        content = text[start : start + window]
        if b"\\" in content:
            content = _ESCAPED.sub(b"  ", content)
            if content.endswith(b"\\") and len(content) > 1:
                content = content[:-1]  # what it escapes is in the next window
        codes = np.frombuffer(content, dtype=np.uint8)
        where = np.flatnonzero(wanted[codes])
        kinds = codes[where]
        quotes = kinds == _QUOTE
        parity = (np.cumsum(quotes) + quoted) & 1
        quoted = int(parity[-1]) if parity.size else quoted
        outside = ~quotes & (parity == 0)
        where, kinds = where[outside], kinds[outside]
        depths = depth + np.cumsum(_DELTA[kinds])
        depth = int(depths[-1]) if depths.size else depth
        yield where + start, kinds, depths
        start += len(content)


def _of_json(content: bytes, window: int, brackets: bytes) -> Iterator[bytes]:
    opening, closing = brackets[:1], brackets[1:]
    done = 1
    for where, kinds, depths in structure(content, b"[]{},", window):
        ends = where[(kinds == _COMMA) & (depths == 1)]
        if not ends.size:
            yield b""
        elif ends[0] - done > window:  # a long member stays alone
            ends = ends[[0, -1]] if ends.size > 1 else ends
        else:
            ends = ends[-1:]
        for end in ends.tolist():
            yield _closed(opening, content[done:end] + closing)
            done = end + 1
    yield _closed(opening, content[done:])


def _closed(opening: bytes, members: bytes) -> bytes:
    """No member before or after a comma is no JSON, though no member at all would be."""
    return opening + (members if members[:-1].strip() else b"," + members[-1:])


def _of_msgpack(content: bytes, window: int, head: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    """Slices of members that are `size` values each."""
    position, values = opened(content, 0)
    left = values // size
    count = 64
    while left:
        count = min(count, left)
        end = _after(content, position, count * size, window)
        if end is None and count > 1:
            count //= 2
            yield b""
            continue
        if end is None:
            end = position
            for _ in range(size):
                for reached in after(content, end, window):
                    end = reached
                    yield b""
        yield head(count) + content[position:end]
        left -= count
        count = max(1, count * window // (end - position) * 7 // 8)
        position = end


def opened(content: bytes, position: int) -> tuple[int, int]:
    """Of the msgpack value at `position`: where its head (a scalar: the value) ends, and how many values it holds.

    Of scalars only those can be longer than a window that carry a length apart from their first byte.
    """
    kind = content[position]
    if kind >> 4 in (0x8, 0x9):
        return position + 1, (kind & 0x0F) * (2 if kind >> 4 == 0x8 else 1)
    sizes = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
    lengths = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
    head = position + 1 + sizes.get(kind, lengths.get(kind, 0))
    number = int.from_bytes(content[position + 1 : head])
    if kind in sizes:
        return head, number * (2 if kind >= 0xDE else 1)
    return head + number + (0xC7 <= kind <= 0xC9), 0


def after(content: bytes, position: int, window: int = WINDOW) -> Iterator[int]:
    """Steps to the end of the msgpack value at `position`, which the last of them tells.

    Raises msgspec.DecodeError, of which `args` tells the byte within `content`, and RecursionError.
    """
    left, count = [1], 1
    while left:
        count = min(count, left[-1])
        end = _after(content, position, count, window)
        if end is not None:
            left[-1] -= count
            count = max(1, count * window // (end - position) * 7 // 8)
            position = end
        elif count > 1:
            count //= 2
        else:  # longer than a window
            if position >= len(content):
                raise msgspec.DecodeError("Input data was truncated")
            left[-1] -= 1
            position, members = opened(content, position)
            left.append(members)
            if position > len(content):
                raise msgspec.DecodeError("Input data was truncated")
            if len(left) > DEEPEST:
                raise RecursionError
        while left and not left[-1]:
            left.pop()
        yield position


def _after(content: bytes, position: int, count: int, window: int) -> int | None:
    """The end of `count` msgpack values; None: not within a window."""
    head = b"\xdd" + count.to_bytes(4)
    try:
        msgspec.msgpack.decode(head + content[position : position + window], type=msgspec.Raw)
    except msgspec.DecodeError as failure:
        trailing = _TRAILING.search(str(failure))
        if trailing:
            return position + int(trailing[1]) - len(head)
        if str(failure) == "Input data was truncated":
            return None
        beyond = re.sub(r"\(byte (\d+)\)", lambda m: f"(byte {int(m[1]) + position - len(head)})", str(failure))
        raise msgspec.DecodeError(beyond) from None
    return min(position + window, len(content))
