"""Arrays of a body to float64, with no Python object more than needed.

A target `[[1.0],[2.5],[null]]` read as lists of lists costs one list a row, which is most of the time (64 x 2048 rows:
35 ms against 11). So the brackets between rows are taken out and the flat list that is left is read. What does not
look so regular (mixed spacing) takes the general way; both accept the same bodies.

What is longer than a window is read in slices.

All functions raise msgspec.DecodeError, and its subclass msgspec.ValidationError for what is well formed but not an
array of the shape wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import TypeVar

import msgspec
import numpy as np
from msgspec import Raw, ValidationError

from gateway.dialects.base import Steps
from gateway.dialects.canonical import slices
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.slices import LONGEST, WINDOW
from gateway.domain import Array, CovariateValues

T = TypeVar("T")
Cells = list[float | None]
Words = tuple[str | None, ...]
Reader = Callable[[bytes], T]

_FLAT = msgspec.json.Decoder(Cells)
_ROWS: Mapping[Format, Reader[list[Cells]]] = {
    Format.JSON: msgspec.json.Decoder(list[Cells]).decode,
    Format.MSGPACK: msgspec.msgpack.Decoder(list[Cells]).decode,
}
_CELLS: Mapping[Format, Reader[Cells]] = {
    Format.JSON: _FLAT.decode,
    Format.MSGPACK: msgspec.msgpack.Decoder(Cells).decode,
}
_WORDS: Mapping[Format, Reader[Words]] = {
    Format.JSON: msgspec.json.Decoder(Words).decode,
    Format.MSGPACK: msgspec.msgpack.Decoder(Words).decode,
}
_SPACE = b" \t\r\n"


def matrix(raw: Raw, form: Format, window: int = WINDOW) -> Steps[Array]:
    """A target `[time][channel]` of number or null, at least one row and one channel, as `(time, channels)`."""
    content = bytes(raw)
    if len(content) <= window:
        return _matrix(content, form)
    found, rows = np.empty((0, 0)), 0
    for piece in slices.of_array(content, form, window):
        if piece:
            part = _matrix(piece, form)
            if not rows:  # no row takes fewer bytes; memory that is not written to is not taken
                found = np.empty((len(content) // (part.shape[1] + 1) + 1, part.shape[1]))
            if part.shape[1] != found.shape[1]:
                raise ValidationError("Expected rows of one length")
            found[rows : rows + len(part)] = part
            rows += len(part)
        yield
    return found[:rows]


def _matrix(content: bytes, form: Format) -> Array:
    if len(content) > LONGEST:
        raise ValidationError("Expected shorter rows")
    found = _regular_json(content) if form is Format.JSON else _regular_msgpack(content)
    if found is None:
        rows = _ROWS[form](content)
        if len(set(map(len, rows))) != 1 or not rows[0]:
            raise ValidationError("Expected rows of one length")
        found = _floats(list(chain.from_iterable(rows))).reshape(len(rows), -1)
    return found


def values(raw: Raw, form: Format, window: int = WINDOW) -> Steps[CovariateValues]:
    """A covariate: numbers and nulls as `(time,)`, or strings and nulls as they are."""
    content = bytes(raw)
    if len(content) <= window:
        return _values(content, form)
    found, count = np.empty(len(content)), 0  # no value takes less than a byte
    try:
        for piece in slices.of_array(content, form, window):
            if piece:
                part = _floats(_CELLS[form](piece))
                found[count : count + len(part)] = part
                count += len(part)
            yield
    except ValidationError:
        if len(content) > LONGEST:
            raise ValidationError(f"Expected at most {LONGEST} bytes of categories") from None
        return _WORDS[form](content)
    return found[:count]


def _values(content: bytes, form: Format) -> CovariateValues:
    try:
        return _floats(_CELLS[form](content))
    except ValidationError:
        return _WORDS[form](content)


def _floats(cells: Cells) -> Array:
    """`cells` with NaN for null. msgpack can hold NaN and infinity, which no contract of ours takes."""
    found = np.array(cells, dtype=np.float64)
    missing = int(np.count_nonzero(~np.isfinite(found)))
    if missing and missing != cells.count(None):
        raise ValidationError("Expected finite numbers")
    return found


def _regular_json(content: bytes) -> Array | None:
    """Rows that are all separated alike, by `],[` or `], [` or over lines; None: not so regular.

    Sound because brackets that are left after the separators are taken out make the flat decoder fail: what passes
    was `[[` numbers, separators `]]`, with at least one number between any two separators.
    """
    inner = content[1:-1].strip(_SPACE)
    if not (content[:1] == inner[:1] == b"[" and content[-1:] == inner[-1:] == b"]") or b";" in inner:
        return None
    first = inner.find(b"]")
    separator = inner[first : inner.find(b"[", first) + 1]
    if separator and separator[1:-1].strip(_SPACE) != b",":
        return None
    marked = inner.replace(separator, b";") if separator else inner
    rows = (len(inner) - len(marked)) // (len(separator) - 1) + 1 if separator else 1
    try:
        cells = _FLAT.decode(marked.replace(b";", b","))
    except msgspec.DecodeError:
        return None
    width, ragged = divmod(len(cells), rows)
    if ragged or not width or (width > 1 and not _ends_rows(marked, width)):
        return None
    return _floats(cells).reshape(rows, width)


def _ends_rows(marked: bytes, width: int) -> bool:
    """Whether of all separators in `marked` every `width`-th one, and no other, is a row's end."""
    codes = np.frombuffer(marked, dtype=np.uint8)
    separators = codes[(codes == ord(",")) | (codes == ord(";"))]
    return bool((separators[width - 1 :: width] == ord(";")).all())


def _regular_msgpack(content: bytes) -> Array | None:
    """Rows of at most 15 float64 cells without null: every row is the same bytes but for the numbers. Else None."""
    head = {0xDC: 3, 0xDD: 5}.get(content[0], 1) if content else 0
    count = int.from_bytes(content[1:head]) if head > 1 else (content[0] & 0x0F if content else 0)
    if not count or len(content) <= head or (head == 1 and content[0] >> 4 != 0x9):
        return None
    width = content[head] & 0x0F
    if content[head] >> 4 != 0x9 or not width or len(content) != head + count * (1 + 9 * width):
        return None
    rows = np.frombuffer(content, dtype=np.uint8, offset=head).reshape(count, 1 + 9 * width)
    cells = rows[:, 1:].reshape(count, width, 9)
    if (rows[:, 0] != content[head]).any() or (cells[:, :, 0] != 0xCB).any():
        return None
    found = np.ascontiguousarray(cells[:, :, 1:]).view(">f8")[:, :, 0].astype(np.float64)
    return found if np.isfinite(found).all() else None
