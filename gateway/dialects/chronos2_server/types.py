"""The bodies of the Chronos2 Server. Requests take further properties, as its own models do."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway.dialects.fastapi import Detail

DEFAULT_LEVELS = (b"0.1", b"0.5", b"0.9")

_NUMBERS = {"type": "array", "items": {"type": "number"}}
_TEXTS = {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}

# Arrays stay raw until each is read by itself.
Values = Annotated[Raw, Meta(description="Observations, at least 3.", extra_json_schema=_NUMBERS)]
Observed = Annotated[Raw, Meta(description="As many as `prediction_length`.", extra_json_schema=_NUMBERS)]
Horizon = Annotated[int, Meta(ge=1, description="Steps to forecast, up to the model's.")]
Levels = Annotated[
    Raw,
    Meta(
        description="Between 0 and 1; 0.1, 0.5 and 0.9 where none are sent.",
        extra_json_schema={"anyOf": [_NUMBERS, {"type": "null"}]},
    ),
]
Stamps = Annotated[
    Raw, Meta(description="ISO 8601, one a value; the forecast's are in the same form.", extra_json_schema=_TEXTS)
]
Freq = Annotated[str, Meta(description="A pandas alias; `D` where none is sent. Stamps win over the default.")]


# -- requests ---


class UnivariateBody(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /forecast/univariate`."""

    values: Values
    prediction_length: Horizon
    quantile_levels: Levels | UnsetType = UNSET
    freq: Freq | None = None
    timestamps: Stamps | UnsetType = UNSET
    series_id: str | None = "series_0"


class SeriesBody(msgspec.Struct, frozen=True, kw_only=True):
    """One of several series."""

    values: Values
    timestamps: Stamps | UnsetType = UNSET
    series_id: str | None = None


class MultiSeriesBody(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /forecast/multi-series`."""

    series_list: list[SeriesBody]
    prediction_length: Horizon
    quantile_levels: Levels | UnsetType = UNSET
    freq: Freq | None = None
    timestamps: Annotated[Stamps, Meta(description="Of every series that has none of its own.")] | UnsetType = UNSET


class AnomaliesBody(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /anomaly/detect`."""

    context_values: Values
    recent_observed: Observed
    prediction_length: Horizon
    quantile_low: float | None = 0.05
    quantile_high: float | None = 0.95
    freq: Freq | None = None


class BacktestBody(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /backtest/simple`."""

    context_values: Values
    actual_values: Observed
    prediction_length: Horizon
    quantile_levels: Levels | UnsetType = UNSET
    freq: Freq | None = None


# -- responses ---


class ForecastBody(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of one series."""

    timestamps: list[str]
    median: list[float]
    quantiles: dict[str, list[float]]


class ForecastsBody(msgspec.Struct, frozen=True, kw_only=True):
    """The forecasts of several series, in order."""

    results: list[ForecastBody]


class AnomalyPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One observation beside its forecast."""

    index: int
    value: float
    expected: float
    lower_bound: float
    upper_bound: float
    is_anomaly: bool
    z_score: float


class AnomalyReportBody(msgspec.Struct, frozen=True, kw_only=True):
    """Every observation that was checked."""

    anomalies: list[AnomalyPoint]
    total_points: int
    num_anomalies: int
    anomaly_rate: float


class BacktestResultBody(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast beside what came. `mape` is null where every actual value is zero."""

    forecast: list[float]
    actuals: list[float]
    mae: float
    mape: float | None
    rmse: float
    errors: list[float]


class HealthBody(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: str
    timestamp: str


class InfoBody(msgspec.Struct, frozen=True, kw_only=True):
    """What answers."""

    version: str
    model_id: str
    device: str
    python_version: str


class ErrorBody(msgspec.Struct, frozen=True):
    """What is wrong: a sentence, or the places where the body is not of the schema."""

    detail: str | list[Detail] | UnsetType = UNSET
