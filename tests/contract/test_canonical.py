"""The canonical dialect against its golden exchanges and against the seed as printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway import __version__
from gateway.dialects.base import Call, Example
from gateway.dialects.canonical import FORECAST as FORECAST_OPERATION
from gateway.dialects.canonical import types
from gateway.dialects.canonical.examples import FORECAST
from gateway.domain import (
    Forecast,
    ForecastPlan,
    ForecastRequest,
    Metadata,
    Notice,
    PlannedSeries,
    SeriesError,
    SeriesForecast,
    Usage,
)
from gateway.errors import Code, GatewayError
from gateway.http.problems import STATUS
from gateway.pacing import at_once
from tests.seeds import seed_body

OPERATION = FORECAST_OPERATION
REQUEST_ID = "4f0c1c6e-3d0c-4b43-9a5e-8a0f6f1b7c2d"
MSGPACK = "application/msgpack"

exchanges = pytest.mark.parametrize("exchange", FORECAST, ids=lambda e: e.name)
answered = pytest.mark.parametrize("exchange", [e for e in FORECAST if e.status == 200], ids=lambda e: e.name)
refused = pytest.mark.parametrize("exchange", [e for e in FORECAST if e.status != 200], ids=lambda e: e.name)


def call_of(body: bytes, **headers: str) -> Call:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(method="POST", path="/v1/forecast", headers=names, body=body, request_id=REQUEST_ID)


def content_of(call: Call, answer: Forecast | ForecastPlan) -> bytes:
    body = OPERATION.render(call, answer).body
    return body if isinstance(body, bytes) else b"".join(body)


def answer_of(request: ForecastRequest, golden: Mapping[str, Any]) -> Forecast | ForecastPlan:
    """What the service would have given for `golden` to be rendered, with the request's own metadata."""
    shared: dict[str, Any] = {name: golden[name] for name in ("id", "created", "model", "provider", "point")}
    shared |= {name: golden[name] for name in ("horizon", "input_points", "latency_ms", "model_revision")}
    shared |= {name: golden.get(name) for name in ("truncated_from", "max_context_length")}
    tokens = golden["usage"]
    shared |= {
        "quantile_levels": tuple(golden["quantile_levels"]),
        "usage": Usage(input_tokens=tokens["input_tokens"], output_tokens=tokens["output_tokens"]),
        "metadata": request.metadata,
    }
    sources = zip(golden["outputs"], request.series, strict=True)
    if golden.get("dry_run"):
        plans = tuple(_planned(output, series.metadata) for output, series in sources)
        return ForecastPlan(**shared, outputs=plans, batch_class=golden["batch_class"])
    outputs = tuple(_output(output, series.metadata) for output, series in sources)
    timings = golden["timings_ms"]
    return Forecast(**shared, outputs=outputs, queue_ms=timings["queue"], compute_ms=timings["compute"])


def _output(golden: Mapping[str, Any], metadata: Metadata) -> SeriesForecast | SeriesError:
    if golden.get("status") == "failed":
        told = golden["error"]
        return SeriesError(code=Code(told["code"]), sentence=told["error"], metadata=metadata)
    mean = np.array(golden["mean"])
    levels = [entry["values"] for entry in golden.get("quantile_predictions", [])]
    return SeriesForecast(
        mean=mean,
        quantiles=np.array(levels) if levels else np.empty((0, *mean.shape)),
        timestamps=_stamps(golden),
        notices=_notices(golden),
        metadata=metadata,
    )


def _planned(golden: Mapping[str, Any], metadata: Metadata) -> PlannedSeries:
    points = golden["input_points"]
    return PlannedSeries(input_points=points, timestamps=_stamps(golden), notices=_notices(golden), metadata=metadata)


def _stamps(golden: Mapping[str, Any]) -> tuple[str, ...] | None:
    return tuple(golden["timestamps"]) if "timestamps" in golden else None


def _notices(golden: Mapping[str, Any]) -> tuple[Notice, ...]:
    return tuple(Notice(code="fallback", sentence=s) for s in golden.get("notices", []))


def ordered(value: object) -> str:
    """Text that is equal only for equal values with keys in equal order."""
    return json.dumps(value)


def golden_of(exchange: Example) -> dict[str, Any]:
    """The printed answer; the version it prints is of the day it was written."""
    golden: dict[str, Any] = json.loads(exchange.response)
    if "gateway_version" in golden:
        golden["gateway_version"] = __version__
    return golden


@answered
def test_an_answer_is_rendered_as_printed(exchange: Example) -> None:
    call = call_of(exchange.request)
    golden = golden_of(exchange)
    answer = answer_of(at_once(OPERATION.parse(call)), golden)
    assert ordered(json.loads(content_of(call, answer))) == ordered(golden)


@answered
def test_msgpack_is_answered_in_kind_with_the_same_content(exchange: Example) -> None:
    call = call_of(msgspec.msgpack.encode(json.loads(exchange.request)), content_type=MSGPACK)
    golden = golden_of(exchange)
    answer = answer_of(at_once(OPERATION.parse(call)), golden)
    assert OPERATION.render(call, answer).media_type == MSGPACK
    assert ordered(msgspec.msgpack.decode(content_of(call, answer))) == ordered(golden)


@refused
@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_an_error_is_rendered_as_printed(exchange: Example, form: str) -> None:
    body = exchange.request if form == "json" else msgspec.msgpack.encode(json.loads(exchange.request))
    call = call_of(body, content_type=f"application/{form}")
    with pytest.raises(GatewayError) as caught:
        at_once(OPERATION.parse(call))
    reply = OPERATION.render_error(call, caught.value, STATUS[caught.value.code])
    assert isinstance(reply.body, bytes)
    decode = msgspec.json.decode if form == "json" else msgspec.msgpack.decode
    assert (reply.status, reply.media_type) == (exchange.status, f"application/{form}")
    assert ordered(decode(reply.body)) == ordered(json.loads(exchange.response))


@exchanges
def test_documented_types_hold_the_exchanges(exchange: Example) -> None:
    if exchange.status == 200:
        msgspec.json.decode(exchange.request, type=types.ForecastRequestBody)
        msgspec.json.decode(exchange.response, type=types.ForecastBody)
    else:
        msgspec.json.decode(exchange.response, type=types.ErrorBody)


@pytest.mark.parametrize(
    ("documented", "decoded"),
    [(types.SeriesBody, types.SeriesEnvelope), (types.ForecastRequestBody, types.ForecastEnvelope)],
)
def test_documented_and_decoded_fields_are_the_same(
    documented: type[msgspec.Struct], decoded: type[msgspec.Struct]
) -> None:
    def facts(kind: type[msgspec.Struct]) -> list[tuple[str, bool]]:
        return [(f.encode_name, f.required) for f in msgspec.structs.fields(kind)]

    assert facts(documented) == facts(decoded)
    assert documented.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize(
    ("title", "name"),
    [("forecast.request.json", "forecast"), ("forecast-minimal.request.json", "forecast-minimal")],
)
def test_requests_of_the_seed_are_golden(title: str, name: str) -> None:
    golden = next(e for e in FORECAST if e.name == name)
    assert ordered(json.loads(golden.request)) == ordered(seed_body(title))


def test_the_printed_answer_of_the_seed_is_part_of_the_golden_one() -> None:
    printed = seed_body("forecast.response.json")
    golden = next(e for e in FORECAST if e.name == "forecast")
    ours: dict[str, Any] = json.loads(golden.response)
    # The provider is the card's, tokens follow the published rule, and a clock is a clock.
    for decided in ("provider", "usage", "latency_ms"):
        assert type(ours[decided]) is type(printed[decided]) or decided == "latency_ms"
        printed[decided] = ours[decided]
    ours["outputs"] = [{name: output[name] for name in printed["outputs"][0]} for output in ours["outputs"]]
    assert ordered({name: ours[name] for name in ours if name in printed}) == ordered(printed)


def test_the_validation_error_of_the_seed_is_golden() -> None:
    golden = next(e for e in FORECAST if e.name == "validation-error")
    assert json.loads(golden.response)["detail"] == seed_body("validation-error.example.json")["detail"]


@pytest.mark.parametrize(
    "parameters", ['"parameters":{}', '"parameters":null', '"unrelated":1', '"parameters":{"freq":"D"}']
)
def test_a_missing_horizon_has_one_place_however_it_is_missing(parameters: str) -> None:
    body = f'{{"model":"m","inputs":[{{"target":[[1]]}}],{parameters}}}'
    with pytest.raises(GatewayError) as caught:
        at_once(OPERATION.parse(call_of(body.encode())))
    told = [(f.loc, f.msg, f.type) for f in caught.value.faults if f.type == "missing"]
    assert told == [(("parameters", "prediction_length"), "Field required", "missing")]
