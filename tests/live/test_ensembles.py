"""Ensembles through a real engine: ranks, weights, blends, candidates that misbehave, and the budget."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.domain import (
    Backtest,
    BacktestRequest,
    Caller,
    EnsembleForecast,
    EnsembleRequest,
    RankedModel,
    SeriesError,
    SeriesForecast,
    SeriesInput,
)
from gateway.errors import Code, GatewayError
from gateway.service import backtests, ensembles
from gateway.service.ensembles import Backtester
from tests.candidates import (
    CALLER,
    HANG_LIMIT_S,
    Bench,
    bench,
    biased,
    broken,
    gated,
    in_time,
    parameters,
    raising,
    series,
    slow_to_load,
)
from tests.live.gated import Gate

FLAT = tuple([10.0] * 16)
SHORT_BUDGET_S = 2.0  # of calls whose budget runs out


@pytest.fixture(scope="module")
def models() -> Iterator[Bench]:
    cards = [
        biased("test/off-by-1", bias=1),
        biased("test/off-by-2", bias=2),
        biased("test/off-by-4", bias=4),
        biased("test/climbing", drift=1),
        biased("test/picky", bias=0.5, picky=True),
        biased("test/near-sighted", horizon=2),
        biased("secret/best"),
        raising("test/raising"),
        broken("test/broken"),
    ]
    with bench(cards) as running:
        yield running


def asked(*sent: SeriesInput, models: tuple[str, ...] | None, horizon: int = 3, **fields: object) -> EnsembleRequest:
    request = EnsembleRequest(models=models, series=sent, parameters=parameters(horizon), budget_s=HANG_LIMIT_S)
    return replace(request, **fields)


def run(
    models: Bench, request: EnsembleRequest, caller: Caller = CALLER, backtester: Backtester | None = None
) -> EnsembleForecast:
    async def call() -> EnsembleForecast:
        return await ensembles.ensemble(
            models.service, request, caller=caller, deadline=in_time(), backtester=backtester
        )

    return models.run(call())


def forecast(output: SeriesForecast | SeriesError) -> SeriesForecast:
    assert isinstance(output, SeriesForecast)
    return output


def found(answer: EnsembleForecast, model: str) -> RankedModel:
    return next(r for r in answer.ranked if r.model == model)


def codes(output: SeriesForecast | SeriesError) -> list[str]:
    return [notice.code for notice in output.notices]


# -- ranks, weights and blends ---


def test_the_best_are_blended_and_the_others_ranked(models: Bench) -> None:
    names = ("test/off-by-4", "test/off-by-1", "test/off-by-2")
    answer = run(models, asked(series(*FLAT, metadata="mine"), models=names, max_models=2, scoring_metric="mase"))

    # A flat context has no scale: nothing is scored, and the first two of the list have equal weights.
    assert [(r.model, r.rank, r.status, r.weight) for r in answer.ranked] == [
        ("test/off-by-4", 1, "selected", 0.5),
        ("test/off-by-1", 2, "selected", 0.5),
        ("test/off-by-2", 3, "ranked", 0.0),
    ]
    assert codes(answer.forecast.outputs[0])[:2] == ["blended", "weights_equal"]

    answer = run(models, asked(series(*FLAT, metadata="mine"), models=names, max_models=2))
    assert [(r.model, r.rank, r.status) for r in answer.ranked] == [
        ("test/off-by-1", 1, "selected"),
        ("test/off-by-2", 2, "selected"),
        ("test/off-by-4", 3, "ranked"),
    ]
    assert [r.metrics["mae"] for r in answer.ranked] == [1, 2, 4]
    assert answer.ranked[0].score == pytest.approx(200 / 21)  # sMAPE of 11 for 10
    assert answer.ranked[0].weight > answer.ranked[1].weight > 0
    assert sum(r.weight for r in answer.ranked) == pytest.approx(1)
    output = forecast(answer.forecast.outputs[0])
    assert output.mean.ravel().tolist() == pytest.approx(
        [11 * answer.ranked[0].weight + 12 * answer.ranked[1].weight] * 3
    )
    assert (np.diff(output.quantiles, axis=0) >= 0).all()
    assert output.metadata == "mine"
    assert (answer.forecast.model, answer.forecast.quantile_levels) == ("ensemble", (0.1, 0.5, 0.9))
    assert (answer.holdout_length, answer.windows, answer.scoring_metric) == (3, 1, "smape")
    # 3 backtests of 13 rows at 9 levels, 2 forecasts of 16 rows at 3
    assert answer.usage.input_tokens == 3 * 13 + 2 * 16
    assert answer.usage.output_tokens == 3 * 3 * 9 + 2 * 3 * 3
    assert answer.forecast.usage == answer.usage


def test_weighting_decides_who_takes_part(models: Bench) -> None:
    names = ("test/off-by-1", "test/off-by-2", "test/climbing")
    ramp = series(*range(10, 40))

    def weights(weighting: str) -> dict[str, float]:
        return {r.model: r.weight for r in run(models, asked(ramp, models=names, weighting=weighting)).ranked}

    assert weights("best") == {"test/climbing": 1.0, "test/off-by-2": 0.0, "test/off-by-1": 0.0}
    assert weights("equal") == {name: pytest.approx(1 / 3) for name in names}
    assert weights("greedy")["test/climbing"] == 1.0  # it makes no error: no blend is better


def test_each_series_may_have_its_own_weights(models: Bench) -> None:
    names = ("test/off-by-1", "test/climbing")
    both = (series(*[9.0] * 12), series(*range(12)))
    answer = run(models, asked(*both, models=names, selection="per_series", weighting="best", windows=2))

    assert answer.series_weights is not None
    by_model = dict(zip([r.model for r in answer.ranked], zip(*answer.series_weights, strict=True), strict=True))
    assert by_model == {"test/off-by-1": (1.0, 0.0), "test/climbing": (0.0, 1.0)}
    assert {r.model: r.weight for r in answer.ranked} == {"test/off-by-1": 0.5, "test/climbing": 0.5}
    assert forecast(answer.forecast.outputs[0]).mean.ravel().tolist() == [10, 10, 10]
    assert forecast(answer.forecast.outputs[1]).mean.ravel().tolist() == [12, 13, 14]
    assert run(models, asked(*both, models=names)).series_weights is None


def test_a_series_too_short_to_score_has_the_weights_of_the_rest(models: Bench) -> None:
    request = asked(series(*FLAT), series(7, 7), models=("test/off-by-1", "test/off-by-2"), weighting="best")
    answer = run(models, request)

    assert forecast(answer.forecast.outputs[1]).mean.ravel().tolist() == [8, 8, 8]
    assert codes(answer.forecast.outputs[1]) == ["blended", "weights_of_others"]
    assert codes(answer.forecast.outputs[0]) == ["blended"]


def test_fewer_folds_than_asked_are_told(models: Bench) -> None:
    answer = run(models, asked(series(*FLAT), models=("test/off-by-1",), windows=9))

    assert answer.windows == 5
    assert codes(answer.forecast.outputs[0]) == ["blended", "windows_fewer"]


def test_levels_and_samples_are_those_of_quantile_functions(models: Bench) -> None:
    request = asked(series(*FLAT), models=("test/off-by-1",))
    answer = run(models, replace(request, parameters=parameters(3, quantile_levels=(0.05, 0.95), num_samples=5)))
    output = forecast(answer.forecast.outputs[0])
    assert answer.forecast.quantile_levels == (0.05, 0.95)
    assert output.quantiles[:, 0, 0].tolist() == pytest.approx([11 - 0.45, 11 + 0.45])
    assert output.samples is None and "samples_not_blended" in codes(output)

    point = run(models, replace(request, parameters=parameters(3, quantile_levels=())))
    assert forecast(point.forecast.outputs[0]).quantiles.shape == (0, 3, 1)


def test_without_names_every_servable_model_that_can_take_the_request_is_a_candidate(models: Bench) -> None:
    answer = run(models, asked(series(*FLAT), models=None))

    names = {r.model for r in answer.ranked}
    assert "test/near-sighted" not in names  # its horizon is shorter
    assert {"test/off-by-1", "secret/best", "test/raising", "test/broken"} <= names
    assert answer.ranked[0].model == "secret/best"
    assert all(found(answer, name).status == "failed" for name in ("test/raising", "test/broken"))


def test_top_n_bounds_who_is_tried(models: Bench) -> None:
    names = ("test/near-sighted", "test/off-by-4", "test/off-by-2", "test/off-by-1")
    answer = run(models, asked(series(*FLAT), models=names, top_n=2))

    assert [r.model for r in answer.ranked] == ["test/off-by-2", "test/off-by-4", "test/off-by-1", "test/near-sighted"]
    assert "top_n" in str(answer.ranked[2].error) and answer.ranked[2].score is None


# -- candidates that take no part ---


def test_candidates_that_cannot_take_part_are_ranked_last_with_their_reason(models: Bench) -> None:
    names = ("test/raising", "test/nobody", "secret/best", "test/broken", "test/near-sighted", "test/off-by-1")
    answer = run(models, asked(series(*FLAT), models=names), caller=Caller(id="guest", models=("test/*",)))

    first, *failed = answer.ranked
    assert (first.model, first.status, first.weight) == ("test/off-by-1", "selected", 1.0)
    assert [r.rank for r in answer.ranked] == [1, 2, 3, 4, 5, 6]
    assert {r.status for r in failed} == {"failed"} and {r.weight for r in failed} == {0.0}
    reasons = {r.model: str(r.error) for r in failed}
    assert "may not use" in reasons["secret/best"]
    assert "There is no model 'test/nobody'" in reasons["test/nobody"]
    assert "at most 2 steps" in reasons["test/near-sighted"]
    assert "the checkpoint is of another model" in reasons["test/broken"]
    assert "The model failed on this series (RuntimeError)" in reasons["test/raising"]


def test_one_model_under_two_names_is_one_candidate(models: Bench) -> None:
    answer = run(models, asked(series(*FLAT), models=("test/off-by-1", "test/off-by-1")))
    assert [r.model for r in answer.ranked] == ["test/off-by-1"]


def test_a_series_that_one_model_fails_on_is_blended_from_the_rest(models: Bench) -> None:
    sent = (series(*FLAT), series(*FLAT), series(-1, *FLAT))
    answer = run(models, asked(*sent, models=("test/picky", "test/off-by-1", "test/off-by-2")))

    assert found(answer, "test/picky").rank == 1
    output = forecast(answer.forecast.outputs[2])
    first, second = (found(answer, f"test/off-by-{n}").weight for n in (1, 2))
    assert 11 < output.mean[0, 0] < 12
    assert codes(output)[:2] == ["blended", "model_missing"]
    assert "test/picky: It does not like this series." in output.notices[1].sentence
    assert first > second > 0
    assert sum(r.weight for r in answer.ranked) == pytest.approx(1)


def test_a_candidate_that_fails_on_most_series_is_not_compared(models: Bench) -> None:
    sent = (series(*FLAT), series(-1, *FLAT), series(-1, *FLAT))
    answer = run(models, asked(*sent, models=("test/picky", "test/off-by-1")))

    assert [(r.model, r.weight) for r in answer.ranked] == [("test/off-by-1", 1.0), ("test/picky", 0.0)]
    assert "too few" in str(answer.ranked[1].error)


def test_the_call_fails_when_no_candidate_is_left(models: Bench) -> None:
    with pytest.raises(GatewayError, match="There is no model 'test/nobody'") as unknown:
        run(models, asked(series(*FLAT), models=("test/nobody",)))
    assert unknown.value.code is Code.NOT_FOUND

    with pytest.raises(GatewayError, match=r"test/raising: .* test/picky: .*does not like") as failed:
        run(models, asked(series(-1, *FLAT), models=("test/raising", "test/picky")))
    assert failed.value.code is Code.MODEL_FAILED


def test_a_fault_of_the_request_is_told_at_its_place(models: Bench) -> None:
    request = replace(asked(series(*FLAT), models=None), parameters=parameters(3, frequency="soon"))
    with pytest.raises(GatewayError) as refused:
        run(models, request)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert [fault.loc for fault in refused.value.faults] == [("parameters", "frequency")]


def test_series_no_longer_than_the_horizon_are_refused(models: Bench) -> None:
    with pytest.raises(GatewayError, match="at least one series must be longer than 3 rows") as refused:
        run(models, asked(series(1, 2, 3), series(1, 2), models=("test/off-by-1",)))
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert [fault.loc for fault in refused.value.faults] == [("inputs",)]


# -- the budget ---


class Elsewhere:
    """A pool that never answers for one model, and knows that its work was withdrawn."""

    def __init__(self, models: Bench, silent: str) -> None:
        self._models = models
        self._silent = silent
        self.withdrawn = asyncio.Event()

    def __call__(self, request: BacktestRequest, *, caller: Caller, deadline: float) -> Awaitable[Backtest]:
        return self._backtest(request, caller, deadline)

    async def _backtest(self, request: BacktestRequest, caller: Caller, deadline: float) -> Backtest:
        if request.forecast.model != self._silent:
            return await backtests.backtest(self._models.service, request, caller=caller, deadline=deadline)
        try:
            await asyncio.Event().wait()
        finally:
            self.withdrawn.set()
        raise AssertionError


def test_what_outlives_the_budget_is_withdrawn_reported_and_left_out(models: Bench) -> None:
    pool = Elsewhere(models, "test/off-by-1")
    request = asked(series(*FLAT), models=("test/off-by-1", "test/off-by-2"), budget_s=SHORT_BUDGET_S)
    answer = run(models, request, backtester=pool)

    assert [(r.model, r.status) for r in answer.ranked] == [
        ("test/off-by-2", "selected"),
        ("test/off-by-1", "timed_out"),
    ]
    assert answer.ranked[1].error == "It did not come within the budget of 2 s."
    assert pool.withdrawn.is_set()
    assert forecast(answer.forecast.outputs[0]).mean.ravel().tolist() == [12, 12, 12]


def test_the_call_fails_when_nobody_came_within_the_budget(models: Bench) -> None:
    pool = Elsewhere(models, "test/off-by-1")
    with pytest.raises(GatewayError, match="did not come within the budget") as late:
        run(models, asked(series(*FLAT), models=("test/off-by-1",), budget_s=SHORT_BUDGET_S), backtester=pool)
    assert late.value.code is Code.DEADLINE_EXCEEDED
    assert pool.withdrawn.is_set()


def test_a_caller_who_leaves_takes_the_work_along(models: Bench) -> None:
    pool = Elsewhere(models, "test/off-by-1")

    async def leave() -> None:
        request = asked(series(*FLAT), models=("test/off-by-1",))
        call = asyncio.create_task(
            ensembles.ensemble(models.service, request, caller=CALLER, deadline=in_time(), backtester=pool)
        )
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()

    models.run(leave())
    assert models.engine.snapshot().in_flight == 0


HANGING = ("test/hanging", "test/off-by-1", "test/off-by-2")


def hanging(folder: Path, length: int, workers: int) -> AbstractContextManager[Bench]:
    """HANGING, the first of which never answers for series of `length` rows."""
    gate = Gate.make(folder / "gate")  # nobody opens it
    return bench(
        [gated(HANGING[0], gate, length), biased(HANGING[1], bias=1), biased(HANGING[2], bias=2)], workers=workers
    )


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging batch is given up early, so that the test is soon over."""
    monkeypatch.setattr(ensembles, "HANG_LEAST_S", 0.5)
    monkeypatch.setattr(ensembles, "HANG_SHARE", 0.0)


@pytest.mark.usefixtures("_impatient")
def test_a_backtest_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """The only worker of the pool is its prisoner until the candidate is withdrawn."""
    with hanging(tmp_path, len(FLAT) - 3, workers=1) as models:
        run(models, asked(series(*FLAT[:-1]), models=HANGING))  # loads them
        answer = run(models, asked(series(*FLAT), models=HANGING))

    assert [(r.model, r.status) for r in answer.ranked] == [
        ("test/off-by-1", "selected"),
        ("test/off-by-2", "selected"),
        ("test/hanging", "timed_out"),
    ]
    # On a busy machine the others may come first; then nobody is held up, and the budget ends it.
    assert re.search("held others up|did not come within the budget", str(answer.ranked[2].error))


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("max_models", "workers", "budget_s"), [(2, 1, HANG_LIMIT_S), (1, 2, 4.0)])
def test_a_forecast_that_hangs_drops_out_of_the_blend(
    tmp_path: Path, max_models: int, workers: int, budget_s: float
) -> None:
    """It is the best by its backtest. Where it was the only one chosen, the next best stands in."""
    with hanging(tmp_path, len(FLAT), workers) as models:
        run(models, asked(series(*FLAT[:-1]), models=HANGING))  # loads them
        sent = asked(series(*FLAT), models=HANGING, weighting="equal", max_models=max_models, budget_s=budget_s)
        answer = run(models, sent)

    late = found(answer, "test/hanging")
    assert (late.status, late.rank, late.weight, late.score) == ("timed_out", 3, 0.0, 0.0)
    assert [r.model for r in answer.ranked if r.weight] == ["test/off-by-1"]
    assert forecast(answer.forecast.outputs[0]).mean.ravel().tolist() == [11, 11, 11]


def test_two_candidates_run_side_by_side(tmp_path: Path) -> None:
    gates = [Gate.make(tmp_path / name) for name in ("first", "second")]
    cards = [gated(f"test/{gate.folder.name}", gate, len(FLAT) - 3) for gate in gates]

    async def watch(models: Bench) -> EnsembleForecast:
        request = asked(series(*FLAT), models=("test/first", "test/second"))
        call = asyncio.create_task(ensembles.ensemble(models.service, request, caller=CALLER, deadline=in_time()))
        for gate in gates:  # both have begun before either may go on
            await asyncio.to_thread(gate.wait_until_started)
        for gate in gates:
            await asyncio.to_thread(gate.open)
        return await call

    with bench(cards) as models:
        answer = models.run(watch(models))
    assert [r.status for r in answer.ranked] == ["selected", "selected"]


def test_a_model_that_is_being_loaded_is_called_again(tmp_path: Path) -> None:
    gate = Gate.make(tmp_path / "gate")
    calls = 0

    async def watch(models: Bench) -> EnsembleForecast:
        refused = asyncio.Event()

        async def tried(request: BacktestRequest, *, caller: Caller, deadline: float) -> Backtest:
            nonlocal calls
            calls += 1
            try:
                return await backtests.backtest(models.service, request, caller=caller, deadline=deadline)
            except GatewayError as error:
                assert error.code is Code.UNAVAILABLE
                refused.set()
                raise

        request = asked(series(*FLAT), models=("test/slow",))
        call = asyncio.create_task(
            ensembles.ensemble(models.service, request, caller=CALLER, deadline=in_time(), backtester=tried)
        )
        await asyncio.to_thread(gate.wait_until_started)
        await refused.wait()
        await asyncio.to_thread(gate.open)
        return await call

    with bench([biased("test/default"), slow_to_load("test/slow", gate)], workers=1, load_wait_s=0.2) as models:
        answer = models.run(watch(models))
    assert calls > 1
    assert found(answer, "test/slow").status == "selected"
