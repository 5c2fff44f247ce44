"""Seasonal naive: every season repeats the last one. No library, no weights, always ready.

Intervals take the series for a random walk from season to season: the deviation is the root mean square of what
one season differs from the one before, times the square root of the seasons since the value repeated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from adapters.arrays import by_series, channel_rows, left_padded
from adapters.base import Array, Batch, BatchForecast, Device, SeriesForecast
from adapters.quantiles import normal_quantiles
from catalog.card import ModelCard


class SeasonalNaive:
    """Repeats the last observed value of each phase of the season, among the last `max_context` steps."""

    def __init__(self, max_context: int) -> None:
        self._max_context = max_context

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Nothing to read."""
        return cls(card.max_context)

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series of `batch`, one channel by itself."""
        series = batch.series
        rows = [row[-self._max_context :] for row in channel_rows(series)]
        horizons = [one.horizon for one in series for _ in one.target]
        wanted = [one.season for one in series for _ in one.target]
        seasons = [usable_season(row, season) for row, season in zip(rows, wanted, strict=True)]
        longest = max(horizons, default=0)
        means, deviations = np.empty((2, len(rows), longest))
        for (season, horizon), chosen in _alike(seasons, horizons).items():
            repeated, spread = repeat_season([rows[i] for i in chosen], season, horizon)
            means[chosen, :horizon], deviations[chosen, :horizon] = repeated, spread
        forecasts = []
        pairs = zip(by_series(means, series), by_series(deviations, series), strict=True)
        for one, (mean, deviation) in zip(series, pairs, strict=True):
            point = mean[:, : one.horizon].T.copy()
            quantiles = normal_quantiles(point, deviation[:, : one.horizon].T, one.levels)
            forecasts.append(SeriesForecast(point=point, quantiles=quantiles))
        return BatchForecast(tuple(forecasts))

    def close(self) -> None:
        """Nothing to give back."""


def usable_season(row: Array, season: int) -> int:
    """`season`, or 1 where `row` (time,) does not hold two seasons that can be compared."""
    if season < 2 or len(row) < 2 * season:
        return 1
    observed = ~np.isnan(row)
    return season if (observed[season:] & observed[:-season]).any() else 1


def repeat_season(rows: Sequence[Array], season: int, horizon: int) -> tuple[Array, Array]:
    """Mean and standard deviation, both (rows, horizon), of rows (time,) that share one season.

    A gap takes the value one season before, and the uncertainty of one season more. A row without two values to
    compare has deviation 0; one without any observation is NaN.
    """
    cycles = -(-max(len(row) for row in rows) // season)
    values = left_padded(rows, cycles * season).reshape(len(rows), cycles, season)
    cycle = np.arange(cycles)[:, None]
    # The cycle of the last observed value of each phase up to and including each cycle, -1 before the first.
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, cycle), axis=1)
    deviation = _deviation(values, last)
    phase = np.arange(horizon) % season
    source = last[:, -1, phase]
    mean = np.take_along_axis(values[:, :, phase], np.maximum(source, 0)[:, None], axis=1)[:, 0]
    if (source < 0).any():  # a phase never observed: the latest observation of any phase stands in
        mean = np.where(source < 0, _latest(rows)[:, None], mean)
    seasons_passed = cycles - source + np.arange(horizon) // season
    return mean, deviation[:, None] * np.sqrt(seasons_passed)


def _deviation(values: Array, last: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Array:
    """Deviation of one season from the one before, (rows,), from (rows, cycles, season)."""
    before = last[:, :-1]
    gap = np.arange(1, values.shape[1])[:, None] - before
    step = values[:, 1:] - np.take_along_axis(values, np.maximum(before, 0), axis=1)
    step = np.where((before >= 0) & ~np.isnan(step), step / np.sqrt(gap), np.nan)
    counted = np.maximum((~np.isnan(step)).sum(axis=(1, 2)), 1)
    # Scaled before squaring, so that neither tiny nor huge values leave the range of floats.
    scale = np.nanmax(np.abs(step), axis=(1, 2), initial=0.0)
    unit = step / np.where(scale > 0, scale, 1.0)[:, None, None]
    rms: Array = scale * np.sqrt(np.nansum(unit**2, axis=(1, 2)) / counted)
    return rms


def _latest(rows: Sequence[Array]) -> Array:
    observed = [row[~np.isnan(row)] for row in rows]
    return np.array([row[-1] if len(row) else np.nan for row in observed])


def _alike(seasons: Sequence[int], horizons: Sequence[int]) -> dict[tuple[int, int], list[int]]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, key in enumerate(zip(seasons, horizons, strict=True)):
        groups[key].append(i)
    return groups
