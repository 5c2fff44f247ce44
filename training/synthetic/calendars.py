"""Sampling frequencies and the periods that people's series have at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.synthetic.draws import Generator, Indices, Rows, log_uniform, some


@dataclass(frozen=True)
class Calendar:
    """One frequency: its main period, the seasons in one week (0: none) and a possible slow period, in steps."""

    name: str
    weight: float
    period: float  # 0: any
    week: int = 0
    slow: float = 0.0


CALENDARS = (
    Calendar("5 minutes", 0.055, 288, week=7),
    Calendar("10 minutes", 0.035, 144, week=7),
    Calendar("15 minutes", 0.065, 96, week=7),
    Calendar("30 minutes", 0.095, 48, week=7),
    Calendar("hour", 0.27, 24, week=7, slow=8766),
    Calendar("6 hours", 0.015, 4, week=7, slow=1461),
    Calendar("minute", 0.01, 60, week=24),
    Calendar("day", 0.15, 7, slow=365.25),
    Calendar("business day", 0.03, 5, slow=261),
    Calendar("week", 0.065, 52.18),
    Calendar("month", 0.14, 12, slow=96),
    Calendar("quarter", 0.055, 4, slow=30),
    Calendar("other", 0.055, 0),
)


@dataclass(frozen=True)
class Periods:
    """What was drawn for each series, all (series,)."""

    main: Rows
    week: Indices  # main seasons in a week; 0: none
    slow: Rows  # 0: none


def draw(rng: Generator, count: int, length: int) -> Periods:
    """Calendars for series of `length` steps; one that spans little of a season is drawn less often."""
    period = np.array([c.period for c in CALENDARS])
    seen = np.clip(length / np.maximum(1.5 * period, 1), 0.1, 1)
    weight = np.array([c.weight for c in CALENDARS]) * seen
    chosen = rng.choice(len(CALENDARS), count, p=weight / weight.sum())
    main = period[chosen].astype(np.float32)
    week = np.array([c.week for c in CALENDARS])[chosen]
    slow = np.array([c.slow for c in CALENDARS], dtype=np.float32)[chosen]
    free = np.flatnonzero(main == 0)
    main[free] = log_uniform(rng, 2.5, 400, free.size)
    odd = some(rng, count, 0.05)  # clocks that are not ours
    main[odd] *= rng.uniform(0.8, 1.25, odd.size)
    return Periods(main, week, slow)
