"""Forecasts of what is known already: backtests and anomalies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from gateway.domain.forecasts import Array, ForecastRequest, Metadata, Notice, SeriesError, Usage

Metric = Literal["mae", "rmse", "mape", "smape", "mase", "crps", "wql", "coverage"]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestRequest:
    """Forecast held-out ends of each series, and score the forecasts."""

    forecast: ForecastRequest
    windows: int = 1  # folds, the last of which ends where the series ends
    step: int | None = None  # rows from one fold to the next; None: prediction_length
    metrics: tuple[Metric, ...] = METRICS
    forecasts: bool = True  # answer forecasts and actuals beside the metrics
    fewer_windows: bool = False  # a series too short for all windows is scored on those that fit, not refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one metric is the quotient of, so that windows, series and chunks of a job add up."""

    total: float = 0.0
    divisor: float = 0.0  # the cells scored, or what the metric divides by
    skipped: int = 0  # cells that a percentage would divide by zero in


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Metrics over some cells; None where there was nothing to score. `ensemble.scoring` makes and adds them."""

    values: Mapping[Metric, float | None]
    skipped: Mapping[Metric, int] = field(default_factory=dict)  # cells that a percentage would divide by zero in
    tallies: Mapping[Metric, Tally] = field(default_factory=dict)  # what the values are read from


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestWindow:
    """One fold of one series."""

    cutoff: int  # rows of the context: the fold's first forecast row
    timestamps: tuple[str, ...] | None  # of the forecast rows
    mean: Array | None  # (horizon, channels); arrays are None where the forecasts were not asked for
    quantiles: Array | None  # (levels, horizon, channels)
    actuals: Array | None  # (horizon, channels), NaN where missing
    scores: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesBacktest:
    """Every fold of one series."""

    windows: tuple[BacktestWindow, ...]
    scores: Scores  # over the cells of all windows
    notices: tuple[Notice, ...] = ()
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """The answer to a BacktestRequest."""

    id: str
    created: int  # unix seconds
    model: str
    model_revision: str
    provider: str
    point: Literal["mean", "median"]
    horizon: int
    windows: int
    step: int
    quantile_levels: tuple[float, ...]
    outputs: tuple[SeriesBacktest | SeriesError, ...]
    scores: Scores  # over the cells of all series
    usage: Usage
    latency_ms: float
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRequest:
    """Find the values of each series that its past did not lead to expect.

    `forecast.parameters.prediction_length` is the length of the blocks that are scored from the context before them.
    """

    forecast: ForecastRequest
    scored_from: int | None = None  # first row that is scored; None: after max(8, a third of the series), 8 observed


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAnomalies:
    """Every scored cell of one series. Arrays are (time, channels), NaN where a cell was not scored."""

    values: Array
    expected: Array  # the median forecast
    lower: Array
    upper: Array
    z_score: Array
    is_anomaly: Array  # 1.0, 0.0 or NaN
    quantiles: Array | None  # (levels, time, channels): of the levels asked; None: none were
    scored_from: int
    timestamps: tuple[str, ...] | None  # of every row
    notices: tuple[Notice, ...] = ()
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyReport:
    """The answer to an AnomalyRequest."""

    id: str
    created: int
    model: str
    model_revision: str
    provider: str
    sensitivity: float
    quantile_levels: tuple[float, ...]
    outputs: tuple[SeriesAnomalies | SeriesError, ...]
    total_points: int  # cells scored
    num_anomalies: int
    usage: Usage
    latency_ms: float
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    metadata: Metadata = None
