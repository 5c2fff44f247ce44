"""The words that every part of the gateway shares: what a dialect produces and what it renders.

Arrays live in frozen types and are never written to after construction. Numbers are float64 with NaN where the
caller sent null; a rendered answer holds finite numbers only.
"""

from gateway.domain.callers import Caller, Consumption
from gateway.domain.deployments import Deployment
from gateway.domain.evaluations import (
    METRICS,
    AnomalyReport,
    AnomalyRequest,
    Backtest,
    BacktestRequest,
    BacktestWindow,
    Metric,
    Scores,
    SeriesAnomalies,
    SeriesBacktest,
    Tally,
)
from gateway.domain.forecasts import (
    MAX_SERIES,
    NOTICES,
    Array,
    CovariateValues,
    Forecast,
    ForecastPlan,
    ForecastRequest,
    Metadata,
    Notice,
    Parameters,
    PlannedSeries,
    SeriesError,
    SeriesForecast,
    SeriesInput,
    Usage,
)
from gateway.domain.groups import (
    MAX_REQUESTS,
    BatchAnswer,
    BatchRequest,
    EnsembleForecast,
    EnsembleRequest,
    RankedModel,
    ScoringMetric,
    Selection,
    Weighting,
)
from gateway.domain.identifiers import new_id
from gateway.domain.jobs import Answer, Job, JobOrder, JobStatus, JobType, Work
from gateway.domain.models import GatewayStatus, ModelInfo, ModelState, ModelStatus

__all__ = [
    "MAX_REQUESTS",
    "MAX_SERIES",
    "METRICS",
    "NOTICES",
    "AnomalyReport",
    "AnomalyRequest",
    "Answer",
    "Array",
    "Backtest",
    "BacktestRequest",
    "BacktestWindow",
    "BatchAnswer",
    "BatchRequest",
    "Caller",
    "Consumption",
    "CovariateValues",
    "Deployment",
    "EnsembleForecast",
    "EnsembleRequest",
    "Forecast",
    "ForecastPlan",
    "ForecastRequest",
    "GatewayStatus",
    "Job",
    "JobOrder",
    "JobStatus",
    "JobType",
    "Metadata",
    "Metric",
    "ModelInfo",
    "ModelState",
    "ModelStatus",
    "Notice",
    "Parameters",
    "PlannedSeries",
    "RankedModel",
    "Scores",
    "ScoringMetric",
    "Selection",
    "SeriesAnomalies",
    "SeriesBacktest",
    "SeriesError",
    "SeriesForecast",
    "SeriesInput",
    "Tally",
    "Usage",
    "Weighting",
    "Work",
    "new_id",
]
