"""Sample paths from a quantile forecast, for models that draw none of their own.

A quantile forecast says how each step is distributed, not how the steps hang together. A Gaussian copula adds that:
standard normal paths with the context's autocorrelation, each value turned to its probability and read from the
step's quantile function. The dependence is autoregressive of order one, estimated as the lag-one correlation of the
normal scores of the seasonally differenced context (rank correlation of van der Waerden: no outlier bends it).

Source: Nelsen, "An Introduction to Copulas" (2006); the use with quantile forecasts follows Pinson, Madsen, Nielsen,
Papaefthymiou, Kloeckl, "From probabilistic forecasts to statistical scenarios" (Wind Energy, 2009).
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from adapters.base import Adapter, Array, Batch, BatchForecast, Sampling, Series, SeriesFailure, SeriesForecast
from adapters.seasonal_naive import usable_season
from adapters.seeding import generator_of
from catalog.card import ModelCard

GRID = (0.01, 0.05, *(round(0.1 * i, 1) for i in range(1, 10)), 0.95, 0.99)  # of a model that computes any level
MEDIAN = 0.5
FEWEST_PAIRS = 8  # neighbouring differences that a correlation is estimated from; with fewer, steps are independent
STRONGEST = 0.99  # correlation of neighbours that is believed


class CopulaSampling:
    """An adapter around another that draws paths for the series that ask for them by copula."""

    def __init__(self, adapter: Adapter, card: ModelCard) -> None:
        """Paths are read from the quantiles at the card's trained levels, or at a grid where any level is computed."""
        self._adapter = adapter
        self._levels = card.quantile_levels or GRID

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series of `batch`."""
        if not any(one.sampling is not None and one.sampling.copula for one in batch.series):
            return self._adapter.predict(batch)
        answers = self._adapter.predict(Batch(tuple(self._inner(one) for one in batch.series))).series
        return BatchForecast(tuple(map(self._completed, batch.series, answers)))

    def close(self) -> None:
        """Give back the inner model's memory."""
        self._adapter.close()

    def _inner(self, series: Series) -> Series:
        """The question to the inner model: the levels asked for and those that paths are read from."""
        if series.sampling is None or not series.sampling.copula:
            return series
        return replace(series, levels=tuple(sorted({*series.levels, *self._levels})), sampling=None)

    def _completed(self, series: Series, answer: SeriesForecast | SeriesFailure) -> SeriesForecast | SeriesFailure:
        sampling = series.sampling
        if sampling is None or not sampling.copula or isinstance(answer, SeriesFailure):
            return answer
        places = {level: i for i, level in enumerate(self._inner(series).levels)}
        knots = answer.quantiles[[places[level] for level in self._levels]]
        return replace(
            answer,
            quantiles=answer.quantiles[[places[level] for level in series.levels]],
            samples=paths(series, knots, self._levels, sampling),
        )


def paths(series: Series, quantiles: Array, levels: tuple[float, ...], sampling: Sampling) -> Array:
    """Paths (paths, horizon, channels) whose steps are distributed as `quantiles` (levels, horizon, channels) say."""
    drawn = np.empty((sampling.count, *quantiles.shape[1:]))
    for channel, row in enumerate(series.target):
        noise = generator_of(sampling.seed, row).standard_normal((sampling.count, quantiles.shape[1]))
        scores = autoregressive(noise, persistence(row, series.season))
        drawn[..., channel] = read(scores, quantiles[..., channel], levels)
    return drawn


def persistence(row: Array, season: int) -> float:
    """Correlation of neighbouring steps of `row` (time,), 0 to `STRONGEST`, its season and its level taken away.

    Without a season the row itself is what it is measured on: a random walk's paths wander, noise's do not.
    """
    season = usable_season(row, season)
    moved = row[season:] - row[:-season] if season > 1 else row
    scores = normal_scores(moved)
    before, after = scores[:-1], scores[1:]
    pairs = ~np.isnan(before) & ~np.isnan(after)
    if pairs.sum() < FEWEST_PAIRS:
        return 0.0
    energy = float(np.sqrt((before[pairs] ** 2).sum() * (after[pairs] ** 2).sum()))
    shared = float((before[pairs] * after[pairs]).sum())
    return min(max(shared / energy, 0.0), STRONGEST) if energy > 0 else 0.0


def normal_scores(row: Array) -> Array:
    """The standard normal quantiles of the ranks of `row` (time,); NaN stays, equal values share their mean rank."""
    scores = np.full(len(row), np.nan)
    known = ~np.isnan(row)
    values, place, count = np.unique(row[known], return_inverse=True, return_counts=True)
    if len(values):
        ranks = np.cumsum(count) - (count - 1) / 2
        normal = NormalDist()
        of_value = np.array([normal.inv_cdf(rank / (known.sum() + 1)) for rank in ranks])
        scores[known] = of_value[place]
    return scores


def autoregressive(noise: Array, correlation: float) -> Array:
    """Standard normal paths (paths, horizon) whose neighbouring steps correlate so, from independent `noise`."""
    scores = noise.copy()
    fresh = np.sqrt(1.0 - correlation * correlation)
    for step in range(1, noise.shape[1]):
        scores[:, step] = correlation * scores[:, step - 1] + fresh * noise[:, step]
    return scores


def read(scores: Array, quantiles: Array, levels: tuple[float, ...]) -> Array:
    """Values (paths, horizon) at the normal `scores` (paths, horizon) of the quantile functions (levels, horizon).

    Between two levels the value is linear in the probability, and beyond them in the score: as `at_levels` has it
    with normal tails.
    """
    knots = np.array([NormalDist().inv_cdf(level) for level in levels])
    probabilities = _probability(scores)
    low = scores < knots[0]
    high = scores > knots[-1]
    values = np.empty_like(scores)
    centre = levels.index(MEDIAN)
    for step, steps_quantiles in enumerate(quantiles.T):
        values[:, step] = np.interp(probabilities[:, step], levels, steps_quantiles)
        for side, edge in ((low[:, step], 0), (high[:, step], -1)):
            reach = steps_quantiles[edge] - steps_quantiles[centre]
            values[side, step] = steps_quantiles[centre] + reach * scores[side, step] / knots[edge]
    return values


def _probability(scores: Array) -> Array:
    """The standard normal distribution function."""
    errors = np.fromiter(map(math.erf, scores.ravel() / math.sqrt(2.0)), np.float64, scores.size)
    return 0.5 + 0.5 * errors.reshape(scores.shape)
