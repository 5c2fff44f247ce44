"""What one step of a frequency is, as integer arithmetic.

`at(start, indices)` of a step says where observations stand that follow `start`. Days are counted from 1970-01-01,
months from January 1970, weekdays from Monday = 0. Steps that move by days keep the time of day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gateway.timeline.rules import (
    BusinessMonths,
    DayRule,
    Weekdays,
    first_day,
    floor,
    is_last_day,
    last_day,
    month_and_day,
    weekday,
)
from gateway.timeline.stamps import DAY_S, SECOND_NS, Integers, Stamps, Start

_OPENING_S, _BUSINESS_DAY_S = 9 * 3600, 8 * 3600  # pandas' default business hours, 09:00 to 17:00


class Step(Protocol):
    """How observations follow a start."""

    @property
    def least_ns(self) -> int:
        """A lower bound of the time between two neighbours."""
        ...

    def at(self, start: Start, indices: Integers) -> Stamps:
        """Where the observations of `indices` (>= 0, any order) stand; not checked against the year 9999."""
        ...


@dataclass(frozen=True, slots=True)
class FixedStep:
    """The same time between any two neighbours: days, hours, ..., nanoseconds, and weeks."""

    nanos: int

    @property
    def least_ns(self) -> int:
        return self.nanos

    def at(self, start: Start, indices: Integers) -> Stamps:
        step_s, step_ns = divmod(self.nanos, SECOND_NS)
        seconds = start.seconds + indices * step_s
        if step_ns == 0:
            return Stamps(seconds, np.full(len(indices), start.nanos, dtype=np.int64))
        # A billion steps of step_ns nanoseconds are step_ns seconds, so no product leaves 64 bits.
        billions, rest = np.divmod(indices, SECOND_NS)
        carry, nanos = np.divmod(start.nanos + rest * step_ns, SECOND_NS)
        return Stamps(seconds + billions * step_ns + carry, nanos)


class _DayStep:
    """A step that moves by whole days."""

    __slots__ = ()

    def days(self, day: int, indices: Integers) -> Integers:
        """Days of the observations that follow the day `day`."""
        raise NotImplementedError

    def at(self, start: Start, indices: Integers) -> Stamps:
        seconds = self.days(start.day, indices) * DAY_S + start.seconds % DAY_S
        return Stamps(seconds, np.full(len(indices), start.nanos, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class MonthStep(_DayStep):
    """`months` months, always counted from the start and clipped to the month's length.

    Month, quarter and year aliases come to this one rule, on their grid or off it: a start on the first day of its
    month stays on first days, one on the last day stays on last days, and any other keeps its day.
    """

    months: int
    keep_last: bool = True  # False: the last day of a month is a day like any other

    @property
    def least_ns(self) -> int:
        return self.months * 28 * DAY_S * SECOND_NS

    def days(self, day: int, indices: Integers) -> Integers:
        month, day_of_month = month_and_day(day)
        months = month + indices * self.months
        last = last_day(months)
        if self.keep_last and is_last_day(day):
            return last
        return np.minimum(first_day(months) + (day_of_month - 1), last)


@dataclass(frozen=True, slots=True)
class BusinessMonthStep(_DayStep):
    """`months` months on first or last weekdays, from a start on that grid; else by phase, moved to weekdays."""

    months: int
    rule: BusinessMonths
    cycle: int  # the grid has every `cycle`-th month ...
    phase: int  # ... counted from the month `phase` since January

    @property
    def least_ns(self) -> int:
        return self.months * 24 * DAY_S * SECOND_NS  # 28 days, less two weekends' moves

    def days(self, day: int, indices: Integers) -> Integers:
        month, _ = month_and_day(day)
        months = month + indices * self.months
        if (month - self.phase) % self.cycle == 0 and self.rule.days(np.array([month]))[0] == day:
            return self.rule.days(months)
        days = MonthStep(self.months).days(day, indices)
        past_friday = np.maximum(weekday(days) - 4, 0)
        back, forward = days - past_friday, days + (3 - past_friday)
        return np.where((past_friday > 0) & (back < first_day(months)), forward, back)


@dataclass(frozen=True, slots=True)
class OrdinalStep(_DayStep):
    """`n` days of a rule, such as weekdays or third Fridays.

    A start off the rule is observation 0 itself, the rule's next day observation 1, and from there it is `n` days of
    the rule to each next one; with `rolls` the rule's next day is observation 0 instead.
    """

    n: int
    rule: DayRule
    rolls: bool = False

    @property
    def least_ns(self) -> int:
        return self.n * DAY_S * SECOND_NS

    def days(self, day: int, indices: Integers) -> Integers:
        ordinal = floor(self.rule, day)
        if self.rolls:
            ordinal += int(self.rule.days(np.array([ordinal]))[0] != day)
            return self.rule.days(ordinal + indices * self.n)
        if int(self.rule.days(np.array([ordinal]))[0]) == day:
            return self.rule.days(ordinal + indices * self.n)
        return np.where(indices == 0, day, self.rule.days(ordinal + 1 + (indices - 1) * self.n))


@dataclass(frozen=True, slots=True)
class BusinessHourStep:
    """`n` hours of Monday to Friday, 09:00 to 17:00.

    A start at another time is observation 0 itself, the next opening observation 1; a closing time is a point of the
    grid too, and counts as the next opening.
    """

    n: int

    @property
    def least_ns(self) -> int:
        return self.n * 3600 * SECOND_NS

    def at(self, start: Start, indices: Integers) -> Stamps:
        ordinal = floor(Weekdays(), start.day)
        clock = start.seconds % DAY_S - _OPENING_S
        if int(weekday(np.array([start.day]))[0]) > 4:
            clock = _BUSINESS_DAY_S
        open_now = 0 <= clock < _BUSINESS_DAY_S
        worked = ordinal * _BUSINESS_DAY_S + min(max(clock, 0), _BUSINESS_DAY_S)
        on_grid = 0 <= clock <= _BUSINESS_DAY_S and int(weekday(np.array([start.day]))[0]) <= 4
        hours = (indices if on_grid else indices - 1) * (self.n * 3600)
        days, clocks = np.divmod(worked + hours, _BUSINESS_DAY_S)
        seconds = Weekdays().days(days) * DAY_S + _OPENING_S + clocks
        nanos = np.full(len(indices), start.nanos if open_now else 0, dtype=np.int64)
        first = indices == 0
        return Stamps(np.where(first, start.seconds, seconds), np.where(first, start.nanos, nanos))
