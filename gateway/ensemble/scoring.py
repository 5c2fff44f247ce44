"""How good a forecast was: the one set of metrics of backtests, ensembles and evaluations.

Every function takes arrays of any shape and scores all their cells alike, so that windows, steps and channels are
pooled by stacking them. A cell whose actual value is NaN is not scored. Where nothing is left to score the answer
is NaN. Percentages skip the cells that they divide by zero in, and count them.

A metric is a quotient of sums. `scores` keeps the sums, and `added` pools the cells of several windows, series or
chunks by adding them: in one order whoever adds, so that a job's figure is to the last bit that of one call.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.domain import Array, Metric, Scores, Tally
from gateway.pacing import at_once

SAME_LEVEL = 1e-9  # levels closer than this are one: 1 - 0.9 is not 0.1 in floats


@dataclass(frozen=True, slots=True)
class Percentage:
    """A mean percentage error, and the cells that were skipped because they divide by zero."""

    value: float
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Values that were held out, and the forecast of them."""

    actual: Array  # any shape, NaN where missing
    point: Array  # as `actual`
    quantiles: Array  # (levels, *actual.shape)
    levels: tuple[float, ...]
    scale: Array  # of MASE, broadcasts to `actual`


# -- metrics ---


def mae(actual: Array, forecast: Array) -> float:
    """Mean absolute error."""
    return _quotient(_mean(np.abs(actual - forecast)))


def rmse(actual: Array, forecast: Array) -> float:
    """Root of the mean squared error."""
    return math.sqrt(_quotient(_mean((actual - forecast) ** 2)))


def mape(actual: Array, forecast: Array) -> Percentage:
    """Mean of 100 |y - f| / |y|."""
    tally = _mape(actual, forecast)
    return Percentage(_quotient(tally), tally.skipped)


def smape(actual: Array, forecast: Array) -> Percentage:
    """Mean of 200 |y - f| / (|y| + |f|), from 0 to 200."""
    tally = _smape(actual, forecast)
    return Percentage(_quotient(tally), tally.skipped)


def mase(actual: Array, forecast: Array, scale: Array) -> float:
    """Mean of |y - f| / scale; `scale` of `seasonal_scale` broadcasts. Cells of a scale that is 0 are not scored."""
    return _quotient(_mase(actual, forecast, scale))


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
    return _quotient(_mean(quantile_loss(actual, quantiles, levels)))


def wql(actual: Array, quantiles: Array, levels: Sequence[float]) -> float:
    """Weighted quantile loss: the sum of the quantile loss over the sum of |y|. NaN where all |y| are 0."""
    return _quotient(_wql(actual, quantile_loss(actual, quantiles, levels)))


def quantile_loss(actual: Array, quantiles: Array, levels: Sequence[float]) -> Array:
    """Mean over levels of 2 x pinball of every cell: (levels, ...) -> (...)."""
    level = np.asarray(levels, dtype=np.float64).reshape(-1, *[1] * np.ndim(actual))
    error = actual - quantiles
    loss: Array = 2 * np.maximum(level * error, (level - 1) * error).mean(axis=0)
    return loss


def coverage(actual: Array, quantiles: Array, levels: Sequence[float]) -> float:
    """Share of cells within the outermost symmetric pair of `levels`; NaN where there is no such pair."""
    return _quotient(_coverage(actual, quantiles, levels))


def outermost_pair(levels: Sequence[float]) -> tuple[int, int] | None:
    """Indices of the widest p and 1 - p among ascending `levels`."""
    for i, low in enumerate(levels):
        for j in range(len(levels) - 1, i, -1):
            if abs(low + levels[j] - 1) < SAME_LEVEL:
                return i, j
    return None


# -- scores that add up ---


def scores(held: Held, metrics: Sequence[Metric]) -> Scores:
    """`metrics` of one forecast of held-out values."""
    with np.errstate(all="ignore"):  # what is not finite is no score
        loss = None  # that of two metrics
        if held.levels and ("crps" in metrics or "wql" in metrics):
            loss = quantile_loss(held.actual, held.quantiles, held.levels)
        return _scores({metric: _tally(metric, held, loss) for metric in metrics})


def added(parts: Iterable[Scores], metrics: Sequence[Metric]) -> Scores:
    """`metrics` over the cells of all `parts`."""
    return at_once(adding(parts, metrics))


def adding(parts: Iterable[Scores], metrics: Sequence[Metric]) -> Generator[None, None, Scores]:
    """`added`, for many parts; yields after each."""
    nothing = Tally()
    totals, divisors, skipped = ([0.0] * len(metrics), [0.0] * len(metrics), [0] * len(metrics))
    for part in parts:
        for i, metric in enumerate(metrics):
            tally = part.tallies.get(metric, nothing)
            totals[i] += tally.total
            divisors[i] += tally.divisor
            skipped[i] += tally.skipped
        yield
    sums = zip(metrics, totals, divisors, skipped, strict=True)
    return _scores({m: Tally(total=total, divisor=divisor, skipped=skips) for m, total, divisor, skips in sums})


def _scores(tallies: Mapping[Metric, Tally]) -> Scores:
    return Scores(
        values={metric: _figure(metric, tally) for metric, tally in tallies.items()},
        skipped={metric: tally.skipped for metric, tally in tallies.items() if tally.skipped},
        tallies=tallies,
    )


def _figure(metric: Metric, tally: Tally) -> float | None:
    """The metric itself; None where nothing was scored or the sums left the range of floats."""
    value = _quotient(tally)
    if not math.isfinite(value):
        return None
    return math.sqrt(value) if metric == "rmse" else value


def _tally(metric: Metric, held: Held, loss: Array | None) -> Tally:
    actual, point = held.actual, held.point
    match metric:
        case "mae":
            return _mean(np.abs(actual - point))
        case "rmse":
            return _mean((actual - point) ** 2)
        case "mape":
            return _mape(actual, point)
        case "smape":
            return _smape(actual, point)
        case "mase":
            return _mase(actual, point, held.scale)
        case "crps":
            return _mean(loss) if loss is not None else Tally()
        case "wql":
            return _wql(actual, loss) if loss is not None else Tally()
        case "coverage":
            return _coverage(actual, held.quantiles, held.levels)


def _quotient(tally: Tally) -> float:
    return tally.total / tally.divisor if tally.divisor > 0 else math.nan


def _mean(cells: Array) -> Tally:
    scored = cells[~np.isnan(cells)]
    return Tally(total=float(scored.sum()), divisor=float(scored.size))


def _mape(actual: Array, forecast: Array) -> Tally:
    return _percentage(100 * np.abs(actual - forecast), np.abs(actual))


def _smape(actual: Array, forecast: Array) -> Tally:
    return _percentage(200 * np.abs(actual - forecast), np.abs(actual) + np.abs(forecast))


def _percentage(errors: Array, divisors: Array) -> Tally:
    zero = divisors == 0
    ratios = errors / np.where(zero, np.nan, divisors)
    mean = _mean(ratios)
    return Tally(total=mean.total, divisor=mean.divisor, skipped=int(zero.sum()))


def _mase(actual: Array, forecast: Array, scale: Array) -> Tally:
    divisor = np.where(np.asarray(scale) > 0, scale, np.nan)
    return _mean(np.abs(actual - forecast) / divisor)


def _wql(actual: Array, loss: Array) -> Tally:
    return Tally(total=float(np.nansum(loss)), divisor=float(np.nansum(np.abs(actual))))


def _coverage(actual: Array, quantiles: Array, levels: Sequence[float]) -> Tally:
    pair = outermost_pair(levels)
    if pair is None:
        return Tally()
    low, high = quantiles[pair[0]], quantiles[pair[1]]
    inside = (actual >= low) & (actual <= high)
    return _mean(np.where(np.isnan(actual), np.nan, inside))
