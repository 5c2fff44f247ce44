"""Shapes of one season: tables over the phase, read at any period."""

from __future__ import annotations

import numpy as np

from training.synthetic.draws import Generator, Indices, Rows, log_uniform, normal, some, standardise

PHASES = 480  # a multiple of 4, 5, 12, 24, 48 and 96, so that their slots are of equal width


def _harmonics(rng: Generator, count: int, phase: Rows) -> Rows:
    """Sums of up to 8 harmonics whose size falls with their order."""
    order = np.arange(1, 9, dtype=np.float32)
    fall = rng.uniform(0.4, 2.5, (count, 1))
    kept = order <= rng.integers(1, 9, (count, 1))
    size = (order**-fall * kept).astype(np.float32)
    angle = (2 * np.pi * order[:, None] * phase).astype(np.float32)
    return (normal(rng, count, 8) * size) @ np.cos(angle) + (normal(rng, count, 8) * size) @ np.sin(angle)


def _peaks(rng: Generator, count: int, phase: Rows) -> Rows:
    """One to three rounded peaks, as of rush hours or a holiday month."""
    y = np.zeros((count, phase.shape[1]), dtype=np.float32)
    for share in (1.0, 0.65, 0.3):
        middle = rng.random((count, 1), dtype=np.float32)
        width = log_uniform(rng, 0.02, 0.25, (count, 1))
        height = (1 + 0.5 * normal(rng, count, 1)) * (rng.random((count, 1)) < share)
        distance = (phase - middle + 0.5) % 1 - 0.5
        y += height * np.exp(-0.5 * (distance / width) ** 2)
    return y


def _working_hours(rng: Generator, count: int, phase: Rows) -> Rows:
    """A plateau with soft edges, a peak near each edge and perhaps a dip in the middle."""
    distance = (phase - rng.random((count, 1), dtype=np.float32) + 0.5) % 1 - 0.5
    half = rng.uniform(0.12, 0.38, (count, 1)).astype(np.float32)
    edge = log_uniform(rng, 0.004, 0.07, (count, 1))
    plateau = 1 / (1 + np.exp(np.clip((np.abs(distance) - half) / edge, -40, 40)))
    shape = np.ones_like(plateau)
    for side in (-0.7, 0.7):
        shape += rng.uniform(0, 1, (count, 1)) * np.exp(-0.5 * ((distance - side * half) / 0.055) ** 2)
    shape -= rng.uniform(0, 0.4, (count, 1)) * np.exp(-0.5 * (distance / 0.04) ** 2)
    drift = rng.uniform(0, 0.3, (count, 1)) * np.cos(2 * np.pi * (phase - rng.random((count, 1))))
    day: Rows = (plateau * shape + drift).astype(np.float32)
    return day


def _daylight(rng: Generator, count: int, phase: Rows) -> Rows:
    """An arch that is zero for the rest of the season, as of the sun."""
    half = rng.uniform(0.15, 0.35, (count, 1)).astype(np.float32)
    distance = (phase - rng.random((count, 1), dtype=np.float32) + 0.5) % 1 - 0.5
    arch = np.maximum(np.cos(np.clip(distance / half, -1, 1) * np.float32(np.pi / 2)), 0)
    day: Rows = arch ** rng.uniform(0.7, 2.2, (count, 1)).astype(np.float32)
    return day


def _slots(rng: Generator, count: int, phase: Rows, period: Rows) -> Rows:
    """A value of its own for every step of the season, half of them smoothed over neighbours."""
    slots = np.clip(np.round(period), 2, phase.shape[1]).astype(np.intp)[:, None]
    slot = np.minimum((phase * slots).astype(np.intp), slots - 1)
    values = normal(rng, count, phase.shape[1])
    smooth = values.copy()
    for shift in (1, 2):
        smooth += np.take_along_axis(values, (np.arange(phase.shape[1])[None] + shift) % slots, axis=1)
    smoothed = (rng.random((count, 1)) < 0.5) & (slots > 8)
    return np.take_along_axis(np.where(smoothed, smooth, values), slot, axis=1)


def _pulses(rng: Generator, count: int, phase: Rows) -> Rows:
    """Saw teeth, on-off pulses and triangles."""
    shifted = (phase + rng.random((count, 1), dtype=np.float32)) % 1
    corner = rng.uniform(0.08, 0.92, (count, 1)).astype(np.float32)
    kind = rng.integers(0, 3, (count, 1))
    triangle = np.where(shifted < corner, shifted / corner, (1 - shifted) / (1 - corner))
    return np.select([kind == 0, kind == 1], [shifted, (shifted < corner).astype(np.float32)], triangle)


def tables(rng: Generator, period: Rows) -> Rows:
    """One random season of unit spread a row, (series, PHASES); `period` (series,) is in steps."""
    phase = (np.arange(PHASES, dtype=np.float32) / PHASES)[None]
    y = np.empty((period.size, PHASES), dtype=np.float32)
    kind = rng.choice(6, period.size, p=[0.33, 0.17, 0.18, 0.06, 0.19, 0.07])
    for k, shape in enumerate((_harmonics, _peaks, _working_hours, _daylight)):
        if (i := np.flatnonzero(kind == k)).size:
            y[i] = shape(rng, i.size, phase)
    if (i := np.flatnonzero(kind == 4)).size:
        y[i] = _slots(rng, i.size, phase, period[i])
    if (i := np.flatnonzero(kind == 5)).size:
        y[i] = _pulses(rng, i.size, phase)
    if (i := some(rng, period.size, 0.12)).size:  # two shapes at once
        y[i] = standardise(y[i]) + _harmonics(rng, i.size, phase) * rng.uniform(0.1, 0.8, (i.size, 1))
    return standardise(y)


def cycles(rng: Generator, period: Rows, length: int) -> Rows:
    """Time in seasons from a random phase, (series, length): its whole part counts seasons."""
    return np.arange(length, dtype=np.float32)[None] / period[:, None] + rng.random((period.size, 1), dtype=np.float32)


def slots_at(cycle: Rows) -> Indices:
    """Where in a table each moment of `cycle` falls."""
    return np.minimum(((cycle - np.floor(cycle)) * PHASES).astype(np.intp), PHASES - 1)


def season(rng: Generator, period: Rows, length: int) -> Rows:
    """One fixed season repeated, of unit spread, (series, length)."""
    return np.take_along_axis(tables(rng, period), slots_at(cycles(rng, period, length)), axis=1)
