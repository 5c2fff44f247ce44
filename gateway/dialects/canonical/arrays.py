"""Arrays of a body to float64, with no Python object a number where that can be avoided.

A target `[[1.0],[2.5],[null]]` read as lists of lists costs a list a row and an object a number: 64 x 2048 rows take 35
ms. simdjson writes the numbers of an array into a buffer, whatever brackets stand around them: 6 ms. That the brackets
are those of a matrix is then seen from what is left of the text without its numbers. What is not so regular, and
everything where there is no simdjson, takes the general way; both accept the same bodies. Of msgpack, rows of one
shape are read from their bytes.

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

try:
    import simdjson
except ModuleNotFoundError:  # it has no wheels for the newest Python
    HAS_SIMDJSON = False
else:
    HAS_SIMDJSON = True

T = TypeVar("T")
Cells = list[float | None]
Words = tuple[str | None, ...]
Reader = Callable[[bytes], T]

_ROWS: Mapping[Format, Reader[list[Cells]]] = {
    Format.JSON: msgspec.json.Decoder(list[Cells]).decode,
    Format.MSGPACK: msgspec.msgpack.Decoder(list[Cells]).decode,
}
_CELLS: Mapping[Format, Reader[Cells]] = {
    Format.JSON: msgspec.json.Decoder(Cells).decode,
    Format.MSGPACK: msgspec.msgpack.Decoder(Cells).decode,
}
_WORDS: Mapping[Format, Reader[Words]] = {
    Format.JSON: msgspec.json.Decoder(Words).decode,
    Format.MSGPACK: msgspec.msgpack.Decoder(Words).decode,
}
_NUMERIC = b"0123456789+-.eEnul \t\r\n"  # of what numbers, nulls and the space between them are made
_HOLE = b"-1.7976931348623157e308"  # stands for null in a buffer of numbers; a number that is this is found out


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
    found = _flat_json(content) if form is Format.JSON else None
    if found is not None:
        return found
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
    """Rows of one width, of numbers and nulls. None: something else, or no JSON."""
    skeleton = content.translate(None, _NUMERIC)
    row = skeleton[1 : skeleton.find(b"]") + 1]
    width = len(row) - 1
    if width < 1 or row != b"[" + b"," * (width - 1) + b"]":
        return None
    rows = len(skeleton) // (len(row) + 1)
    if skeleton != b"[" + (row + b",") * (rows - 1) + row + b"]":
        return None
    found = _numbers(content, rows * width)
    return None if found is None else found.reshape(rows, width)


def _flat_json(content: bytes) -> Array | None:
    """Numbers and nulls of one array, at least one. None: something else, or no JSON."""
    skeleton = content.translate(None, _NUMERIC)
    count = len(skeleton) - 1
    if count < 1 or skeleton != b"[" + b"," * (count - 1) + b"]":
        return None
    return _numbers(content, count)


def _numbers(content: bytes, count: int) -> Array | None:
    """`count` numbers and nulls of arrays within arrays. None: others, or another count, or no JSON."""
    if not HAS_SIMDJSON:
        return None
    holes = content.count(b"null") if b"n" in content else 0
    try:
        array = simdjson.Parser().parse(content.replace(b"null", _HOLE) if holes else content)
        assert isinstance(array, simdjson.Array), "the skeleton of the text was that of one"
        found = np.frombuffer(array.as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):  # nothing of JSON, no number, or none that 64 bits hold
        return None
    if holes:
        missing = found == float(_HOLE)
        if np.count_nonzero(missing) != holes:
            return None
        found[missing] = np.nan
    return found if found.size == count else None


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
