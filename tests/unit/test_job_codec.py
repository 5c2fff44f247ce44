"""Work and answers come back as they were written, whatever they hold, and nothing else is read."""

from __future__ import annotations

import dataclasses
import pickle
from typing import get_args

import numpy as np
import pytest

from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.metadata import Echo
from gateway.domain import (
    AnomalyReport,
    AnomalyRequest,
    Answer,
    Backtest,
    BacktestRequest,
    BacktestWindow,
    BatchAnswer,
    BatchRequest,
    EnsembleForecast,
    EnsembleRequest,
    Forecast,
    ForecastPlan,
    ForecastRequest,
    Notice,
    Parameters,
    PlannedSeries,
    RankedModel,
    Scores,
    SeriesAnomalies,
    SeriesBacktest,
    SeriesError,
    SeriesForecast,
    SeriesInput,
    Usage,
    Work,
)
from gateway.errors import Code, Fault, GatewayError
from gateway.jobs import codec
from gateway.pacing import at_once

ARRAY = np.arange(6.0).reshape(3, 2)
HOLES = np.array([[np.nan], [np.inf], [-0.0]])
ECHO = Echo(Format.JSON, b'{"a": 1.0, "_": [0]}')
SERIES = SeriesInput(
    target=HOLES,
    start="2026-01-01",
    past_covariates={"_": ARRAY[:, 0], "0": ("a", None, "b")},
    future_covariates={"x": np.empty(0)},
    static_covariates={"s": 1.5},
    channels=("c",),
    metadata=ECHO,
)
PARAMETERS = Parameters(prediction_length=3, quantile_levels=(), seed=2**70, cross_learning=True, sensitivity=0.0)
REQUEST = ForecastRequest(model="a/b", series=(SERIES, SERIES), parameters=PARAMETERS, metadata=[1, {"k": (None,)}])
ERROR = GatewayError(Code.NOT_FOUND, "no", faults=(Fault(("inputs", 3), "bad"),), retry_after_s=2.0)
NOTICE = Notice(code="fallback", sentence="told", item=1, names=("x",))
MODEL = {"id": "i", "created": 1, "model": "a/b", "model_revision": "r", "provider": "p"}
LEVELS = {"quantile_levels": (0.1, 0.9), "usage": Usage(input_tokens=1), "latency_ms": 0.5}
FAILED = SeriesError(code=Code.MODEL_FAILED, sentence="broke", metadata=ECHO)
FORECAST = Forecast(
    **MODEL,
    **LEVELS,
    point="mean",
    horizon=3,
    input_points=6,
    outputs=(SeriesForecast(mean=ARRAY, quantiles=ARRAY[None], timestamps=("t",), notices=(NOTICE,)), FAILED),
)
SCORES = Scores(values={"mae": 1.0, "mase": None}, skipped={"mape": 2})
WORKS: tuple[Work, ...] = (
    REQUEST,
    BatchRequest(requests=(REQUEST, ERROR)),
    EnsembleRequest(models=None, series=(SERIES,), parameters=PARAMETERS, selection="per_series"),
    BacktestRequest(forecast=REQUEST, windows=2, metrics=("mae",), forecasts=False),
    AnomalyRequest(forecast=REQUEST, scored_from=0),
)
ANSWERS: tuple[Answer, ...] = (
    FORECAST,
    ForecastPlan(
        **MODEL,
        **LEVELS,
        point="median",
        horizon=1,
        input_points=1,
        batch_class="b",
        outputs=(PlannedSeries(input_points=1),),
    ),
    BatchAnswer(results=(FORECAST, ERROR)),
    EnsembleForecast(
        forecast=FORECAST,
        ranked=(RankedModel(model="a/b", rank=1, status="selected", metrics={"smape": None}),),
        scoring_metric="smape",
        holdout_length=3,
        windows=1,
        usage=Usage(),
        latency_ms=1.0,
        series_weights=((0.5,), (1.0,)),
    ),
    Backtest(
        **MODEL,
        **LEVELS,
        point="mean",
        horizon=3,
        windows=1,
        step=3,
        scores=SCORES,
        outputs=(
            SeriesBacktest(
                windows=(
                    BacktestWindow(cutoff=3, timestamps=None, mean=ARRAY, quantiles=None, actuals=HOLES, scores=SCORES),
                ),
                scores=SCORES,
            ),
            FAILED,
        ),
    ),
    AnomalyReport(
        **MODEL,
        **LEVELS,
        sensitivity=3.0,
        total_points=1,
        num_anomalies=0,
        outputs=(
            SeriesAnomalies(
                values=ARRAY,
                expected=ARRAY,
                lower=ARRAY,
                upper=ARRAY,
                z_score=ARRAY,
                is_anomaly=HOLES,
                quantiles=None,
                scored_from=0,
                timestamps=None,
            ),
        ),
    ),
)  # fmt: skip


def alike(a: object, b: object) -> bool:
    """Whether two values are the same, arrays bit by bit and types included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return all(alike(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, (tuple, list)):
        assert isinstance(b, (tuple, list))
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        assert isinstance(b, dict)
        return list(a) == list(b) and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, GatewayError):
        assert isinstance(b, GatewayError)
        return (a.code, a.sentence, a.faults, a.retry_after_s) == (b.code, b.sentence, b.faults, b.retry_after_s)
    return a == b


@pytest.mark.parametrize("value", [*WORKS, *ANSWERS], ids=lambda v: type(v).__name__)
def test_everything_comes_back(value: object) -> None:
    content = at_once(codec.encode(value))
    assert content[0] == codec.VERSION
    assert alike(at_once(codec.decode(content, type(value))), value)


def test_every_type_is_among_the_tested() -> None:
    assert {type(v) for v in WORKS} == set(get_args(Work))
    assert {type(v) for v in ANSWERS} == set(get_args(Answer))


def test_arrays_are_raw_bytes() -> None:
    content = at_once(codec.encode(SeriesInput(target=ARRAY)))
    assert ARRAY.tobytes() in content
    long = at_once(codec.encode(SeriesInput(target=np.zeros((100_000, 1)))))
    assert len(long) < 800_200


def test_an_array_does_not_keep_the_message_alive() -> None:
    read = at_once(codec.decode(at_once(codec.encode(SERIES)), SeriesInput))
    assert read.target.base is None or not isinstance(read.target.base, (bytes, memoryview))
    assert read.target.flags.aligned


def test_another_version_is_refused_clearly() -> None:
    content = at_once(codec.encode(REQUEST))
    with pytest.raises(GatewayError, match="version 9") as refused:
        at_once(codec.decode(b"\x09" + content[1:], ForecastRequest))
    assert refused.value.code is Code.INTERNAL


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        b"\x01\xc1",
        pickle.dumps(1),
        at_once(codec.encode(FORECAST)),
        at_once(codec.encode(REQUEST))[:-5],
        b"\x01\x92\xa6Popen!\x80",
        b"\x01\x92\xaeForecastRequest\x81\xa1x\x01",
    ],
)
def test_anything_else_is_an_error_of_ours(content: bytes) -> None:
    with pytest.raises(GatewayError):
        at_once(codec.decode(content, ForecastRequest))


@pytest.mark.parametrize("value", [object(), np.array(["a"]), np.array([object()]), {1: object()}])
def test_what_is_no_part_of_a_job_is_not_written(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be part of a job"):
        at_once(codec.encode(value))
