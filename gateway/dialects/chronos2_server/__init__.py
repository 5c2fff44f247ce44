"""The Chronos2 Server: forecasts of the configured default model over plain lists of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.dialects.base import Call, Dialect, Documentation, Example, Kind, Operation, Reply, Steps
from gateway.dialects.chronos2_server import decode, render, types
from gateway.dialects.chronos2_server.examples import ANOMALIES, BACKTEST, MULTI_SERIES, ODD, UNIVARIATE
from gateway.dialects.guide import Guide
from gateway.errors import Code


def _nothing(call: Call) -> Steps[None]:
    yield from ()


def _posting(
    path: str,
    kind: Kind,
    parse: Callable[[Call], Steps[Any]],
    shape: Callable[[Call, Any], Reply],
    bodies: tuple[type, type],
    summary: str,
    examples: tuple[Example, ...],
) -> Operation[Any, Any]:
    request, response = bodies
    return Operation(
        method="POST",
        path=path,
        kind=kind,
        parse=parse,
        render=shape,
        render_error=render.error,
        documentation=Documentation(
            summary=summary,
            tag="chronos2-server",
            request=request,
            response=response,
            error=types.ErrorBody,
            codes=(Code.PERMISSION_DENIED,),
            examples=examples,
        ),
    )


def _probe(path: str, shape: Callable[[Call, Any], Reply], response: type, summary: str) -> Operation[Any, Any]:
    return Operation(
        method="GET",
        path=path,
        kind=Kind.STATUS,
        parse=_nothing,
        render=shape,
        render_error=render.error,
        public=True,
        documentation=Documentation(
            summary=summary,
            tag="chronos2-server",
            response=response,
            error=types.ErrorBody,
            codes=(Code.MALFORMED,),  # 400, of a header that cannot be
        ),
    )


DIALECT = Dialect(
    name="chronos2-server",
    operations=(
        _posting(
            "/forecast/univariate",
            Kind.FORECAST,
            decode.univariate,
            render.univariate,
            (types.UnivariateBody, types.ForecastBody),
            "Forecast one series",
            UNIVARIATE,
        ),
        _posting(
            "/forecast/multi-series",
            Kind.BATCH,
            decode.multi_series,
            render.multi_series,
            (types.MultiSeriesBody, types.ForecastsBody),
            "Forecast several series",
            MULTI_SERIES,
        ),
        _posting(
            "/anomaly/detect",
            Kind.FORECAST,
            decode.anomalies,
            render.anomalies,
            (types.AnomaliesBody, types.AnomalyReportBody),
            "Hold observations against a forecast",
            ANOMALIES,
        ),
        _posting(
            "/backtest/simple",
            Kind.FORECAST,
            decode.backtest,
            render.backtest,
            (types.BacktestBody, types.BacktestResultBody),
            "Score a forecast of what is known",
            BACKTEST,
        ),
        _probe("/health", render.health, types.HealthBody, "Whether the server answers"),
        _probe("/health/info", render.info, types.InfoBody, "Version, model and device"),
    ),
    guide=Guide(
        title="Chronos2 Server",
        summary="The API of the Chronos2 Server: forecasts, anomalies and a backtest over plain lists of values, by "
        "the model that this gateway's `default_model` names.",
        moving=(
            "Change the base URL of your client to this gateway's; paths and bodies stay.",
            "Start the gateway with `--default-model amazon/chronos-2` for the model that the server had; "
            "`GET /health/info` says which one answers.",
            "Where keys are in use, send one as `X-API-Key: <key>` or `Authorization: Bearer <key>`.",
        ),
        supported=(
            "`/forecast/univariate`, `/forecast/multi-series`, `/anomaly/detect`, `/backtest/simple`, `/health`, "
            "`/health/info`, `/docs`, `/redoc`, `/openapi.json`, with all fields and defaults.",
            "Any quantile levels between 0 and 1, with the keys as they were written; `median` is always there.",
            "`timestamps` in, timestamps out, in the form sent; their cadence is read from them. Without them, steps "
            "are counted from 1, so that the first after 7 values is `8`.",
            "Each series of `/forecast/multi-series` may bring its own `timestamps`.",
        ),
        unsupported=(
            "The levels 0 and 1 are refused with 422: no model has them.",
            "A `freq` that is sent and is not that of the `timestamps`, and timestamps that are irregular or not as "
            "many as the values, are refused with 400.",
            "`errors` of a backtest are actual minus forecast, as the reference says; its example has the other sign. "
            "`mape` leaves zero actuals out and is null where there are no others.",
            "`z_score` is the distance from `expected` in half widths of the band, signed; over a band without width "
            "it is 0 or 1e9.",
            "Notices, such as of levels beyond those of the model, come in the header `x-forecast-notices`.",
            "`version` of `/health/info` is this gateway's.",
        ),
        odd=ODD,
        exchanges="The shape of these answers is what tests hold this gateway to. Their numbers illustrate it, as in "
        "the reference: they are no model's forecast.",
    ),
)
