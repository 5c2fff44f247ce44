"""KServe's dialect against its golden exchanges and against its reference as printed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.dialects.base import Example
from gateway.dialects.kserve import DIALECT, types
from gateway.dialects.kserve.examples import FORECAST
from gateway.domain import BatchAnswer, BatchRequest, Forecast, SeriesError
from gateway.errors import Code, Fault, GatewayError
from gateway.http.problems import STATUS
from tests.contract.dialects import call_of, content_of, forecast_of, holds, operation_of, ordered, parsed
from tests.seeds import json_objects, seed_text

PATH = "/v1/timeseries/forecast"
OPERATION = operation_of(DIALECT, PATH)
SEED = "kserve-timeseries-api.md"

answered = pytest.mark.parametrize("exchange", [e for e in FORECAST if e.status == 200], ids=lambda e: e.name)
refused = pytest.mark.parametrize("exchange", [e for e in FORECAST if e.status != 200], ids=lambda e: e.name)


def body_of(*inputs: dict[str, Any], **options: Any) -> bytes:
    shown = {"type": "univariate_time_series", "name": "a", "series": [1, 2, 3], "frequency": "D"}
    request = {"model": "m", "inputs": [{**shown, **one} for one in inputs], "options": {"horizon": 2, **options}}
    return json.dumps(request).encode()


def answer_of(request: BatchRequest, golden: dict[str, Any]) -> BatchAnswer:
    """What the service gives where the golden answer is right."""
    results: list[Forecast | GatewayError] = []
    for i, (asked, output) in enumerate(zip(request.requests, golden["outputs"], strict=True)):
        if isinstance(asked, GatewayError):
            results.append(asked)
            continue
        (content,) = output["content"]
        quantiles = {float(level): values for level, values in (content["quantiles"] or {}).items()}
        results.append(forecast_of(asked, content["mean_forecast"], quantiles, item=i))
    return BatchAnswer(results=tuple(results), metadata=request.metadata)


@answered
def test_an_answer_is_rendered_as_printed(exchange: Example) -> None:
    call = call_of(PATH, exchange.request)
    golden = json.loads(exchange.response)
    answer = answer_of(parsed(OPERATION, call), golden)
    content = content_of(OPERATION.render(call, answer))
    assert ordered(json.loads(content)) == ordered(golden)
    msgspec.json.decode(content, type=types.ResponseBody)


@refused
def test_an_error_is_rendered_as_printed(exchange: Example) -> None:
    call = call_of(PATH, exchange.request)
    with pytest.raises(GatewayError) as caught:
        parsed(OPERATION, call)
    reply = OPERATION.render_error(call, caught.value, STATUS[caught.value.code])
    assert reply.status == exchange.status
    assert ordered(json.loads(content_of(reply))) == ordered(json.loads(exchange.response))


def test_the_printed_request_is_golden_and_its_printed_answer_is_part_of_the_golden_one() -> None:
    request, printed = [o for o in json_objects(seed_text(SEED)) if "metadata" in o or "usage" in o]
    golden = next(e for e in FORECAST if e.name == "forecast")
    assert ordered(json.loads(golden.request)) == ordered(request)
    ours = json.loads(golden.response)
    holds(ours, printed)
    for mine, theirs in zip(ours["outputs"], printed["outputs"], strict=True):
        assert mine["content"] == theirs["content"]  # numbers, stamps and echoes too
    assert (ours["created_at"], ours["status"], ours["model"]) == (1741476542, "completed", "timesfm2")
    assert ours["other_properties"] == printed["other_properties"]
    assert [len(o["id"]) for o in [ours, *ours["outputs"]]] == [len("resp_") + 48, len("ts_") + 48, len("ts_") + 48]


def test_the_printed_shape_of_an_error_is_ours() -> None:
    (printed,) = [o for o in json_objects(seed_text(SEED)) if isinstance(o.get("error"), dict)]
    golden = next(e for e in FORECAST if e.name == "invalid-horizon")
    holds(json.loads(golden.response), printed)


@pytest.mark.parametrize(
    ("start", "frequency", "rows", "expected"),
    [
        ("2025-06-05T13:10:00Z", "S", 7, "2025-06-05T13:10:07Z"),
        ("2025-06-05T13:10:00Z", "minute", 60, "2025-06-05T14:10:00Z"),
        ("2025-06-05T13:10:00Z", "Hour", 5, "2025-06-05T18:10:00Z"),
        ("2024-02-28T00:00:00Z", "day", 2, "2024-03-01T00:00:00Z"),
        ("2025-06-05T13:10:00Z", "WEEK", 2, "2025-06-19T13:10:00Z"),
        ("2025-01-31T00:00:00Z", "M", 1, "2025-02-28T00:00:00Z"),
        ("2025-02-28T00:00:00Z", "M", 1, "2025-03-28T00:00:00Z"),
        ("2025-01-31T00:00:00Z", "month", 2, "2025-03-31T00:00:00Z"),
        ("2025-11-30T06:00:00Z", "Q", 1, "2026-02-28T06:00:00Z"),
        ("2024-02-29T00:00:00Z", "year", 1, "2025-02-28T00:00:00Z"),
        ("2025-03-30T01:30:00+01:00", "H", 2, "2025-03-30T03:30:00+01:00"),
        ("2025-01-01T00:00:00-00:30", "D", 1, "2025-01-02T00:00:00-00:30"),
        ("2025-01-01T00:00:00+00:00", "D", 1, "2025-01-02T00:00:00+00:00"),
        ("2025-01-01", "D", 1, "2025-01-02T00:00:00Z"),
        ("2025-01-01T00:00:00.250Z", "S", 1, "2025-01-01T00:00:01.250Z"),
        (None, "D", 3, None),
    ],
)
def test_a_forecast_starts_after_the_last_observation(
    start: str | None, frequency: str, rows: int, expected: str | None
) -> None:
    call = call_of(PATH, body_of({"series": [1] * rows, "frequency": frequency, "start_timestamp": start}))
    request = parsed(OPERATION, call)
    answer = BatchAnswer(results=(forecast_of(request.requests[0], [1, 1], {}),), metadata=request.metadata)
    (output,) = json.loads(content_of(OPERATION.render(call, answer)))["outputs"]
    assert output["content"][0]["start_timestamp"] == expected
    assert output["content"][0]["frequency"] == frequency


def test_quantiles_are_answered_in_the_order_sent_and_once() -> None:
    call = call_of(PATH, body_of({}, quantiles=[0.90, 0.1, 0.9, 5e-1]))
    request = parsed(OPERATION, call)
    assert request.requests[0].parameters.quantile_levels == (0.1, 0.5, 0.9)
    made = forecast_of(request.requests[0], [2, 2], {0.1: [1, 1], 0.5: [2, 2], 0.9: [3, 3]})
    reply = OPERATION.render(call, BatchAnswer(results=(made,), metadata=request.metadata))
    (output,) = json.loads(content_of(reply))["outputs"]
    assert ordered(output["content"][0]["quantiles"]) == ordered(
        {"0.9": [3.0, 3.0], "0.1": [1.0, 1.0], "0.5": [2.0, 2.0]}
    )


@pytest.mark.parametrize(
    ("code", "status", "shape"),
    [
        (Code.NOT_FOUND, 404, {"error": "Model with name m does not exist."}),
        (Code.PERMISSION_DENIED, 403, {"error": {"code": "403", "type": "permission_denied"}}),
        (Code.RESOURCE_EXHAUSTED, 429, {"error": {"code": "429", "type": "resource_exhausted"}}),
        (Code.UNAVAILABLE, 503, {"error": {"code": "503", "type": "unavailable"}}),
        (Code.DEADLINE_EXCEEDED, 504, {"error": {"code": "504", "type": "deadline_exceeded"}}),
    ],
)
def test_what_every_input_meets_is_the_answer_to_the_request(code: Code, status: int, shape: dict[str, Any]) -> None:
    call = call_of(PATH, body_of({}, {}))
    request = parsed(OPERATION, call)
    answer = BatchAnswer(results=(GatewayError(code, "why"),) * 2, metadata=request.metadata)
    with pytest.raises(GatewayError) as caught:
        content_of(OPERATION.render(call, answer))
    assert STATUS[caught.value.code] == status
    body = json.loads(content_of(OPERATION.render_error(call, caught.value, status)))
    if isinstance(shape["error"], dict):
        body["error"] = {name: body["error"][name] for name in shape["error"]}
    assert body == shape


def test_a_model_that_fails_on_one_input_leaves_the_others() -> None:
    call = call_of(PATH, body_of({}, {"name": "b"}))
    request = parsed(OPERATION, call)
    made = forecast_of(request.requests[0], [1, 1], {})
    failed = SeriesError(code=Code.MODEL_FAILED, sentence="It failed.")
    other = replace(forecast_of(request.requests[1], [1, 1], {}), outputs=(failed,))
    body = json.loads(content_of(OPERATION.render(call, BatchAnswer(results=(made, other), metadata=request.metadata))))
    assert (body["status"], body["error"]) == ("partial", None)
    assert [o["status"] for o in body["outputs"]] == ["completed", "error"]
    assert body["outputs"][1]["error"] == {"code": "500", "message": "It failed.", "param": "", "type": "model_error"}


def test_when_all_inputs_fail_the_first_error_is_the_requests_too() -> None:
    call = call_of(PATH, body_of({"series": []}, {"start_timestamp": "soon"}))
    request = parsed(OPERATION, call)
    answer = BatchAnswer(results=request.requests, metadata=request.metadata)
    body = json.loads(content_of(OPERATION.render(call, answer)))
    assert body["status"] == "error"
    assert body["error"] == body["outputs"][0]["error"]
    assert body["error"]["param"] == "inputs[0].series"
    assert body["outputs"][1]["error"]["param"] == "inputs[1].start_timestamp"


@pytest.mark.parametrize(
    ("place", "kind", "param"),
    [
        (("parameters", "prediction_length"), "invalid_horizon", "options.horizon"),
        (("parameters", "quantile_levels"), "invalid_quantile", "options.quantiles"),
    ],
)
def test_what_the_model_lacks_of_the_options_is_400(place: tuple[str, ...], kind: str, param: str) -> None:
    call = call_of(PATH, body_of({}, {}))
    request = parsed(OPERATION, call)
    errors = (GatewayError.invalid(Fault(place, "too much")),) * 2
    with pytest.raises(GatewayError) as caught:
        content_of(OPERATION.render(call, BatchAnswer(results=errors, metadata=request.metadata)))
    reply = OPERATION.render_error(call, caught.value, 422)
    assert reply.status == 400
    assert json.loads(content_of(reply))["error"] == {
        "code": "400",
        "message": "too much",
        "param": param,
        "type": kind,
    }


def test_notices_stand_beside_the_content() -> None:
    call = call_of(PATH, body_of({}))
    request = parsed(OPERATION, call)
    made = forecast_of(request.requests[0], [1, 1], {}, notices=["Mind this."])
    reply = OPERATION.render(call, BatchAnswer(results=(made,), metadata=request.metadata))
    assert json.loads(content_of(reply))["outputs"][0]["notices"] == ["Mind this."]
