"""The time column: how its dates are written, and where each row stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
import numpy.typing as npt

from gateway import timeline
from gateway.dialects.base import Steps
from gateway.dialects.datarobot.errors import bad_rows, other_format
from gateway.dialects.datarobot.rows import ROWS_A_STEP, Cell, text_of
from gateway.timeline.frequency import fixed
from gateway.timeline.stamps import DAY_S, FIRST_SECOND, SECOND_NS, Integers, Stamps

# What a first row is taken for that is not ISO 8601, the likeliest of those that read it.
_FORMATS = (
    "%m/%d/%y",
    "%m/%d/%Y",
    "%m/%d/%y %H:%M",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d/%m/%Y",
    "%d/%m/%Y %H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d-%b-%y",
    "%d-%b-%Y",
    "%b-%y",
)
_PLAIN = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}(?::[0-9]{2}){0,2}Z?)?\n)*+")
_SAMPLE = datetime(2019, 6, 24, tzinfo=UTC)


class Writing(msgspec.Struct, frozen=True):
    """How the dates of a table are written: as `strptime` has it, None for ISO 8601."""

    format: str | None
    iso: str = "%Y-%m-%d"  # how to write a date where `format` is None

    def seconds(self, text: str) -> tuple[int, int, int]:
        """UTC seconds, nanoseconds, and minutes that the text's own offset is ahead. Raises ValueError."""
        if self.format is None:
            start = timeline.parse_start(text)
            return start.seconds - 60 * start.offset_minutes, start.nanos, start.offset_minutes
        read = datetime.strptime(text, self.format)
        offset = read.utcoffset()
        ahead = int(offset.total_seconds()) // 60 if offset else 0
        local = read.replace(tzinfo=UTC)
        whole = int((local.replace(microsecond=0) - _EPOCH).total_seconds())
        return whole - 60 * ahead, read.microsecond * 1000, ahead

    def written(self, seconds: int) -> str:
        """A point in time, in UTC, as the table would write it."""
        try:
            return datetime.fromtimestamp(seconds, UTC).strftime(self.format or self.iso)
        except (ValueError, OverflowError, OSError):
            return str(np.datetime64(seconds, "s"))

    @property
    def example(self) -> str:
        return _SAMPLE.strftime(self.format or self.iso)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Times(msgspec.Struct, frozen=True):
    """Every row's time, on the clock of the first row's offset."""

    seconds: Integers
    nanos: Integers
    offset_minutes: int
    writing: Writing

    @property
    def offset(self) -> str:
        """The offset as ISO 8601 writes it."""
        ahead = self.offset_minutes
        return f"{'-' if ahead < 0 else '+'}{abs(ahead) // 60:02}:{abs(ahead) % 60:02}" if ahead else "Z"

    def utc(self, rows: Integers) -> tuple[str, ...]:
        """Rows as `2013-12-21T00:00:00.000000Z`."""
        seconds, nanos = self.seconds[rows] - 60 * self.offset_minutes, self.nanos[rows] // 1000 * 1000
        return timeline.render(Stamps(seconds, nanos), timeline.Form(digits=6))

    def points(self, seconds: Integers) -> tuple[str, ...]:
        """Seconds on this clock as `2013-12-20T00:00:00Z`."""
        utc = seconds - 60 * self.offset_minutes
        return timeline.render(Stamps(utc, np.zeros(len(utc), dtype=np.int64)), timeline.Form())


def read(column: str, cells: Sequence[Cell], form: str | None) -> Steps[Times]:
    """The times of a table. Raises a 400 for one that is not written as `form`, or as the first is."""
    writing = _writing(next((text_of(c).strip() for c in cells if c is not None), ""), form)
    if writing.format is None:
        found = yield from _all_alike(cells)
        if found is not None:
            return Times(found, np.zeros(len(cells), dtype=np.int64), 0, writing)
    known: dict[str, tuple[int, int, int]] = {}
    seconds = np.empty(len(cells), dtype=np.int64)
    nanos = np.empty(len(cells), dtype=np.int64)
    ahead: int | None = None
    for row, cell in enumerate(cells):
        text = text_of(cell).strip()
        if text not in known:
            try:
                known[text] = writing.seconds(text)
            except ValueError:
                raise other_format(column, text[:64], writing.format or writing.iso, writing.example) from None
        at, nanos[row], own = known[text]
        ahead = own if ahead is None else ahead
        seconds[row] = at + 60 * ahead
        if row % ROWS_A_STEP == 0:
            yield
    return Times(seconds, nanos, ahead or 0, writing)


def _all_alike(cells: Sequence[Cell]) -> Steps[Integers | None]:
    """Seconds of ISO 8601 times in UTC without a fraction, as most tables have them; None: others are there."""
    found = np.empty(len(cells), dtype=np.int64)
    for first in range(0, len(cells), 8 * ROWS_A_STEP):
        part = cells[first : first + 8 * ROWS_A_STEP]
        try:
            text = "\n".join((*part, ""))  # type: ignore[arg-type]
            if not _PLAIN.fullmatch(text):
                return None
            clock = np.array(text.replace("Z", "").split("\n")[:-1], dtype="M8[s]").astype(np.int64)
        except (TypeError, ValueError):  # not all are text, or one is no day of the calendar
            return None
        if clock.min() < FIRST_SECOND:
            return None
        found[first : first + 8 * ROWS_A_STEP] = clock
        yield
    return found


def _writing(first: str, form: str | None) -> Writing:
    if form is not None:
        return Writing(form)
    try:
        timeline.parse_start(first)
    except timeline.TimelineError:
        return Writing(next((f for f in _FORMATS if _reads(f, first)), None))
    clock = first[11:] if len(first) > 10 else ""
    return Writing(None, "%Y-%m-%d" if not clock else f"%Y-%m-%d{first[10]}%H:%M:%S{'Z' if clock[-1] in 'Zz' else ''}")


def _reads(form: str, text: str) -> bool:
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def frequency(times: Times, groups: Sequence[Integers], alias: str | None) -> timeline.Frequency | None:
    """The frequency of a deployment, or the one that most of the first series follow; None: no series has two rows."""
    if alias is not None:
        return timeline.parse_frequency(alias)
    for rows in groups:
        if len(rows) < 2:
            continue
        order = rows[np.lexsort((times.nanos[rows], times.seconds[rows]))]
        moves = np.diff(times.seconds[order])
        if _is_plain(moves, times.nanos[order]):
            return fixed(int(moves[0]) * SECOND_NS)
        stamps = Stamps(times.seconds[order], times.nanos[order])
        found = timeline.infer_frequency(stamps, plain_months=True).frequency
        if found is not None:
            return timeline.parse_frequency(found.alias)  # which months are plain is a matter of each series
    return None


def _is_plain(moves: Integers, nanos: Integers) -> bool:
    """Whether all moves are the same, and too short to be of a calendar unit that has names of its own."""
    move = int(moves[0])
    return 0 < move < 28 * DAY_S and move % (7 * DAY_S) != 0 and bool((moves == move).all()) and not nanos.any()


def positions(times: Times, rows: Integers, step: timeline.Frequency, column: str, most: int) -> Integers:
    """Steps of each of `rows`, which are in order of time, from the first of them. Raises a 400 off the grid.

    Rows that start on the last day of a month and do not stay on last days have that day of each month.
    """
    first = timeline.Start(int(times.seconds[rows[0]]), int(times.nanos[rows[0]]))
    span_ns = (int(times.seconds[rows[-1]]) - first.seconds + 1) * SECOND_NS
    count = span_ns // step.step.least_ns + 2
    if count > most:
        raise bad_rows(f'The rows of "{column}" are farther apart than {most} steps of the frequency {step.alias}.')
    stamps = Stamps(times.seconds[rows], times.nanos[rows])
    try:
        at, off = _on_grid(stamps, first, step, count)
        if off.any() and step.plain_months() != step:
            plain, off_plain = _on_grid(stamps, first, step.plain_months(), count)
            at, off = (at, off) if off_plain.any() else (plain, off_plain)
    except (ValueError, OverflowError):
        raise bad_rows(f'The rows of "{column}" leave the calendar at the frequency {step.alias}.') from None
    if off.any():
        odd = times.writing.written(int(times.seconds[rows[int(off.argmax())]]) - 60 * times.offset_minutes)
        raise bad_rows(f'The "{column}" feature contains {odd}, which is not a step of the frequency {step.alias}.')
    found: Integers = at.astype(np.int64)
    if (np.diff(found) == 0).any():
        twice = rows[1:][int((np.diff(found) == 0).argmax())]
        odd = times.writing.written(int(times.seconds[twice]) - 60 * times.offset_minutes)
        raise bad_rows(f'The "{column}" feature contains {odd} twice in one series.')
    return found


def _on_grid(
    stamps: Stamps, first: timeline.Start, step: timeline.Frequency, count: int
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """The step of each stamp, of `count` steps from `first` on, and whether it is off the grid."""
    grid = step.step.at(first, np.arange(count))
    at = np.minimum(np.searchsorted(_ordered(grid, first), _ordered(stamps, first)), count - 1)
    return at, (grid.seconds[at] != stamps.seconds) | (grid.nanos[at] != stamps.nanos)


def _ordered(stamps: Stamps, first: timeline.Start) -> Integers:
    """Stamps as numbers in their order."""
    return (stamps.seconds - first.seconds) * SECOND_NS + stamps.nanos
