"""adapters.statistical: the library's models, honest intervals, and never a silent fallback."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import statsforecast.models as library
from statsforecast.utils import AirPassengers

from adapters.base import Batch, Series, SeriesFailure, SeriesForecast
from adapters.seasonal_naive import SeasonalNaive
from adapters.statistical import AutoARIMA, AutoETS, AutoTheta, DynamicTheta, Method, Normal, Statistical

Array = npt.NDArray[np.float64]
NAN = float("nan")
LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)
FAMILY = (AutoETS, AutoTheta, DynamicTheta, AutoARIMA)
every_model = pytest.mark.parametrize("model", FAMILY, ids=lambda model: model.__name__)


def forecast(model: type[Statistical], values: Array, horizon: int = 8, season: int = 1) -> SeriesForecast:
    series = Series(target=np.atleast_2d(values).astype(np.float64), horizon=horizon, season=season, levels=LEVELS)
    result = model(max_context=4096).predict(Batch((series,))).series[0]
    assert isinstance(result, SeriesForecast)
    return result


def naive(values: Array, horizon: int = 8, season: int = 1) -> SeriesForecast:
    series = Series(target=np.atleast_2d(values), horizon=horizon, season=season, levels=LEVELS)
    result = SeasonalNaive(max_context=4096).predict(Batch((series,))).series[0]
    assert isinstance(result, SeriesForecast)
    return result


@pytest.mark.parametrize(
    ("model", "upstream"),
    [
        (AutoETS, library.AutoETS(season_length=12)),
        (AutoTheta, library.AutoTheta(season_length=12)),
        (DynamicTheta, library.DynamicOptimizedTheta(season_length=12)),
        (AutoARIMA, library.AutoARIMA(season_length=12, approximation=True, nmodels=30, max_P=1, max_Q=1)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_point_forecast_is_the_librarys(model: type[Statistical], upstream: library.AutoETS) -> None:
    expected = upstream.forecast(AirPassengers, h=18)["mean"]

    result = forecast(model, AirPassengers, horizon=18, season=12)

    np.testing.assert_allclose(result.point[:, 0], expected, rtol=1e-6)
    assert result.remarks == ()


@every_model
def test_quantiles_are_normal_around_the_point(model: type[Statistical]) -> None:
    result = forecast(model, AirPassengers[:60], horizon=18, season=12)

    assert (np.diff(result.quantiles, axis=0) > 0).all()
    assert np.array_equal(result.quantiles[2], result.point)
    np.testing.assert_allclose(result.quantiles[1] + result.quantiles[3], 2 * result.point)
    ratio = (result.quantiles[4] - result.point) / (result.quantiles[3] - result.point)
    np.testing.assert_allclose(ratio, 1.959964 / 1.281552, rtol=1e-5)


@pytest.mark.parametrize(("model", "count"), [(AutoETS, 80), (AutoTheta, 80), (DynamicTheta, 80), (AutoARIMA, 15)])
def test_intervals_hold_about_what_they_promise(model: type[Statistical], count: int) -> None:
    rng = np.random.default_rng(7)
    level = np.cumsum(rng.normal(scale=0.5, size=(count, 108)), axis=1)
    values = 100 + level + rng.normal(size=level.shape)
    batch = Batch(tuple(Series(target=v[None, :100], horizon=8, levels=(0.1, 0.9)) for v in values))

    results = model(max_context=4096).predict(batch).series

    inside = []
    for result, actual in zip(results, values[:, 100:], strict=True):
        assert isinstance(result, SeriesForecast)
        inside.append((result.quantiles[0][:, 0] <= actual) & (actual <= result.quantiles[1][:, 0]))
    assert 0.7 < np.mean(inside) < 0.9


@every_model
def test_the_first_step_does_not_depend_on_the_horizon(model: type[Statistical]) -> None:
    # The library's seasonal ETS widths do.
    values = 50 + 10 * np.sin(np.arange(72) * np.pi / 2) + np.random.default_rng(0).normal(size=72)

    short, long = forecast(model, values, 1, season=4), forecast(model, values, 40, season=4)

    np.testing.assert_allclose(short.quantiles[:, 0], long.quantiles[:, 0], rtol=1e-9)


@every_model
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_series_too_short_for_the_model_says_so(model: type[Statistical], length: int) -> None:
    values = np.array([3.0, 5, 4, 8, 6])[:length]

    result = forecast(model, values)

    assert np.array_equal(result.quantiles, naive(values).quantiles)
    if length > 1:  # one value cannot move: nothing was lost
        assert [r.code for r in result.remarks] == ["fallback"]
        assert f"needs {model.shortest} observations" in result.remarks[0].detail


@every_model
@pytest.mark.parametrize("season", [1, 4, 12])
def test_the_shortest_series_of_the_model_are_forecast_by_it(model: type[Statistical], season: int) -> None:
    values = np.array([3.0, 5, 4, 8, 6, 7, 9])[: model.shortest]

    result = forecast(model, values, season=season)

    assert np.isfinite(result.quantiles).all()
    assert result.remarks == ()


@every_model
@pytest.mark.parametrize("value", [0.0, 5.0, -1e9])
def test_a_constant_series_stays(model: type[Statistical], value: float) -> None:
    result = forecast(model, np.full(40, value), season=12)

    assert np.all(result.quantiles == value)
    assert result.remarks == ()


@every_model
@pytest.mark.parametrize("level", [1e-12, 1e12])
def test_values_of_any_size_are_forecast_in_their_range(model: type[Statistical], level: float) -> None:
    values = level * (1 + 0.1 * np.random.default_rng(0).normal(size=60))

    result = forecast(model, values)

    assert result.remarks == ()
    assert values.min() < result.point.min() <= result.point.max() < values.max()


def test_a_model_that_runs_away_is_replaced_by_a_simpler_one() -> None:
    # Relative errors of an exponential series compound to deviations of 1e31 within a hundred steps.
    values = np.exp(np.arange(20.0))

    result = forecast(AutoETS, values, horizon=100, season=4)

    assert [r.detail for r in result.remarks] == [
        "AutoETS ran away over this horizon; AutoETS with additive components was used."
    ]
    assert np.ptp(result.quantiles) < 1e3 * values.max()


class Broken(Statistical):
    """Fails on what is above 100, answers NaN above 10."""

    @staticmethod
    def fit(values: Array, season: int, horizon: int) -> Normal:
        if values.max() > 100:
            raise RuntimeError("no model able to be fitted")
        value = NAN if values.max() > 10 else 1.0
        return Normal(np.full(horizon, value), np.ones(horizon))

    methods = (Method("Broken", fit),)
    shortest: ClassVar[int] = 2


def test_a_fit_that_raises_or_answers_nan_falls_back_by_channel_and_says_so() -> None:
    target = np.array([[1.0, 3, 2], [1, 300, 2], [1, 30, 2], [200, 500, 900]])

    result = forecast(Broken, target, horizon=2)

    assert result.point.tolist() == [[1, 2, 2, 900]] * 2
    assert [r.detail for r in result.remarks] == [
        "Channels 1, 3: Broken could not be fitted; the seasonal naive method was used.",
        "Channel 2: Broken ran away over this horizon; the seasonal naive method was used.",
    ]


def test_a_series_that_cannot_be_read_fails_alone() -> None:
    good = Series(target=np.array([[1.0, 2, 3]]), horizon=2)
    poison = Series(target=np.empty((1, 0)), horizon=2)

    results = AutoTheta(max_context=4096).predict(Batch((good, poison, good))).series

    assert [type(r) for r in results] == [SeriesForecast, SeriesFailure, SeriesForecast]


@every_model
def test_gaps_are_interpolated_and_a_leading_gap_is_dropped(model: type[Statistical]) -> None:
    values = AirPassengers[:48].copy()
    with_gap, interpolated = values.copy(), values.copy()
    with_gap[20] = NAN
    interpolated[20] = (values[19] + values[21]) / 2
    leading = np.concatenate([np.full(7, NAN), interpolated])

    expected = forecast(model, interpolated, season=12).quantiles

    assert np.array_equal(forecast(model, with_gap, season=12).quantiles, expected)
    assert np.array_equal(forecast(model, leading, season=12).quantiles, expected)


@every_model
def test_a_season_too_long_to_fit_is_still_forecast(model: type[Statistical]) -> None:
    t = np.arange(24 * 8)
    values = 50 + 10 * np.sin(2 * np.pi * t / 24) + np.random.default_rng(0).normal(scale=0.5, size=len(t))

    result = forecast(model, values[:-24], horizon=24, season=24)

    assert np.abs(result.point[:, 0] - values[-24:]).mean() < 1.0
    assert result.remarks == ()
