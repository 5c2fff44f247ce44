"""Accuracy of forecasts of one data set, and its aggregate over data sets as in the Chronos papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.datasets import Values, Window

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Accuracy:
    """Of one model on one data set."""

    wql: float  # sum over windows of the mean over levels of 2 x pinball, over the sum of |actual|
    mase: float  # mean over windows of the median's absolute error over the context's seasonal difference
    coverage: float  # share of actual values between the .1 and .9 quantiles
    windows: int


def measure(windows: Sequence[Window], quantiles: Sequence[Values], season: int) -> Accuracy:
    """Accuracy of `quantiles`, a (levels, horizon) array for every window, at LEVELS."""
    levels = np.array(LEVELS)[:, None]
    loss = size = 0.0
    scaled, inside = [], []
    for window, values in zip(windows, quantiles, strict=True):
        error = window.actual - values
        loss += float(2 * np.maximum(levels * error, (levels - 1) * error).sum() / len(LEVELS))
        size += float(np.abs(window.actual).sum())
        scale = seasonal_difference(window.context, season)
        if scale > 0:
            scaled.append(float(np.abs(error[len(LEVELS) // 2]).mean() / scale))
        inside.append(float(((window.actual >= values[0]) & (window.actual <= values[-1])).mean()))
    return Accuracy(loss / size, float(np.mean(scaled)), float(np.mean(inside)), len(windows))


def seasonal_difference(context: Values, season: int) -> float:
    """Mean absolute difference at lag `season`; at lag 1 where the context is no longer than a season."""
    lag = season if len(context) > season else 1
    difference = np.abs(context[lag:] - context[:-lag])
    return float(np.nanmean(difference)) if np.isfinite(difference).any() else 0.0


@dataclass(frozen=True)
class Aggregate:
    """Geometric means over data sets of a model's figure over the baseline's, and the mean coverage."""

    wql: float
    mase: float
    coverage: float


def aggregate(model: Mapping[str, Accuracy], baseline: Mapping[str, Accuracy]) -> Aggregate:
    """Over the data sets of `model`, which `baseline` must have too."""
    wql = [np.log(model[name].wql / baseline[name].wql) for name in model]
    mase = [np.log(model[name].mase / baseline[name].mase) for name in model]
    coverage = np.mean([a.coverage for a in model.values()])
    return Aggregate(float(np.exp(np.mean(wql))), float(np.exp(np.mean(mase))), float(coverage))
