"""KServe's TimeSeries LLM Forecast API, and the health and model routes of its V1 and V2 protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.dialects.base import Call, Dialect, Documentation, Kind, Operation, Reply, Steps
from gateway.dialects.guide import Guide
from gateway.dialects.kserve import decode, management, render, types
from gateway.dialects.kserve.examples import FORECAST, ODD
from gateway.errors import Code

Parse = Callable[[Call], Steps[Any]]
Render = Callable[[Call, Any], Reply]


def _reading(
    path: str, kind: Kind, parse: Parse, shape: Render, response: object, summary: str, *codes: Code, public: bool
) -> Operation[Any, Any]:
    return Operation(
        method="GET",
        path=path,
        kind=kind,
        parse=parse,
        render=shape,
        render_error=render.sentence,  # they are not the time-series API's
        public=public,
        documentation=Documentation(
            summary=summary, tag="kserve", response=response, error=types.SentenceBody, codes=codes
        ),
    )


_none, _named = management.nothing, management.model_name
_absent = (Code.NOT_FOUND, Code.UNAVAILABLE)

DIALECT = Dialect(
    name="kserve",
    operations=(
        Operation(
            method="POST",
            path="/v1/timeseries/forecast",
            kind=Kind.BATCH,
            parse=decode.forecast,
            render=render.forecast,
            render_error=render.error,
            documentation=Documentation(
                summary="Forecast time series, in KServe's words",
                description="Each input succeeds and fails alone: `status` and `error` are there for the whole and "
                "for each output.",
                tag="kserve",
                request=types.RequestBody,
                response=types.ResponseBody,
                error=types.AnyErrorBody,
                codes=(Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED),
                examples=FORECAST,
            ),
        ),
        _reading(
            "/v1/timeseries/models",
            Kind.MODELS,
            _none,
            management.names,
            list[str],
            "Names of all models",
            public=False,
        ),
        _reading("/v2", Kind.STATUS, _none, management.server, types.ServerBody, "Who answers", public=True),
        _reading(
            "/v2/health/live", Kind.STATUS, _none, management.live, types.LiveBody, "Whether it lives", public=True
        ),
        _reading(
            "/v2/health/ready",
            Kind.STATUS,
            _none,
            management.ready,
            types.ReadyBody,
            "Whether forecasts are served",
            Code.UNAVAILABLE,
            public=True,
        ),
        _reading(
            "/v2/models/{id:path}/ready",
            Kind.MODEL,
            _named,
            management.model_ready,
            types.ModelReadyBody,
            "Whether a model answers (V2)",
            *_absent,
            public=False,
        ),
        _reading(
            "/v2/models/{id:path}",
            Kind.MODEL,
            _named,
            management.model,
            types.ModelBody,
            "What there is to tell of a model",
            *_absent,
            public=False,
        ),
        _reading(
            "/v1/models/{id:path}",
            Kind.MODEL,
            _named,
            management.model_ready,
            types.ModelReadyBody,
            "Whether a model answers (V1)",
            *_absent,
            public=False,
        ),
    ),
    guide=Guide(
        title="KServe",
        summary="The TimeSeries LLM Forecast API of KServe's Hugging Face server: `POST /v1/timeseries/forecast`, and "
        "the health and model routes of the V1 and V2 protocols.",
        moving=(
            "Change the base URL of your requests to this gateway's; paths and bodies stay.",
            "`model` is an id or alias of this gateway's catalog: `timesfm2` and `timesfm` are TimesFM 2.0. "
            "`GET /v1/timeseries/models` lists the ids; `[aliases]` in the settings adds names of your own.",
            "Bring a model's weights here before its first forecast: `forecast-gateway pull timesfm2`.",
            "Where keys are in use, send one as `Authorization: Bearer <key>` or `X-API-Key: <key>`.",
            "`InferenceRESTClient` of the package `kserve` works as it is: probes by protocol, and forecasts by "
            "`infer(url, body, is_graph_endpoint=True)`.",
        ),
        supported=(
            "Univariate and multivariate series, time first; every frequency, words in any case.",
            "Any quantiles between 0 and 1 that the model gives, in the order and spelling sent; none: the mean only.",
            "Any horizon that the model has, and series without `start_timestamp`.",
            "Inputs that fail alone: `status` is `partial` then, and `error` when none is left.",
            "`metadata` and unknown top-level properties are echoed; unknown properties elsewhere are ignored.",
            "Months, quarters and years are added plainly to the start: 2025-01-31 and one month is 2025-02-28.",
            "`/v1/models`, `/v1/models/{m}`, `/v2`, `/v2/health/live`, `/v2/health/ready`, `/v2/models`, "
            "`/v2/models/{m}`, `/v2/models/{m}/ready`, `/v1/timeseries/models`, and `GET /` for probes.",
        ),
        unsupported=(
            "`:predict`, `/infer` and gRPC: this gateway speaks of time series, not of tensors. A model has no tensors "
            "in `/v2/models/{m}`.",
            "`start_timestamp` of a forecast is the input's start and as many steps as it has values, as the server "
            "answers; the FAQ of its reference says otherwise.",
            "A model is ready when a forecast of it would be answered: also when the first one has yet to load it.",
            "`usage` counts cells, by this gateway's published rule, not patches.",
            "Errors of one input have the codes `400` and `500`; bad options are 400 for the whole request.",
        ),
        odd=ODD,
        exchanges="The shape of these answers is what tests hold this gateway to. Their numbers illustrate it, as in "
        "the reference: they are no model's forecast.",
    ),
)
