"""The mixture: how much of each kind, and convex combinations of them."""

from __future__ import annotations

import numpy as np

from training.synthetic import counts, noise, processes, structured
from training.synthetic.draws import Generator, Rows, standardise
from training.synthetic.events import happen

KINDS = {
    "structured": structured.structured,
    "smoothing": processes.smoothing,
    "gaussian": processes.gaussian,
    "counts": counts.counts,
    "walks": noise.walks,
}


def _combined(rng: Generator, y: Rows, count: int) -> Rows:
    """Convex combinations of two or three of the rows (TSMixup of the Chronos paper)."""
    parts = rng.integers(0, len(y), (count, 3))
    weight = rng.dirichlet([1.5] * 3, count)
    weight[:, 2] *= rng.random(count) < 0.5
    weight /= weight.sum(axis=1, keepdims=True)
    mixtures: Rows = np.einsum("ckt,ck->ct", y[parts], weight.astype(np.float32))
    return mixtures


def generate(rng: Generator, count: int, length: int, shares: dict[str, float], combined: float) -> Rows:
    """`count` standardised series, (count, length); `shares` by name of KINDS, `combined` the share of mixtures."""
    mixed = rng.binomial(count, combined)
    weights = np.array([shares[name] for name in KINDS])
    numbers = rng.multinomial(count - mixed, weights / weights.sum())
    drawn = [kind(rng, int(n), length) for kind, n in zip(KINDS.values(), numbers, strict=True) if n]
    y = happen(rng, np.concatenate(drawn))
    if mixed:
        y = np.concatenate([y, standardise(_combined(rng, y, mixed))])
    y[~np.isfinite(y).all(axis=1)] = 0
    return np.clip(y[rng.permutation(len(y))], -30, 30)
