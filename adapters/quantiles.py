"""Quantiles at any level from quantiles at trained levels.

A quantile model answers at the levels it was trained on. Callers ask for others: between trained levels
values are interpolated linearly; outside them the card's `tails` decides. Values are sorted along the levels
first, so that they never cross.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np

from adapters.base import Array, Series, SeriesForecast

Tails = Literal["native", "normal", "refuse"]

# Levels closer than this are the same level: configurations hold 0.1 as float32 here and there.
SAME_LEVEL = 1e-6
MEDIAN = 0.5


def at_levels(values: Array, trained: Sequence[float], asked: Sequence[float], tails: Tails) -> Array:
    """Quantiles at the levels `asked` from those at the levels `trained`, which ascend.

    `values` (trained levels, ...) -> (asked levels, ...). A trained level that is asked for keeps its sorted
    value bit by bit. Beyond the trained levels "normal" continues with normal tails from the nearest trained
    level e, q(p) = q50 + (q(e) - q50) z(p) / z(e); "refuse" raises ValueError, and so does "native", whose
    model has to compute such levels itself. A cell that is NaN at one trained level is NaN at all.
    """
    ordered = _ascending(values)
    places, others = _places(tuple(trained), tuple(asked))
    out = ordered[list(places)]
    for i in others:
        level = asked[i]
        if trained[0] < level < trained[-1]:
            out[i] = _between(ordered, trained, level)
        elif tails == "normal":
            out[i] = _normal_tail(ordered, trained, level, places[i])
        else:
            raise ValueError(f"level {level:g} is outside the trained levels {trained[0]:g} to {trained[-1]:g}")
    return out


@lru_cache(maxsize=256)
def _places(trained: tuple[float, ...], asked: tuple[float, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The place of the trained level nearest to each level asked for, and which of those asked for it is not."""
    places = tuple(min(range(len(trained)), key=lambda place: abs(trained[place] - level)) for level in asked)
    pairs = enumerate(zip(places, asked, strict=True))
    return places, tuple(i for i, (place, level) in pairs if abs(trained[place] - level) >= SAME_LEVEL)


def median(values: Array, trained: Sequence[float]) -> Array:
    """The median of `values` (trained levels, ...) -> (...)."""
    middle: Array = at_levels(values, trained, (MEDIAN,), "refuse")[0]
    return middle


def normal_quantiles(mean: Array, deviation: Array, levels: Sequence[float]) -> Array:
    """Quantiles (levels, ...) of normal distributions with `mean` (...) and standard `deviation` (...) >= 0."""
    scores = np.array([NormalDist().inv_cdf(level) for level in levels])
    quantiles: Array = mean + scores.reshape(-1, *[1] * mean.ndim) * deviation
    return quantiles


def forecast_of(
    series: Series, values: Array, trained: Sequence[float], tails: Tails, mean: Array | None = None
) -> SeriesForecast:
    """What `series` asked for, from its quantiles at the trained levels.

    `values` (trained levels, >= horizon, channels); the point forecast is `mean` (>= horizon, channels) where
    the family has one, else the median.
    """
    values = values[:, : series.horizon]
    if mean is not None:
        point = np.array(mean[: series.horizon], dtype=np.float64)
        return SeriesForecast(point=point, quantiles=at_levels(values, trained, series.levels, tails))
    found = at_levels(values, trained, (MEDIAN, *series.levels), tails)
    return SeriesForecast(point=found[0], quantiles=found[1:])


def forecasts_of(
    series: Sequence[Series], values: Sequence[Array], trained: Sequence[float], tails: Tails
) -> list[SeriesForecast]:
    """`forecast_of` for many series, those that ask for the same levels at once.

    `values` has one array (channels, trained levels, steps) a series, all with the same number of steps.
    """
    alike: dict[tuple[float, ...], list[int]] = {}
    for i, one in enumerate(series):
        alike.setdefault(one.levels, []).append(i)
    answers: dict[int, SeriesForecast] = {}
    for levels, chosen in alike.items():
        rows = np.concatenate([values[i] for i in chosen]).transpose(1, 0, 2)
        found = at_levels(rows, trained, (MEDIAN, *levels), tails).transpose(1, 0, 2).copy()  # one series, one piece
        start = 0
        for i in chosen:
            end = start + len(values[i])
            own = found[start:end, :, : series[i].horizon].T
            answers[i] = SeriesForecast(point=own[:, 0], quantiles=own[:, 1:].transpose(1, 0, 2))
            start = end
    return [answers[i] for i in range(len(series))]


def _ascending(values: Array) -> Array:
    ordered = np.array(values, dtype=np.float64)
    ordered.sort(axis=0)
    # NaN sorts last, which would move every other value to a wrong level: such a cell is no forecast at all.
    broken = np.isnan(ordered[-1])
    if broken.any():
        ordered[:, broken] = np.nan
    return ordered


def _between(ordered: Array, trained: Sequence[float], level: float) -> Array:
    above = bisect(trained, level)
    low, high = ordered[above - 1], ordered[above]
    share = (level - trained[above - 1]) / (trained[above] - trained[above - 1])
    # Rounding may step over `high` in its last place, and a neighbouring level may be exactly there.
    between: Array = np.clip(low + share * (high - low), low, high)
    return between


def _normal_tail(ordered: Array, trained: Sequence[float], level: float, nearest: int) -> Array:
    if abs(trained[nearest] - MEDIAN) < SAME_LEVEL:
        raise ValueError("normal tails need a trained level on the side of the level asked for")
    centre = median(ordered, trained)
    normal = NormalDist()
    ratio = normal.inv_cdf(level) / normal.inv_cdf(trained[nearest])
    edge = ordered[nearest]
    tail = centre + (edge - centre) * ratio
    beyond: Array = np.minimum(tail, edge) if level < trained[nearest] else np.maximum(tail, edge)
    return beyond
