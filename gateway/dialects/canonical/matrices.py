"""Arrays of an answer to bytes, in slices: one series may hold millions of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Raw

from gateway.dialects.base import Steps
from gateway.dialects.canonical.media import Format, array_head
from gateway.domain import Array
from gateway.errors import Code, GatewayError

SLICE = 8192  # numbers encoded in a step: about a millisecond

_MARKS = (False, True, None)


def matrix(values: Array, form: Format, item: int) -> Steps[Raw]:
    """`(time, channels)` as `[time][channel]`; the encoder would write NaN as null, so that it is refused here."""

    return _sliced(values, form, lambda part: _finite(part, item))


def stack(values: Array, form: Format, item: int) -> Steps[list[Any]]:
    """`(count, time, channels)`, each as `[time][channel]`: encoded, or as lists where all are short together."""
    if values.size <= SLICE:
        return _finite(values, item)
    found = []
    for one in values:
        found += [(yield from matrix(one, form, item))]
        yield
    return found


def _finite(part: Array, item: int) -> list[Any]:
    """Arrays of an answer as lists, if all their numbers can be answered."""
    if np.count_nonzero(np.isfinite(part)) != part.size:  # half of what `all` takes of a few numbers
        raise not_finite(item)
    found: list[Any] = part.tolist()
    return found


def gapped(values: Array, form: Format, item: int) -> Steps[Raw]:
    """`(time, channels)` as `[time][channel]`, with null for NaN."""

    def rows(part: Array) -> object:
        if np.isinf(part).any():
            raise not_finite(item)
        cells = part.astype(object)
        cells[np.isnan(part)] = None
        return cells.tolist()

    return _sliced(values, form, rows)


def marks(values: Array, form: Format) -> Steps[Raw]:
    """`(time, channels)` of 1.0, 0.0 and NaN as true, false and null."""

    def rows(part: Array) -> object:
        codes = np.where(np.isnan(part), 2, part).astype(np.int64)
        return [[_MARKS[c] for c in row] for row in codes.tolist()]

    return _sliced(values, form, rows)


def not_finite(item: int) -> GatewayError:
    """The error to answer for a number that no body may hold."""
    return GatewayError(Code.INTERNAL, f"The answer for series {item} holds a number that is not finite.")


def _sliced(values: Array, form: Format, rows: Callable[[Array], object]) -> Steps[Raw]:
    if values.size <= SLICE:
        return Raw(form.encode(rows(values)))
    step = max(1, SLICE // values.shape[1])
    parts = []
    for start in range(0, len(values), step):
        part = values[start : start + step]
        parts.append(members(form.encode(rows(part)), len(part), form))
        yield
    return array(parts, len(values), form)


def members(encoded: bytes, count: int, form: Format) -> bytes:
    """What stands between the brackets of an array of `count` members."""
    if form is Format.JSON:
        return encoded[1:-1]
    return encoded[1 if count < 16 else 3 if count < 2**16 else 5 :]


def array(parts: list[bytes], count: int, form: Format) -> Raw:
    """One array of the members in `parts`, `count` in all."""
    if form is Format.JSON:
        return Raw(b"[" + b",".join(parts) + b"]")
    return Raw(array_head(count) + b"".join(parts))
