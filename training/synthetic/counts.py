"""Counts and intermittent demand."""

from __future__ import annotations

import numpy as np

from training.synthetic import profiles
from training.synthetic.draws import Generator, Rows, log_uniform, some
from training.synthetic.noise import walk
from training.synthetic.trends import trend


def counts(rng: Generator, count: int, length: int) -> Rows:
    """Poisson or overdispersed counts about a seasonal rate, a third of them with many periods without any."""
    period = rng.choice([7, 7, 7, 12, 12, 24, 24, 52], count).astype(np.float32)
    rate = profiles.season(rng, period, length) * rng.uniform(0, 0.8, (count, 1))
    rate += trend(rng, count, length) * rng.uniform(0, 0.8, (count, 1))
    rate += walk(rng, count, length) * rng.uniform(0, 0.35, (count, 1))
    rate -= rate.mean(axis=1, keepdims=True)
    rate = np.exp(np.clip(rate, -4, 4)) * log_uniform(rng, 0.15, 20, (count, 1))
    if (i := some(rng, count, 0.5)).size:
        shape = rng.uniform(0.7, 6, (i.size, 1))
        rate[i] *= rng.gamma(shape, 1 / shape, (i.size, length))
    y = rng.poisson(np.minimum(rate, 1e5)).astype(np.float32)
    if (i := some(rng, count, 0.35)).size:
        y[i] *= rng.random((i.size, length)) < rng.uniform(0.08, 0.7, (i.size, 1))
    return y
