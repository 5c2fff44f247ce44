"""What happens to a series: shifts, outliers, rounding, holidays, gaps."""

from __future__ import annotations

import numpy as np

from training.synthetic.draws import Generator, Rows, log_uniform, normal, some, standardise, steps


def happen(rng: Generator, y: Rows) -> Rows:
    """Standardises the rows and lets events happen to some of them."""
    y = standardise(y)
    length = y.shape[1]
    if (i := some(rng, len(y), 0.07)).size:  # level shifts
        for _ in range(2):
            later = steps(length) > rng.integers(0, length, (i.size, 1))
            y[i] += normal(rng, i.size, 1) * 1.5 * later * (rng.random((i.size, 1)) < 0.6)
    if (i := some(rng, len(y), 0.07)).size:  # outliers
        hit = rng.random((i.size, length)) < log_uniform(rng, 0.002, 0.02, (i.size, 1))
        y[i] += hit * normal(rng, i.size, length) * rng.uniform(1, 5, (i.size, 1))
    if (i := some(rng, len(y), 0.03)).size:  # stretches that a holiday or a shutdown pulls to one level
        start = rng.integers(0, length, (i.size, 1))
        away = (steps(length) >= start) & (steps(length) < start + log_uniform(rng, 1, 60, (i.size, 1)))
        level = y[i].min(axis=1, keepdims=True) * rng.random((i.size, 1))
        y[i] = np.where(away, level + 0.1 * (y[i] - level), y[i])
    if (i := some(rng, len(y), 0.06)).size:  # rounded readings
        unit = log_uniform(rng, 0.02, 0.5, (i.size, 1))
        y[i] = np.round(y[i] / unit) * unit
    return standardise(y)


def gaps(rng: Generator, context: Rows, share: float) -> Rows:
    """Blanks out points or a stretch of about `share` of the rows with NaN; the last point always stays."""
    count, length = context.shape
    missing = rng.random((count, length)) < rng.uniform(0.01, 0.3, (count, 1))
    start = rng.integers(0, length, (count, 1))
    stretch = (steps(length) >= start) & (steps(length) < start + length * rng.uniform(0.02, 0.4, (count, 1)))
    blank = np.where(rng.random((count, 1)) < 0.6, missing, stretch) & (rng.random((count, 1)) < share)
    blank[:, -1] = False
    return np.where(blank, np.float32(np.nan), context)
