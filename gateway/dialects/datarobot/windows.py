"""A table to series: where each series of a deployment is forecast from, and which rows are predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec
import numpy as np
import numpy.typing as npt

from gateway import timeline
from gateway.dialects.base import Steps
from gateway.dialects.datarobot import errors, times
from gateway.dialects.datarobot.query import Query, utc
from gateway.dialects.datarobot.rows import Table, number_of, text_of
from gateway.dialects.datarobot.times import Times
from gateway.domain import MAX_SERIES, Array, CovariateValues, Deployment, SeriesInput
from gateway.errors import Code, GatewayError
from gateway.timeline.stamps import Integers, Stamps

MOST_STEPS = 1_000_000  # of one series, gaps included
MOST_CELLS = 10_000_000  # of the contexts of all forecast points of a call: 80 MB
END_OF_TIME_S = 253_402_300_799  # 9999-12-31T23:59:59


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered of one series from one forecast point."""

    series_id: str | None
    point: str  # 2013-12-20T00:00:00Z
    rows: tuple[int, ...]  # of the table, that are predicted
    distances: tuple[int, ...]  # in steps
    timestamps: tuple[str, ...]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The series to forecast, one a window."""

    series: tuple[SeriesInput, ...]
    horizon: int
    frequency: str


class _Group(msgspec.Struct, frozen=True, kw_only=True):
    """One series: its rows in order of time, the step each stands on, and the values on every step."""

    id: str | None
    rows: Integers
    steps: Integers
    start: timeline.Start  # of step 0
    target: Array  # NaN on a step without a row
    known_in_advance: dict[str, CovariateValues]


class _Point(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast point: its step, and which of the group's rows are predicted from there."""

    group: _Group
    at: int
    chosen: Integers

    @property
    def steps_ahead(self) -> int:
        return int(self.group.steps[self.chosen[-1]]) - self.at


class Planner:
    """Finds the windows of one table under one deployment."""

    def __init__(self, deployment: Deployment, query: Query, table: Table, found: Times, target: Array) -> None:
        self._settings = deployment.settings
        self._query = query
        self._table = table
        self._times = found
        self._target = target

    def prepared(self) -> Steps[Prepared]:
        """Every window with its series. Raises GatewayError."""
        members = yield from self._members()
        step = times.frequency(self._times, list(members.values()), self._settings.frequency)
        if step is None:
            raise self._no_step()
        columns = yield from self._columns()
        groups, points, cells = [], [], 0
        for name, rows in members.items():
            group = self._group(name, rows, step, columns)
            for point in islice(self._points(group, step), MAX_SERIES + 1):
                points.append(point)
                cells += point.at + 1
            if len(points) > MAX_SERIES or cells > MOST_CELLS:
                told = "There are too many forecast points in this call: narrow the range of dates, or send fewer rows."
                raise GatewayError(Code.INVALID_ARGUMENT, told)
            groups.append(group)
            yield
        if not points:
            raise self._nothing(groups, step)
        unknown = next((g.id for g in groups if g.id is not None and self._is_unknown(g, step)), None)
        if unknown is not None:
            raise errors.no_history(unknown)
        horizon = max(point.steps_ahead for point in points)
        series = []
        for point in points:
            series.append(self._series(point, horizon))
            yield
        return Prepared(series=tuple(series), horizon=horizon, frequency=step.alias)

    # -- series of the table ---

    def _members(self) -> Steps[dict[str | None, Integers]]:
        """Rows of each series in order of time; series in order of first appearance."""
        column = self._settings.series_id
        found: dict[str | None, list[int]] = {}
        if column is None:
            found[None] = list(range(self._table.rows))
        for row, cell in enumerate(self._table.columns[column] if column is not None else ()):
            if cell is None:
                raise errors.bad_rows(f'The "{column}" feature, which tells series apart, is missing in row {row}.')
            found.setdefault(text_of(cell), []).append(row)
            if row % 2048 == 0:
                yield
        ordered: dict[str | None, Integers] = {}
        for name, members in found.items():
            rows = np.array(members, dtype=np.int64)
            ordered[name] = rows[np.lexsort((self._times.nanos[rows], self._times.seconds[rows]))]
            yield
        return ordered

    def _no_step(self) -> GatewayError:
        if not np.isnan(self._target).all() and self._table.rows > 1:
            told = f'The rows of "{self._settings.date}" follow no frequency; declare one for this deployment.'
            return errors.bad_rows(told)
        return errors.no_output()

    def _columns(self) -> Steps[dict[str, CovariateValues]]:
        """The columns known in advance, as numbers where all that is there are, else as categories."""
        found: dict[str, CovariateValues] = {}
        for name in self._settings.known_in_advance:
            if name not in self._table.columns:
                continue  # which only a relaxed check lets pass
            cells = self._table.columns[name]
            if all(number_of(cell) is not None for cell in cells):
                found[name] = yield from self._table.numbers(name)
            else:
                found[name] = tuple(None if cell is None else text_of(cell) for cell in cells)
            yield
        return found

    def _group(
        self, name: str | None, rows: Integers, step: timeline.Frequency, columns: dict[str, CovariateValues]
    ) -> _Group:
        steps = times.positions(self._times, rows, step, self._settings.date, MOST_STEPS)
        target = _spread(self._target, rows, steps)
        assert isinstance(target, np.ndarray), "numbers stay numbers"
        return _Group(
            id=name,
            rows=rows,
            steps=steps,
            start=timeline.Start(int(self._times.seconds[rows[0]]), int(self._times.nanos[rows[0]])),
            target=target,
            known_in_advance={n: _spread(values, rows, steps) for n, values in columns.items()},
        )

    # -- forecast points ---

    def _points(self, group: _Group, step: timeline.Frequency) -> Iterator[_Point]:
        """Where one series is forecast from: once, or from every row that the dates asked for can be reached from."""
        if self._query.first is not None:
            yield from self._bulk(group)
            return
        at = self._default_point(group)
        if at is None:
            return
        reached = self._reached(group, at)
        chosen = reached[np.isnan(self._target[group.rows[reached]])]
        if chosen.size:
            if int((group.steps <= at).sum()) < self._settings.history:
                raise errors.short_history(self._settings.history, unit_of(step))
            yield _Point(group=group, at=at, chosen=chosen)

    def _bulk(self, group: _Group) -> Iterator[_Point]:
        inside = self._inside(group)
        known = ~np.isnan(self._target[group.rows])
        enough = np.arange(1, len(group.rows) + 1) >= self._settings.history
        for at in group.steps[known & enough].tolist():
            reached = self._reached(group, at)
            chosen = reached[inside[reached]]
            if chosen.size:
                yield _Point(group=group, at=at, chosen=chosen)

    def _inside(self, group: _Group) -> npt.NDArray[np.bool_]:
        """Which of the group's rows are in the range of dates asked for."""
        assert self._query.first is not None and self._query.end is not None, "they come together"
        (first, first_ns), (end, end_ns) = utc(self._query.first), utc(self._query.end)
        seconds = self._times.seconds[group.rows] - 60 * self._times.offset_minutes
        nanos = self._times.nanos[group.rows]
        inside = (seconds > first) | ((seconds == first) & (nanos >= first_ns))
        inside &= (seconds < end) | ((seconds == end) & (nanos < end_ns))
        found: npt.NDArray[np.bool_] = inside
        return found

    def _default_point(self, group: _Group) -> int | None:
        """The step of the row at the point asked for, or before it; else of the last row with a target.

        None where nothing is known up to there.
        """
        known = np.flatnonzero(~np.isnan(self._target[group.rows]))
        if not known.size:
            return None
        point = self._query.forecast_point
        if point is None:
            return int(group.steps[known[-1]])
        seconds, nanos = utc(point)
        seconds += 60 * self._times.offset_minutes
        own, fraction = self._times.seconds[group.rows], self._times.nanos[group.rows]
        past = np.flatnonzero((own < seconds) | ((own == seconds) & (fraction <= nanos)))
        return int(group.steps[past[-1]]) if past.size and known[0] <= past[-1] else None

    def _is_unknown(self, group: _Group, step: timeline.Frequency) -> bool:
        """Whether rows of a series are to be predicted of which nothing is known up to the forecast point."""
        empty = np.isnan(self._target[group.rows])
        if self._query.first is not None:
            return bool(empty.all() and self._inside(group).any())
        if self._default_point(group) is not None:
            return False
        point = self._query.forecast_point
        if point is None:
            return True
        at = timeline.Start(utc(point)[0] + 60 * self._times.offset_minutes, utc(point)[1])
        last = _at(step, at, self._settings.window_end)
        seconds = self._times.seconds[group.rows]
        return bool((empty & (seconds > at.seconds) & (seconds <= last)).any())

    def _reached(self, group: _Group, at: int) -> Integers:
        """The group's rows within the forecast window of a step."""
        first = np.searchsorted(group.steps, at + self._settings.window_start)
        end = np.searchsorted(group.steps, at + self._settings.window_end, side="right")
        return np.arange(first, end)

    def _nothing(self, groups: Sequence[_Group], step: timeline.Frequency) -> GatewayError:
        """Why nothing can be predicted: nothing is known, or nothing is asked."""
        group = next((g for g in groups if self._default_point(g) is not None), None)
        if group is None or self._query.first is not None:
            return errors.no_output()
        at = self._default_point(group)
        assert at is not None, "chosen so"
        ends = (at, at + self._settings.window_start, at + self._settings.window_end)
        point, first, last = (_at(step, group.start, i) - 60 * self._times.offset_minutes for i in ends)
        if self._query.forecast_point is not None:
            point = utc(self._query.forecast_point)[0]
        return errors.no_rows_to_predict(*(self._times.writing.written(s) for s in (point, first, last)))

    # -- series of the request ---

    def _series(self, point: _Point, horizon: int) -> SeriesInput:
        """The series up to its forecast point, and what is known behind it."""
        group, behind = point.group, point.at + 1
        future: dict[str, CovariateValues] = {}
        missing = []
        for name, values in group.known_in_advance.items():
            ahead = values[behind : behind + point.steps_ahead]
            if None in ahead if isinstance(ahead, tuple) else np.isnan(ahead).any():
                missing.append(name)
            else:
                future[name] = _lengthened(ahead, horizon)
        if missing and not self._query.relaxed:
            raise errors.not_known_in_advance(missing)
        rows = group.rows[point.chosen]
        form = timeline.Form(offset=self._times.offset)
        row_of_point = group.rows[np.searchsorted(group.steps, point.at)]
        return SeriesInput(
            target=group.target[:behind, None],
            start=timeline.render(_stamps(group.start), form)[0],
            past_covariates={name: values[:behind] for name, values in group.known_in_advance.items()},
            future_covariates=future,
            metadata=Window(
                series_id=group.id,
                point=self._times.points(self._times.seconds[[row_of_point]])[0],
                rows=tuple(rows.tolist()),
                distances=tuple((group.steps[point.chosen] - point.at).tolist()),
                timestamps=self._times.utc(rows),
            ),
        )


def _at(step: timeline.Frequency, start: timeline.Start, index: int) -> int:
    """Where a step stands; the end of the calendar where it passes that."""
    try:
        return int(timeline.Grid(start, step).at(index, 1).seconds[0])
    except timeline.TimelineError:
        return END_OF_TIME_S


def _stamps(start: timeline.Start) -> Stamps:
    return Stamps(np.array([start.seconds], dtype=np.int64), np.array([start.nanos], dtype=np.int64))


def _spread(values: CovariateValues, rows: Integers, steps: Integers) -> CovariateValues:
    """Values of one series on every step from its first row to its last, missing on a step without a row."""
    count = int(steps[-1]) + 1
    if isinstance(values, tuple):
        words: list[str | None] = [None] * count
        for at, row in zip(steps.tolist(), rows.tolist(), strict=True):
            words[at] = values[row]
        return tuple(words)
    found = np.full(count, np.nan)
    found[steps] = values[rows]
    return found


def _lengthened(values: CovariateValues, horizon: int) -> CovariateValues:
    """`values` to the horizon of the call, which other series have need of: the last one stays."""
    more = horizon - len(values)
    if isinstance(values, tuple):
        return (*values, *values[-1:] * more)
    return np.concatenate([values, np.repeat(values[-1:], more)])


_UNITS = {
    "D": "day(s)",
    "B": "day(s)",
    "h": "hour(s)",
    "min": "minute(s)",
    "s": "second(s)",
    "W": "week(s)",
    "M": "month(s)",
    "Q": "quarter(s)",
    "Y": "year(s)",
}


def unit_of(step: timeline.Frequency) -> str:
    """What one step of a frequency is called."""
    name = step.alias.partition("-")[0]
    return _UNITS.get(name) or _UNITS.get(name.rstrip("ES").removeprefix("B"), "step(s)")
