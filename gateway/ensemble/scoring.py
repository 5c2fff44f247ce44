"""How good a forecast was: the one set of metrics of backtests, ensembles and evaluations.

Every function takes arrays of any shape and scores all their cells alike, so that windows, steps and channels are
pooled by stacking them. A cell whose actual value is NaN is not scored. Where nothing is left to score the answer
is NaN. Percentages skip the cells that they divide by zero in, and count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.domain import Array

SAME_LEVEL = 1e-9  # levels closer than this are one: 1 - 0.9 is not 0.1 in floats


@dataclass(frozen=True, slots=True)
class Percentage:
    """A mean percentage error, and the cells that were skipped because they divide by zero."""

    value: float
    skipped: int


def mae(actual: Array, forecast: Array) -> float:
    """Mean absolute error."""
    return _mean(np.abs(actual - forecast))


def rmse(actual: Array, forecast: Array) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(_mean((actual - forecast) ** 2)))


def mape(actual: Array, forecast: Array) -> Percentage:
    """Mean of 100 |y - f| / |y|."""
    return _percentage(100 * np.abs(actual - forecast), np.abs(actual))


def smape(actual: Array, forecast: Array) -> Percentage:
    """Mean of 200 |y - f| / (|y| + |f|), from 0 to 200."""
    return _percentage(200 * np.abs(actual - forecast), np.abs(actual) + np.abs(forecast))


def mase(actual: Array, forecast: Array, scale: Array) -> float:
    """Mean of |y - f| / scale; `scale` of `seasonal_scale` broadcasts. Cells of a scale that is 0 are not scored."""
    divisor = np.where(np.asarray(scale) > 0, scale, np.nan)
    return _mean(np.abs(actual - forecast) / divisor)


def seasonal_scale(context: Array, season: int) -> Array:
    """In-sample mean absolute error of the seasonal naive forecast: (time, ...) -> (...).

    The lag is 1 where the context is no longer than a season. NaN where no two values can be compared.
    """
    lag = season if len(context) > season else 1
    steps = np.abs(context[lag:] - context[:-lag])
    counted = (~np.isnan(steps)).sum(axis=0)
    scale: Array = np.where(counted > 0, np.nansum(steps, axis=0), np.nan) / np.maximum(counted, 1)
    return scale


def crps(actual: Array, quantiles: Array, levels: Sequence[float]) -> float:
    """Mean of the quantile loss: the mean over levels of 2 x pinball. `quantiles` is (levels, *actual.shape)."""
    return _mean(quantile_loss(actual, quantiles, levels))


def wql(actual: Array, quantiles: Array, levels: Sequence[float]) -> float:
    """Weighted quantile loss: the sum of the quantile loss over the sum of |y|. NaN where all |y| are 0."""
    total = float(np.nansum(np.abs(actual)))
    return float(np.nansum(quantile_loss(actual, quantiles, levels))) / total if total > 0 else float("nan")


def quantile_loss(actual: Array, quantiles: Array, levels: Sequence[float]) -> Array:
    """Mean over levels of 2 x pinball of every cell: (levels, ...) -> (...)."""
    level = np.asarray(levels, dtype=np.float64).reshape(-1, *[1] * np.ndim(actual))
    error = actual - quantiles
    loss: Array = 2 * np.maximum(level * error, (level - 1) * error).mean(axis=0)
    return loss


def coverage(actual: Array, quantiles: Array, levels: Sequence[float]) -> float:
    """Share of cells within the outermost symmetric pair of `levels`; NaN where there is no such pair."""
    pair = outermost_pair(levels)
    if pair is None:
        return float("nan")
    low, high = quantiles[pair[0]], quantiles[pair[1]]
    inside = (actual >= low) & (actual <= high)
    return _mean(np.where(np.isnan(actual), np.nan, inside))


def outermost_pair(levels: Sequence[float]) -> tuple[int, int] | None:
    """Indices of the widest p and 1 - p among ascending `levels`."""
    for i, low in enumerate(levels):
        for j in range(len(levels) - 1, i, -1):
            if abs(low + levels[j] - 1) < SAME_LEVEL:
                return i, j
    return None


def _mean(cells: Array) -> float:
    scored = cells[~np.isnan(cells)]
    return float(scored.mean()) if scored.size else float("nan")


def _percentage(errors: Array, divisors: Array) -> Percentage:
    zero = divisors == 0
    ratios = errors / np.where(zero, np.nan, divisors)
    return Percentage(_mean(ratios), int(zero.sum()))
