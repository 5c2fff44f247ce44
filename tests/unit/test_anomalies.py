"""The search for anomalies: what is scored from what, and what is found, through a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from catalog.card import CARDS, Catalog, Sampling, load_cards
from evaluation.anomalies import labelled
from gateway.domain import (
    AnomalyReport,
    AnomalyRequest,
    Array,
    Caller,
    CovariateValues,
    Forecast,
    ForecastPlan,
    ForecastRequest,
    Parameters,
    SeriesAnomalies,
    SeriesError,
    SeriesInput,
)
from gateway.engine import Engine
from gateway.ensemble.anomalies import FARTHEST, judge, residual_scale, sound_scale
from gateway.ensemble.seasons import HALF_WIDTH, farthest_block, usual
from gateway.errors import Code, GatewayError
from gateway.pacing import at_once
from gateway.service import ForecastService
from gateway.service.anomalies import detect_anomalies, merged
from gateway.settings import EngineSettings
from tests import anomaly_models, engine_adapters
from tests.live.gated import Gate
from tests.serving import REPOSITORY

HANG_LIMIT_S = 60.0
AHEAD, LAST, NAIVE, NANO = "test/ahead", "test/scripted", "seasonal-naive", "bolt-nano"


@dataclass
class Desk:
    """A service over a real engine, and the loop that both live in."""

    runner: asyncio.Runner
    service: ForecastService
    engine: Engine
    gate: Gate

    def ask(self, request: AnomalyRequest, *, service: ForecastService | None = None) -> AnomalyReport:
        async def steps() -> AnomalyReport:
            deadline = asyncio.get_running_loop().time() + HANG_LIMIT_S
            return await detect_anomalies(service or self.service, request, caller=Caller(), deadline=deadline)

        return self.runner.run(steps())

    def scan(self, target: Array, model: str = AHEAD, **asked: object) -> SeriesAnomalies:
        """The only series of a report."""
        output = self.ask(wanted([series(target)], model, **asked)).outputs[0]
        assert isinstance(output, SeriesAnomalies)
        return output


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    gate = Gate.make(tmp_path_factory.mktemp("gate") / "pipes")
    cards = [
        *(c for c in load_cards(CARDS) if {NAIVE, NANO} & set(c.aliases)),
        anomaly_models.card(),
        anomaly_models.card("test/narrow", quantile_levels=(0.25, 0.5, 0.75), tails="refuse"),
        anomaly_models.card("test/sampled", sampling=Sampling(native=True)),
        engine_adapters.card(LAST),
        engine_adapters.card("test/gated", gate=gate),
    ]
    catalog = Catalog(cards, default=NAIVE)
    with pytest.MonkeyPatch.context() as patched, asyncio.Runner() as runner:
        patched.setenv("PYTHONPATH", str(REPOSITORY))
        engine = Engine(catalog, EngineSettings(workers=1, statistical_workers=1, load_wait_s=HANG_LIMIT_S))
        runner.run(engine.start())
        yield Desk(runner, ForecastService(catalog, engine), engine, gate)
        runner.run(engine.stop(0.0))


def series(target: Array, **fields: object) -> SeriesInput:
    values = np.asarray(target, dtype=np.float64)
    return SeriesInput(target=values[:, None] if values.ndim == 1 else values, **fields)  # type: ignore[arg-type]


def wanted(
    inputs: list[SeriesInput], model: str = AHEAD, *, scored_from: int | None = None, n: int = 1, **parameters: object
) -> AnomalyRequest:
    asked = Parameters(prediction_length=n, **parameters)  # type: ignore[arg-type]
    forecast = ForecastRequest(model=model, series=tuple(inputs), parameters=asked)
    return AnomalyRequest(forecast=forecast, scored_from=scored_from)


def noise(rows: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=rows)


def marked(output: SeriesAnomalies, channel: int = 0) -> list[int]:
    return np.flatnonzero(output.is_anomaly[:, channel] == 1.0).tolist()


# -- judgement --


def test_the_contracts_formulas() -> None:
    low, middle, high = (np.full((3, 1), q) for q in (8.0, 10.0, 13.126))
    scale = sound_scale(low, middle, high, np.arange(20.0)[:, None], 1)
    assert scale == pytest.approx((13.126 - 8.0) / 2.563)
    found = judge(np.array([[10.0], [16.1], [3.9]]), middle, scale, 3.0)
    assert found.z_score[:, 0] == pytest.approx([0.0, 3.05, -3.05])
    assert found.is_anomaly[:, 0].tolist() == [0.0, 1.0, 1.0]
    assert found.lower == pytest.approx(10.0 - 3 * 2.0)
    assert found.upper == pytest.approx(10.0 + 3 * 2.0)


def test_a_certain_model_is_judged_by_the_contexts_own_steps() -> None:
    middle = np.full((1, 1), 50.0)
    context = np.tile([[10.0], [30.0], [90.0]], (10, 1)) + noise(30)[:, None]
    by_season = sound_scale(middle, middle, middle, context, 3)
    assert by_season[0] == pytest.approx(residual_scale(context, 3))
    assert 0.5 < by_season[0, 0] < 4  # a difference of two noises
    assert sound_scale(middle, middle, middle, context, 1) > 20  # with no season, the steps between phases


@pytest.mark.parametrize("level", [0.0, 1e-9, 0.1, 100.0, -3e7, 1e300])
def test_in_a_constant_context_any_other_value_is_an_anomaly_and_nothing_overflows(level: float) -> None:
    middle, context = np.full((4, 1), level), np.full((20, 1), level)
    values = np.array([[level], [level * 1.001 + 1e-9], [1.7e308], [-1.7e308]])
    found = judge(values, middle, sound_scale(middle, middle, middle, context, 1), 3.0)
    assert found.is_anomaly[:, 0].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert found.z_score[0, 0] == 0.0
    assert np.abs(found.z_score).max() <= FARTHEST
    assert all(np.isfinite(a).all() for a in (found.expected, found.lower, found.upper, found.z_score))


def test_rounding_in_a_constant_context_is_no_anomaly() -> None:
    context, level = np.full((20, 1), 0.1), np.full((1, 1), 0.1)
    rounded = level.astype(np.float32).astype(np.float64)
    low, high = np.nextafter(rounded, 0), np.nextafter(rounded, 1)
    assert judge(level, rounded, sound_scale(low, rounded, high, context, 1), 3.0).is_anomaly == 0.0


@pytest.mark.parametrize("context", [[np.nan, np.nan], [100.0], [np.nan, 101.0, 99.0], [98.0, np.nan, 101.0]])
def test_a_context_without_a_scale_judges_nothing_where_the_model_is_certain(context: list[float]) -> None:
    middle, before = np.full((1, 1), 100.0), np.array(context)[:, None]
    scale = sound_scale(middle, middle, middle, before, 1)
    assert np.isnan(scale).all()
    assert np.isnan(judge(np.full((1, 1), 107.0), middle, scale, 3.0).is_anomaly).all()
    assert np.isfinite(sound_scale(middle - 1, middle, middle + 1, before, 1)).all()  # the model's own


def test_a_season_with_a_hole_for_a_past_is_judged_by_its_steps() -> None:
    middle, context = np.full((1, 1), 100.0), np.r_[np.full(30, np.nan), 100 + noise(10)][:, None]
    assert 0.3 < sound_scale(middle, middle, middle, context, 20)[0, 0] < 4


def test_missing_values_have_no_judgement() -> None:
    found = judge(np.array([[np.nan], [1.0]]), np.array([[1.0], [np.nan]]), np.ones((2, 1)), 3.0)
    for cells in (found.expected, found.lower, found.upper, found.z_score, found.is_anomaly):
        assert np.isnan(cells).all()


# -- usual values --


def test_usual_values_come_from_earlier_seasons_only() -> None:
    season = 24
    values = 10 + noise(10 * season)[:, None]
    before = at_once(usual(values, season))
    assert np.isnan(before.centre[: 2 * season]).all()
    assert np.isfinite(before.centre[2 * season :]).all()
    row = 5 * season + 3
    changed = values.copy()
    changed[row:] += 100.0
    after = at_once(usual(changed, season))
    for a, b in ((before.centre, after.centre), (before.scale, after.scale)):
        same = (a == b)[2 * season :, 0]
        first = int(np.argmin(same)) + 2 * season
        assert first >= row + farthest_block(season)
        assert first <= row + season + HALF_WIDTH


def test_usual_values_of_a_daily_shape() -> None:
    day = np.repeat([5.0, 50.0], 24)
    width = np.repeat([0.1, 5.0], 24)
    values = (np.tile(day, 12) + np.tile(width, 12) * noise(12 * 48))[:, None]
    found = at_once(usual(values, 48))
    relative = found.relative(values)[48 * 6 :]
    quiet = (slice(8, 16), slice(32, 40))  # away from the edges of the shape
    for part in quiet:
        rows = relative.reshape(6, 48)[:, part]
        assert 0.8 < rows.std() < 2.5  # in its own deviations, whatever the phase
    assert found.absolute(relative, slice(48 * 6, None)) == pytest.approx(values[48 * 6 :])


def test_usual_values_survive_gaps_and_constants() -> None:
    values = np.full((200, 2), 7.0)
    values[:100, 0] = np.nan
    values[::3, 1] = np.nan
    found = at_once(usual(values, 10))
    relative = found.relative(values)
    assert np.isfinite(relative[~np.isnan(values) & ~np.isnan(found.centre)]).all()
    assert np.isnan(found.centre[:110, 0]).all()
    assert found.centre[130:, 0] == pytest.approx(7.0)


# -- what is scored from what --


def test_a_block_is_forecast_from_the_rows_before_it(desk: Desk) -> None:
    target = np.arange(30.0)
    output = desk.scan(target, n=4, scored_from=10, context_length=3)
    cuts = [10 + (t - 10) // 4 * 4 for t in range(10, 30)]
    assert output.scored_from == 10
    assert np.isnan(output.expected[:10]).all()
    assert output.expected[10:, 0] == pytest.approx([cut - 2 for cut in cuts])  # the mean of three rows before
    assert output.z_score[10:, 0] == pytest.approx(target[10:] - np.array(cuts) + 2)


@pytest.mark.parametrize(("rows", "first"), [(60, 20), (12, 8), (9, 8)])
def test_scoring_begins_after_a_third_of_the_series(desk: Desk, rows: int, first: int) -> None:
    report = desk.ask(wanted([series(noise(rows))]))
    assert report.total_points == rows - first
    output = report.outputs[0]
    assert isinstance(output, SeriesAnomalies)
    assert output.scored_from == first


def test_scoring_begins_after_enough_observed_rows(desk: Desk) -> None:
    target = 100 + 2 * noise(60)
    target[:35] = np.nan
    late = desk.scan(target, LAST)
    assert late.scored_from == 35 + 8
    assert np.abs(late.z_score[43:]).max() < 10
    early = desk.scan(target, LAST, scored_from=30)
    assert np.isnan(early.is_anomaly[:38]).all()  # three values make two steps
    assert np.isfinite(early.is_anomaly[38:]).all()


def test_a_context_of_one_value_scores_nothing_where_the_model_is_certain(desk: Desk) -> None:
    with pytest.raises(GatewayError) as refused:
        desk.scan(100 + 2 * noise(20), LAST, scored_from=1, context_length=1)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert refused.value.faults[0].loc == ("inputs", 0, "target")
    assert "enough values before it" in refused.value.sentence


def test_the_first_row_has_no_context(desk: Desk) -> None:
    output = desk.scan(noise(5), scored_from=0)
    assert output.scored_from == 1
    assert np.isnan(output.is_anomaly[0, 0])
    assert np.isfinite(output.is_anomaly[1:]).all()


@pytest.mark.parametrize(
    ("model", "n", "parameters"),
    [
        (NAIVE, 1, {}),
        (NAIVE, 5, {"frequency": "D"}),
        (NANO, 3, {"frequency": "h", "context_length": 40}),  # relative to the season of 24
    ],
)
def test_no_value_takes_part_in_its_own_test(desk: Desk, model: str, n: int, parameters: Mapping[str, object]) -> None:
    rows, first = 120, 80
    shape = np.tile(np.repeat([10.0, 90.0], 12), 5)
    target = shape * (1 + 0.05 * noise(rows))
    before = desk.scan(target, model, n=n, scored_from=first, **parameters)
    if model == NANO:
        assert [x.code for x in before.notices] == ["season_relative"]
    row = 97
    changed = target.copy()
    changed[row] = np.nan
    changed[row + 1 :] = 1e4
    after = desk.scan(changed, model, n=n, scored_from=first, **parameters)
    block_end = row + n - (row - first) % n
    kept = [t for t in range(first, block_end) if t != row]
    for name in ("expected", "lower", "upper"):
        a, b = getattr(before, name)[kept, 0], getattr(after, name)[kept, 0]
        # Not to the last bit: other blocks of a batch may be longer or shorter.
        assert a == pytest.approx(b, rel=1e-5)
    assert after.is_anomaly[row + 1 : block_end, 0] == pytest.approx(1.0)


def test_missing_points_are_not_scored_and_not_counted(desk: Desk) -> None:
    target = noise(40)
    target[[20, 21, 30]] = np.nan
    report = desk.ask(wanted([series(target)], n=2, scored_from=16))
    assert report.total_points == 24 - 3
    output = report.outputs[0]
    assert isinstance(output, SeriesAnomalies)
    for cells in (output.is_anomaly, output.expected, output.lower, output.z_score):
        assert np.isnan(cells[[20, 21, 30]]).all()
        assert np.isfinite(cells[31]).all()


def test_channels_are_judged_each_by_itself(desk: Desk) -> None:
    target = np.stack([0.5 * noise(60, 1), 100 + noise(60, 2)], axis=1)
    target[40, 1] = 108.0
    target[:30, 0] = np.nan  # begins later than the other
    report = desk.ask(wanted([series(target)]))
    output = report.outputs[0]
    assert isinstance(output, SeriesAnomalies)
    assert marked(output, 1) == [40]
    assert marked(output, 0) == []
    assert np.isnan(output.is_anomaly[20:31, 0]).all()  # nothing stands before its first value
    assert np.isfinite(output.is_anomaly[31:, 0]).all()
    assert report.total_points == 29 + 40
    assert report.num_anomalies == 1


def test_a_constant_series(desk: Desk) -> None:
    target = np.full(40, 5.0)
    target[30] = 5.001
    for model in (LAST, NAIVE, NANO):
        assert desk.scan(np.full(40, 5.0), model).is_anomaly[13:].max() == 0.0
        assert 30 in marked(desk.scan(target, model))


def test_covariates_known_over_the_block(desk: Desk) -> None:
    switch = np.where(noise(40, 3) > 0, 100.0, 0.0)
    target = switch + 0.1 * noise(40, 4)

    def found(past: CovariateValues, future: CovariateValues | None) -> SeriesAnomalies:
        ahead = {} if future is None else {"switch": future}
        one = series(target, past_covariates={"switch": past}, future_covariates=ahead)
        output = desk.ask(wanted([one], n=2)).outputs[0]
        assert isinstance(output, SeriesAnomalies)
        return output

    known = found(switch, np.zeros(2))
    assert marked(known) == []
    assert known.expected[13:, 0] == pytest.approx(switch[13:])
    assert marked(found(switch, None))  # known in the past only: the model forecasts the mean
    gap = switch.copy()
    gap[17] = np.nan
    holed = found(gap, np.zeros(2))
    assert [(x.code, x.names) for x in holed.notices] == [("covariates_unknown_ahead", ("switch",))]
    assert holed.notices[0].sentence.startswith("In 1 of 14 blocks: ")
    assert holed.expected[19:, 0] == pytest.approx(switch[19:])


def test_a_covariate_of_the_future_only_is_left_out_and_said(desk: Desk) -> None:
    one = series(noise(30), future_covariates={"holiday": np.zeros(1)})
    output = desk.ask(wanted([one], NAIVE)).outputs[0]
    assert [(x.code, x.names) for x in output.notices] == [("covariates_unknown_ahead", ("holiday",))]


def test_every_row_has_its_timestamp(desk: Desk) -> None:
    one = series(noise(30), start="2026-01-31")
    output = desk.ask(wanted([one], frequency="ME")).outputs[0]
    assert isinstance(output, SeriesAnomalies)
    assert output.timestamps is not None
    assert len(output.timestamps) == 30
    assert output.timestamps[:2] == ("2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z")


def test_quantiles_are_those_asked_for(desk: Desk) -> None:
    target = np.arange(30.0)
    report = desk.ask(wanted([series(target)], quantile_levels=(0.3, 0.9)))
    output = report.outputs[0]
    assert isinstance(output, SeriesAnomalies)
    assert report.quantile_levels == (0.3, 0.9)
    assert output.quantiles is not None
    assert output.quantiles.shape == (2, 30, 1)
    assert np.isnan(output.quantiles[:, :10]).all()
    assert output.quantiles[1, 10:] - output.expected[10:] == pytest.approx(2.563 / 2)
    assert desk.scan(target).quantiles is None


def test_a_sampled_search_tells_the_one_seed_of_all_its_blocks(desk: Desk) -> None:
    (told,) = desk.scan(noise(30), "test/sampled").notices
    assert told.code == "seed_used"
    assert desk.scan(noise(30), "test/sampled", seed=7).notices == ()


def test_usage_is_that_of_every_block(desk: Desk) -> None:
    report = desk.ask(wanted([series(noise(30))], n=3, scored_from=20, context_length=5))
    # Blocks at 20, 23, 26 and 29, the last of one row; five rows are read before each, and three levels answered.
    assert report.usage.input_tokens == 4 * 5
    assert report.usage.output_tokens == 3 * (3 + 3 + 3 + 1)


# -- what is refused, and what fails alone --


def test_a_series_too_short_fails_alone(desk: Desk) -> None:
    report = desk.ask(wanted([series(noise(8)), series(noise(20), metadata={"id": 1})]))
    short, long = report.outputs
    assert isinstance(short, SeriesError)
    assert short.code is Code.INVALID_ARGUMENT
    assert "nothing to score" in short.sentence.lower()
    assert isinstance(long, SeriesAnomalies)
    assert long.metadata == {"id": 1}


def test_nothing_but_short_series_is_a_fault_at_their_places(desk: Desk) -> None:
    with pytest.raises(GatewayError) as refused:
        desk.ask(wanted([series(noise(8)), series(noise(30))], scored_from=30))
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert [f.loc for f in refused.value.faults] == [("inputs", 0, "target"), ("inputs", 1, "target")]


@pytest.mark.parametrize(
    ("model", "parameters", "place"),
    [
        (AHEAD, {"dry_run": True}, ("parameters", "dry_run")),
        (AHEAD, {"cross_learning": True}, ("parameters", "cross_learning")),
        ("test/narrow", {}, ("model",)),
        (AHEAD, {"n": 65}, ("parameters", "prediction_length")),
        (AHEAD, {"frequency": "fortnight"}, ("parameters", "frequency")),
    ],
)
def test_what_cannot_be_scored_is_refused_at_its_place(
    desk: Desk, model: str, parameters: Mapping[str, object], place: tuple[str, ...]
) -> None:
    with pytest.raises(GatewayError) as refused:
        desk.ask(wanted([series(noise(30))], model, **parameters))
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert refused.value.faults[0].loc == place


@pytest.mark.parametrize(
    ("rows", "context", "told"), [(2_000_000, 1, "numbers"), (1_600_000, 1024, "context_length below 1024")]
)
def test_too_much_work_is_refused_before_it_begins(desk: Desk, rows: int, context: int, told: str) -> None:
    big = np.broadcast_to(np.float64(1.0), (rows, 1))
    with pytest.raises(GatewayError) as refused:
        desk.ask(wanted([SeriesInput(target=big)], scored_from=1, context_length=context))
    assert refused.value.faults[0].loc == ("inputs",)
    assert told in refused.value.sentence


def test_a_block_that_fails_is_left_out_and_said(desk: Desk) -> None:
    target = np.arange(1.0, 31.0)
    target[20] = engine_adapters.NAN  # the model answers NaN where a context begins with this
    report = desk.ask(wanted([series(target)], LAST, scored_from=15, context_length=4))
    output = report.outputs[0]
    assert isinstance(output, SeriesAnomalies)
    assert np.flatnonzero(np.isnan(output.is_anomaly[15:, 0])).tolist() == [24 - 15]
    assert report.total_points == 14
    (failure,) = [x for x in output.notices if x.code == "window_failed"]
    assert "rows 24 to 24" in failure.sentence


def test_a_series_of_which_every_block_fails(desk: Desk) -> None:
    broken = np.full(20, engine_adapters.NAN)
    report = desk.ask(wanted([series(broken), series(noise(20))], LAST))
    assert isinstance(report.outputs[0], SeriesError)
    assert report.outputs[0].code is Code.MODEL_FAILED
    assert isinstance(report.outputs[1], SeriesAnomalies)
    with pytest.raises(GatewayError) as failed:
        desk.ask(wanted([series(broken)], LAST))
    assert failed.value.code is Code.MODEL_FAILED


def test_a_deadline_that_passed(desk: Desk) -> None:
    async def steps() -> None:
        await detect_anomalies(desk.service, wanted([series(noise(20))]), caller=Caller(), deadline=0.0)

    with pytest.raises(GatewayError) as late:
        desk.runner.run(steps())
    assert late.value.code is Code.DEADLINE_EXCEEDED


def test_a_caller_that_leaves_takes_the_work_along(desk: Desk) -> None:
    target = np.full(2_000, engine_adapters.WAIT)

    async def steps() -> None:
        deadline = asyncio.get_running_loop().time() + HANG_LIMIT_S
        request = wanted([series(target)], "test/gated")
        work = asyncio.create_task(detect_anomalies(desk.service, request, caller=Caller(), deadline=deadline))
        await asyncio.to_thread(desk.gate.wait_until_started)
        assert desk.engine.snapshot().in_flight == 1
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        for _ in range(10):  # the engine hears of it in its next turns
            await asyncio.sleep(0)
        assert desk.engine.snapshot().in_flight == 0
        assert desk.engine.snapshot().queued_series == 0
        await asyncio.to_thread(desk.gate.open)

    desk.runner.run(asyncio.wait_for(steps(), HANG_LIMIT_S))


class Busy(ForecastService):
    """A service whose queue is full at its second call."""

    def __init__(self, like: Desk) -> None:
        super().__init__(like.service._catalog, like.engine)
        self.calls = 0

    async def attempt(self, request: ForecastRequest, *, caller: Caller, deadline: float) -> Forecast | ForecastPlan:
        self.calls += 1
        if self.calls == 2:
            raise GatewayError(Code.UNAVAILABLE, "Overloaded.", retry_after_s=0.001)
        return await super().attempt(request, caller=caller, deadline=deadline)


def test_a_queue_that_fills_up_half_way_is_waited_for(desk: Desk) -> None:
    service = Busy(desk)
    report = desk.ask(wanted([series(noise(700))]), service=service)
    assert report.total_points == 700 - 233
    assert service.calls == 3


def test_a_queue_that_is_full_refuses_at_once(desk: Desk) -> None:
    service = Busy(desk)
    service.calls = 1
    with pytest.raises(GatewayError) as refused:
        desk.ask(wanted([series(noise(30))]), service=service)
    assert refused.value.code is Code.UNAVAILABLE


def test_parts_of_a_report_add_up(desk: Desk) -> None:
    one, two = series(noise(30, 1)), series(noise(40, 2), future_covariates={"x": np.zeros(1)})
    whole = desk.ask(wanted([one, two]))
    parts = merged([desk.ask(wanted([one])), desk.ask(wanted([two]))])
    assert (parts.total_points, parts.num_anomalies) == (whole.total_points, whole.num_anomalies)
    assert parts.usage == whole.usage
    assert [n.item for o in parts.outputs for n in o.notices] == [n.item for o in whole.outputs for n in o.notices]
    for a, b in zip(parts.outputs, whole.outputs, strict=True):
        assert isinstance(a, SeriesAnomalies)
        assert isinstance(b, SeriesAnomalies)
        np.testing.assert_allclose(a.z_score, b.z_score)


# -- what is found --


def planted(rows: int = 260) -> Array:
    """A daily wave in hourly steps, with noise."""
    return 50 + 10 * np.sin(np.arange(rows) * 2 * np.pi / 24) + noise(rows, 7)


@pytest.mark.parametrize("model", [NANO, NAIVE])
def test_a_spike_a_level_shift_and_a_dropout_are_found(desk: Desk, model: str) -> None:
    target = planted()
    target[150] += 30  # a spike
    target[180:183] = 0.0  # a dropout
    target[220:] += 40  # a level shift
    output = desk.scan(target, model, scored_from=120, frequency="h")
    found = marked(output)
    assert {150, 180, 220} <= set(found)
    quiet = [t for t in found if t < 150]
    assert len(quiet) <= 1
    assert output.z_score[150, 0] > 3
    assert output.z_score[180, 0] < -3


def test_a_lower_sensitivity_finds_all_of_a_higher_one_and_more(desk: Desk) -> None:
    target = planted()
    target[[150, 190, 230]] += [9.0, -15.0, 40.0]
    found = [
        set(marked(desk.scan(target, NANO, scored_from=120, frequency="h", sensitivity=level)))
        for level in (6.0, 4.0, 3.0, 2.0, 1.0)
    ]
    for fewer, more in pairwise(found):
        assert fewer <= more
    assert len(found[0]) < len(found[2]) < len(found[-1])
    assert 230 in found[0]


DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "nab").is_dir(), reason="no real series beside the repository")


@needs_data
def test_a_daily_shape_longer_than_the_models_context(desk: Desk) -> None:
    """Two seasons of 288 rows do not fit into 512: told plainly, both edges of each day would be alarms."""
    file = next(f for f in labelled(DATA) if f.name == "art_daily_small_noise")
    target = file.values.copy()
    target[3_900] += 40.0  # a spike at noon
    target[3_700:3_704] = 0.0  # a dropout by night, where 20 is usual
    output = desk.scan(target, NANO, scored_from=2_900, frequency="5min")
    assert [x.code for x in output.notices] == ["season_relative"]
    found = set(marked(output))
    assert {3_700, 3_900} <= found
    usual_rows = found - set(range(3_690, 3_720)) - set(range(3_890, 3_920))
    assert len(usual_rows) <= 2  # of a thousand
