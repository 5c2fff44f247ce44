"""Backtests, anomalies, ensembles and batches on the canonical wire: what is read, refused where, and rendered."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.dialects.base import Call, Operation
from gateway.dialects.canonical import (
    ANOMALIES,
    BACKTEST,
    BATCH,
    ENSEMBLE,
    FORECAST,
    JOBS,
    OPERATIONS,
    decode,
    evaluation_types,
    group_types,
    jobs,
    shapes,
)
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.metadata import Echo
from gateway.domain import (
    METRICS,
    AnomalyReport,
    Backtest,
    BacktestWindow,
    BatchAnswer,
    EnsembleForecast,
    Forecast,
    ForecastRequest,
    Notice,
    RankedModel,
    Scores,
    SeriesAnomalies,
    SeriesBacktest,
    SeriesError,
    SeriesForecast,
    Usage,
)
from gateway.errors import Code, Fault, GatewayError
from gateway.pacing import at_once
from tests.seeds import seed_body

SERIES = {"target": [[1], [2], [3]]}
HORIZON = {"prediction_length": 2}
PLAIN = {"model": "m", "inputs": [SERIES], "parameters": HORIZON}
NO_MODEL = {"inputs": [SERIES], "parameters": HORIZON}


def read(operation: Operation[Any, Any], content: object, form: Format = Format.JSON) -> Any:
    headers = {"content-type": form.value}
    return at_once(
        operation.parse(Call(method="POST", path=operation.path, body=form.encode(content), headers=headers))
    )


def refused(operation: Operation[Any, Any], content: object, form: Format = Format.JSON) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read(operation, content, form)
    return caught.value


def rendered(operation: Operation[Any, Any], answer: object, form: Format = Format.JSON) -> Any:
    call = Call(method="POST", path=operation.path, headers={"accept": form.value})
    reply = operation.render(call, answer)
    assert reply.media_type == form.value
    assert not isinstance(reply.body, bytes)
    return form.decode(b"".join(reply.body), dict[str, Any])


def test_every_operation_can_be_a_job() -> None:
    assert [o.job for o in OPERATIONS] == ["forecast", "batch", "ensemble", "backtest", "anomalies"]


# -- what is read ---


def test_a_backtest_has_defaults() -> None:
    request = read(BACKTEST, PLAIN)
    assert (request.windows, request.step, request.metrics, request.forecasts) == (1, None, METRICS, True)
    assert request.forecast.parameters.prediction_length == 2


@pytest.mark.parametrize("place", ["in", "beside", "both"])
def test_controls_of_a_backtest_stand_in_the_parameters_or_beside_them(place: str) -> None:
    controls = {"windows": 3, "step": 1, "metrics": ["wql", "mase"], "return_forecasts": False}
    inside = controls if place != "beside" else {}
    request = read(BACKTEST, {**PLAIN, "parameters": HORIZON | inside, **(controls if place != "in" else {})})
    assert (request.windows, request.step, request.forecasts) == (3, 1, False)
    assert request.metrics == ("wql", "mase")


@pytest.mark.parametrize("sent", [{}, {"parameters": None}, {"parameters": {}}, {"parameters": {"sensitivity": 2.5}}])
def test_anomalies_are_sought_one_step_ahead_unless_blocks_are_asked_for(sent: dict[str, Any]) -> None:
    assert read(ANOMALIES, {"model": "m", "inputs": [SERIES], **sent}).forecast.parameters.prediction_length == 1
    assert read(ANOMALIES, PLAIN).forecast.parameters.prediction_length == 2


def test_where_scoring_starts_and_how_much_is_an_anomaly() -> None:
    request = read(ANOMALIES, {**PLAIN, "parameters": {"sensitivity": 1.5, "scored_from": 2}})
    assert (request.scored_from, request.forecast.parameters.sensitivity) == (2, 1.5)
    assert read(ANOMALIES, {**PLAIN, "scored_from": 2, "sensitivity": 4}).forecast.parameters.sensitivity == 4


def test_an_ensemble_has_defaults() -> None:
    request = read(ENSEMBLE, NO_MODEL)
    assert (request.models, request.top_n, request.max_models, request.budget_s) == (None, 10, 3, 30.0)
    assert (request.scoring_metric, request.windows, request.step) == ("smape", 1, None)
    assert (request.weighting, request.selection) == ("inverse_score", "global")


def test_an_ensemble_is_read_as_its_known_caller_sends_it() -> None:
    """`freq`, `quantiles` and the horizon beside `parameters`, and `item_id` in each input."""
    sent = {"models": ["a", "b"], "inputs": [{**SERIES, "item_id": "x"}], "freq": "D", "quantiles": [0.1, 0.9]}
    request = read(ENSEMBLE, {**sent, "prediction_length": 7})
    p = request.parameters
    assert (request.models, p.frequency, p.quantile_levels, p.prediction_length) == (("a", "b"), "D", (0.1, 0.9), 7)
    assert request.series[0].metadata == Echo(Format.JSON, b'{"item_id":"x"}')
    inside = {"horizon": 7, "freq": "D", "quantiles": [0.1, 0.9], "models": ["a", "b"]}
    assert read(ENSEMBLE, {"inputs": [SERIES], "parameters": inside}).parameters == p


def test_every_control_of_an_ensemble_is_read() -> None:
    controls = {
        "models": ["a"],
        "top_n": 4,
        "max_models": 2,
        "scoring_metric": "crps",
        "budget": 12.5,
        "windows": 3,
        "step": 1,
        "weighting": "greedy",
        "selection": "per_series",
    }
    request = read(ENSEMBLE, {**NO_MODEL, **controls, "metadata": {"a": 1}}, Format.MSGPACK)
    found = {name: getattr(request, "budget_s" if name == "budget" else name) for name in controls}
    assert found == {**controls, "models": ("a",)}
    assert request.metadata is not None


def test_requests_of_a_batch_are_read_alone() -> None:
    wrong = {**PLAIN, "inputs": [{"target": [1, 2]}], "parameters": {}}
    first, second, third, fourth = read(BATCH, {"requests": [PLAIN, wrong, 5, PLAIN]}).requests
    assert isinstance(first, ForecastRequest)
    assert isinstance(fourth, ForecastRequest)
    assert [f.loc for f in second.faults] == [("parameters", "prediction_length"), ("inputs", 0, "target")]
    assert [f.msg for f in third.faults] == ["Expected an object, got an integer"]


def test_a_batch_that_is_a_job_may_hold_more_requests() -> None:
    body = json.dumps({"type": "batch", "request": {"requests": [PLAIN] * 65}}).encode()
    _, work = at_once(jobs.order(Call(method="POST", path="/v1/jobs", body=body), JOBS))
    assert len(work.requests) == 65
    over = json.dumps({"requests": [PLAIN] * 3}).encode()
    with pytest.raises(GatewayError, match="at most 2 requests in one call: split them"):
        at_once(decode.batch(Call(method="POST", path="/v1/jobs", body=over), 2))


@pytest.mark.parametrize("size", [1, 700, 30_000])
def test_a_large_batch_is_read_as_a_small_one(size: int) -> None:
    """With its long arrays cut out and without."""
    good = {**PLAIN, "inputs": [{"target": [[float(i)] for i in range(size)]}] * 3}
    bad = {**PLAIN, "inputs": [*good["inputs"], {"target": [[1]] * size + [[1, 2]]}]}  # type: ignore[misc]
    found = read(BATCH, {"requests": [good, bad, good]}).requests
    assert [isinstance(r, ForecastRequest) for r in found] == [True, False, True]
    assert [len(s.target) for s in found[2].series] == [size] * 3
    assert [f.loc for f in found[1].faults] == [("inputs", 3, "target", size)]


def test_a_batch_whose_failing_request_holds_no_json_is_no_json() -> None:
    """Also where that request has so many faults that nothing else of it is read."""
    long = ",".join(["[1]"] * 50_000)
    wrong = ",".join(['{"target":1}'] * 30)
    body = f'{{"requests":[{{"inputs":[{wrong},{{"target":[{long},[NaN]]}}]}}]}}'
    with pytest.raises(GatewayError) as caught:
        at_once(decode.batch(Call(method="POST", path="/", body=body.encode())))
    assert caught.value.code is Code.MALFORMED
    assert f"byte {body.index('NaN')}" in caught.value.sentence


# -- what is refused ---

REFUSED: dict[str, tuple[Operation[Any, Any], dict[str, Any], tuple[object, ...], str]] = {
    "windows 0": (BACKTEST, {"windows": 0}, ("windows",), "at least 1"),
    "windows 1001": (BACKTEST, {"windows": 1001}, ("windows",), "at most 1000"),
    "windows text": (BACKTEST, {"windows": "3"}, ("windows",), "an integer, got a string"),
    "step 0": (BACKTEST, {"parameters": HORIZON | {"step": 0}}, ("parameters", "step"), "at least 1"),
    "metric unknown": (BACKTEST, {"metrics": ["mae", "mse"]}, ("metrics", 1), "got 'mse'"),
    "metric twice": (BACKTEST, {"metrics": ["mae", "mae"]}, ("metrics", 1), "there twice"),
    "metrics no list": (BACKTEST, {"metrics": "mae"}, ("metrics",), "an array, got a string"),
    "windows differ": (BACKTEST, {"windows": 2, "parameters": HORIZON | {"windows": 3}}, ("windows",), "differs from"),
    "a dry run": (BACKTEST, {"parameters": HORIZON | {"dry_run": True}}, ("parameters", "dry_run"), "only /v1/forec"),
    "no horizon": (BACKTEST, {"parameters": {"windows": 2}}, ("parameters", "prediction_length"), "Field required"),
    "window": (BACKTEST, {"window": 2}, ("window",), "did you mean windows?"),
    "sensitivity 0": (ANOMALIES, {"parameters": {"sensitivity": 0}}, ("parameters", "sensitivity"), "greater than 0"),
    "sensitivity text": (ANOMALIES, {"sensitivity": "3"}, ("sensitivity",), "a number, got a string"),
    "scored_from 0": (ANOMALIES, {"parameters": {"scored_from": 0}}, ("parameters", "scored_from"), "at least 1"),
    "threshold": (ANOMALIES, {"parameters": {"sensitivty": 3}}, ("parameters", "sensitivty"), "mean sensitivity?"),
    "parameters no object": (ANOMALIES, {"parameters": [3]}, ("parameters",), "an object, got an array"),
    "no models": (ENSEMBLE, {"models": []}, ("models",), "at least 1, got 0"),
    "a model twice": (ENSEMBLE, {"models": ["a", "b", "a"]}, ("models", 2), "a is there twice"),
    "101 models": (ENSEMBLE, {"models": [str(i) for i in range(101)]}, ("models",), "at most 100"),
    "a nameless model": (ENSEMBLE, {"models": [""]}, ("models", 0), "must not be empty"),
    "top_n 0": (ENSEMBLE, {"top_n": 0}, ("top_n",), "at least 1"),
    "max_models 0": (ENSEMBLE, {"max_models": 0}, ("max_models",), "at least 1"),
    "budget 0": (ENSEMBLE, {"budget": 0}, ("budget",), "greater than 0"),
    "budget of days": (ENSEMBLE, {"budget": 86_400}, ("budget",), "at most 3600"),
    "metric": (ENSEMBLE, {"scoring_metric": "mae"}, ("scoring_metric",), "got 'mae'"),
    "weighting": (ENSEMBLE, {"weighting": "worst"}, ("weighting",), "got 'worst'"),
    "selection": (ENSEMBLE, {"selection": 1}, ("selection",), "got an integer"),
    "freq differs": (ENSEMBLE, {"freq": "D", "parameters": HORIZON | {"frequency": "h"}}, ("freq",), "alias of"),
    "quantiles descend": (ENSEMBLE, {"quantiles": [0.5, 0.1]}, ("quantiles", 1), "must ascend"),
    "horizon differs": (ENSEMBLE, {"horizon": 3}, ("horizon",), "alias of prediction_length"),
    "horizon 0": (ENSEMBLE, {"parameters": None, "horizon": 0}, ("horizon",), "at least 1"),
    "no horizon at all": (ENSEMBLE, {"parameters": ...}, ("parameters", "prediction_length"), "Field required"),
    "no inputs": (ENSEMBLE, {"inputs": ...}, ("inputs",), "Field required"),
    "empty batch": (BATCH, {"requests": []}, ("requests",), "at least one request"),
    "65 requests": (BATCH, {"requests": [PLAIN] * 65}, ("requests",), "/v1/jobs"),
    "requests no list": (BATCH, {"requests": PLAIN}, ("requests",), "an array, got an object"),
    "requests null": (BATCH, {"requests": None}, ("requests",), "an array, got null"),
    "no requests": (BATCH, {"requests": ...}, ("requests",), "Field required"),
    "a batch's own fields": (BATCH, {"request": []}, ("request",), "did you mean requests?"),
}  # fmt: skip
BASES = {BACKTEST.path: PLAIN, ANOMALIES.path: PLAIN, ENSEMBLE.path: NO_MODEL, BATCH.path: {"requests": [PLAIN]}}


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("name", REFUSED)
def test_a_body_is_refused_with_its_own_message_and_place(name: str, form: Format) -> None:
    operation, changed, place, message = REFUSED[name]
    content = {k: v for k, v in {**BASES[operation.path], **changed}.items() if v is not ...}
    (fault,) = refused(operation, content, form).faults
    assert fault.loc == place
    assert message in fault.msg


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("operation", "name"), [(ANOMALIES, "sensitivity"), (ENSEMBLE, "budget")])
def test_controls_are_finite_numbers(operation: Operation[Any, Any], name: str, value: float) -> None:
    error = refused(operation, {**BASES[operation.path], name: value}, Format.MSGPACK)
    assert {f.loc for f in error.faults} == {(name,)}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.job)
@pytest.mark.parametrize("content", [[], None, 3, "x"])
def test_what_is_no_object_is_refused(operation: Operation[Any, Any], content: object) -> None:
    (fault,) = refused(operation, content).faults
    assert (fault.loc, fault.type) == ((), "type_error")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.job)
@pytest.mark.parametrize("raw", [b"", b"{", b'{"requests":[NaN]}', b'{"inputs":[{"target":[[1],[NaN]]}]}', b"[" * 9999])
def test_what_is_no_json_is_malformed(operation: Operation[Any, Any], raw: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        at_once(operation.parse(Call(method="POST", path=operation.path, body=raw)))
    assert caught.value.code is Code.MALFORMED


# -- what is rendered ---

NOTICE = Notice(code="fallback", sentence="A sentence.")
ECHO = Echo(Format.JSON, b'{"a":1.0}')
SHARED: dict[str, Any] = {"id": "i", "created": 1, "model": "m", "model_revision": "r", "provider": "p"}
USED = {"usage": Usage(input_tokens=3, output_tokens=4), "latency_ms": 1.23456, "queue_ms": 0.5, "compute_ms": 0.25}
TOKENS = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
ERROR = SeriesError(code=Code.MODEL_FAILED, sentence="It failed.")
FAILED = {"status": "failed", "error": {"error": "It failed.", "code": "MODEL_FAILED"}}


def a_forecast(model: str = "m", mean: float = 1.5) -> Forecast:
    output = SeriesForecast(mean=np.array([[mean]]), quantiles=np.array([[[1.0]]]), metadata=ECHO)
    known = {**SHARED, "model": model}
    return Forecast(
        **known, **USED, point="mean", horizon=1, quantile_levels=(0.1,), input_points=3, outputs=(output, ERROR),
        metadata=ECHO,
    )  # fmt: skip


def a_backtest(**changed: Any) -> Backtest:
    window = BacktestWindow(
        cutoff=5,
        timestamps=("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z"),
        mean=np.array([[1.0], [2.0]]),
        quantiles=np.array([[[0.5], [1.5]]]),
        actuals=np.array([[1.25], [np.nan]]),
        scores=Scores(values={"mae": 0.25, "mape": None}, skipped={"mape": 1}),
    )
    scores = Scores(values={"mae": 0.25}, skipped={"mape": 0})
    series = SeriesBacktest(
        windows=(dataclasses.replace(window, **changed),), scores=scores, notices=(NOTICE,), metadata=ECHO
    )
    return Backtest(
        **SHARED, **USED, point="median", horizon=2, windows=1, step=2, quantile_levels=(0.1,), outputs=(series, ERROR),
        scores=scores, metadata=ECHO,
    )  # fmt: skip


def a_report(**changed: Any) -> AnomalyReport:
    flags = np.array([[np.nan, np.nan], [0.0, np.nan], [1.0, 0.0]])
    series = SeriesAnomalies(
        values=np.array([[1.0, 2.0], [3.0, np.nan], [9.0, 4.0]]),
        expected=np.full((3, 2), 3.5),
        lower=np.full((3, 2), -1.0),
        upper=np.full((3, 2), 5.0),
        z_score=np.full((3, 2), 4.5),
        is_anomaly=flags,
        quantiles=None,
        scored_from=1,
        timestamps=("a", "b", "c"),
        notices=(NOTICE,),
        metadata=ECHO,
    )
    series = dataclasses.replace(series, **changed)
    return AnomalyReport(
        **SHARED, **USED, sensitivity=3.0, quantile_levels=(), outputs=(series, ERROR), total_points=3, num_anomalies=1,
        metadata=ECHO,
    )  # fmt: skip


def an_ensemble(**changed: Any) -> EnsembleForecast:
    best = RankedModel(
        model="a", rank=1, status="selected", score=1.5, weight=1.0, metrics={"smape": 1.5}, latency_ms=2.0
    )
    last = RankedModel(model="b", rank=2, status="failed", error="There is no model 'b'.")
    answer = EnsembleForecast(
        forecast=a_forecast("ensemble"), ranked=(best, last), scoring_metric="smape", holdout_length=1, windows=2,
        usage=USED["usage"], latency_ms=9.87654,
    )  # fmt: skip
    return dataclasses.replace(answer, **changed)


def test_a_backtest_is_rendered() -> None:
    found = rendered(BACKTEST, a_backtest())
    first, second = found.pop("outputs")
    assert found.pop("gateway_version")
    assert found == {
        "id": "i",
        "object": "backtest",
        "created": 1,
        "model": "m",
        "provider": "p",
        "horizon": 2,
        "prediction_length": 2,
        "windows": 1,
        "step": 2,
        "quantile_levels": [0.1],
        "metrics": {"mae": 0.25},
        "usage": TOKENS,
        "latency_ms": 1.235,
        "metadata": {"a": 1.0},
        "point": "median",
        "timings_ms": {"queue": 0.5, "compute": 0.25},
        "model_revision": "r",
    }
    assert first == {
        "windows": [
            {
                "cutoff": 5,
                "mean": [[1.0], [2.0]],
                "quantile_predictions": [{"level": 0.1, "values": [[0.5], [1.5]]}],
                "actuals": [[1.25], [None]],
                "timestamps": ["2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z"],
                "metrics": {"mae": 0.25, "mape": None},
                "skipped": {"mape": 1},
            }
        ],
        "metrics": {"mae": 0.25},
        "metadata": {"a": 1.0},
        "notices": ["A sentence."],
    }
    assert second == FAILED


def test_a_backtest_without_forecasts_has_its_metrics() -> None:
    answer = a_backtest(mean=None, quantiles=None, actuals=None, timestamps=None)
    (window,) = rendered(BACKTEST, answer)["outputs"][0]["windows"]
    assert set(window) == {"cutoff", "metrics", "skipped"}


def test_anomalies_are_rendered() -> None:
    found = rendered(ANOMALIES, a_report())
    first, second = found.pop("outputs")
    assert found.pop("gateway_version")
    assert found == {
        "id": "i",
        "object": "anomaly_detection",
        "created": 1,
        "model": "m",
        "provider": "p",
        "sensitivity": 3.0,
        "total_points": 3,
        "num_anomalies": 1,
        "usage": TOKENS,
        "latency_ms": 1.235,
        "metadata": {"a": 1.0},
        "timings_ms": {"queue": 0.5, "compute": 0.25},
        "model_revision": "r",
    }
    assert first == {
        "anomalies": [
            {
                "index": 2,
                "timestamp": "c",
                "channel": 0,
                "value": 9.0,
                "expected": 3.5,
                "lower": -1.0,
                "upper": 5.0,
                "z_score": 4.5,
            }
        ],
        "is_anomaly": [[None, None], [False, None], [True, False]],
        "scored_from": 1,
        "metadata": {"a": 1.0},
        "notices": ["A sentence."],
    }
    assert second == FAILED
    assert "timestamp" not in rendered(ANOMALIES, a_report(timestamps=None))["outputs"][0]["anomalies"][0]


def test_an_ensemble_is_rendered() -> None:
    found = rendered(ENSEMBLE, an_ensemble())
    blend = found.pop("ensemble_result")
    assert found.pop("gateway_version")
    assert found == {
        "id": "i",
        "object": "ensemble",
        "created": 1,
        "ranked_results": [
            {
                "model": "a",
                "rank": 1,
                "score": 1.5,
                "weight": 1.0,
                "metrics": {"smape": 1.5},
                "latency_ms": 2.0,
                "status": "selected",
                "error": None,
            },
            {
                "model": "b",
                "rank": 2,
                "score": None,
                "weight": 0.0,
                "metrics": {},
                "latency_ms": None,
                "status": "failed",
                "error": "There is no model 'b'.",
            },
        ],
        "scoring_metric": "smape",
        "holdout_length": 1,
        "windows": 2,
        "usage": TOKENS,
        "latency_ms": 9.877,
        "metadata": {"a": 1.0},
    }
    assert blend == rendered(FORECAST, a_forecast("ensemble"))
    assert blend["model"] == "ensemble"


def test_an_ensemble_of_each_series_has_weights_of_each() -> None:
    found = rendered(ENSEMBLE, an_ensemble(series_weights=((1.0, 0.0), (0.25, 0.75))))
    assert found["series_weights"] == [{"a": 1.0}, {"a": 0.25, "b": 0.75}]


@pytest.mark.parametrize("form", Format)
def test_a_batch_is_rendered_item_by_item(form: Format) -> None:
    denied = GatewayError(Code.PERMISSION_DENIED, "Not yours.")
    wrong = GatewayError.invalid(Fault(("parameters", "prediction_length"), "Field required", "missing"))
    no_metadata = dataclasses.replace(a_forecast(), metadata=None, outputs=(ERROR,))
    for count in (1, 20):
        found = rendered(BATCH, BatchAnswer(results=(no_metadata, denied, wrong) * count), form)
        assert found["object"] == "list"
        assert found["data"][:3] == [
            {"ok": True, "result": rendered(FORECAST, no_metadata, form)},
            {"ok": False, "error": {"error": "Not yours.", "code": "PERMISSION_DENIED", "endpoint": "/v1/forecast"}},
            {
                "ok": False,
                "error": {
                    "error": wrong.sentence,
                    "code": "INVALID_ARGUMENT",
                    "endpoint": "/v1/forecast",
                    "detail": [
                        {"loc": ["body", "parameters", "prediction_length"], "msg": "Field required", "type": "missing"}
                    ],
                },
            },
        ]
        assert found["data"] == found["data"][:3] * count


def test_a_forecast_of_a_batch_that_cannot_be_rendered_fails_alone() -> None:
    found = rendered(BATCH, BatchAnswer(results=(a_forecast(), a_forecast(mean=np.nan), a_forecast())))
    assert [item["ok"] for item in found["data"]] == [True, False, True]
    assert found["data"][1]["error"]["code"] == "INTERNAL"


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        (BACKTEST, a_backtest(mean=np.array([[1.0], [np.nan]]))),
        (BACKTEST, a_backtest(quantiles=np.array([[[np.inf], [1.0]]]))),
        (BACKTEST, a_backtest(actuals=np.array([[np.inf], [1.0]]))),
        (BACKTEST, a_backtest(scores=Scores(values={"mae": np.nan}))),
        (ANOMALIES, a_report(z_score=np.full((3, 2), np.inf))),
        (ANOMALIES, a_report(expected=np.full((3, 2), np.nan))),
        (ENSEMBLE, an_ensemble(forecast=a_forecast(mean=np.inf))),
        (ENSEMBLE, an_ensemble(ranked=(RankedModel(model="a", rank=1, status="ranked", score=np.nan),))),
    ],
)
def test_a_number_that_is_not_finite_is_never_sent(operation: Operation[Any, Any], answer: object) -> None:
    with pytest.raises(GatewayError) as caught:
        rendered(operation, answer)
    assert caught.value.code is Code.INTERNAL


LONG = 60_000


@pytest.mark.parametrize("form", Format)
def test_a_long_series_is_rendered_in_steps(form: Format) -> None:
    """No part but the whole series at its end is longer than a slice; what they make is the same."""
    long = np.arange(LONG * 2.0).reshape(LONG, 2)
    output = SeriesForecast(mean=long, quantiles=long[None])
    forecast = dataclasses.replace(a_forecast(), outputs=(output,), metadata=None)
    assert steps(FORECAST, forecast, form) > 2 * long.size // 8192
    found = rendered(FORECAST, forecast, form)["outputs"][0]
    assert found["mean"] == found["quantile_predictions"][0]["values"] == long.tolist()
    gapped = np.where(long % 7 == 0, np.nan, long)
    backtest = dataclasses.replace(a_backtest(actuals=gapped), metadata=None)
    backtest = dataclasses.replace(backtest, outputs=(dataclasses.replace(backtest.outputs[0], metadata=None),))
    assert steps(BACKTEST, backtest, form) > long.size // 8192
    actuals = rendered(BACKTEST, backtest, form)["outputs"][0]["windows"][0]["actuals"]
    assert actuals == [[None if v % 7 == 0 else v for v in row] for row in long.tolist()]
    flags = (long % 3 == 0).astype(float)
    arrays = dict.fromkeys(("values", "expected", "lower", "upper", "z_score"), long)
    report = a_report(**arrays, is_anomaly=flags, timestamps=None, metadata=None)
    report = dataclasses.replace(report, metadata=None, outputs=report.outputs[:1])
    assert steps(ANOMALIES, report, form) > (long.size // 3) // 512
    told = rendered(ANOMALIES, report, form)["outputs"][0]
    assert told["is_anomaly"] == (flags == 1).tolist()
    assert [a["value"] for a in told["anomalies"]] == long[flags == 1].tolist()


def steps(operation: Operation[Any, Any], answer: object, form: Format) -> int:
    body: Iterable[bytes] = operation.render(Call(method="POST", path="/", headers={"accept": form.value}), answer).body
    return sum(1 for _ in body)


@pytest.mark.parametrize(
    ("documented", "decoded"),
    [
        (evaluation_types.BacktestRequestBody, evaluation_types.BacktestEnvelope),
        (evaluation_types.AnomalyRequestBody, evaluation_types.AnomalyEnvelope),
        (group_types.EnsembleRequestBody, group_types.EnsembleEnvelope),
        (group_types.BatchRequestBody, group_types.BatchEnvelope),
    ],
)
def test_documented_and_decoded_fields_are_the_same(
    documented: type[msgspec.Struct], decoded: type[msgspec.Struct]
) -> None:
    def facts(kind: type[msgspec.Struct]) -> set[tuple[str, bool]]:
        return {(f.encode_name, f.required) for f in msgspec.structs.fields(kind)}

    assert facts(documented) == facts(decoded)
    assert documented.__struct_config__.forbid_unknown_fields
    assert decoded.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("shape", [shapes.BACKTEST, shapes.ANOMALIES, shapes.ENSEMBLE])
def test_what_may_stand_beside_the_parameters_may_stand_in_them(shape: shapes.Shape[Any, Any, Any]) -> None:
    both = {f.name for f in msgspec.structs.fields(shape.envelope)} & {
        f.name for f in msgspec.structs.fields(shape.controls)
    }
    assert both == set(shape.beside)


def test_the_shape_of_an_item_that_may_not_be_used_is_the_seeds() -> None:
    printed: Any = seed_body("forecast-batch.response.json")
    sentence = printed["data"][1]["error"]["error"]
    answer = BatchAnswer(results=(a_forecast(), GatewayError(Code.PERMISSION_DENIED, sentence)))
    found = rendered(BATCH, answer)
    assert json.dumps(found["data"][1]) == json.dumps(printed["data"][1])
    assert list(found) == list(printed)
    assert set(printed["data"][0]["result"]) <= set(found["data"][0]["result"])
