"""A request against a card: faults with their places, and exactly what is run."""

import msgspec
import numpy as np
import pytest

from catalog import ModelCard
from gateway.domain import ForecastRequest, Parameters, SeriesInput
from gateway.errors import Code, GatewayError
from gateway.pacing import at_once
from gateway.planning import plan

CARD = {
    "id": "a/one",
    "title": "One",
    "family": "f",
    "licence": {"id": "MIT"},
    "max_context": 10,
    "max_horizon": 20,
    "native_horizon": 8,
    "quantile_levels": [0.1, 0.5, 0.9],
}


def card(**fields):
    return msgspec.convert({**CARD, **fields}, ModelCard)


def series(values, **fields):
    return SeriesInput(target=np.array(values, dtype=float).reshape(len(values), -1), **fields)


def planned(c=None, *inputs, **parameters):
    parameters = {"prediction_length": 4, **parameters}
    request = ForecastRequest(model="a/one", series=inputs or (series([1, 2, 3]),), parameters=Parameters(**parameters))
    return at_once(plan(request, c or card()))


def faults(*args, **parameters):
    with pytest.raises(GatewayError) as caught:
        planned(*args, **parameters)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return {f.loc: f.msg for f in caught.value.faults}


def codes(task):
    return [n.code for n in task.notices]


def test_the_context_is_cut_to_the_most_recent_rows_and_the_cut_is_told():
    (task,) = planned(None, series(range(25))).tasks
    assert task.series.target.tolist() == [list(range(15, 25))]
    assert (task.truncated_from, task.points) == (25, 10)


def test_a_cap_that_the_caller_asked_for_is_not_a_truncation():
    (task,) = planned(None, series(range(25)), context_length=5).tasks
    assert task.series.target.tolist() == [list(range(20, 25))]
    assert task.truncated_from is None
    (task,) = planned(None, series(range(25)), context_length=99).tasks
    assert (task.points, task.truncated_from) == (10, 25)


def test_the_longest_cut_series_is_told_for_the_request():
    found = planned(None, series(range(25)), series(range(30)), series(range(3)))
    assert found.truncated_from == 30
    assert found.input_points == 10 + 10 + 3


def test_covariates_are_cut_with_the_target_and_ordered():
    given = series(
        range(12),
        past_covariates={"late": np.arange(12.0), "both": np.arange(12.0) * 2},
        future_covariates={"both": np.arange(6.0)},
        static_covariates={"size": 7.0},
    )
    (task,) = planned(None, given).tasks
    assert task.covariates == ("both", "late", "size")
    assert task.series.known == 1
    assert task.series.past[:, 0].tolist() == [4.0, 2.0]
    assert task.series.future.tolist() == [[0.0, 1.0, 2.0, 3.0]]
    assert task.series.static.tolist() == [7.0]


def test_tokens_follow_the_published_rule():
    # The seed's first request: 6 target cells, 6 past, 12 future, 2 static; 12 steps of 3 levels.
    given = series(
        [110, 113, 108, 116, 119, 121],
        past_covariates={"promo": np.zeros(6)},
        future_covariates={"promo": np.zeros(12)},
        static_covariates={"store_cluster": 2.0, "shelf_capacity": 1.0},
    )
    (task,) = planned(None, given, prediction_length=12).tasks
    assert (task.usage.input_tokens, task.usage.output_tokens) == (26, 36)


def test_what_the_card_does_not_promise_is_refused_with_its_place():
    assert faults(prediction_length=21) == {
        ("parameters", "prediction_length"): "a/one forecasts at most 20 steps, not 21"
    }
    assert ("parameters", "temperature") in faults(temperature=1.0)
    assert ("parameters", "top_p") in faults(top_p=0.5)
    assert ("parameters", "cross_learning") in faults(cross_learning=True)
    assert ("parameters", "sample_method") in faults(sample_method="copula")
    assert "0.1 to 0.9" in faults(card(tails="refuse"), quantile_levels=(0.05, 0.5))["parameters", "quantile_levels"]
    assert ("inputs", 0, "channels") in faults(None, series([1, 2], channels=("x",)))
    assert ("inputs", 1, "target") in faults(card(max_channels=1), series([1]), series([[1, 2]]))
    assert ("inputs", 0, "target", 1) in faults(card(missing_values="refused"), series([1, np.nan]))


def test_times_that_do_not_read_are_refused_with_their_place():
    found = faults(None, series([1], start="yesterday"), frequency="m")
    assert set(found) == {("parameters", "frequency"), ("inputs", 0, "start")}
    assert "ME" in found["parameters", "frequency"] and "min" in found["parameters", "frequency"]


def test_strings_are_refused_where_the_card_takes_numbers():
    given = series([1, 2], past_covariates={"kind": ("a", "b")})
    assert ("inputs", 0, "past_covariates", "kind") in faults(None, given)


def test_categories_become_codes_that_agree_over_past_and_future():
    given = series(
        [1, 2, 3], past_covariates={"kind": ("b", None, "a")}, future_covariates={"kind": ("a", "c", "b", "a")}
    )
    (task,) = planned(card(covariates={"past": "native", "future": "native", "categorical": True}), given).tasks
    assert task.series.categorical == (0,)
    np.testing.assert_array_equal(task.series.past, [[1, np.nan, 0]])
    np.testing.assert_array_equal(task.series.future, [[0, 2, 1, 0]])


def test_regression_needs_the_past_of_a_future_covariate():
    given = series([1, 2], future_covariates={"promo": np.zeros(4)})
    assert "past_covariates" in faults(None, given)["inputs", 0, "future_covariates", "promo"]
    (task,) = planned(card(covariates={"future": "ignored"}), given).tasks
    assert task.notices[0].names == ("promo",)


def test_a_channel_that_the_cut_leaves_empty_fails_that_series_alone():
    empty = series([1.0] + [np.nan] * 12)
    fine, failed = planned(None, series([1, 2]), empty).tasks
    assert fine.series is not None and fine.error is None
    assert failed.series is None and failed.error.code is Code.INVALID_ARGUMENT


def test_notices_say_what_is_done_beyond_the_forecast():
    found = planned(
        card(missing_values="interpolated", licence={"id": "X", "commercial": False}),
        series([1, np.nan, 3], past_covariates={"late": np.zeros(3)}, static_covariates={"size": 1.0}),
        prediction_length=9,
        quantile_levels=(0.05, 0.5),
    )
    (task,) = found.tasks
    assert codes(task) == ["levels_extrapolated", "horizon_extended", "licence", "covariates_ignored", "values_imputed"]
    by_code = {n.code: n for n in task.notices}
    assert by_code["covariates_ignored"].names == ("late", "size")
    assert by_code["levels_extrapolated"].sentence == (
        "Levels 0.05 lie outside the model's trained ones and assume normal tails."
    )


def test_a_seed_that_was_drawn_is_told_and_makes_the_plan_its_own():
    sampler = card(sampling={"native": True}, quantile_levels=[])
    drawn = planned(sampler)
    assert not drawn.deterministic
    assert str(drawn.tasks[0].series.sampling.seed) in drawn.tasks[0].notices[0].sentence
    given = planned(sampler, seed=7, num_samples=5)
    assert given.deterministic and given.tasks[0].notices == ()
    assert (given.tasks[0].series.sampling.seed, given.tasks[0].series.sampling.count) == (7, 5)
    assert given.tasks[0].usage.output_tokens == 4 * 5


def test_deterministic_models_ignore_num_samples():
    (task,) = planned(num_samples=100).tasks
    assert task.series.sampling is None
    assert task.usage.output_tokens == 4 * 3


def test_stamps_count_from_the_rows_that_were_sent():
    (task,) = planned(None, series(range(25), start="2026-01-01"), frequency="D", prediction_length=2).tasks
    assert task.timestamps == ("2026-01-26T00:00:00Z", "2026-01-27T00:00:00Z")
    (task,) = planned(None, series(range(25)), frequency="D").tasks
    assert task.timestamps is None


def test_a_grid_that_leaves_the_calendar_is_refused_at_the_horizon():
    given = series([1], start="9999-12-30")
    assert ("parameters", "prediction_length") in faults(None, given, frequency="D")


def test_no_more_than_twenty_places_at_once():
    given = [series([1], start="bad") for _ in range(50)]
    assert len(faults(None, *given)) == 20


def test_a_small_body_cannot_ask_for_more_than_memory_holds():
    one = series([1, 2])
    assert faults(None, *[one] * 10_001) == {
        ("inputs",): "10001 series are more than the 10000 that one call takes: split them"
    }
    assert len(planned(None, *[one] * 10_000).tasks) == 10_000
    long = card(max_horizon=100_000)
    assert ("parameters", "prediction_length") in faults(long, *[one] * 30, prediction_length=100_000)
    planned(long, *[one] * 30, prediction_length=10_000)


CANDLES = {
    "channel_names": ["open", "high", "low", "close", "volume"],
    "required_channels": ["open", "close"],
    "calendar_features": True,
    "max_channels": 5,
}
MONDAY = 1704067200  # 2024-01-01T00:00:00


def test_named_channels_are_told_by_their_place_in_the_card():
    given = series([[1, 2, 3], [4, 5, 6]], channels=("close", "volume", "open"))
    (task,) = planned(card(**CANDLES), given).tasks
    assert task.series.channels == (3, 4, 0)
    assert task.series.target.tolist() == [[1, 4], [2, 5], [3, 6]]
    (task,) = planned(card(**CANDLES), series([[1, 2, 3, 4], [5, 6, 7, 8]])).tasks
    assert task.series.channels == ()


def test_a_channel_that_the_model_cannot_do_without_is_asked_for():
    found = faults(card(**CANDLES), series([[1, 2]], channels=("open", "high")), series([[1, 2, 3]]))
    assert found == {
        ("inputs", 0, "channels"): "a/one needs the channels open, close: close missing",
        ("inputs", 1, "target"): "a/one needs the channels open, close: close missing",
    }


def test_a_model_that_reads_the_calendar_gets_the_stamps_of_what_it_reads():
    given = series([[i] * 4 for i in range(12)], start="2024-01-01T22:00:00+05:30")
    (task,) = planned(card(**CANDLES), given, frequency="15min").tasks
    first = MONDAY + 22 * 3600 + 2 * 900  # two rows are cut; the clock is that of the start's own offset
    assert task.series.stamps.tolist() == list(range(first, first + 14 * 900, 900))
    assert "calendar_assumed" not in codes(task)
    (task,) = planned(card(), series([1], start="2024-01-01"), frequency="D").tasks
    assert task.series.stamps is None


def test_a_calendar_that_was_not_sent_is_assumed_and_told():
    c, given = card(**CANDLES), series([[1] * 4])
    (task,) = planned(c, given, prediction_length=2).tasks
    assert task.series.stamps.tolist() == [MONDAY, MONDAY + 3600, MONDAY + 7200]
    assert [n.sentence for n in task.notices if n.code == "calendar_assumed"] == [
        "The model reads the calendar, and not all of it was sent: hourly steps and a start on Monday, 2024-01-01 at"
        " 00:00 assumed."
    ]
    (task,) = planned(c, given, prediction_length=1, frequency="D").tasks
    assert np.diff(task.series.stamps).tolist() == [86400]
    assert "hourly" not in next(n.sentence for n in task.notices if n.code == "calendar_assumed")
    (task,) = planned(c, series([[1] * 4], start="2030-06-01"), prediction_length=1).tasks
    assert np.diff(task.series.stamps).tolist() == [3600]
    assert "2024" not in next(n.sentence for n in task.notices if n.code == "calendar_assumed")


def test_an_assumed_calendar_that_ends_is_refused_at_the_horizon():
    assert ("parameters", "prediction_length") in faults(
        card(**CANDLES), series([[1] * 4], start="9999-12-31T22:00:00"), prediction_length=4
    )


def test_paths_are_returned_where_a_number_of_them_is_asked():
    c = card(sampling={"native": True})
    (task,) = planned(c, seed=1).tasks
    assert (task.series.sampling.count, task.series.sampling.returned) == (100, False)
    (task,) = planned(c, seed=1, num_samples=7).tasks
    assert (task.series.sampling.count, task.series.sampling.returned) == (7, True)


def test_without_a_top_k_the_model_draws_as_its_card_says():
    c = card(sampling={"native": True, "top_k": True, "default_top_k": 50})
    for sent, used in ({}, 50), ({"top_k": 0}, 0), ({"top_k": 7}, 7):
        (task,) = planned(c, **sent).tasks
        assert task.series.sampling.top_k == used


@pytest.mark.parametrize("frequency", ["1000000D", "8000YE", "100000W", "99999999999h", "2000QE", "D", "bh"])
def test_any_length_of_step_is_planned(frequency):
    (task,) = planned(None, series([1, 2]), frequency=frequency, prediction_length=1).tasks
    assert task.series.step_s > 0


def test_levels_beyond_the_trained_ones_are_moved_to_the_nearest_where_that_is_asked():
    asked = {"quantile_levels": (0.01, 0.1, 0.5, 0.95)}
    for tails in ("normal", "refuse"):
        found = planned(card(tails=tails), clip_levels=True, **asked)
        assert found.levels == (0.1, 0.5, 0.9)
        (said,) = [n.sentence for n in found.tasks[0].notices if n.code == "levels_clipped"]
        assert "0.01, 0.95" in said
    assert planned(card(), **asked).levels == asked["quantile_levels"]
    assert planned(card(quantile_levels=[]), clip_levels=True, **asked).levels == asked["quantile_levels"]
    assert "levels_clipped" not in codes(planned(card(), clip_levels=True, quantile_levels=(0.1, 0.3)).tasks[0])
