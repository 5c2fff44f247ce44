"""Nixtla's API, as `NixtlaClient(base_url=...)` speaks it: forecasts, cross-validation and anomalies of flat series.

All series of a call lie one after the other in `y`, `sizes` long each; answers are flat in the same order. Models named
`timegpt...` are the gateway's default. What a gateway does not do is not done and said in `x-forecast-notices`:
fine-tuning on the fly, feature contributions. The list of models at `/v2/models` is shared with KServe:
`dialects/shared.py`.
"""

from __future__ import annotations

from typing import Any

from gateway.dialects.base import Kind, Operation
from gateway.dialects.nixtla import parse, render

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    Operation(
        method="POST",
        path="/v2/forecast",
        kind=Kind.FORECAST,
        parse=parse.forecast,
        render=render.forecasts,
        render_error=render.error,
    ),
    Operation(
        method="POST",
        path="/v2/cross_validation",
        kind=Kind.BACKTEST,
        parse=parse.cross_validation,
        render=render.cross_validations,
        render_error=render.error,
    ),
    Operation(
        method="POST",
        path="/v2/anomaly_detection",
        kind=Kind.ANOMALIES,
        parse=parse.anomaly_detection,
        render=render.anomalies,
        render_error=render.error,
    ),
    Operation(
        method="GET",
        path="/model_params",
        kind=Kind.MODEL,
        parse=parse.model_params,
        render=render.sizes,
        render_error=render.error,
    ),
)
