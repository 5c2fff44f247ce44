"""Random draws and scalings that the kinds of series share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.floating]  # (series, time); single precision wherever it costs time
Indices = npt.NDArray[np.intp]
Generator = np.random.Generator


def log_uniform(rng: Generator, low: float, high: float, shape: int | tuple[int, ...]) -> Rows:
    """Draws whose logarithm is uniform between those of `low` and `high`."""
    return np.exp(rng.uniform(np.log(low), np.log(high), shape)).astype(np.float32)


def normal(rng: Generator, *shape: int) -> Rows:
    """Standard normal draws in single precision."""
    return rng.standard_normal(shape, dtype=np.float32)


def some(rng: Generator, count: int, share: float) -> Indices:
    """Indices of about `share` of `count` rows."""
    return np.flatnonzero(rng.random(count) < share)


def standardise(rows: Rows) -> Rows:
    """Rows with mean 0 and standard deviation 1; constant rows become zeros."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    scale = centred.std(axis=1, keepdims=True)
    scaled: Rows = (centred / np.where(scale < 1e-7, 1, scale)).astype(np.float32)
    return scaled


def steps(length: int) -> Rows:
    """Time as one row, (1, length)."""
    return np.arange(length, dtype=np.float32)[None]
