"""Several forecasts in one call: batches, and ensembles of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.domain.evaluations import Metric
from gateway.domain.forecasts import Forecast, ForecastPlan, ForecastRequest, Metadata, Parameters, SeriesInput, Usage
from gateway.errors import GatewayError

MAX_REQUESTS = 64  # of a synchronous batch

ScoringMetric = Literal["smape", "mase", "crps"]
Weighting = Literal["inverse_score", "equal", "best", "greedy"]
Selection = Literal["global", "per_series"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """Forecasts that succeed and fail alone; an error stands for a request that could not be read."""

    requests: tuple[ForecastRequest | GatewayError, ...]
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer:
    """One result a request, in order."""

    results: tuple[Forecast | ForecastPlan | GatewayError, ...]
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleRequest:
    """Backtest candidates on held-out ends, and blend the forecasts of the best."""

    models: tuple[str, ...] | None  # None: every servable model that can take the request
    series: tuple[SeriesInput, ...]
    parameters: Parameters
    top_n: int = 10  # candidates that are backtested
    max_models: int = 3  # in the blend
    scoring_metric: ScoringMetric = "smape"
    budget_s: float = 30.0
    windows: int = 1
    step: int | None = None
    weighting: Weighting = "inverse_score"
    selection: Selection = "global"
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedModel:
    """One candidate and what became of it."""

    model: str
    rank: int  # 1 is the best
    status: Literal["selected", "ranked", "failed", "timed_out"]
    score: float | None = None  # of `scoring_metric`: lower is better
    weight: float = 0.0  # in the blend; the mean over series where each series has its own
    metrics: Mapping[Metric, float | None] = field(default_factory=dict)
    latency_ms: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleForecast:
    """The answer to an EnsembleRequest."""

    forecast: Forecast  # whose model is "ensemble"
    ranked: tuple[RankedModel, ...]
    scoring_metric: ScoringMetric
    holdout_length: int
    windows: int
    usage: Usage  # of all model calls that were delivered, backtests included
    latency_ms: float
    # (series, ranked models): the blend of each series, where `selection` is per_series
    series_weights: tuple[tuple[float, ...], ...] | None = None
