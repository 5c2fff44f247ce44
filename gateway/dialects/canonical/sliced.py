"""Faults of long arrays, found slice by slice.

What a whole array decides is decided by its first slice: whether a target is 1D, how wide its rows are, and whether a
covariate holds categories.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from gateway.dialects.base import Steps
from gateway.dialects.canonical import slices, walk
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.slices import LONGEST, WINDOW
from gateway.errors import MAX_FAULTS, Fault, Place


def target(content: bytes, form: Format, place: Place, window: int = WINDOW) -> Steps[list[Fault]]:
    """Up to 20 faults of a target: `[time][channel]` of number or null."""
    found: list[Fault] = []
    start = width = 0
    for piece in slices.of_array(content, form, window):
        if len(piece) > LONGEST:
            found.append(_too_long("A row", (*place, start)))
            start += 1
        elif piece:
            value = walk.untyped(piece, form)
            if not start:
                found += _first(walk.target(value, place), found)
            if not isinstance(value, list) or any(f.loc == place for f in found):
                break  # it is wrong as a whole
            width = width or walk.width_of(value)
            if start:
                found += _first(walk.rows(value, width, start, place), found)
            start += len(value)
        if len(found) >= MAX_FAULTS:
            break
        yield
    return found


def covariate(content: bytes, form: Format, place: Place, window: int = WINDOW) -> Steps[list[Fault]]:
    """Up to 20 faults of one covariate: numbers and nulls, or strings and nulls."""
    found: list[Fault] = []
    categorical: bool | None = None
    start = 0
    for piece in slices.of_array(content, form, window):
        if len(piece) > LONGEST:
            found.append(_too_long("A value", (*place, start)))
            start += 1
        elif piece:
            value = walk.untyped(piece, form)
            if not isinstance(value, list):
                return [*walk.covariate(value, place)]
            if categorical is None:
                categorical = walk.is_categorical(value)
            found += _first(walk.over_time(value, categorical, start, place), found)
            start += len(value)
        if len(found) >= MAX_FAULTS:
            break
        yield
    return found


def _first(faults: Iterator[Fault], found: list[Fault]) -> list[Fault]:
    return list(islice(faults, MAX_FAULTS - len(found)))


def _too_long(what: str, place: Place) -> Fault:
    return Fault(place, f"{what} of a long array takes at most {LONGEST} bytes")
