"""Points in time: reading ISO 8601 text and writing it again.

A point is whole seconds since 1970 on the clock of its own offset ("local"), plus nanoseconds of that second: years 1
to 9999 at nanosecond resolution do not fit one 64-bit integer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Unit = Literal["Y", "M", "D", "m", "s"]  # numpy's letters for the last part that a text shows

DAY_S = 86_400
SECOND_NS = 1_000_000_000
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
FIRST_SECOND = (1 - EPOCH_ORDINAL) * DAY_S  # 0001-01-01T00:00:00
LAST_SECOND = (date.max.toordinal() + 1 - EPOCH_ORDINAL) * DAY_S - 1  # 9999-12-31T23:59:59
_UNITS: tuple[Unit, ...] = ("Y", "M", "D", "m", "s")
_LONGEST = 64  # characters of a readable stamp, with room to spare

_ISO = re.compile(
    r"(?P<year>[0-9]{4})"
    r"(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2}))?|(?P<basic_month>[0-9]{2})(?P<basic_day>[0-9]{2}))?"
    r"(?:(?P<separator>[Tt ])(?P<hour>[0-9]{2})"
    r"(?:(?P<colon>:?)(?P<minute>[0-9]{2})(?:(?P=colon)(?P<second>[0-9]{2}))?)?"
    r"(?:[.,](?P<fraction>[0-9]+))?"
    r"(?P<offset>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_PLAIN = re.compile(r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}:[0-9]{2}Z?)?\n)+")
_WEEK_DATE = re.compile(r"[0-9]{4}-?W[0-9]{2}.*", re.DOTALL | re.IGNORECASE)
_ORDINAL_DATE = re.compile(r"[0-9]{4}-?[0-9]{3}(?:[Tt ].*)?", re.DOTALL)


class TimelineError(ValueError):
    """A start, frequency or grid that cannot stand; the message is safe to show. `row`: where, in a list of stamps."""

    def __init__(self, sentence: str, row: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.row = row


def quoted(text: str) -> str:
    """A caller's text as it may stand in a sentence: escaped and short."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


@dataclass(frozen=True, slots=True)
class Form:
    """How a stamp is written. The default is the canonical form of UTC."""

    offset: str = "Z"  # "Z", "+05:30", or "" for none
    separator: str = "T"
    unit: Unit = "s"  # the least that is shown; a stamp that needs more shows more
    digits: int = 0  # of the fraction, at least; a stamp that needs more shows 3, 6 or 9


@dataclass(frozen=True, slots=True)
class Start:
    """A point in time with its offset from UTC."""

    seconds: int  # since 1970-01-01T00:00:00, on the clock of the offset
    nanos: int = 0
    offset_minutes: int = 0
    form: Form = Form()  # as it was written

    @property
    def day(self) -> int:
        """Days since 1970-01-01 on the clock of the offset."""
        return self.seconds // DAY_S

    @property
    def canonical(self) -> Form:
        """The canonical contract's form: seconds, and `Z` for UTC."""
        return Form() if self.offset_minutes == 0 else Form(offset=_offset_text(self.offset_minutes))


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """Points in time, all in one offset: `seconds` as in `Start`, `nanos` of the second; (count,) each."""

    seconds: Integers
    nanos: Integers

    def __len__(self) -> int:
        return len(self.seconds)


def _offset_text(minutes: int) -> str:
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _offset_minutes(text: str | None) -> int | None:
    """Minutes of a written offset, 0 for none, None for an impossible one."""
    if text is None or text in "Zz":
        return 0
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        return None
    return (hours * 60 + minutes) * (-1 if text[0] == "-" else 1)


def _refused(text: str) -> TimelineError:
    """What is wrong with a text that is no calendar date or date-time."""
    if len(text) <= _LONGEST:
        for pattern, kind in ((_WEEK_DATE, "week"), (_ORDINAL_DATE, "ordinal")):
            if pattern.fullmatch(text):
                return TimelineError(
                    f"{quoted(text)} is an ISO 8601 {kind} date; send a calendar date such as 2026-03-01."
                )
    return TimelineError(
        f"{quoted(text)} is not an ISO 8601 date or date-time such as 2026-03-01 or 2026-03-01T00:00:00Z."
    )


def _clock(match: re.Match[str]) -> tuple[int, int] | None:
    """Seconds and nanoseconds since midnight; None for a time that no clock shows. Raises for a finer fraction."""
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    unit_s = 1 if match["second"] else 60 if match["minute"] else 3600  # a fraction is of the last part written
    nanos, finer = divmod(int(match["fraction"] or 0) * unit_s * SECOND_NS, 10 ** len(match["fraction"] or ""))
    if finer:
        raise TimelineError(f"{quoted(match[0])} has a fraction finer than a nanosecond.")
    end_of_day = hour == 24 and minute == second == nanos == 0  # ISO 8601's other name of the next midnight
    if (hour > 23 and not end_of_day) or minute > 59 or second > 59:
        return None
    more, nanos = divmod(nanos, SECOND_NS)
    return hour * 3600 + minute * 60 + second + more, nanos


@lru_cache(maxsize=1024)
def parse_start(text: str) -> Start:
    """Read an ISO 8601 calendar date or date-time, extended or basic, years 1 to 9999; no offset means UTC.

    A date of reduced precision (`2026-03`, `2026`) is its first day; RFC 3339's space between date and time is read
    too. Raises TimelineError.
    """
    match = _ISO.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or (match["separator"] and not (match["day"] or match["basic_day"])):
        raise _refused(text)
    month, day = match["month"] or match["basic_month"], match["day"] or match["basic_day"]
    try:
        ordinal = date(int(match["year"]), int(month or 1), int(day or 1)).toordinal()
    except ValueError:
        raise TimelineError(f"{quoted(text)} is not a day of the calendar in the years 1 to 9999.") from None
    clock, offset = _clock(match), _offset_minutes(match["offset"])
    if clock is None:
        raise TimelineError(f"{quoted(text)} has a time that no clock shows (00:00:00 to 23:59:59).")
    if offset is None:
        raise TimelineError(f"{quoted(text)} has an offset beyond +-23:59.")
    seconds = (ordinal - EPOCH_ORDINAL) * DAY_S + clock[0]
    if seconds > LAST_SECOND:
        raise TimelineError(f"{quoted(text)} lies after the year 9999.")
    return Start(seconds, clock[1], offset, _form(match, offset))


def _form(match: re.Match[str], offset: int) -> Form:
    """How the matched text was written, as far as it is kept."""
    written = match["offset"] or ""
    unit: Unit
    if match["separator"]:
        unit = "s" if match["second"] or match["fraction"] else "m"
    else:
        unit = "D" if match["day"] or match["basic_day"] else "M" if match["month"] else "Y"
    return Form(
        offset="Z" if written in ("Z", "z") else _offset_text(offset) if written else "",
        separator=" " if match["separator"] == " " else "T",
        unit=unit,
        digits=min(len(match["fraction"] or ""), 9) if match["second"] else 0,
    )


def parse_stamps(texts: Sequence[str]) -> Stamps:
    """Read many stamps, all on the clock of the first one's offset. Raises TimelineError with the row."""
    return _plain_stamps(texts) or _any_stamps(texts)


def _plain_stamps(texts: Sequence[str]) -> Stamps | None:
    """Stamps of UTC as nearly all are written, a fiftieth of the work; None for others, and for what is none."""
    joined = "\n".join(texts) + "\n"
    lines = joined.replace("Z", "").splitlines()
    if len(lines) != len(texts) or not _PLAIN.fullmatch(joined):
        return None
    try:
        seconds = np.array(lines, dtype="M8[s]").astype(np.int64)
    except ValueError:  # a day or a time that there is not: told by the other way
        return None
    if not ((seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND)).all():
        return None
    return Stamps(seconds, np.zeros(len(seconds), dtype=np.int64))


def _any_stamps(texts: Sequence[str]) -> Stamps:
    seconds = np.empty(len(texts), dtype=np.int64)
    nanos = np.empty(len(texts), dtype=np.int64)
    offset: int | None = None
    for row, text in enumerate(texts):
        try:
            stamp = parse_start.__wrapped__(text)
        except TimelineError as exc:
            raise TimelineError(exc.sentence, row) from None
        offset = stamp.offset_minutes if offset is None else offset
        seconds[row] = stamp.seconds + (offset - stamp.offset_minutes) * 60
        if not FIRST_SECOND <= seconds[row] <= LAST_SECOND:
            raise TimelineError(f"{quoted(text)} leaves the years 1 to 9999 in the offset of the first stamp.", row)
        nanos[row] = stamp.nanos
    return Stamps(seconds, nanos)


def render(stamps: Stamps, form: Form) -> tuple[str, ...]:
    """Write stamps in one form. A fraction stands wherever a stamp has one, in 3, 6 or 9 digits."""
    clock = stamps.seconds.view("M8[s]")
    fractions = bool(stamps.nanos.any()) or form.digits > 0
    unit: Unit = "s" if fractions else form.unit
    if unit != "s":  # the coarsest unit from the form's own on that loses nothing
        finer = _UNITS[_UNITS.index(unit) :]
        unit = next(u for u in finer if bool((clock.astype(f"M8[{u}]").astype("M8[s]") == clock).all()))
    texts: list[str] = np.datetime_as_string(clock, unit=unit).tolist()
    if form.separator != "T":
        texts = [t.replace("T", form.separator) for t in texts]
    suffix = "" if unit in ("Y", "M", "D") else form.offset
    if not fractions:
        return tuple([t + suffix for t in texts])
    nanos: list[int] = stamps.nanos.tolist()
    return tuple([t + _fraction(n, form.digits) + suffix for t, n in zip(texts, nanos, strict=True)])


def _fraction(nanos: int, at_least: int) -> str:
    """`.` and the digits of a fraction of a second, empty for none."""
    digits = 0 if nanos == 0 else 3 if nanos % 1_000_000 == 0 else 6 if nanos % 1000 == 0 else 9
    digits = max(digits, at_least)
    return f".{nanos:09}"[: digits + 1] if digits else ""
