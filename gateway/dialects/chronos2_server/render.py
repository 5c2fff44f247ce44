"""Forecasts to the answers of the Chronos2 Server."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import numpy as np

from gateway.dialects import notices
from gateway.dialects.base import Call, Reply
from gateway.dialects.chronos2_server.decode import MEDIAN, Asked, Compared
from gateway.dialects.chronos2_server.types import (
    AnomalyPoint,
    AnomalyReportBody,
    BacktestResultBody,
    ErrorBody,
    ForecastBody,
    HealthBody,
    InfoBody,
)
from gateway.dialects.fastapi import PYDANTIC_1, SchemaError
from gateway.domain import Array, BatchAnswer, Forecast, ForecastPlan, GatewayStatus, SeriesError, SeriesForecast
from gateway.errors import Code, GatewayError

BAD_REQUEST, FAILED = 400, 500  # this server's own: bad input that is of the schema, and a model that fails
INTERNAL = "Internal server error"
LARGEST = sys.float_info.max
FAR = 1e9  # the score of a value off a band without width
PYTHON = platform.python_version()


def univariate(call: Call, answer: Forecast | ForecastPlan) -> Reply:
    assert isinstance(answer, Forecast)
    (output,) = _made(answer)
    return _reply(_forecast(answer, output), _notices(answer))


def multi_series(call: Call, answer: BatchAnswer) -> Reply:
    """All results in the order sent; raises the first error, as this server has no partial answers."""
    found: dict[int, tuple[Forecast, SeriesForecast]] = {}
    for result in answer.results:
        if isinstance(result, GatewayError):
            raise result
        assert isinstance(result, Forecast)
        for output in _made(result):
            found[_asked(output).item] = result, output
    answers = [result for result in answer.results if isinstance(result, Forecast)]
    return Reply(body=_results([found[i] for i in range(len(found))]), headers=_notices(*answers))


def _results(found: list[tuple[Forecast, SeriesForecast]]) -> Iterator[bytes]:
    for i, (answer, output) in enumerate(found):
        yield (b"," if i else b'{"results":[') + msgspec.json.encode(_forecast(answer, output))
    yield b"]}"


def anomalies(call: Call, answer: Forecast | ForecastPlan) -> Reply:
    assert isinstance(answer, Forecast)
    (output,) = _made(answer)
    compared = output.metadata
    assert isinstance(compared, Compared)
    expected = _quantile(answer, output, MEDIAN)
    lower, upper = _quantile(answer, output, compared.low), _quantile(answer, output, compared.high)
    rows = zip(compared.actuals.tolist(), expected, lower, upper, strict=True)
    points = [
        AnomalyPoint(
            index=i,
            value=value,
            expected=middle,
            lower_bound=low,
            upper_bound=high,
            is_anomaly=not low <= value <= high,
            z_score=z_score(value, middle, low, high),
        )
        for i, (value, middle, low, high) in enumerate(rows)
    ]
    found = sum(p.is_anomaly for p in points)
    body = AnomalyReportBody(
        anomalies=points, total_points=len(points), num_anomalies=found, anomaly_rate=found / len(points)
    )
    return _reply(body, _notices(answer))


def z_score(value: float, expected: float, lower: float, upper: float) -> float:
    """The distance from the forecast in half widths of the band, signed."""
    half = upper / 2 - lower / 2
    if value == expected:
        return 0.0
    score = (value - expected) / half if half > 0 else math.inf
    return score if math.isfinite(score) else math.copysign(FAR, value - expected)


def backtest(call: Call, answer: Forecast | ForecastPlan) -> Reply:
    assert isinstance(answer, Forecast)
    (output,) = _made(answer)
    compared = output.metadata
    assert isinstance(compared, Compared)
    forecast = _quantile(answer, output, MEDIAN)
    actuals = compared.actuals
    with np.errstate(over="ignore"):
        errors = np.clip(actuals - np.array(forecast), -LARGEST, LARGEST)
        nonzero = actuals != 0
        shares = np.abs(errors[nonzero] / actuals[nonzero])
        scale = float(np.abs(errors).max()) or 1.0  # sums and squares of large numbers leave the range of a float
        scaled = np.abs(errors / scale)
        body = BacktestResultBody(
            forecast=forecast,
            actuals=actuals.tolist(),
            mae=scale * float(np.mean(scaled)),
            mape=min(100.0 * float(np.mean(shares)), LARGEST) if shares.size else None,
            rmse=scale * float(np.sqrt(np.mean(scaled**2))),
            errors=errors.tolist(),
        )
    return _reply(body, _notices(answer))


# -- parts ---


def _made(answer: Forecast) -> list[SeriesForecast]:
    """Every output; raises the error of the first series that failed."""
    made = []
    for output in answer.outputs:
        if isinstance(output, SeriesError):
            raise GatewayError(output.code, output.sentence)
        made.append(output)
    return made


def _asked(output: SeriesForecast) -> Asked:
    assert isinstance(output.metadata, Asked), "metadata of this dialect is what its decode made"
    return output.metadata


def _forecast(answer: Forecast, output: SeriesForecast) -> ForecastBody:
    asked = _asked(output)
    return ForecastBody(
        timestamps=asked.calendar.following(answer.horizon),
        median=_quantile(answer, output, MEDIAN),
        quantiles={text: _quantile(answer, output, level) for text, level in asked.levels},
    )


def _quantile(answer: Forecast, output: SeriesForecast, level: float) -> list[float]:
    """One level of one series; raises INTERNAL for a number that is not finite."""
    values: Array = output.quantiles[answer.quantile_levels.index(level), :, 0]
    if not np.isfinite(values).all():
        raise GatewayError(Code.INTERNAL, "The forecast holds a number that is not finite.")
    found: list[float] = values.tolist()
    return found


def _notices(*answers: Forecast) -> dict[str, str]:
    """What a caller should know of forecasts, in a header: the bodies have no place for it."""
    made = (o for a in answers for o in a.outputs if isinstance(o, SeriesForecast))
    return notices.header(n for output in made for n in output.notices)


def _reply(body: msgspec.Struct, headers: dict[str, str] | None = None) -> Reply:
    return Reply(body=msgspec.json.encode(body), headers=headers or {})


# -- health and errors ---


def health(call: Call, status: GatewayStatus) -> Reply:
    now = datetime.fromtimestamp(status.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _reply(HealthBody(status="healthy", timestamp=now))


def info(call: Call, status: GatewayStatus) -> Reply:
    body = InfoBody(version=status.version, model_id=status.default_model, device=status.device, python_version=PYTHON)
    return _reply(body)


def error(call: Call, problem: GatewayError, status: int) -> Reply:
    """FastAPI's 422 for what is not of the schema, a sentence for everything else."""
    if isinstance(problem, SchemaError):
        body = ErrorBody(problem.detail(PYDANTIC_1))
    elif problem.code in (Code.INTERNAL, Code.MODEL_FAILED):
        status, body = FAILED, ErrorBody(INTERNAL)
    else:
        status = BAD_REQUEST if problem.code is Code.INVALID_ARGUMENT else status
        body = ErrorBody(problem.faults[0].msg if problem.faults else problem.sentence)
    return Reply(status=status, body=msgspec.json.encode(body))
