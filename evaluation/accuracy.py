"""Accuracy of forecasts of one data set, and its aggregate over data sets as in the Chronos papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.datasets import Values, Window
from gateway.ensemble import scoring

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Accuracy:
    """Of one model on one data set."""

    wql: float  # sum over windows of the mean over levels of 2 x pinball, over the sum of |actual|
    mase: float  # mean over windows of the median's absolute error over the context's seasonal difference
    coverage: float  # share of actual values between the .1 and .9 quantiles
    windows: int


def measure(windows: Sequence[Window], quantiles: Sequence[Values], season: int) -> Accuracy:
    """Accuracy of `quantiles`, a (levels, horizon) array for every window, at LEVELS.

    The windows of a data set are of one horizon.
    """
    actual = np.stack([w.actual for w in windows])  # (windows, horizon)
    values = np.stack(quantiles, axis=1)  # (levels, windows, horizon)
    scales = np.array([scoring.seasonal_scale(w.context, season) for w in windows])[:, None]
    return Accuracy(
        wql=scoring.wql(actual, values, LEVELS),
        mase=scoring.mase(actual, values[LEVELS.index(0.5)], scales),
        coverage=scoring.coverage(actual, values, LEVELS),
        windows=len(windows),
    )


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
