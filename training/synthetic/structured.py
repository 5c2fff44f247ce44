"""Seasonal series as businesses and sensors record them: the bulk of the training data.

season (with weekday effects, slow change and cycles of unequal size) + slower seasons + trend + walk + noise, then
a transform that makes the sum multiplicative, floored at zero or saturating.
"""

from __future__ import annotations

import numpy as np

from training.synthetic import calendars, profiles
from training.synthetic.draws import Generator, Indices, Rows, log_uniform, normal, some, standardise, steps
from training.synthetic.noise import autoregress, noise, walk
from training.synthetic.trends import trend


def _per_cycle(rng: Generator, cycle: Rows) -> Rows:
    """A value of unit spread for every season, with memory from one to the next for half of the series."""
    number = np.floor(cycle).astype(np.intp)
    memory = rng.uniform(0.3, 0.95, len(cycle)) * (rng.random(len(cycle)) < 0.5)
    values = standardise(autoregress(normal(rng, len(cycle), max(int(number.max()) + 1, 2)), memory.astype(np.float32)))
    return np.take_along_axis(values, number, axis=1)


def _weekdays(rng: Generator, y: Rows, cycle: Rows, period: Rows, week: Indices) -> Rows:
    """Gives the days of a week their own size, level and, at weekends, shape."""
    count = len(y)
    day = (np.floor(cycle).astype(np.intp) + rng.integers(0, 168, (count, 1))) % week[:, None]
    weekend = day >= np.maximum(week[:, None] - 2, 1)
    other = np.take_along_axis(profiles.tables(rng, period), profiles.slots_at(cycle), axis=1)
    share = rng.uniform(0.2, 1, (count, 1)) * (rng.random((count, 1)) < 0.4)
    y = np.where(weekend, y * (1 - share) + other * share, y)
    width = int(week.max())
    size = 1 + 0.1 * normal(rng, count, width) * (rng.random((count, 1)) < 0.7)
    level = 0.15 * normal(rng, count, width) * (rng.random((count, 1)) < 0.7)
    size, level = np.take_along_axis(size, day, axis=1), np.take_along_axis(level, day, axis=1)
    size = np.where(weekend, size * rng.uniform(0.1, 1.15, (count, 1)), size)
    level = level - weekend * rng.uniform(0, 1.5, (count, 1)) * (rng.random((count, 1)) < 0.6)
    scaled = (y - y.min(axis=1, keepdims=True)) * size
    return np.where(rng.random((count, 1)) < 0.5, scaled, y + level).astype(np.float32)


def _changing(rng: Generator, y: Rows, cycle: Rows, period: Rows) -> Rows:
    """Lets seasons differ: slow change of size or shape, seasons of unequal size or level."""
    length = y.shape[1]
    if (i := some(rng, len(y), 0.2)).size:  # size drifts
        drift = np.sin(2 * np.pi * (steps(length) / log_uniform(rng, 200, 3000, (i.size, 1)) + rng.random((i.size, 1))))
        y[i] = (y[i] - y[i].min(axis=1, keepdims=True)) * np.exp(0.5 * normal(rng, i.size, 1) * drift)
    if (i := some(rng, len(y), 0.15)).size:  # shape drifts from one table to another
        other = np.take_along_axis(profiles.tables(rng, period[i]), profiles.slots_at(cycle[i]), axis=1)
        share = 1 / (1 + np.exp(-walk(rng, i.size, length) * rng.uniform(0.3, 2, (i.size, 1))))
        y[i] = y[i] * (1 - share) + other * share
    if (i := some(rng, len(y), 0.2)).size:  # every season has a size of its own
        low = y[i].min(axis=1, keepdims=True)
        size = _per_cycle(rng, cycle[i]) * log_uniform(rng, 0.04, 0.6, (i.size, 1))
        y[i] = low + (y[i] - low) * np.exp(size)
    if (i := some(rng, len(y), 0.1)).size:  # every season has a level of its own
        y[i] += _per_cycle(rng, cycle[i]) * log_uniform(rng, 0.05, 0.8, (i.size, 1))
    return y


def _slower(rng: Generator, y: Rows, slow: Rows) -> Rows:
    """Adds a slow season of the calendar, or now and then one of any period."""
    length = y.shape[1]
    i = np.flatnonzero((slow > 0) & (rng.random(len(y)) < 0.5))
    if i.size:
        y[i] += profiles.season(rng, slow[i], length) * log_uniform(rng, 0.2, 3, (i.size, 1))
    if (i := some(rng, len(y), 0.06)).size:
        y[i] += profiles.season(rng, log_uniform(rng, 3, 400, i.size), length) * log_uniform(rng, 0.1, 1, (i.size, 1))
    return y


def _transformed(rng: Generator, y: Rows) -> Rows:
    y = standardise(y)
    kind = rng.random((len(y), 1))
    if (i := np.flatnonzero(kind < 0.36)).size:  # multiplicative
        y[i] = np.exp(np.clip(y[i] * log_uniform(rng, 0.05, 1.0, (i.size, 1)), -6, 6))
    if (i := np.flatnonzero((kind > 0.36) & (kind < 0.42))).size:  # floored at zero
        y[i] = np.maximum(y[i] - rng.uniform(-1.5, 0.4, (i.size, 1)), 0)
    if (i := np.flatnonzero((kind > 0.42) & (kind < 0.45))).size:  # saturating
        y[i] = np.tanh(y[i] * rng.uniform(0.3, 1.5, (i.size, 1)))
    return y


def structured(rng: Generator, count: int, length: int) -> Rows:
    """Seasonal series with trend, weekday effects, walk and noise."""
    periods = calendars.draw(rng, count, length)
    cycle = profiles.cycles(rng, periods.main, length)
    y = np.take_along_axis(profiles.tables(rng, periods.main), profiles.slots_at(cycle), axis=1)
    i = np.flatnonzero((periods.week > 0) & (rng.random(count) < 0.65))
    if i.size:
        y[i] = _weekdays(rng, y[i], cycle[i], periods.main[i], periods.week[i])
    y = _slower(rng, _changing(rng, y, cycle, periods.main), periods.slow)
    y = standardise(y) * (rng.random((count, 1)) < 0.92)
    irregular = noise(rng, count, length) * log_uniform(rng, 0.02, 1.2, (count, 1))
    if (i := some(rng, count, 0.2)).size:  # noise grows with the season
        irregular[i] *= (0.15 + y[i] - y[i].min(axis=1, keepdims=True)) / 1.5
    y = y + irregular + trend(rng, count, length) * log_uniform(rng, 0.05, 5, (count, 1))
    if (i := some(rng, count, 0.3)).size:
        y[i] += walk(rng, i.size, length) * log_uniform(rng, 0.05, 1.5, (i.size, 1))
    return _transformed(rng, y)
