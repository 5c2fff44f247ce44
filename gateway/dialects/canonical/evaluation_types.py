"""The bodies of backtests and of anomaly detection.

Controls of such a call may stand beside `parameters` or in them; the `...Envelope` types keep the former raw until both
are one object.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway import __version__
from gateway.dialects.canonical.types import (
    ABSENT,
    Count,
    Echoed,
    ForecastEnvelope,
    Matrix,
    Name,
    ParametersBody,
    QuantileBody,
    Request,
    SeriesBody,
    SeriesEnvelope,
    SeriesErrorBody,
    TimingsBody,
    UsageBody,
)
from gateway.domain import Metric

MAX_WINDOWS = 1000

Rows = {"type": "array", "items": {"type": "array", "items": {"type": ["number", "null"]}}}
Gapped = Annotated[Raw, Meta(description="`[time][channel]`; null where there is none.", extra_json_schema=Rows)]
Flags = {"type": "array", "items": {"type": "array", "items": {"type": ["boolean", "null"]}}}
Marked = Annotated[
    Raw,
    Meta(
        description="`[time][channel]` over the whole series; null where a point is missing or was not scored.",
        extra_json_schema=Flags,
    ),
]

# -- requests ---

Windows = Annotated[
    int, Meta(ge=1, le=MAX_WINDOWS, description="Folds, the last of which ends where the series ends. Default 1.")
]
Step = Annotated[Count, Meta(description="Rows from one fold to the next. Default: `prediction_length`.")]
Metrics = Annotated[tuple[Metric, ...], Meta(description="What to score. Default: all.", examples=[["mase", "wql"]])]
ReturnForecasts = Annotated[
    bool, Meta(description="false: metrics only, without `mean`, `quantile_predictions` and `actuals`. Default true.")
]
Sensitivity = Annotated[
    float,
    Meta(gt=0.0, description="Spreads that a value may be off before it is an anomaly: higher finds fewer. Default 3."),
]
ScoredFrom = Annotated[
    Count, Meta(description="First row that is scored. Default: a third of the series, and at least 8.")
]


class BacktestParametersBody(ParametersBody, frozen=True, kw_only=True):
    """Controls of a backtest. `prediction_length` is required."""

    windows: Windows | None = None
    step: Step | None = None
    metrics: Metrics | None = None
    return_forecasts: ReturnForecasts | None = None


class BacktestRequestBody(Request[SeriesBody, BacktestParametersBody], frozen=True, kw_only=True):
    """A backtest to make; `windows`, `step`, `metrics` and `return_forecasts` may stand in `parameters` too."""

    windows: Windows | None = None
    step: Step | None = None
    metrics: Metrics | None = None
    return_forecasts: ReturnForecasts | None = None
    metadata: Annotated[dict[str, Any], Meta(description="Opaque; echoed verbatim.")] | None = None


class BacktestEnvelope(ForecastEnvelope, frozen=True, kw_only=True):
    """A backtest whose arrays and controls are not read yet."""

    windows: Raw = ABSENT
    step: Raw = ABSENT
    metrics: Raw = ABSENT
    return_forecasts: Raw = ABSENT


class AnomalyParametersBody(ParametersBody, frozen=True, kw_only=True):
    """Controls of anomaly detection. `prediction_length` is the length of the blocks scored at once; default 1."""

    sensitivity: Sensitivity | None = None
    scored_from: ScoredFrom | None = None


class AnomalyRequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Series to find anomalies in; `sensitivity` and `scored_from` may stand beside `parameters` too."""

    model: Annotated[Name, Meta(description="Catalog id or alias.", examples=["amazon/chronos-bolt-small"])]
    inputs: Annotated[list[SeriesBody], Meta(min_length=1, description="The series, each judged on its own.")]
    parameters: AnomalyParametersBody | None = None
    sensitivity: Sensitivity | None = None
    scored_from: ScoredFrom | None = None
    metadata: Annotated[dict[str, Any], Meta(description="Opaque; echoed verbatim.")] | None = None


class AnomalyEnvelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search for anomalies whose arrays and controls are not read yet."""

    model: Name
    inputs: Annotated[list[SeriesEnvelope], Meta(min_length=1)]
    parameters: Raw = ABSENT
    sensitivity: Raw = ABSENT
    scored_from: Raw = ABSENT
    metadata: Raw = ABSENT


# -- answers ---

Scored = Annotated[dict[str, float | None], Meta(description="By name; null where there was nothing to score.")]
Skipped = Annotated[
    dict[str, int], Meta(description="By metric, the cells that a percentage would have divided by zero in.")
]


class BacktestWindowBody(msgspec.Struct, frozen=True, kw_only=True):
    """One fold of one series."""

    cutoff: Annotated[int, Meta(description="Rows of the context: the index of the first row that was forecast.")]
    mean: Matrix | UnsetType = UNSET
    quantile_predictions: list[QuantileBody] | UnsetType = UNSET
    actuals: Gapped | UnsetType = UNSET
    timestamps: Annotated[list[str], Meta(description="Of the rows that were forecast.")] | UnsetType = UNSET
    metrics: Scored
    skipped: Skipped | UnsetType = UNSET


class BacktestOutputBody(msgspec.Struct, frozen=True, kw_only=True):
    """The backtest of one series; of a failed one `status`, `error` and `metadata`."""

    status: Annotated[Literal["failed"], Meta(description="Only on a series that failed alone.")] | UnsetType = UNSET
    error: SeriesErrorBody | UnsetType = UNSET
    windows: list[BacktestWindowBody] | UnsetType = UNSET
    metrics: Annotated[Scored, Meta(description="Over the cells of all windows.")] | UnsetType = UNSET
    skipped: Skipped | UnsetType = UNSET
    metadata: Echoed | UnsetType = UNSET
    notices: list[str] | UnsetType = UNSET


class BacktestBody(msgspec.Struct, frozen=True, kw_only=True):
    """A backtest: one output a series, in the order of the inputs."""

    id: Annotated[str, Meta(description="A UUID.")]
    object: Literal["backtest"] = "backtest"
    created: Annotated[int, Meta(description="Seconds since 1970.")]
    model: Annotated[str, Meta(description="The catalog id, also where an alias was asked.")]
    provider: str
    horizon: int
    prediction_length: int
    windows: Annotated[int, Meta(description="Folds of the series that has most.")]
    step: int
    quantile_levels: list[float]
    outputs: list[BacktestOutputBody]
    metrics: Annotated[Scored, Meta(description="Over the cells of all series.")]
    skipped: Skipped | UnsetType = UNSET
    usage: UsageBody
    latency_ms: float
    metadata: Echoed | UnsetType = UNSET
    point: Annotated[Literal["mean", "median"], Meta(description="What `mean` holds.")]
    timings_ms: TimingsBody
    model_revision: str
    gateway_version: str = __version__


class AnomalyBody(msgspec.Struct, frozen=True, kw_only=True):
    """One value that its past did not lead to expect."""

    index: Annotated[int, Meta(description="Row of the target.")]
    timestamp: str | UnsetType = UNSET
    channel: Annotated[int, Meta(description="Column of the target.")]
    value: float
    expected: Annotated[float, Meta(description="The median forecast.")]
    lower: float
    upper: float
    z_score: Annotated[float, Meta(description="Spreads above (or, negative, below) what was expected.")]


class AnomalyOutputBody(msgspec.Struct, frozen=True, kw_only=True):
    """The anomalies of one series; of a failed one `status`, `error` and `metadata`."""

    status: Annotated[Literal["failed"], Meta(description="Only on a series that failed alone.")] | UnsetType = UNSET
    error: SeriesErrorBody | UnsetType = UNSET
    anomalies: Annotated[list[AnomalyBody], Meta(description="By row, then channel.")] | UnsetType = UNSET
    is_anomaly: Marked | UnsetType = UNSET
    scored_from: Annotated[int, Meta(description="First row that was scored.")] | UnsetType = UNSET
    metadata: Echoed | UnsetType = UNSET
    notices: list[str] | UnsetType = UNSET


class AnomalyReportBody(msgspec.Struct, frozen=True, kw_only=True):
    """The anomalies of one or more series: one output a series, in the order of the inputs."""

    id: Annotated[str, Meta(description="A UUID.")]
    object: Literal["anomaly_detection"] = "anomaly_detection"
    created: Annotated[int, Meta(description="Seconds since 1970.")]
    model: Annotated[str, Meta(description="The catalog id, also where an alias was asked.")]
    provider: str
    sensitivity: float
    outputs: list[AnomalyOutputBody]
    total_points: Annotated[int, Meta(description="Cells that were scored.")]
    num_anomalies: int
    usage: UsageBody
    latency_ms: float
    metadata: Echoed | UnsetType = UNSET
    timings_ms: TimingsBody
    model_revision: str
    gateway_version: str = __version__
