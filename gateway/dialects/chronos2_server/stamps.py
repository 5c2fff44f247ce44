"""The calendar of a series that comes with its timestamps."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from msgspec import Raw

from gateway.dialects.base import Steps
from gateway.dialects.canonical import slices
from gateway.dialects.canonical.media import Format
from gateway.dialects.fastapi import Problem, SchemaError
from gateway.errors import Fault, GatewayError, Place
from gateway.timeline import (
    Frequency,
    Grid,
    Stamps,
    TimelineError,
    departures,
    infer_frequency,
    parse_frequency,
    parse_stamps,
    parse_start,
)

DEFAULT_FREQUENCY = "D"
STEP = 256  # stamps that are read before others may run
JUDGED = 1024  # stamps that the frequency is read from; the others must follow it
CHECKED = 16_384  # stamps that are held against it before others may run


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """When the observations of a series are, and so its forecast."""

    rows: int  # observations
    frequency: str  # pandas' alias
    start: str | None = None  # the first stamp; None: steps are counted from 1
    plain_months: bool = False  # the start is the last day of a month, and the stamps do not stay on last days

    def following(self, horizon: int) -> list[str]:
        """The steps after the last observation, in the form of the first stamp; in years that the grid has."""
        if self.start is None:
            return [str(i) for i in range(self.rows + 1, self.rows + horizon + 1)]
        start = parse_start(self.start)
        frequency = parse_frequency(self.frequency)
        grid = Grid(start, frequency.plain_months() if self.plain_months else frequency)
        return list(grid.stamps(self.rows, horizon, start.form))


def of_rows(freq: str | None, rows: int) -> Calendar:
    """The calendar of a series without stamps."""
    return Calendar(rows=rows, frequency=_read(freq or DEFAULT_FREQUENCY).alias)


def of_stamps(raw: Raw, freq: str | None, rows: int, place: Place) -> Steps[Calendar]:
    """The calendar that goes on after the stamps sent, in their own form.

    Raises SchemaError for what is no array of strings; INVALID_ARGUMENT for stamps that are no dates, as many as there
    are values, or regular, and for a `freq` that was sent and is not theirs.
    """
    texts, stamps = yield from _stamps(raw, place)
    if len(texts) != rows:
        raise _refused(f"timestamps and values must have the same length, got {len(texts)} and {rows}")
    start = parse_start(texts[0])
    asked = None if freq is None else _read(freq)
    grid = Grid(start, _frequency(_slice(stamps, 0, JUDGED), asked))
    for first in range(0, rows, CHECKED):
        if not _follow(grid, first, _slice(stamps, first, CHECKED)):
            raise _refused("timestamps are not regular")
        yield
    alias = grid.frequency.alias
    plain_months = grid.frequency != parse_frequency(alias)
    return Calendar(rows=rows, frequency=alias, start=texts[0], plain_months=plain_months)


def _stamps(raw: Raw, place: Place) -> Steps[tuple[list[str], Stamps]]:
    texts: list[str] = []
    for piece in slices.of_array(bytes(raw), Format.JSON):
        if piece:
            texts += _texts(piece, place, len(texts))
        yield
    found = [Stamps(np.empty(0, np.int64), np.empty(0, np.int64))]
    for first in range(0, len(texts), STEP):
        try:  # all on the clock of the very first one's offset
            part = parse_stamps([texts[0], *texts[first : first + STEP]])
        except TimelineError as exc:
            row = first + (exc.row or 1) - 1
            raise _refused(f"timestamps[{row}]: {exc.sentence}") from None
        found.append(Stamps(part.seconds[1:], part.nanos[1:]))
        yield
    seconds, nanos = (np.concatenate(parts) for parts in zip(*((s.seconds, s.nanos) for s in found), strict=True))
    return texts, Stamps(seconds, nanos)


def _texts(piece: bytes, place: Place, start: int) -> list[str]:
    try:
        return msgspec.json.decode(piece, type=list[str])
    except msgspec.ValidationError:
        raise SchemaError(tuple(_problems(msgspec.json.decode(piece), place, start))) from None


def _problems(value: object, place: Place, start: int) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield Problem(place, "list")
        return
    for i, item in enumerate(value, start):
        if not isinstance(item, str):
            yield Problem((*place, i), "null" if item is None else "string")


def _frequency(stamps: Stamps, asked: Frequency | None) -> Frequency:
    """The frequency of stamps: the one asked where they follow it, else their own."""
    if asked is not None:
        found = departures(stamps, asked)
        if not found:
            return asked
        if not departures(stamps, asked.plain_months()):
            return asked.plain_months()
        raise _refused(f"freq {asked.alias} is not that of the timestamps: {found[0].sentence}")
    inferred = infer_frequency(stamps, plain_months=True)
    if inferred.frequency is None or inferred.departures:
        told = f": {inferred.departures[0].sentence}" if inferred.departures else ""
        raise _refused(f"timestamps are not regular{told}")
    return inferred.frequency


def _slice(stamps: Stamps, first: int, count: int) -> Stamps:
    return Stamps(stamps.seconds[first : first + count], stamps.nanos[first : first + count])


def _follow(grid: Grid, first: int, stamps: Stamps) -> bool:
    """Whether stamps are the points of a grid from `first` on."""
    try:
        points = grid.at(first, len(stamps))
    except TimelineError:
        return False
    return bool((points.seconds == stamps.seconds).all() and (points.nanos == stamps.nanos).all())


def _read(freq: str) -> Frequency:
    try:
        return parse_frequency(freq)
    except TimelineError as exc:
        raise _refused(f"freq: {exc.sentence}") from None


def _refused(sentence: str) -> GatewayError:
    return GatewayError.invalid(Fault((), sentence))
