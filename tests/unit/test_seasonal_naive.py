"""adapters.seasonal_naive: repetition, intervals that widen by the season, gaps."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from adapters.base import Batch, Series, SeriesForecast
from adapters.seasonal_naive import SeasonalNaive, repeat_season, usable_season

NAN = float("nan")
LEVELS = (0.01, 0.1, 0.5, 0.9, 0.99)
Array = npt.NDArray[np.float64]


def forecast(*series: Series) -> tuple[SeriesForecast, ...]:
    results = SeasonalNaive(max_context=4096).predict(Batch(series)).series
    assert all(isinstance(one, SeriesForecast) for one in results)
    return results  # type: ignore[return-value]


def one(values: list[float] | Array, horizon: int, season: int = 1) -> SeriesForecast:
    target = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return forecast(Series(target=target, horizon=horizon, season=season, levels=LEVELS))[0]


def test_the_last_season_repeats_by_phase() -> None:
    result = one([0, 0, 0, 1, 2, 3, 4, 5, 6], horizon=7, season=3)

    assert result.point[:, 0].tolist() == [4, 5, 6, 4, 5, 6, 4]
    assert np.array_equal(result.quantiles[2], result.point)


def test_the_deviation_is_the_rms_seasonal_step_times_the_root_of_seasons() -> None:
    values = np.array([1.0, 5, 2, 9, 1, 4])  # steps over two: 1, 4, -1, -5
    sigma = np.sqrt((1 + 16 + 1 + 25) / 4)

    result = one(values, horizon=6, season=2)

    z = NormalDist().inv_cdf(0.9)
    expected = result.point[:, 0] + z * sigma * np.sqrt([1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(result.quantiles[3][:, 0], expected)
    np.testing.assert_allclose(result.quantiles[1] + result.quantiles[3], 2 * result.point)


def test_intervals_hold_what_they_promise_on_a_random_walk() -> None:
    rng = np.random.default_rng(5)
    walks = np.cumsum(rng.normal(size=(400, 212)), axis=1)
    results = forecast(*[Series(target=w[None, :200], horizon=12, levels=(0.1, 0.9)) for w in walks])

    inside = [
        (r.quantiles[0][:, 0] <= w[200:]) & (w[200:] <= r.quantiles[1][:, 0])
        for r, w in zip(results, walks, strict=True)
    ]

    assert 0.76 < np.mean(inside) < 0.84


@pytest.mark.parametrize(("length", "season"), [(1, 12), (23, 12), (24, 12)])
def test_fewer_than_two_seasons_repeat_the_last_value(length: int, season: int) -> None:
    values = np.arange(length, dtype=np.float64)

    result = one(values, horizon=3, season=season)

    seasonal = length >= 2 * season
    assert result.point[:, 0].tolist() == ([12, 13, 14] if seasonal else [length - 1] * 3)


def test_a_single_observation_has_no_spread() -> None:
    result = one([7.0], horizon=2)

    assert np.all(result.quantiles == 7.0)


def test_gaps_take_the_value_a_season_before_with_more_uncertainty() -> None:
    mean, deviation = repeat_season([np.array([1.0, 10, 3, 10, NAN, 10])], season=2, horizon=4)

    assert mean[0].tolist() == [3, 10, 3, 10]
    # Phase 0 was last seen one season earlier, so it is two seasons away.
    np.testing.assert_allclose(deviation[0] / deviation[0, 1], np.sqrt([2, 1, 3, 2]))


def test_a_step_over_a_gap_counts_as_several_seasons() -> None:
    _, deviation = repeat_season([np.array([0.0, NAN, NAN, NAN, 2.0])], season=1, horizon=1)

    assert deviation[0, 0] == pytest.approx(1.0)  # 2 over four steps of a random walk


def test_a_phase_never_observed_takes_the_latest_value() -> None:
    mean, _ = repeat_season([np.array([1.0, NAN, 2.0, NAN])], season=2, horizon=2)

    assert mean[0].tolist() == [2.0, 2.0]


def test_a_row_without_two_comparable_seasons_has_lag_one() -> None:
    assert usable_season(np.array([1.0, 2, 3, NAN, NAN, NAN]), 3) == 1
    assert usable_season(np.array([1.0, 2, 3, NAN, NAN, 6]), 3) == 3


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e200])
def test_the_spread_follows_the_scale_without_overflow(scale: float) -> None:
    values = np.array([1.0, 3, 2, 5])

    np.testing.assert_allclose(one(values * scale, 5).quantiles / scale, one(values, 5).quantiles)


def test_neighbours_of_any_length_season_and_horizon_change_nothing() -> None:
    rng = np.random.default_rng(1)
    series = [
        Series(target=rng.normal(size=(channels, length)), horizon=horizon, season=season, levels=LEVELS)
        for channels, length, horizon, season in [(1, 5, 3, 1), (3, 40, 9, 7), (1, 100, 30, 12), (2, 90, 2, 12)]
    ]

    together = forecast(*series)

    for alone, batched in zip((forecast(s)[0] for s in series), together, strict=True):
        np.testing.assert_allclose(alone.quantiles, batched.quantiles, rtol=1e-12)
        assert np.array_equal(alone.point, batched.point)
