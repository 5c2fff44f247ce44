"""The canonical contract: forecasts, batches, ensembles, backtests and anomalies.

`decode` and `render` are its two directions; the modules of types are its bodies, and `shapes` says which types make
which request. Another operation of the contract is one more shape, one more rendering and one more line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gateway.dialects.base import Documentation, Kind, Operation
from gateway.dialects.canonical import decode, examples, render, render_evaluations, render_groups
from gateway.dialects.canonical.evaluation_types import (
    AnomalyReportBody,
    AnomalyRequestBody,
    BacktestBody,
    BacktestRequestBody,
)
from gateway.dialects.canonical.group_types import BatchBody, BatchRequestBody, EnsembleBody, EnsembleRequestBody
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.types import ErrorBody, ForecastBody, ForecastRequestBody
from gateway.domain import (
    MAX_SERIES,
    AnomalyReport,
    AnomalyRequest,
    Backtest,
    BacktestRequest,
    BatchAnswer,
    BatchRequest,
    EnsembleForecast,
    EnsembleRequest,
    Forecast,
    ForecastPlan,
    ForecastRequest,
    JobType,
)

_MEDIA_TYPES = tuple(f.value for f in Format)

FORECAST: Operation[ForecastRequest, Forecast | ForecastPlan] = Operation(
    method="POST",
    path="/v1/forecast",
    kind=Kind.FORECAST,
    job="forecast",
    parse=decode.forecast,
    render=render.forecast,
    render_error=render.error,
    documentation=Documentation(
        summary="Forecast one or more series",
        description="Each series is forecast on its own and may fail on its own. Faults of the body are told "
        "with their places, all at once. `parameters.dry_run` answers what would be done.",
        request=ForecastRequestBody,
        response=ForecastBody,
        error=ErrorBody,
        media_types=_MEDIA_TYPES,
        examples=examples.FORECAST,
    ),
)

BATCH: Operation[BatchRequest, BatchAnswer] = Operation(
    method="POST",
    path="/v1/forecast/batch",
    kind=Kind.BATCH,
    job="batch",
    parse=decode.batch,
    render=render_groups.batch,
    render_error=render.error,
    documentation=Documentation(
        summary="Make up to 64 forecasts",
        description="The forecasts run together; each succeeds and fails alone, one that cannot be read included. "
        "More of them are a job.",
        request=BatchRequestBody,
        response=BatchBody,
        error=ErrorBody,
        media_types=_MEDIA_TYPES,
        examples=examples.BATCH,
    ),
)

ENSEMBLE: Operation[EnsembleRequest, EnsembleForecast] = Operation(
    method="POST",
    path="/v1/forecast/ensemble",
    kind=Kind.ENSEMBLE,
    job="ensemble",
    parse=decode.ensemble,
    render=render_groups.ensemble,
    render_error=render.error,
    documentation=Documentation(
        summary="Blend the models that forecast held-out ends best",
        description="Every candidate is backtested within the budget; one that fails, is unknown, may not be used or "
        "has not finished is ranked last with its reason. Quantiles are averaged level by level and never cross.",
        request=EnsembleRequestBody,
        response=EnsembleBody,
        error=ErrorBody,
        media_types=_MEDIA_TYPES,
        examples=examples.ENSEMBLE,
    ),
)

BACKTEST: Operation[BacktestRequest, Backtest] = Operation(
    method="POST",
    path="/v1/backtest",
    kind=Kind.BACKTEST,
    job="backtest",
    parse=decode.backtest,
    render=render_evaluations.backtest,
    render_error=render.error,
    documentation=Documentation(
        summary="Score a model on held-out ends of series",
        description="Rolling origin: each fold is forecast from the rows before it. MAPE and sMAPE are percentages, "
        "with the cells counted that they would divide by zero in; MASE is scaled by the seasonal naive error before "
        "the fold; CRPS and WQL are over the quantile levels asked.",
        request=BacktestRequestBody,
        response=BacktestBody,
        error=ErrorBody,
        media_types=_MEDIA_TYPES,
        examples=examples.BACKTEST,
    ),
)

ANOMALIES: Operation[AnomalyRequest, AnomalyReport] = Operation(
    method="POST",
    path="/v1/detect-anomalies",
    kind=Kind.ANOMALIES,
    job="anomalies",
    parse=decode.anomalies,
    render=render_evaluations.anomalies,
    render_error=render.error,
    documentation=Documentation(
        summary="Find values that the past did not lead to expect",
        description="Each value is forecast from the rows before it, one step ahead or in blocks of "
        "`parameters.prediction_length`, and held against the forecast's spread.",
        request=AnomalyRequestBody,
        response=AnomalyReportBody,
        error=ErrorBody,
        media_types=_MEDIA_TYPES,
        examples=examples.ANOMALIES,
    ),
)

OPERATIONS: tuple[Operation[Any, Any], ...] = (FORECAST, BATCH, ENSEMBLE, BACKTEST, ANOMALIES)

# What a job holds: the request of its type's endpoint. A batch may hold more than in a call that is waited for.
JOBS: Mapping[JobType, Operation[Any, Any]] = {
    "forecast": FORECAST,
    "batch": replace(BATCH, parse=partial(decode.batch, most=MAX_SERIES)),
    "ensemble": ENSEMBLE,
    "backtest": BACKTEST,
    "anomalies": ANOMALIES,
}
