"""Quantiles at any level: exact, interpolated, in the tails, never crossing."""

from __future__ import annotations

from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from adapters.base import Series
from adapters.quantiles import at_levels, forecast_of, forecasts_of, median

DECILES = tuple(round(0.1 * i, 1) for i in range(1, 10))


def deciles(seed: int, *shape: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).normal(size=(9, *shape)), axis=0)


def test_trained_levels_are_passed_through_bit_by_bit() -> None:
    values = deciles(0, 5, 2)
    assert np.array_equal(at_levels(values, DECILES, (0.1, 0.5, 0.9), "refuse"), values[[0, 4, 8]])
    assert np.array_equal(at_levels(values, DECILES, (float(np.float32(0.1)),), "refuse"), values[:1])


def test_values_that_cross_are_sorted_and_the_input_stays() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert at_levels(values, (0.1, 0.5, 0.9), (0.1, 0.5, 0.9), "refuse").tolist() == [1.0, 2.0, 3.0]
    assert values.tolist() == [3.0, 1.0, 2.0]


def test_levels_between_are_linear() -> None:
    values = np.array([[0.0], [10.0], [40.0]])
    got = at_levels(values, (0.1, 0.5, 0.9), (0.2, 0.3, 0.7), "refuse")
    assert got[:, 0] == pytest.approx([2.5, 5.0, 25.0])


def test_normal_tails_restore_a_normal_distribution() -> None:
    normal = NormalDist(100.0, 7.0)
    values = np.array([[normal.inv_cdf(p)] for p in DECILES])
    asked = (0.001, 0.025, 0.975, 0.999)
    got = at_levels(values, DECILES, asked, "normal")
    assert got[:, 0] == pytest.approx([normal.inv_cdf(p) for p in asked])


@pytest.mark.parametrize("tails", ["refuse", "native"])
def test_levels_outside_are_refused_with_the_range(tails: str) -> None:
    with pytest.raises(ValueError, match=r"0\.95 is outside the trained levels 0\.1 to 0\.9"):
        at_levels(deciles(1, 3), DECILES, (0.5, 0.95), tails)  # type: ignore[arg-type]


def test_a_tail_on_a_side_without_trained_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="on the side"):
        at_levels(np.array([[1.0], [2.0]]), (0.5, 0.9), (0.1,), "normal")


def test_no_two_levels_cross_at_any_scale() -> None:
    asked = tuple(np.round(np.linspace(0.01, 0.99, 99), 2))
    for scale in (1e-9, 1.0, 1e9, 1e15):
        values = scale * (1 + 1e-7 * deciles(2, 200))
        got = at_levels(values, DECILES, asked, "normal")
        assert all((high >= low).all() for low, high in pairwise(got))


def test_a_cell_with_a_nan_is_nan_at_every_level() -> None:
    values = deciles(3, 2)
    values[8, 1] = np.nan
    got = at_levels(values, DECILES, (0.1, 0.45, 0.99), "normal")
    assert np.isfinite(got[:, 0]).all() and np.isnan(got[:, 1]).all()


def test_no_levels_asked_is_an_empty_stack() -> None:
    assert at_levels(deciles(4, 5, 2), DECILES, (), "refuse").shape == (0, 5, 2)


def test_a_forecast_is_cut_to_the_horizon_and_its_point_is_the_median() -> None:
    values = deciles(5, 8, 2)
    series = Series(target=np.zeros((2, 4)), horizon=3, levels=(0.1, 0.9))
    got = forecast_of(series, values, DECILES, "normal")
    assert np.array_equal(got.point, values[4, :3]) and np.array_equal(got.point, median(values, DECILES)[:3])
    assert np.array_equal(got.quantiles, values[[0, 8], :3])
    mean = np.arange(16.0).reshape(8, 2)
    assert np.array_equal(forecast_of(series, values, DECILES, "normal", mean).point, mean[:3])


def test_many_series_at_once_are_what_each_is_by_itself() -> None:
    asked = ((0.1, 0.5, 0.9), (0.25, 0.99), (0.1, 0.5, 0.9), ())
    series = [
        Series(target=np.zeros((1 + i % 2, 5)), horizon=3 + i, levels=levels, season=1)
        for i, levels in enumerate(asked)
    ]
    values = [np.random.default_rng(i).normal(size=(len(one.target), 9, 6)) for i, one in enumerate(series)]
    together = forecasts_of(series, values, DECILES, "normal")
    for one, own, found in zip(series, values, together, strict=True):
        alone = forecast_of(one, own.transpose(1, 2, 0), DECILES, "normal")
        assert np.array_equal(found.point, alone.point)
        assert np.array_equal(found.quantiles, alone.quantiles)
    assert forecasts_of([], [], DECILES, "normal") == []
