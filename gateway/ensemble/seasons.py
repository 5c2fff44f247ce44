"""Values relative to their place in the season, for seasons that are longer than what a model reads.

A daily shape in five-minute steps takes 288 rows; a model that reads 512 cannot learn it. Each value is told in the
deviations by which its phase of the season is usually left, around the value that this phase usually has. Both come
from whole seasons before the value, so that nothing later is in them: those of row t are functions of rows up to
t - season + HALF_WIDTH.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from gateway.domain import Array

SEASONS = 14  # that the usual value of a phase is read from: enough to average noise, few enough to follow a change
FEWEST = 2  # below which there is no usual value
HALF_WIDTH = 6  # phases on either side whose deviations count with a phase's own: one alone has too few
LEAST_SHARE = 0.05  # of the season's mean deviation, below which no phase's deviation may fall
LEAST_OF_LEVEL = 1e-9


@dataclass(frozen=True, slots=True)
class Usual:
    """The usual value of every row and the usual deviation from it, (time, channels); NaN where not known."""

    centre: Array
    scale: Array

    def relative(self, values: Array) -> Array:
        """`values` (time, channels) in usual deviations."""
        relative: Array = (values - self.centre) / self.scale
        return relative

    def absolute(self, relative: Array, rows: slice) -> Array:
        """Values of `rows` from what they are in usual deviations, (..., rows, channels)."""
        absolute: Array = self.centre[rows] + self.scale[rows] * relative
        return absolute


def farthest_block(season: int) -> int:
    """Rows of the longest block of which no value is in the usual values of another."""
    return season - HALF_WIDTH


def usual(values: Array, season: int) -> Generator[None, None, Usual]:
    """The usual value and deviation of each row of `values` (time, channels), from the seasons before it.

    Yields after each season.
    """
    rows = len(values)
    centre, spread = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for begin in range(FEWEST * season, rows, season):
        seasons = min(SEASONS, begin // season)
        past = values[begin - seasons * season : begin].reshape(seasons, season, -1)[:, : rows - begin]
        middle, deviations = _phases(past)
        centre[begin : begin + season], spread[begin : begin + season] = middle, deviations
        yield
    scale = _smoothed(spread)
    floor = LEAST_SHARE * _trailing_mean(spread, season)
    # The last term keeps quotients finite where a phase hardly ever leaves its value.
    scale = np.fmax(np.fmax(scale, floor), LEAST_OF_LEVEL * np.abs(centre))
    return Usual(centre, np.where(scale > 0, scale, np.where(np.isnan(centre), np.nan, 1.0)))


def _phases(past: Array) -> tuple[Array, Array]:
    """Median and mean absolute deviation of each phase: (seasons, phases, channels) -> (phases, channels) twice."""
    seen = (~np.isnan(past)).sum(axis=0)
    held = np.where(seen > 0, past, 0.0)  # a phase that was never seen would make numpy warn
    middle = np.nanmedian(held, axis=0)
    total = np.nansum(np.abs(past - middle), axis=0)
    # The deviations from a median of few values are too small by about this factor.
    deviation = total / np.maximum(seen, 1) * np.sqrt(seen / np.maximum(seen - 1, 1))
    unknown = seen < FEWEST
    return np.where(unknown, np.nan, middle), np.where(unknown, np.nan, deviation)


def _smoothed(spread: Array) -> Array:
    """Mean of each row and its neighbours that are known."""
    return _window_mean(spread, HALF_WIDTH, HALF_WIDTH)


def _trailing_mean(spread: Array, season: int) -> Array:
    """Mean of each row and those of the season up to it."""
    return _window_mean(spread, season - 1, 0)


def _window_mean(values: Array, before: int, after: int) -> Array:
    """Mean of the known values of rows t - before to t + after, (time, channels)."""
    known = ~np.isnan(values)
    rows = np.arange(len(values))
    low, high = np.maximum(rows - before, 0), np.minimum(rows + after + 1, len(values))
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(np.where(known, values, 0.0), axis=0)])
    counts = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(known, axis=0)])
    count = counts[high] - counts[low]
    mean: Array = np.where(count > 0, sums[high] - sums[low], np.nan) / np.maximum(count, 1)
    return mean
