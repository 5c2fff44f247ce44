"""Arrays of numbers, flat or of rows, as the dialects of FastAPI servers take them.

What is regular is read as the canonical contract reads it. What is not goes slice by slice: numbers may be written as
strings there, and every place that holds none is found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from gateway.dialects.base import Steps
from gateway.dialects.canonical import arrays, slices, walk
from gateway.dialects.canonical.media import Format
from gateway.dialects.fastapi import Problem, SchemaError
from gateway.domain import Array
from gateway.errors import MAX_FAULTS, Place

RAGGED = "Every row needs as many values as there are variables"
_NESTED = re.compile(rb"\s*\[\s*\[")


class RaggedError(ValueError):
    """Rows of different lengths, or of none."""


def flat(raw: Raw, place: Place) -> Steps[Array]:
    """An array of numbers as `(time,)`. Raises SchemaError with every place that holds none."""
    try:
        found = yield from arrays.values(raw, Format.JSON)
    except msgspec.ValidationError:
        found = ()
    if isinstance(found, np.ndarray) and np.isfinite(found).all():
        return found
    parts = yield from _slowly(raw, place, _numbers, list[float])
    return np.concatenate([np.empty(0), *parts])


def rows(raw: Raw, place: Place) -> Steps[Array]:
    """An array of rows of numbers as `(time, channels)`. Raises SchemaError as `flat`, and RaggedError."""
    try:
        found = yield from arrays.matrix(raw, Format.JSON)
    except msgspec.ValidationError:
        found = np.empty((0, 0))
    if found.size and np.isfinite(found).all():
        return found
    parts = yield from _slowly(raw, place, _table, list[list[float]])
    if len({part.shape[1] for part in parts}) > 1:
        raise RaggedError(RAGGED)
    return np.concatenate(parts)


def is_nested(raw: Raw) -> bool:
    """Whether the first value of an array is an array."""
    return _NESTED.match(raw) is not None


def _slowly(raw: Raw, place: Place, read: Callable[[Any], Array], kind: Any) -> Steps[list[Array]]:
    """The slices of an array, each of `kind` and then read."""
    parts: list[Array] = []
    problems: list[Problem] = []
    start = 0
    for piece in slices.of_array(bytes(raw), Format.JSON):
        if piece:
            value = walk.untyped(piece, Format.JSON)
            try:
                part = read(msgspec.convert(value, kind, strict=False))
                sound = bool(np.isfinite(part).all())
            except msgspec.ValidationError:
                sound = False
            if not sound:
                depth = 1 if kind == list[float] else 2
                problems += islice(_problems(value, place, depth, start), MAX_FAULTS - len(problems))
            elif not problems:
                parts.append(part)
            if not isinstance(value, list) or len(problems) >= MAX_FAULTS:
                break
            start += len(value)
        yield
    if problems:
        raise SchemaError(tuple(problems))
    return parts


def _numbers(found: list[float]) -> Array:
    return np.array(found, dtype=np.float64)


def _table(found: list[list[float]]) -> Array:
    if len({len(row) for row in found}) > 1 or not found or not found[0]:
        raise RaggedError(RAGGED)
    return np.array(found, dtype=np.float64)


def _problems(value: object, place: Place, depth: int, start: int = 0) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield Problem(place, "null" if value is None else "list")
        return
    for i, item in enumerate(value, start):
        if depth > 1:
            yield from _problems(item, (*place, i), depth - 1)
            continue
        try:
            number = msgspec.convert(item, float, strict=False)
        except msgspec.ValidationError:
            yield Problem((*place, i), "null" if item is None else "number")
        else:
            if not math.isfinite(number):
                yield Problem((*place, i), "finite")
