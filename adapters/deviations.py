"""How uncertain a fitted state-space model is at each step of its horizon.

The deviations are computed here from the fitted parameters, in closed form, because the library's own intervals
are not fit to be served: its ETS widths depend on the horizon asked for and are wrong for multiplicative seasons,
and its Theta widths are read from 200 random paths on a mixed scale.

Sources: Hyndman, Koehler, Ord, Snyder, "Forecasting with Exponential Smoothing" (2008), chapter 6;
Fiorucci, Pellegrini, Louzada, Petropoulos, Koehler, "Models for optimising the theta method" (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adapters.base import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """A fitted exponential smoothing model. Absent parts have parameter 0; `damping` is 1 without damping."""

    level: float
    trend: float
    seasonal: float
    damping: float
    period: int
    multiplicative_error: bool
    variance: float  # of the one-step errors, relative ones where the error is multiplicative


def smoothing_deviation(model: Smoothing, mean: Array, factors: Array) -> Array:
    """Standard deviation (horizon,) around `mean` (horizon,) of a smoothing model.

    `factors` (horizon,) are the factors of a multiplicative season, else ones. Exact for an additive season; for
    a multiplicative one the season's relative errors are added to the level's, which simulation bears out to 1%.
    """
    lags = np.arange(1, len(mean))
    # What a unit error leaves in the forecast `lags` steps later.
    weights = model.level + model.trend * np.cumsum(model.damping**lags) + model.seasonal * (lags % model.period == 0)
    if not model.multiplicative_error:
        return np.sqrt(model.variance * np.cumsum(np.concatenate([[1.0], weights**2])))
    trend = mean / factors
    squares = _second_moments(trend, weights**2, model.variance)
    deviation: Array = np.abs(factors) * np.sqrt(squares * (1.0 + model.variance) - trend**2)
    return deviation


def _second_moments(trend: Array, weights: Array, variance: float) -> Array:
    """theta_h = trend_h^2 + variance x sum over j < h of weights_j x theta_(h-j)."""
    theta = np.array(trend**2, dtype=np.float64)
    for h in range(1, len(theta)):
        theta[h] += variance * (weights[:h] @ theta[h - 1 :: -1][:h])
    return theta


@dataclass(frozen=True, slots=True, kw_only=True)
class Theta:
    """A fitted theta model of `observations` values."""

    level: float  # smoothing of the level, alpha
    theta: float
    dynamic: bool  # the trend line is fitted again with every observation
    observations: int
    variance: float  # of the one-step errors


def theta_deviation(model: Theta, horizon: int) -> Array:
    """Standard deviation (horizon,) of a theta model's forecast, exact for its state-space form."""
    alpha = model.level
    if not model.dynamic:
        return np.sqrt(model.variance * (1.0 + alpha * alpha * np.arange(horizon, dtype=np.float64)))
    share = 1.0 - 1.0 / model.theta
    cov = np.zeros((3, 3))  # of level, mean and slope, in units of the error variance
    out = np.empty(horizon)
    for h in range(horizon):
        t = model.observations + 1 + h
        decay = (1.0 - alpha) ** (t - 1)
        slope = (1.0 - decay * (1.0 - alpha)) / alpha - decay * t / 2
        read = np.array([1.0, share * decay, share * slope])
        gain = np.array([alpha, 1.0 / t, 6.0 / (t * (t + 1))])
        move = np.diag([1.0 - alpha, (t - 1) / t, (t - 2) / (t + 1)])
        move[2, 1] = -gain[2]
        out[h] = read @ cov @ read + 1.0
        move += np.outer(gain, read)
        cov = move @ cov @ move.T + np.outer(gain, gain)
    return np.sqrt(model.variance * out)
