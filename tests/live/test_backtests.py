"""Backtests through a real engine, with models whose errors are known beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from gateway.domain import Backtest, BacktestRequest, ForecastRequest, SeriesBacktest, SeriesError, SeriesInput
from gateway.errors import Code, GatewayError
from gateway.service import backtests
from tests.candidates import CALLER, Bench, bench, biased, in_time, parameters, raising, series

RAMP = tuple(range(1, 21))


@pytest.fixture(scope="module")
def models() -> Iterator[Bench]:
    with bench([biased("test/naive"), biased("test/picky", picky=True), raising("test/raising")], workers=1) as running:
        yield running


def asked(*sent: SeriesInput, model: str = "test/naive", horizon: int = 2, **fields: object) -> ForecastRequest:
    return ForecastRequest(model=model, series=sent, parameters=parameters(horizon, **fields))


def run(models: Bench, request: BacktestRequest) -> Backtest:
    async def call() -> Backtest:
        return await backtests.backtest(models.service, request, caller=CALLER, deadline=in_time())

    return models.run(call())


def windows(output: SeriesBacktest | SeriesError) -> SeriesBacktest:
    assert isinstance(output, SeriesBacktest)
    return output


def test_each_window_is_forecast_from_what_was_known_at_its_cutoff(models: Bench) -> None:
    sent = replace(series(*RAMP, metadata="mine"), start="2024-01-31")
    answer = run(models, BacktestRequest(forecast=asked(sent, frequency="M"), windows=3, step=3))

    output = windows(answer.outputs[0])
    assert [w.cutoff for w in output.windows] == [12, 15, 18]
    for window in output.windows:
        assert window.mean is not None and window.actuals is not None
        assert window.mean.ravel().tolist() == [window.cutoff, window.cutoff]  # the last value of its context
        assert window.actuals.ravel().tolist() == [window.cutoff + 1, window.cutoff + 2]
        assert window.scores.values["mae"] == 1.5
    assert output.windows[0].timestamps == ("2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z")
    assert output.metadata == "mine"
    assert answer.usage.output_tokens == 3 * 2 * 3  # windows, steps, levels
    assert answer.usage.input_tokens == 12 + 15 + 18


def test_scores_pool_the_cells_of_windows_and_series(models: Bench) -> None:
    flat, steep = series(*[5.0] * 12), series(*np.arange(12) * 10.0)
    answer = run(models, BacktestRequest(forecast=asked(flat, steep), windows=2))

    assert [windows(o).scores.values["mae"] for o in answer.outputs] == [0.0, 15.0]
    assert answer.scores.values["mae"] == 7.5
    assert answer.scores.values["rmse"] == pytest.approx(np.sqrt((100 + 400) / 4))
    assert windows(answer.outputs[0]).scores.values["mase"] is None  # nothing moves in its context
    assert answer.scores.values["mase"] == 1.5


def test_parts_of_a_backtest_add_up_to_the_whole_to_the_last_bit(models: Bench) -> None:
    rng = np.random.default_rng(1)
    sent = [series(*rng.normal(10, 3, size)) for size in (30, 12, 5, 44)]
    order = BacktestRequest(forecast=asked(*sent), windows=3)
    whole = run(models, order)
    parts = [run(models, replace(order, forecast=asked(*part))) for part in (sent[:1], sent[1:3], sent[3:])]

    together = backtests.merged(parts)

    assert together.scores == whole.scores
    assert together.usage == whole.usage
    assert [getattr(o, "scores", None) for o in together.outputs] == [getattr(o, "scores", None) for o in whole.outputs]
    assert isinstance(together.outputs[2], SeriesError)


def test_forecasts_can_be_left_out(models: Bench) -> None:
    answer = run(models, BacktestRequest(forecast=asked(series(*RAMP)), windows=2, metrics=("mae",), forecasts=False))

    window = windows(answer.outputs[0]).windows[0]
    assert window.mean is None and window.quantiles is None and window.actuals is None
    assert window.scores.values == {"mae": 1.5}


def test_a_short_series_fails_alone(models: Bench) -> None:
    answer = run(models, BacktestRequest(forecast=asked(series(*RAMP), series(1, 2, 3, 4)), windows=2))

    short = answer.outputs[1]
    assert isinstance(short, SeriesError)
    assert (short.code, short.sentence) == (
        Code.INVALID_ARGUMENT,
        "4 rows are too few for 2 windows: at least 5 are needed.",
    )
    windows(answer.outputs[0])


def test_short_series_alone_are_refused_at_their_places(models: Bench) -> None:
    with pytest.raises(GatewayError, match="3 rows are too few for 2 windows: at least 5 are needed") as refused:
        run(models, BacktestRequest(forecast=asked(series(1, 2, 3), series(1, 2)), windows=2))
    assert [fault.loc for fault in refused.value.faults] == [("inputs", 0, "target"), ("inputs", 1, "target")]


def test_fewer_windows_are_scored_where_that_was_allowed(models: Bench) -> None:
    order = BacktestRequest(forecast=asked(series(*RAMP), series(1, 2, 3, 4)), windows=2, fewer_windows=True)
    output = windows(run(models, order).outputs[1])

    assert [w.cutoff for w in output.windows] == [2]
    assert [(n.code, n.item) for n in output.notices] == [("windows_fewer", 1)]


def test_a_window_without_an_observation_before_it_fails_alone(models: Bench) -> None:
    nan = float("nan")
    answer = run(models, BacktestRequest(forecast=asked(series(nan, nan, nan, 4, 5, 6, 7)), windows=2))

    output = windows(answer.outputs[0])
    assert [w.cutoff for w in output.windows] == [5]
    (told,) = output.notices
    assert told.code == "window_failed" and "rows 3 to 4: " in told.sentence and "no observed value" in told.sentence


def test_a_series_of_which_the_model_forecasts_nothing_fails_with_its_reason(models: Bench) -> None:
    order = BacktestRequest(forecast=asked(series(-1, *RAMP), series(*RAMP), model="test/picky"), windows=2)
    failed, fine = run(models, order).outputs

    assert isinstance(failed, SeriesError)
    assert (failed.code, failed.sentence) == (Code.MODEL_FAILED, "It does not like this series.")
    windows(fine)


def test_a_model_that_raises_is_an_error_of_the_call(models: Bench) -> None:
    with pytest.raises(GatewayError) as failed:
        run(models, BacktestRequest(forecast=asked(series(*RAMP), model="test/raising")))
    assert failed.value.code is Code.MODEL_FAILED


@pytest.mark.parametrize(
    ("request_", "loc"),
    [
        (BacktestRequest(forecast=asked(series(*RAMP), dry_run=True)), ("parameters", "dry_run")),
        (BacktestRequest(forecast=asked(series(*RAMP), horizon=65)), ("parameters", "prediction_length")),
        (BacktestRequest(forecast=asked(series(*RAMP), frequency="soon")), ("parameters", "frequency")),
        (BacktestRequest(forecast=asked(series(*RAMP)), windows=100_001), ("windows",)),
        (BacktestRequest(forecast=asked(series(*RAMP), horizon=64), windows=40_000), ("windows",)),
    ],
)
def test_what_cannot_be_done_is_refused_at_its_place(
    models: Bench, request_: BacktestRequest, loc: tuple[str, ...]
) -> None:
    with pytest.raises(GatewayError) as refused:
        run(models, request_)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert loc in [fault.loc for fault in refused.value.faults]


def test_many_windows_go_to_the_engine_in_few_calls(models: Bench) -> None:
    before = models.engine.snapshot().batches
    answer = run(models, BacktestRequest(forecast=asked(*[series(*RAMP)] * 40), windows=9, forecasts=False))

    assert sum(len(windows(o).windows) for o in answer.outputs) == 360
    assert models.engine.snapshot().batches - before < 36  # they share batches
