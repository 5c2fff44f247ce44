"""Frequencies: the offset aliases of pandas, every spelling from 2.1 to 3, read into steps.

Spellings differ between those versions (`H`, `h`; `M`, `ME`; `A-DEC`, `Y-DEC`, `YE-DEC`), so all are read here, in any
case but where case is the meaning: `MS` is a month start and `ms` a millisecond, `M` is a month and `m` is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from gateway.timeline.rules import (
    BusinessMonths,
    DayRule,
    FiscalQuarters,
    FiscalYears,
    NthWeekdays,
    SemiMonths,
    Weekdays,
)
from gateway.timeline.stamps import DAY_S, SECOND_NS, TimelineError, quoted
from gateway.timeline.steps import BusinessHourStep, BusinessMonthStep, FixedStep, MonthStep, OrdinalStep, Step

DAY_NS = DAY_S * SECOND_NS
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

_FIXED_NS = {
    "D": DAY_NS,
    "h": 3600 * SECOND_NS,
    "min": 60 * SECOND_NS,
    "s": SECOND_NS,
    "ms": 1_000_000,
    "us": 1000,
    "ns": 1,
}
# Steps in one season, by the unit: a year of weeks, a week of days, a day of hours or minutes, a minute of seconds.
_FIXED_SEASONS = ((7 * DAY_NS, 52), (DAY_NS, 7), (_FIXED_NS["h"], 24), (_FIXED_NS["min"], 1440), (SECOND_NS, 60))
# (B)(M|Q|HY|Y)(E|S) -> months, business days, at the end
_MONTHLY = {
    f"{business}{period}{side}": (months, business == "B", side == "E")
    for business in ("", "B")
    for period, months in (("M", 1), ("Q", 3), ("HY", 6), ("Y", 12))
    for side in "ES"
}
_OTHERS = ("W", "B", "C", "CBME", "CBMS", "SME", "SMS", "WOM", "LWOM", "RE", "REQ", "bh", "cbh")
# fmt: off
_RENAMED = {
    "H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns", "BH": "bh", "CBH": "cbh",
    "M": "ME", "Q": "QE", "A": "YE", "Y": "YE", "AS": "YS", "SM": "SME", "CBM": "CBME",
    "BM": "BME", "BQ": "BQE", "BA": "BYE", "BY": "BYE", "BAS": "BYS",
}
# fmt: on
_NAMES = {n.upper(): n for n in (*_FIXED_NS, *_MONTHLY, *_OTHERS) if n != "ms"} | _RENAMED
# What people write for an alias, by its first letters, for the nearest known one.
# fmt: off
_WORDS = {
    "SEC": "s", "MIN": "min", "HOU": "h", "HR": "h", "DA": "D", "WEE": "W", "MON": "ME", "QUA": "QE", "QTR": "QE",
    "HALF": "HYE", "YE": "YE", "YR": "YE", "ANN": "YE", "BUS": "B", "MILLI": "ms", "MICRO": "us", "NANO": "ns",
}
# fmt: on
_TERM = re.compile(r"\s*([+-]?[0-9]*\.?[0-9]*)\s*([A-Za-z]+(?:-[0-9A-Za-z-]+)?)\s*")
_LONGEST = 64  # characters; pandas' longest alias, REQ-N-DEC-MON-1, with a multiple has less than half
_FARTHEST = 10**8  # a multiple over this leaves the years 1 to 9999 at once, as does this one; it keeps to 64 bits


@dataclass(frozen=True, slots=True)
class Frequency:
    """How often a series is observed."""

    alias: str  # in pandas' new spelling
    step: Step
    season: int = 1  # steps in one season, for a series that is long enough

    def plain_months(self) -> Frequency:
        """The same, but months are added plainly and clipped: a start on a last day does not stay on last days."""
        if isinstance(self.step, MonthStep):
            return replace(self, step=replace(self.step, keep_last=False))
        return self


def season(frequency: str | None, observations: int) -> int:
    """Steps in one season of a series of `observations` rows; 1 without a frequency or below two seasons of data."""
    if frequency is None:
        return 1
    steps = parse_frequency(frequency).season
    return steps if observations >= 2 * steps else 1


@lru_cache(maxsize=1024)
def parse_frequency(text: str) -> Frequency:
    """Read an offset alias with its multiple, or a sum of fixed units. Raises TimelineError."""
    terms = _terms(text)
    if len(terms) > 1 or terms[0][1] in _FIXED_NS:
        return _fixed(text, terms)
    number, name, suffix = terms[0]
    if "." in number:
        raise TimelineError(f"{quoted(text)}: only fixed units ({', '.join(_FIXED_NS)}) take fractions.")
    multiple = int(number or 1)
    if multiple <= 0:
        raise _not_forward(text)
    frequency = _calendar(name, suffix, min(multiple, _FARTHEST))
    if frequency is None:
        raise _unknown(text, name, suffix)
    return replace(frequency, alias=f"{multiple}{frequency.alias}") if multiple > 1 else frequency


def _terms(text: str) -> list[tuple[str, str, str]]:
    """Number, name in the new spelling, and suffix of each term of a frequency."""
    terms = []
    position = 0
    while len(text) <= _LONGEST and (match := _TERM.match(text, position)):
        number, name = match.groups()
        prefix, _, suffix = name.partition("-")
        if prefix == "m":
            raise TimelineError(f"{quoted(text)}: 'm' may be minutes or months; send 'min' or 'ME'.")
        known = "ms" if prefix in ("ms", "Ms", "mS") else _NAMES.get(prefix.upper())
        no_number = bool(number) and not any(c.isdigit() for c in number)  # a bare sign or point
        if known is None or no_number or (known in _FIXED_NS and "-" in name):
            raise _unknown(text, known or prefix, suffix.upper())
        terms.append((number, known, suffix.upper()))
        position = match.end()
    if position < len(text) or not terms:
        raise _unknown(text, text, "")
    return terms


def _fixed(text: str, terms: Sequence[tuple[str, str, str]]) -> Frequency:
    """A sum of fixed units."""
    nanos = Fraction(0)
    for number, name, _ in terms:
        if name not in _FIXED_NS:
            raise TimelineError(f"{quoted(text)}: only fixed units ({', '.join(_FIXED_NS)}) can be added up.")
        if number.startswith("-"):
            raise _not_forward(text)
        nanos += Fraction(number or 1) * _FIXED_NS[name]
    if nanos <= 0:
        raise _not_forward(text)
    if nanos.denominator != 1:
        raise TimelineError(f"{quoted(text)} is no whole number of nanoseconds.")
    return fixed(int(nanos))


def fixed(nanos: int) -> Frequency:
    """The frequency of a step of `nanos` nanoseconds."""
    unit = next(u for u, size in _FIXED_NS.items() if nanos % size == 0)
    multiple = nanos // _FIXED_NS[unit]
    steps = next((_share(base, nanos // size) for size, base in _FIXED_SEASONS if nanos % size == 0), 1)
    return Frequency(f"{multiple if multiple > 1 else ''}{unit}", FixedStep(min(nanos, _FARTHEST * DAY_NS)), steps)


def _share(base: int, n: int) -> int:
    """Steps in a season when every step is `n` of its `base`; 1 where that is no whole number."""
    return base // n if base % n == 0 else 1


def _calendar(name: str, suffix: str, n: int) -> Frequency | None:
    """The frequency of `n` times a calendar alias; None for a suffix that the name does not take."""
    if name in _MONTHLY:
        return _monthly(name, suffix, n)
    if name == "W":
        if suffix and suffix not in WEEKDAYS:
            return None
        return Frequency(f"W-{suffix or 'SUN'}", FixedStep(7 * n * DAY_NS), _share(52, n))
    if name in ("SME", "SMS"):
        return _semi_monthly(name, suffix, n)
    if name in ("WOM", "LWOM", "RE", "REQ"):
        return _by_weekday(name, suffix, n)
    if suffix:
        return None
    if name in ("bh", "cbh"):
        return Frequency(name, BusinessHourStep(n), _share(8, n))
    if name in ("B", "C"):
        return Frequency(name, OrdinalStep(n, Weekdays(), rolls=name == "B"), _share(5, n))
    return Frequency(name, OrdinalStep(n, BusinessMonths(at_end=name == "CBME")), _share(12, n))


def _monthly(name: str, suffix: str, n: int) -> Frequency | None:
    """Months, quarters, half-years and years. The anchor month matters to business forms only."""
    period, business, at_end = _MONTHLY[name]
    anchor = suffix or ("DEC" if at_end else "JAN")
    if anchor not in MONTHS or (suffix and period == 1):
        return None
    alias = name if period == 1 else f"{name}-{anchor}"
    months = n * period
    step: Step = MonthStep(months)
    if business:
        step = BusinessMonthStep(months, BusinessMonths(at_end), period, MONTHS.index(anchor))
    return Frequency(alias, step, _share(12, months))


def _semi_monthly(name: str, suffix: str, n: int) -> Frequency | None:
    """Twice a month: the 15th, or the suffix's day, with the month's last or first day."""
    text = suffix or "15"
    if not re.fullmatch("[1-9][0-9]?", text) or not (1 if name == "SME" else 2) <= int(text) <= 27:
        return None
    rule = SemiMonths(int(text), at_end=name == "SME")
    return Frequency(f"{name}-{int(text)}", OrdinalStep(n, rule), _share(24, n))


def _by_weekday(name: str, suffix: str, n: int) -> Frequency | None:
    """Rules of a weekday: `WOM-3FRI`, `LWOM-FRI`, `RE-N-DEC-MON`, `REQ-L-DEC-MON-1`."""
    days, months = "|".join(WEEKDAYS), "|".join(MONTHS)
    form = {
        "WOM": f"([1-4])({days})",
        "LWOM": f"()({days})",
        "RE": f"([NL])-({months})-({days})",
        "REQ": f"([NL])-({months})-({days})-([1-4])",
    }[name]
    match = re.fullmatch(form, suffix)
    if match is None:
        return None
    rule: DayRule
    if name in ("WOM", "LWOM"):
        rule, base = NthWeekdays(int(match[1] or 0) - 1, WEEKDAYS.index(match[2])), 12
    else:
        years = FiscalYears(MONTHS.index(match[2]), WEEKDAYS.index(match[3]), nearest=match[1] == "N")
        rule, base = (years, 1) if name == "RE" else (FiscalQuarters(years, int(match[4])), 4)
    return Frequency(f"{name}-{suffix}", OrdinalStep(n, rule), _share(base, n))


def _not_forward(text: str) -> TimelineError:
    return TimelineError(f"{quoted(text)} does not step forward in time: a multiple must be greater than zero.")


def _unknown(text: str, name: str, suffix: str) -> TimelineError:
    """An unknown alias, with the nearest known one."""
    return TimelineError(
        f"{quoted(text)} is not a known frequency; the nearest known one is {_nearest(name, suffix)!r}."
    )


def _nearest(name: str, suffix: str) -> str:
    """The known alias that looks most like an unknown one; `name` is in its new spelling where it is known."""
    if name in _FIXED_NS:
        return name
    if name in _NAMES.values():  # then its suffix is at fault
        weeks = [f"{week}{day}" for week in "1234" for day in WEEKDAYS]
        suffixes = (*WEEKDAYS, *MONTHS, *weeks, "15", "N-DEC-SUN", "N-DEC-SUN-1")
        close = difflib.get_close_matches(suffix, [s for s in suffixes if _calendar(name, s, 1)], n=1, cutoff=0)
        return f"{name}-{close[0]}" if close else name
    word = re.sub("[^A-Z]", "", name[:_LONGEST].upper())
    for letters, alias in _WORDS.items():
        if word.startswith(letters):
            return alias
    return _NAMES[difflib.get_close_matches(word, _NAMES, n=1, cutoff=0)[0]] if word else "D"
