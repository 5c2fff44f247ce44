"""Long-run shapes of a series' level."""

from __future__ import annotations

import numpy as np

from training.synthetic.draws import Generator, Rows, normal, steps


def _broken_line(rng: Generator, count: int, u: Rows) -> Rows:
    line = normal(rng, count, 1) * u
    for _ in range(3):
        bend = normal(rng, count, 1) * 1.5 * (rng.random((count, 1)) < 0.6)
        line = line + bend * np.maximum(u - rng.uniform(0, 1, (count, 1)), 0)
    return line.astype(np.float32)


def _exponential(rng: Generator, count: int, u: Rows) -> Rows:
    rate = rng.normal(size=(count, 1)) * 2
    rate = np.where(np.abs(rate) < 0.05, 0.05, rate)
    return (normal(rng, count, 1) * np.expm1(rate * u) / np.abs(np.expm1(rate))).astype(np.float32)


def trend(rng: Generator, count: int, length: int) -> Rows:
    """Level over the whole length with a change of order 1: flat, straight, bent, exponential, logistic or damped."""
    u = steps(length) / length
    kind = rng.choice(6, count, p=[0.30, 0.26, 0.16, 0.12, 0.07, 0.09])
    y = np.zeros((count, length), dtype=np.float32)
    if (i := np.flatnonzero(kind == 1)).size:
        y[i] = normal(rng, i.size, 1) * u
    if (i := np.flatnonzero(kind == 2)).size:
        y[i] = _broken_line(rng, i.size, u)
    if (i := np.flatnonzero(kind == 3)).size:
        y[i] = _exponential(rng, i.size, u)
    if (i := np.flatnonzero(kind == 4)).size:
        middle, slope = rng.random((i.size, 1)), rng.uniform(3, 25, (i.size, 1))
        y[i] = normal(rng, i.size, 1) / (1 + np.exp(-(u - middle) * slope))
    if (i := np.flatnonzero(kind == 5)).size:
        y[i] = normal(rng, i.size, 1) * (1 - np.exp(-u * rng.uniform(1, 10, (i.size, 1))))
    return y
