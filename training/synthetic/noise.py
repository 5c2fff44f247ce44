"""Irregular parts: noise with and without memory, and walks."""

from __future__ import annotations

import numpy as np

from training.synthetic.draws import Generator, Rows, log_uniform, normal, some, standardise


def autoregress(shocks: Rows, first: Rows, second: Rows | None = None) -> Rows:
    """x[t] = first x[t-1] + second x[t-2] + shocks[t] for every row; coefficients are (series,)."""
    x = np.ascontiguousarray(shocks.T)  # a time step is then one contiguous row
    if x is shocks or x.base is not None:
        x = x.copy()
    for t in range(1, len(x)):
        x[t] += first * x[t - 1]
        if second is not None and t > 1:
            x[t] += second * x[t - 2]
    return x.T


def heavy_tailed(rng: Generator, count: int, length: int) -> Rows:
    """Student draws with 3 to 8 degrees of freedom."""
    freedom = rng.integers(3, 9, (count, 1))
    return (normal(rng, count, length) / np.sqrt(rng.chisquare(freedom, (count, length)) / freedom)).astype(np.float32)


def volatility(rng: Generator, count: int, length: int) -> Rows:
    """Positive factors that wander slowly about 1."""
    memory = np.full(count, 0.97, dtype=np.float32)
    return np.exp(autoregress(normal(rng, count, length) * np.float32(0.13), memory))


def noise(rng: Generator, count: int, length: int) -> Rows:
    """Stationary noise of unit spread: white, heavy-tailed, with memory, or with pseudo-cycles."""
    x = normal(rng, count, length)
    kind = rng.choice(4, count, p=[0.42, 0.13, 0.35, 0.10])
    if (i := np.flatnonzero(kind == 1)).size:
        x[i] = heavy_tailed(rng, i.size, length)
    if (i := np.flatnonzero(kind == 2)).size:
        x[i] = autoregress(x[i], 1 - log_uniform(rng, 0.006, 1.2, i.size))
    if (i := np.flatnonzero(kind == 3)).size:
        radius = rng.uniform(0.5, 0.99, i.size).astype(np.float32)
        angle = 2 * np.pi / log_uniform(rng, 3, 100, i.size)
        x[i] = autoregress(x[i], 2 * radius * np.cos(angle), -(radius**2))
    if (i := some(rng, count, 0.12)).size:
        x[i] *= volatility(rng, i.size, length)
    return standardise(x)


def walk(rng: Generator, count: int, length: int) -> Rows:
    """Random walks of unit spread, some with drift, momentum, heavy tails, rare jumps or changing volatility."""
    shocks = normal(rng, count, length)
    if (i := some(rng, count, 0.25)).size:
        shocks[i] = heavy_tailed(rng, i.size, length)
    if (i := some(rng, count, 0.3)).size:
        shocks[i] *= volatility(rng, i.size, length)
    if (i := some(rng, count, 0.2)).size:
        shocks[i] = autoregress(shocks[i], rng.uniform(0.2, 0.95, i.size).astype(np.float32))
    if (i := some(rng, count, 0.1)).size:
        shocks[i] *= rng.random((i.size, length)) < 0.05
    drift = normal(rng, count, 1) * np.float32(0.12) * (rng.random((count, 1)) < 0.4)
    return standardise(np.cumsum(shocks + drift, axis=1))


def walks(rng: Generator, count: int, length: int) -> Rows:
    """A kind of its own: walks with observation noise, or slow mean reversion."""
    x = walk(rng, count, length)
    if (i := some(rng, count, 0.4)).size:
        x[i] += noise(rng, i.size, length) * log_uniform(rng, 0.02, 0.6, (i.size, 1))
    if (i := some(rng, count, 0.35)).size:
        x[i] = autoregress(normal(rng, i.size, length), 1 - log_uniform(rng, 0.005, 0.5, i.size))
    return x
