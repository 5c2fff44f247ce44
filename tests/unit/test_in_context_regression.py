"""adapters.covariates: what is regressed, what is not, and what the caller is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from adapters.base import Batch, BatchForecast, Remark, Series, SeriesFailure, SeriesForecast
from adapters.covariates import InContextRegression, explain
from adapters.seasonal_naive import SeasonalNaive

Array = npt.NDArray[np.float64]
NAN = float("nan")
LENGTH, HORIZON = 60, 6


def series(covariates: Array, weights: list[float], channels: int = 1) -> Series:
    """Noise around 10 plus `weights` times `covariates` (covariates, time + horizon), each channel its own noise."""
    rng = np.random.default_rng(0)
    target = 10 + rng.normal(scale=0.1, size=(channels, LENGTH)) + np.array(weights) @ covariates[:, :LENGTH]
    return Series(
        target=target,
        horizon=HORIZON,
        levels=(0.1, 0.5, 0.9),
        past=covariates[:, :LENGTH],
        future=covariates[:, LENGTH:],
        known=len(covariates),
    )


def white(count: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=(count, LENGTH + HORIZON))


def test_the_effect_is_the_weighted_future_around_the_mean_of_the_past() -> None:
    covariates = 100 + 7 * white(2)
    one = series(covariates, [3.0, -2.0])

    explained = explain(one)

    past_mean = one.past.mean(axis=1, keepdims=True)
    assert explained.effect is not None
    np.testing.assert_allclose(explained.effect[:, 0], [3, -2] @ (one.future - past_mean), rtol=0.02, atol=0.1)
    np.testing.assert_allclose(explained.rest.target.mean(), one.target.mean())
    assert explained.rest.target.std() < 0.2
    assert explained.remarks == (Remark("covariates_by_regression", (0, 1)),)


def test_the_inner_model_forecasts_the_rest_and_every_part_is_shifted() -> None:
    class Sampled:
        """Answers zeros, with samples."""

        def predict(self, batch: Batch) -> BatchForecast:
            assert all(one.known == 0 and one.future.shape == (0, HORIZON) for one in batch.series)
            zeros = SeriesForecast(
                point=np.zeros((HORIZON, 1)),
                quantiles=np.zeros((3, HORIZON, 1)),
                samples=np.zeros((4, HORIZON, 1)),
                remarks=(Remark("fallback"),),
            )
            return BatchForecast(tuple(zeros for _ in batch.series))

        def close(self) -> None:
            pass

    one = series(white(1), [5.0])

    result = InContextRegression(Sampled()).predict(Batch((one,))).series[0]

    effect = explain(one).effect
    assert isinstance(result, SeriesForecast) and result.samples is not None and effect is not None
    assert np.array_equal(result.point, effect)
    assert all(np.array_equal(part, effect) for part in (*result.quantiles, *result.samples))
    assert [r.code for r in result.remarks] == ["fallback", "covariates_by_regression"]


def test_each_channel_has_weights_of_its_own() -> None:
    covariates = white(1)
    one = series(covariates, [0.0], channels=2)
    one = replace(one, target=one.target + np.array([[4.0], [-4.0]]) * one.past)

    effect = explain(one).effect

    assert effect is not None
    np.testing.assert_allclose(effect[:, 0], -effect[:, 1], atol=0.3)


def test_a_series_without_known_covariates_passes_as_it_is() -> None:
    one = Series(target=np.arange(9.0)[None], horizon=2, past=white(1)[:, :9])

    explained = explain(one)

    assert explained.rest.target is one.target
    assert np.array_equal(explained.rest.past, one.past)  # the inner model may read what is known in the past only
    assert (explained.effect, explained.remarks) == (None, ())


def test_a_constant_covariate_is_named_and_the_others_used() -> None:
    covariates = white(3)
    covariates[1, :LENGTH] = 3.0
    covariates[2, :LENGTH] = NAN

    explained = explain(series(np.nan_to_num(covariates), [5.0, 0, 0]))
    missing = explain(replace(series(np.nan_to_num(covariates), [5.0, 0, 0]), past=covariates[:, :LENGTH]))

    for found in (explained, missing):
        assert found.remarks == (Remark("covariates_constant", (1, 2)), Remark("covariates_by_regression", (0,)))
        assert found.effect is not None


def test_too_few_rows_are_named_with_their_number() -> None:
    one = series(white(2), [5.0, 0.0])
    target = one.target.copy()
    target[:, 11:] = NAN

    explained = explain(replace(one, target=target))

    assert explained.effect is None
    assert explained.remarks == (Remark("covariates_too_few_rows", (0, 1), "11 of the 12 needed"),)


def test_a_covariate_known_over_the_horizon_only_is_named() -> None:
    one = series(white(1), [5.0])
    one = replace(one, past=np.vstack([one.past, one.past]), future=np.vstack([one.future, one.future]))

    explained = explain(one)

    assert Remark("covariates_ignored", (2,)) in explained.remarks
    assert explained.effect is not None


def test_noise_and_a_chance_trend_are_left_out() -> None:
    rng = np.random.default_rng(11)
    for covariate in (white(1, seed=5), np.cumsum(white(1, seed=8), axis=1)):
        one = series(covariate, [0.0])
        one = replace(one, target=np.cumsum(rng.normal(size=(1, LENGTH)), axis=1))

        explained = explain(one)

        assert explained.effect is None
        assert explained.remarks == (Remark("covariates_without_gain", (0,)),)


def test_gaps_in_target_and_covariate_drop_rows_and_stay_gaps_of_the_target() -> None:
    covariates = white(1)
    one = series(covariates, [5.0])
    target, past = one.target.copy(), one.past.copy()
    target[0, 5::7] = NAN
    past[0, 3::9] = NAN

    explained = explain(replace(one, target=target, past=past))

    whole = explain(one)
    assert explained.effect is not None and whole.effect is not None
    np.testing.assert_allclose(explained.effect, whole.effect, atol=0.5)
    assert np.array_equal(np.isnan(explained.rest.target), np.isnan(target))


def test_a_future_far_beyond_the_range_seen_is_followed_one_range_only() -> None:
    one = series(white(1), [5.0])
    beyond = replace(one, future=np.full((1, HORIZON), 1e9))

    effect = explain(beyond).effect

    assert effect is not None
    assert effect.max() < 5 * 3 * np.ptp(one.past)


def test_covariates_of_any_scale_weigh_the_same() -> None:
    covariates = white(2)
    tiny_and_huge = covariates * np.array([[1e-12], [1e12]])

    plain, scaled = explain(series(covariates, [3, 2])), explain(series(tiny_and_huge, [3e12, 2e-12]))

    assert plain.effect is not None and scaled.effect is not None
    np.testing.assert_allclose(scaled.effect, plain.effect, rtol=1e-6)


def test_inputs_are_read_only_and_a_failure_passes_through() -> None:
    one = series(white(1), [5.0])
    for array in (one.target, one.past, one.future):
        array.flags.writeable = False

    class Failing(SeasonalNaive):
        def predict(self, batch: Batch) -> BatchForecast:
            return BatchForecast((super().predict(batch).series[0], SeriesFailure("no")))

    results = InContextRegression(Failing(max_context=100)).predict(Batch((one, one))).series

    assert isinstance(results[0], SeriesForecast)
    assert results[1] == SeriesFailure("no")
