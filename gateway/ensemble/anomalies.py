"""What makes a value an anomaly: its distance from the median forecast, in the deviations that the model expected.

The deviation is read from the quantiles at 0.1 and 0.9, as a normal distribution has them. Where the model is certain
the context's own steps stand in. Pure functions of arrays: nothing here knows where a forecast came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.domain import Array

LEVELS = (0.1, 0.5, 0.9)  # what a judgement is made of
SPREAD = 2.563  # standard deviations between the quantiles at 0.1 and 0.9 of a normal distribution
DEFAULT_SENSITIVITY = 3.0
DEFAULT_FIRST = 8  # observed rows before the first scored one, at least, where the caller names no row
FEWEST_RESIDUALS = 2  # of which a scale is told: one alone may be small by chance, and all values far away

# Of the level: below this, two values are the same to a model that computes in float32.
SAME_VALUE = 1e-6
LEAST_SCALE = 1e-12  # where the level itself is 0
FARTHEST = 1e6  # deviations that are told at most: beyond it only the scale's smallness shows
_NORMAL_MAD = 1.4826  # standard deviations in one median absolute value of a normal distribution
_NORMAL_MEAN = 1.2533  # and in one mean absolute value
_LARGEST = np.finfo(np.float64).max


@dataclass(frozen=True, slots=True)
class Judgement:
    """Cells of any one shape; NaN where there is no value, no forecast of it, or no scale to judge it by."""

    expected: Array
    lower: Array
    upper: Array
    z_score: Array
    is_anomaly: Array  # 1.0 or 0.0


def first_scored(target: Array, asked: int | None) -> int:
    """The first row of (time, channels) that is scored: the one asked for, but never the first, which has no context.

    Where none is asked for it comes after a third of the rows and after enough that hold a value; it may be past the
    last row.
    """
    if asked is not None:
        return max(1, asked)
    first = max(DEFAULT_FIRST, len(target) // 3)
    if np.count_nonzero(_observed(target[:first])) >= DEFAULT_FIRST:
        return first
    observed = np.flatnonzero(_observed(target))
    return max(first, int(observed[DEFAULT_FIRST - 1]) + 1 if len(observed) >= DEFAULT_FIRST else len(target))


def _observed(target: Array) -> npt.NDArray[np.bool_]:
    """Which rows hold a value in any channel."""
    observed: npt.NDArray[np.bool_] = np.any(~np.isnan(target), axis=1)
    return observed


def residual_scale(context: Array, season: int) -> Array:
    """How far one season differs from the one before, (time, channels) -> (channels,): robust, and 0 where constant.

    The lag is 1 where the context holds no two seasons of values. NaN where too few values have one before them.
    """
    lags = (season, 1) if 1 < season <= len(context) // 2 else (1,)
    scales = np.full(context.shape[1], np.nan)
    for channel, column in enumerate(context.T):
        for lag in lags:
            steps = np.abs(column[lag:] - column[:-lag])
            seen = steps[~np.isnan(steps)]
            if seen.size >= FEWEST_RESIDUALS:
                scales[channel] = _NORMAL_MAD * float(np.median(seen)) or _NORMAL_MEAN * float(seen.mean())
                break
    return scales


def sound_scale(low: Array, middle: Array, high: Array, context: Array, season: int) -> Array:
    """Deviation of each cell from its quantiles at 0.1, 0.5 and 0.9, all (steps, channels): > 0, or NaN.

    Where the quantiles coincide it is the residual scale of `context` (time, channels). In a constant context it is
    no smaller than what tells two values apart, so that any other value is far away and rounding is not. It is NaN
    where the context holds too little to tell.
    """
    scale: Array = np.maximum((high - low) / SPREAD, 0.0)
    level = np.maximum(np.nanmax(np.abs(context), axis=0, initial=0.0), np.abs(middle))
    least = np.maximum(SAME_VALUE * level, LEAST_SCALE)
    small = scale < least
    if not small.any():
        return scale
    residual = np.broadcast_to(residual_scale(context, season), scale.shape)
    scale = np.where((scale == 0) | (small & np.isnan(residual)), residual, scale)
    return np.where(small & (residual == 0), np.maximum(scale, least), scale)


def judge(values: Array, expected: Array, scale: Array, sensitivity: float) -> Judgement:
    """Which of `values` lie more than `sensitivity` deviations `scale` from `expected`; higher finds fewer.

    `scale` is > 0, or NaN where a value is not judged.
    """
    seen = ~np.isnan(values) & ~np.isnan(expected) & ~np.isnan(scale)
    with np.errstate(over="ignore"):
        z_score = np.clip((values - expected) / scale, -FARTHEST, FARTHEST)
        reach = np.minimum(sensitivity * scale, _LARGEST)
        lower = np.maximum(expected - reach, -_LARGEST)
        upper = np.minimum(expected + reach, _LARGEST)
    return Judgement(
        expected=np.where(seen, expected, np.nan),
        lower=np.where(seen, lower, np.nan),
        upper=np.where(seen, upper, np.nan),
        z_score=np.where(seen, z_score, np.nan),
        is_anomaly=np.where(seen, (np.abs(z_score) > sensitivity).astype(np.float64), np.nan),
    )
