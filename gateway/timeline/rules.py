"""Days that calendar rules pick: weekdays, ends of months, third Fridays, fiscal years.

A rule numbers its days by ordinals: `days(k)` is its k-th day, ascending in k, with k = 0 about 1970. Days are
counted from 1970-01-01, months from January 1970, weekdays from Monday = 0. All take and give int64 arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np

from gateway.timeline.stamps import EPOCH_ORDINAL, Integers

_DAYS_IN_400_YEARS = 146_097  # the Gregorian calendar repeats after them


def first_day(months: Integers) -> Integers:
    """The first day of each month."""
    return months.view("M8[M]").astype("M8[D]").view(np.int64)


def last_day(months: Integers) -> Integers:
    """The last day of each month."""
    return first_day(months + 1) - 1


def weekday(days: Integers) -> Integers:
    """Monday 0 to Sunday 6."""
    return (days + 3) % 7


def month_and_day(day: int) -> tuple[int, int]:
    """Month since January 1970 and day of the month, from 1, of a day in the years 1 to 9999."""
    d = date.fromordinal(day + EPOCH_ORDINAL)
    return (d.year - 1970) * 12 + d.month - 1, d.day


def is_last_day(day: int) -> bool:
    """Whether a day in the years 1 to 9999 is the last one of its month."""
    d = date.fromordinal(day + EPOCH_ORDINAL)
    return d == date.max or date.fromordinal(d.toordinal() + 1).day == 1


class DayRule(Protocol):
    """A rule that picks days."""

    @property
    def in_400_years(self) -> int:
        """How many days it picks in 400 years."""
        ...

    def days(self, ordinals: Integers) -> Integers:
        """The days of ordinals."""
        ...


def floor(rule: DayRule, day: int) -> int:
    """Ordinal of the last day of `rule` that is not after `day`."""
    guess = day * rule.in_400_years // _DAYS_IN_400_YEARS - 6  # off by at most 4: uneven months, and which day is 0
    days = rule.days(np.arange(guess, guess + 12))
    return guess + int(np.searchsorted(days, day, side="right")) - 1


@dataclass(frozen=True, slots=True)
class Weekdays:
    """Monday to Friday."""

    in_400_years: int = _DAYS_IN_400_YEARS // 7 * 5

    def days(self, ordinals: Integers) -> Integers:
        weeks, days = np.divmod(ordinals, 5)
        return weeks * 7 + days - 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class BusinessMonths:
    """The first or the last weekday of each month."""

    at_end: bool
    in_400_years: int = 4800

    def days(self, ordinals: Integers) -> Integers:
        if self.at_end:
            last = last_day(ordinals)
            return last - np.maximum(weekday(last) - 4, 0)
        first = first_day(ordinals)
        past_friday = np.maximum(weekday(first) - 4, 0)
        return first + np.where(past_friday > 0, 3 - past_friday, 0)


@dataclass(frozen=True, slots=True)
class SemiMonths:
    """Two days of each month: `day_of_month`, and the last day or (not `at_end`) the first."""

    day_of_month: int
    at_end: bool
    in_400_years: int = 9600

    def days(self, ordinals: Integers) -> Integers:
        months, second = np.divmod(ordinals, 2)
        first = first_day(months)
        middle = first + (self.day_of_month - 1)
        return np.where(second, last_day(months), middle) if self.at_end else np.where(second, middle, first)


@dataclass(frozen=True, slots=True)
class NthWeekdays:
    """The `week`-th (from 0) given weekday of each month; `week` -1: the last one."""

    week: int
    weekday: int
    in_400_years: int = 4800

    def days(self, ordinals: Integers) -> Integers:
        if self.week < 0:
            last = last_day(ordinals)
            return last - (weekday(last) - self.weekday) % 7
        first = first_day(ordinals)
        return first + (self.weekday - weekday(first)) % 7 + 7 * self.week


@dataclass(frozen=True, slots=True)
class FiscalYears:
    """Ends of 52-53-week years: the given weekday last in, or nearest to the end of, month `month` (January 0)."""

    month: int
    weekday: int
    nearest: bool
    in_400_years: int = 400

    def days(self, ordinals: Integers) -> Integers:
        last = last_day(ordinals * 12 + self.month)
        back = (weekday(last) - self.weekday) % 7
        return last - back + np.where((back > 3) & self.nearest, 7, 0)


@dataclass(frozen=True, slots=True)
class FiscalQuarters:
    """Ends of the 13-week quarters of `years`; quarter `long` (1 to 4) has the 53rd week."""

    years: FiscalYears
    long: int
    in_400_years: int = 1600

    def days(self, ordinals: Integers) -> Integers:
        years, quarters = np.divmod(ordinals, 4)
        before = self.years.days(years - 1)
        has_53_weeks = self.years.days(years) - before > 52 * 7
        ends: Integers = before + (quarters + 1) * 91 + np.where(has_53_weeks & (quarters + 1 >= self.long), 7, 0)
        return ends
