"""The Chronos2 Server's dialect against its golden exchanges and against its reference as printed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.dialects.base import Example
from gateway.dialects.chronos2_server import DIALECT
from gateway.dialects.chronos2_server.render import z_score
from gateway.domain import BatchAnswer, BatchRequest, Forecast, GatewayStatus, SeriesError
from gateway.errors import Code, Fault, GatewayError
from gateway.http.problems import STATUS
from tests.contract.dialects import call_of, content_of, forecast_of, holds, operation_of, ordered, parsed
from tests.seeds import json_objects, seed_text

SEED = "chronos2-server-api.txt"
UNIVARIATE, MULTI_SERIES = "/forecast/univariate", "/forecast/multi-series"
ANOMALIES, BACKTEST = "/anomaly/detect", "/backtest/simple"

EXCHANGES = [
    (operation.path, example)
    for operation in DIALECT.operations
    if operation.documentation
    for example in operation.documentation.examples
]
answered = pytest.mark.parametrize(
    ("path", "exchange"), [e for e in EXCHANGES if e[1].status == 200], ids=lambda e: getattr(e, "name", None)
)
refused = pytest.mark.parametrize(
    ("path", "exchange"), [e for e in EXCHANGES if e[1].status != 200], ids=lambda e: getattr(e, "name", None)
)


def rendered(path: str, body: bytes, answer: Forecast | BatchAnswer) -> Any:
    return json.loads(content_of(operation_of(DIALECT, path).render(call_of(path, body), answer)))


def asked_of(path: str, **body: Any) -> Any:
    return parsed(operation_of(DIALECT, path), call_of(path, json.dumps(body).encode()))


def answer_of(path: str, request: Any, golden: Any) -> Forecast | BatchAnswer:
    """What the service gives where the golden answer is right."""
    if isinstance(request, BatchRequest):
        (asked,) = request.requests  # they share a frequency
        each = [
            _forecast(replace(asked, series=(series,)), one)
            for series, one in zip(asked.series, golden["results"], strict=True)
        ]
        return BatchAnswer(results=(replace(each[0], outputs=tuple(f.outputs[0] for f in each)),))
    if path == ANOMALIES:
        points = golden["anomalies"]
        levels = {0.05: "lower_bound", 0.5: "expected", 0.95: "upper_bound"}
        return forecast_of(request, [0] * 3, {level: [p[name] for p in points] for level, name in levels.items()})
    if path == BACKTEST:
        return forecast_of(request, [0] * 3, {0.5: golden["forecast"]})
    return _forecast(request, golden)


def _forecast(request: Any, golden: dict[str, Any]) -> Forecast:
    quantiles = {float(text): values for text, values in golden["quantiles"].items()}
    return forecast_of(request, golden["median"], {**quantiles, 0.5: golden["median"]})


@answered
def test_an_answer_is_rendered_as_printed(path: str, exchange: Example) -> None:
    golden = json.loads(exchange.response)
    request = parsed(operation_of(DIALECT, path), call_of(path, exchange.request))
    mine = rendered(path, exchange.request, answer_of(path, request, golden))
    assert ordered(mine) == ordered(golden)
    documentation = operation_of(DIALECT, path).documentation
    assert documentation is not None
    msgspec.convert(mine, documentation.response)  # type: ignore[call-overload]


@refused
def test_an_error_is_rendered_as_printed(path: str, exchange: Example) -> None:
    operation, call = operation_of(DIALECT, path), call_of(path, exchange.request)
    with pytest.raises(GatewayError) as caught:
        parsed(operation, call)
    reply = operation.render_error(call, caught.value, STATUS[caught.value.code])
    assert reply.status == exchange.status
    assert ordered(json.loads(content_of(reply))) == ordered(json.loads(exchange.response))


# -- as printed ---


def printed(*names: str) -> list[dict[str, Any]]:
    """The objects of the reference that have all these keys."""
    return [o for o in json_objects(seed_text(SEED)) if set(names) <= set(o)]


def golden_of(name: str) -> Example:
    return next(e for _, e in EXCHANGES if e.name == name)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("univariate", ("median",)),
        ("anomalies", ("anomalies", "total_points")),
        ("backtest", ("forecast", "actuals", "mae")),
    ],
)
def test_a_printed_answer_is_part_of_the_golden_one(name: str, keys: tuple[str, ...]) -> None:
    theirs = printed(*keys)[0]
    ours = json.loads(golden_of(name).response)
    holds(ours, theirs)
    if name == "univariate":
        assert ordered(ours) == ordered(theirs)
    if name == "anomalies":
        assert [p["is_anomaly"] for p in ours["anomalies"]] == [p["is_anomaly"] for p in theirs["anomalies"]]
        assert [round(p["z_score"], 1) for p in ours["anomalies"]] == [0.3, 14.6, 0.0]  # theirs prints 14.5
        assert round(ours["anomaly_rate"], 3) == theirs["anomaly_rate"]


def test_the_printed_answer_of_several_series_is_part_of_the_golden_one() -> None:
    """Steps are counted from the first after the values: its example of 5 values begins with "5"."""
    (theirs,) = printed("results")
    ours = json.loads(golden_of("multi-series").response)
    holds(ours, theirs)
    for mine, other in zip(ours["results"], theirs["results"], strict=True):
        assert mine["timestamps"] == ["6", "7", "8"]
        assert mine["median"] == other["median"]


@pytest.mark.parametrize(("name", "wording"), [("schema", "value_error.missing"), ("empty", "values cannot be empty")])
def test_a_printed_error_is_golden(name: str, wording: str) -> None:
    (theirs,) = [o for o in printed("detail") if wording in json.dumps(o)]
    assert json.loads(golden_of(name).response) == theirs


@pytest.mark.parametrize(
    ("levels", "different"),
    [([i / 100 for i in range(1, 100)], 99), ([0.1] * 120, 2), ([i / 200 for i in range(1, 99)], 99)],
)
def test_levels_are_counted_once_and_the_median_not_at_all(levels: list[float], different: int) -> None:
    request = asked_of(UNIVARIATE, values=[1, 2, 3], prediction_length=1, quantile_levels=levels)
    assert len(request.parameters.quantile_levels) == different


@pytest.mark.parametrize("levels", [[i / 200 for i in range(1, 100)], [0.1] * 2000])
def test_too_many_levels_are_refused(levels: list[float]) -> None:
    with pytest.raises(GatewayError, match="more than"):
        asked_of(UNIVARIATE, values=[1, 2, 3], prediction_length=1, quantile_levels=levels)


@pytest.mark.parametrize("freq", [{}, {"freq": "M"}])
@pytest.mark.parametrize(
    ("sent", "following"),
    [
        ("2025-06-30 2025-07-30 2025-08-30 2025-09-30 2025-10-30 2025-11-30", ["2025-12-30", "2026-01-30"]),
        ("2025-02-28 2025-03-28 2025-04-28", ["2025-05-28", "2025-06-28"]),
        ("2025-04-30 2025-05-31 2025-06-30", ["2025-07-31", "2025-08-31"]),
    ],
)
def test_months_go_on_as_the_timestamps_do(freq: dict[str, str], sent: str, following: list[str]) -> None:
    stamps = sent.split()
    body = {"values": [1.0] * len(stamps), "timestamps": stamps, "prediction_length": 2, **freq}
    request = asked_of(UNIVARIATE, **body)
    answer = forecast_of(request, [1, 2], {level: [1, 2] for level in (0.1, 0.5, 0.9)})
    assert rendered(UNIVARIATE, json.dumps(body).encode(), answer)["timestamps"] == following


def test_dates_as_pandas_writes_them_are_answered_as_dates() -> None:
    assert "# ['2025-01-11', '2025-01-12', ...]" in seed_text(SEED)
    assert json.loads(golden_of("univariate-timestamps").response)["timestamps"][:2] == ["2025-01-11", "2025-01-12"]


@pytest.mark.parametrize(("path", "keys"), [("/health", {"status", "timestamp"}), ("/health/info", {"python_version"})])
def test_the_printed_health_is_ours(path: str, keys: set[str]) -> None:
    theirs = printed(*keys)[0]
    status = GatewayStatus(
        ready=True, reason="", version="1.2.3", default_model="amazon/chronos-2", device="cpu", time=1762689600.5
    )
    ours = json.loads(content_of(operation_of(DIALECT, path).render(call_of(path, b""), status)))
    holds(ours, theirs)
    expected = {"/health": "2025-11-09T12:00:00Z", "/health/info": "amazon/chronos-2"}[path]
    assert ours.get("timestamp", ours.get("model_id")) == expected == theirs.get("timestamp", theirs.get("model_id"))


# -- calendars, levels, numbers ---


@pytest.mark.parametrize(
    ("stamps", "freq", "expected"),
    [
        (["2025-01-01", "2025-01-02", "2025-01-03"], None, "2025-01-04"),
        (["2025-01-01", "2025-01-02", "2025-01-03"], "D", "2025-01-04"),
        (["2025-01-01T00:00:00", "2025-01-01T01:00:00", "2025-01-01T02:00:00"], None, "2025-01-01T03:00:00"),
        (["2025-01-01 00:00", "2025-01-01 00:15", "2025-01-01 00:30"], None, "2025-01-01 00:45"),
        (["2025-01-01T00:00:00.000Z", "2025-01-02T00:00:00.000Z", "2025-01-03T00:00:00.000Z"], None,
         "2025-01-04T00:00:00.000Z"),
        (["2024-12-31", "2025-01-31", "2025-02-28"], "M", "2025-03-31"),
        (["2025-01-01", "2025-02-01", "2025-03-01"], "M", "2025-04-01"),
        (["2025-01-01", "2025-04-01", "2025-07-01"], None, "2025-10-01"),
        (["2025-01-02", "2025-01-03", "2025-01-06"], "B", "2025-01-07"),
        (["2025-01-05", "2025-01-12", "2025-01-19"], "W", "2025-01-26"),
        (["2025-01-01T00:00:00+05:30", "2025-01-01T01:00:00+05:30", "2025-01-01T02:00:00+05:30"], None,
         "2025-01-01T03:00:00+05:30"),
    ],
)  # fmt: skip
def test_timestamps_go_on_in_the_form_sent(stamps: list[str], freq: str | None, expected: str) -> None:
    request = asked_of(UNIVARIATE, values=[1, 2, 3], prediction_length=1, timestamps=stamps, freq=freq)
    assert request.series[0].start == stamps[0]
    assert rendered(UNIVARIATE, b"", forecast_of(request, [1], {0.1: [1], 0.5: [1], 0.9: [1]}))["timestamps"] == [
        expected
    ]


@pytest.mark.parametrize(
    ("stamps", "freq"),
    [
        (["2025-01-01", "2025-01-02", "2025-01-03"], "H"),
        (["2025-01-02", "2025-01-03", "2025-01-06"], "D"),
        (["2025-01-01", "2025-01-02", "2025-01-02"], None),
        (["2025-01-03", "2025-01-02", "2025-01-01"], None),
        (["2025-01-01", "2025-01-02", "2025-01-09"], None),
        (["2025-01-01", "2025-01-02"], None),
        (["01/02/2025", "01/03/2025", "01/04/2025"], None),
        (["2025-02-28", "2025-02-29", "2025-03-01"], None),
    ],
)
def test_timestamps_that_cannot_be_are_400(stamps: list[str], freq: str | None) -> None:
    with pytest.raises(GatewayError) as caught:
        asked_of(UNIVARIATE, values=[1, 2, 3], prediction_length=1, timestamps=stamps, freq=freq)
    reply = operation_of(DIALECT, UNIVARIATE).render_error(call_of(UNIVARIATE, b""), caught.value, 422)
    assert reply.status == 400
    assert isinstance(json.loads(content_of(reply))["detail"], str)


def test_irregular_stamps_late_in_a_long_series_are_seen() -> None:
    days = [f"2000-01-{1 + i:02}" for i in range(28)]
    hours = [f"{day}T{hour:02}:00:00" for day in days for hour in range(24)]
    late = [
        *[f"2000-01-{1 + i // 1440:02}T{i // 60 % 24:02}:{i % 60:02}:00" for i in range(3000)],
        "2000-02-01T00:00:00",
    ]
    for stamps, right in ((hours, True), (late[:-1], True), (late, False)):
        body = {"values": [1] * len(stamps), "prediction_length": 1, "timestamps": stamps}
        if right:
            asked_of(UNIVARIATE, **body)
        else:
            with pytest.raises(GatewayError, match="not regular"):
                asked_of(UNIVARIATE, **body)


def test_levels_keep_order_and_spelling_and_the_median_is_always_there() -> None:
    body = b'{"values": [1, 2, 3], "prediction_length": 1, "quantile_levels": [0.90, 1e-1]}'
    request = parsed(operation_of(DIALECT, UNIVARIATE), call_of(UNIVARIATE, body))
    assert request.parameters.quantile_levels == (0.1, 0.5, 0.9)
    answer = rendered(UNIVARIATE, body, forecast_of(request, [9], {0.1: [1], 0.5: [2], 0.9: [3]}))
    assert ordered(answer) == ordered(
        {"timestamps": ["4"], "median": [2.0], "quantiles": {"0.90": [3.0], "1e-1": [1.0]}}
    )


def test_series_of_different_calendars_come_back_in_the_order_sent() -> None:
    monthly = ["2025-01-01", "2025-02-01", "2025-03-01"]
    series = [{"values": [1, 1, 1]}, {"values": [2, 2, 2], "timestamps": monthly}, {"values": [3, 3, 3, 3]}]
    request = asked_of(MULTI_SERIES, series_list=series, prediction_length=1, quantile_levels=[])
    assert [len(r.series) for r in request.requests] == [2, 1]
    made = []
    for asked in request.requests:
        each = [
            forecast_of(replace(asked, series=(s,)), s.target[-1:], {0.5: s.target[-1:]}).outputs[0]
            for s in asked.series
        ]
        made.append(replace(forecast_of(asked, [0], {0.5: [0]}), outputs=tuple(each)))
    results = rendered(MULTI_SERIES, b"", BatchAnswer(results=tuple(made)))["results"]
    assert [(r["timestamps"], r["median"]) for r in results] == [(["4"], [1]), (["2025-04-01"], [2]), (["5"], [3])]


def test_one_series_that_fails_fails_the_call() -> None:
    request = asked_of(MULTI_SERIES, series_list=[{"values": [1, 2, 3]}] * 2, prediction_length=1)
    (asked,) = request.requests
    sound = forecast_of(replace(asked, series=asked.series[:1]), [1], {0.1: [1], 0.5: [1], 0.9: [1]})
    answer = replace(sound, outputs=(*sound.outputs, SeriesError(code=Code.MODEL_FAILED, sentence="no")))
    with pytest.raises(GatewayError) as caught:
        rendered(MULTI_SERIES, b"", BatchAnswer(results=(answer,)))
    reply = operation_of(DIALECT, MULTI_SERIES).render_error(call_of(MULTI_SERIES, b""), caught.value, 502)
    assert (reply.status, json.loads(content_of(reply))) == (500, {"detail": "Internal server error"})


@pytest.mark.parametrize(
    ("value", "expected", "lower", "upper", "score"),
    [
        (3.0, 2.0, 1.0, 3.0, 1.0),
        (1.0, 2.0, 0.0, 4.0, -0.5),
        (2.0, 2.0, 2.0, 2.0, 0.0),
        (2.5, 2.0, 2.0, 2.0, 1e9),
        (1.5, 2.0, 2.0, 2.0, -1e9),
        (1e308, -1e308, -1e308, -1e308 + 1e292, 1e9),
    ],
)
def test_scores_are_distances_in_half_widths(
    value: float, expected: float, lower: float, upper: float, score: float
) -> None:
    assert z_score(value, expected, lower, upper) == score


def test_a_backtest_of_zeros_has_no_percentage_and_every_other_number() -> None:
    request = asked_of(BACKTEST, context_values=[1, 2, 3], actual_values=[0, 4], prediction_length=2)
    mine = rendered(BACKTEST, b"", forecast_of(request, [0, 0], {0.5: [1.0, 2.0]}))
    assert mine == {
        "forecast": [1.0, 2.0],
        "actuals": [0.0, 4.0],
        "mae": 1.5,
        "mape": 50.0,
        "rmse": pytest.approx(math.sqrt(2.5)),
        "errors": [-1.0, 2.0],
    }


def test_numbers_at_the_end_of_the_range_stay_numbers() -> None:
    request = asked_of(BACKTEST, context_values=[1, 2, 3], actual_values=[1e308, 1e-308], prediction_length=2)
    mine = rendered(BACKTEST, b"", forecast_of(request, [0, 0], {0.5: [-1e308, 1e308]}))
    numbers = [mine["mae"], mine["mape"], mine["rmse"], *mine["errors"]]
    assert all(isinstance(n, float) and math.isfinite(n) for n in numbers)
    assert mine["rmse"] > mine["mae"] > 1e308


def test_what_a_caller_should_know_comes_in_a_header() -> None:
    request = asked_of(UNIVARIATE, values=[1, 2, 3], prediction_length=1, quantile_levels=[])
    answer = forecast_of(request, [1], {0.5: [1]}, notices=["Mind this — twice.", "Mind this — twice.", "And that."])
    reply = operation_of(DIALECT, UNIVARIATE).render(call_of(UNIVARIATE, b""), answer)
    assert reply.headers == {"x-forecast-notices": "Mind this ? twice. And that."}


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        (Code.UNAUTHENTICATED, 401, "why"),
        (Code.PERMISSION_DENIED, 403, "why"),
        (Code.RESOURCE_EXHAUSTED, 429, "why"),
        (Code.UNAVAILABLE, 503, "why"),
        (Code.DEADLINE_EXCEEDED, 504, "why"),
        (Code.INTERNAL, 500, "Internal server error"),
        (Code.MODEL_FAILED, 500, "Internal server error"),
    ],
)
def test_errors_of_every_kind_have_a_detail(code: Code, status: int, detail: str) -> None:
    reply = operation_of(DIALECT, BACKTEST).render_error(
        call_of(BACKTEST, b""), GatewayError(code, "why"), STATUS[code]
    )
    assert (reply.status, json.loads(content_of(reply))) == (status, {"detail": detail})


def test_a_horizon_over_the_models_is_400_with_a_sentence() -> None:
    error = GatewayError.invalid(Fault(("parameters", "prediction_length"), "at most 5 steps, not 6"))
    reply = operation_of(DIALECT, UNIVARIATE).render_error(call_of(UNIVARIATE, b""), error, 422)
    assert (reply.status, json.loads(content_of(reply))) == (400, {"detail": "at most 5 steps, not 6"})
