"""In-context regression: known covariates for a model that has no place for them.

Each channel is regressed on its covariates by ridge over the context alone; the model forecasts what is left, and
the regression adds its part over the horizon. Trends explain each other by accident, so a regression has to earn
its place: fitted to the first half of the context, it must lower the error of a seasonal naive forecast of the
second half. Levels and seasonal differences are tried; the differences see no common trend.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from adapters.arrays import filled
from adapters.base import Adapter, Array, Batch, BatchForecast, Remark, Series, SeriesFailure, SeriesForecast
from adapters.seasonal_naive import usable_season

FEWEST_ROWS = 8  # and two more a covariate, so that either half of them can tell signal from noise
SAME = 1e-9  # a column whose range is below this share of its values is constant
LEAST_GAIN = 0.01  # share of the held-out error that a regression has to take away; noise takes less
STRENGTHS = np.logspace(-6, 3, 37)  # of the ridge, per row of standardised covariates


class InContextRegression:
    """An adapter around another that explains a part of each target by its covariates."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series of `batch`."""
        if not any(one.known or len(one.future) for one in batch.series):
            return self._adapter.predict(batch)
        explained = [explain(series) for series in batch.series]
        answers = self._adapter.predict(Batch(tuple(one.rest for one in explained))).series
        return BatchForecast(tuple(one.completed(answer) for one, answer in zip(explained, answers, strict=True)))

    def close(self) -> None:
        """Give back the inner model's memory."""
        self._adapter.close()


@dataclass(frozen=True, slots=True)
class Explained:
    """A series without what its covariates explain, and their effect over the horizon, (horizon, channels)."""

    rest: Series
    effect: Array | None
    remarks: tuple[Remark, ...] = ()

    def completed(self, answer: SeriesForecast | SeriesFailure) -> SeriesForecast | SeriesFailure:
        """The forecast of the rest with the effect added."""
        if isinstance(answer, SeriesFailure):
            return answer
        remarks = (*answer.remarks, *self.remarks)
        if self.effect is None:
            return replace(answer, remarks=remarks)
        return SeriesForecast(
            point=answer.point + self.effect,
            quantiles=answer.quantiles + self.effect,
            samples=None if answer.samples is None else answer.samples + self.effect,
            remarks=remarks,
        )


def explain(series: Series) -> Explained:
    """Regress each channel of `series` on the covariates that are known over past and horizon."""
    target, past, future = series.target, series.past[: series.known], series.future[: series.known]
    rest = replace(series, past=series.past[series.known :], future=np.empty((0, series.horizon)), known=0)
    constant = [i for i in range(series.known) if _constant(past[i])]
    columns = [i for i in range(series.known) if i not in constant]
    unpaired = tuple(range(series.past.shape[0], series.past.shape[0] + series.future.shape[0] - series.known))
    remarks = [Remark("covariates_constant", tuple(constant))] if constant else []
    remarks += [Remark("covariates_ignored", unpaired)] if unpaired else []
    if not columns:
        return Explained(rest, None, tuple(remarks))
    rows = int((~np.isnan(target) & ~np.isnan(past[columns]).any(axis=0)).sum(axis=1).min())
    needed = FEWEST_ROWS + 2 * len(columns)
    if rows < needed:
        detail = f"{rows} of the {needed} needed"
        return Explained(rest, None, (*remarks, Remark("covariates_too_few_rows", tuple(columns), detail)))
    before, after = _standardised(past[columns], future[columns])
    slopes = [_slopes(row, past[columns], before, series) for row in target]
    used = any(found.any() for found in slopes)
    remarks.append(Remark("covariates_by_regression" if used else "covariates_without_gain", tuple(columns)))
    if not used:
        return Explained(rest, None, tuple(remarks))
    weights = np.stack(slopes)  # (channels, columns)
    return Explained(replace(rest, target=target - weights @ before), (weights @ after).T, tuple(remarks))


def _constant(column: Array) -> bool:
    observed = column[~np.isnan(column)]
    return observed.size == 0 or bool(np.ptp(observed) <= SAME * np.abs(observed).max())


def _standardised(past: Array, future: Array) -> tuple[Array, Array]:
    """Covariates (columns, time) in standard deviations from their mean over the context, gaps interpolated.

    The future may leave the range seen by as much as that range: a line says little about what lies beyond.
    """
    mean, deviation = np.nanmean(past, axis=1, keepdims=True), np.nanstd(past, axis=1, keepdims=True)
    low, high = np.nanmin(past, axis=1, keepdims=True), np.nanmax(past, axis=1, keepdims=True)
    before = np.stack([filled(row) for row in past])
    after = np.clip(future, 2 * low - high, 2 * high - low)
    return (before - mean) / deviation, (after - mean) / deviation


def _slopes(row: Array, past: Array, before: Array, series: Series) -> Array:
    """Weights (columns,) of the regression of `row` (time,) that forecasts best, zeros where none helps."""
    season = usable_season(row, series.season)
    rows = ~np.isnan(row) & ~np.isnan(past).any(axis=0)
    X, half = before.T, len(row) // 2
    errors = {}
    for lag in (0, season):
        weights = _ridge(row[:half], X[:half], rows[:half], lag)
        errors[lag] = _error(row - X @ weights, half, season, series.horizon)
    best = min(errors, key=lambda lag: errors[lag])
    plain = _error(row, half, season, series.horizon)
    return _ridge(row, X, rows, best) if errors[best] < (1 - LEAST_GAIN) * plain else np.zeros(X.shape[1])


def _error(row: Array, start: int, season: int, horizon: int) -> float:
    """Mean absolute error of seasonal naive over `row` (time,) from `start` on, `horizon` steps at a time."""
    steps = np.arange(start, len(row))
    ahead = (steps - start) % horizon
    source = steps - ahead - season + ahead % season
    errors = np.abs(row[steps] - row[np.maximum(source, 0)])[source >= 0]
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else np.inf


def _ridge(row: Array, X: Array, rows: npt.NDArray[np.bool_], lag: int) -> Array:
    """Ridge weights (columns,) of `row` (time,) on `X` (time, columns) over `rows`, or over their `lag` differences.

    The strength is the one of least generalised cross-validation error (Golub, Heath, Wahba 1979).
    """
    if lag:
        rows, row, X = rows[lag:] & rows[:-lag], row[lag:] - row[:-lag], X[lag:] - X[:-lag]
    y, X = row[rows], X[rows]
    if not len(y):
        return np.zeros(X.shape[1])
    if not lag:
        y, X = y - y.mean(), X - X.mean(axis=0)
    scale = np.sqrt((X**2).mean(axis=0))
    moving = scale > SAME  # of standardised columns: not so where only the other half of the context moves
    X = X[:, moving] / scale[moving]
    energy, axes = np.linalg.eigh(X.T @ X)
    energy = np.maximum(energy, 0.0)
    shadow = axes.T @ (X.T @ y)
    strength = len(y) * STRENGTHS[:, None]
    shrunk = energy + strength
    left = y @ y - (shadow**2 / shrunk).sum(axis=1) - (strength * (shadow / shrunk) ** 2).sum(axis=1)
    freedom = len(y) - (energy / shrunk).sum(axis=1)
    chosen = int((left / freedom**2).argmin())
    weights = np.zeros(len(scale))
    weights[moving] = (axes @ (shadow / shrunk[chosen])) / scale[moving]
    return weights
