"""gateway.ensemble.scoring: metrics by hand, and the published figures of the M3 competition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gateway.ensemble import scoring
from gateway.ensemble.scoring import Percentage

Array = npt.NDArray[np.float64]
NAN = float("nan")
M3 = Path(__file__).parents[3] / "shared" / "data" / "m3" / "m3.csv"
SEASONS = {"YEARLY": 1, "QUARTERLY": 4, "MONTHLY": 12, "OTHER": 1}


def column(*values: float) -> Array:
    return np.array(values, dtype=np.float64)[:, None]


def test_errors_by_hand() -> None:
    actual, forecast = column(1, 2, 4), column(2, 2, 1)

    assert scoring.mae(actual, forecast) == pytest.approx(4 / 3)
    assert scoring.rmse(actual, forecast) == pytest.approx(np.sqrt(10 / 3))
    assert scoring.mape(actual, forecast) == Percentage(pytest.approx((100 + 0 + 75) / 3), 0)
    assert scoring.smape(actual, forecast) == Percentage(pytest.approx((200 / 3 + 0 + 120) / 3), 0)


def test_percentages_skip_and_count_the_zeros_they_divide_by() -> None:
    actual, forecast = column(0, 0, 2, NAN), column(0, 1, 1, 1)

    assert scoring.mape(actual, forecast) == Percentage(50.0, 2)
    assert scoring.smape(actual, forecast) == Percentage(pytest.approx((200 + 200 / 3) / 2), 1)


def test_mase_divides_each_channel_by_its_own_seasonal_scale() -> None:
    context = np.column_stack([[0, 10, 2, 14], [0, 100, 20, 140]]).astype(np.float64)

    scale = scoring.seasonal_scale(context, 2)

    assert scale.tolist() == [3, 30]
    assert scoring.mase(np.array([[3.0, 30]]), np.array([[0.0, 60]]), scale) == 1.0


@pytest.mark.parametrize(("length", "expected"), [(2, 1.0), (3, 1.0), (4, 3.0)])
def test_a_context_no_longer_than_its_season_is_scaled_at_lag_one(length: int, expected: float) -> None:
    assert scoring.seasonal_scale(np.arange(length, dtype=np.float64), 3) == expected


def test_a_scale_of_zero_or_of_nothing_is_not_scored() -> None:
    scale = scoring.seasonal_scale(np.array([[1.0, NAN, 0], [1, 5, 1], [1, NAN, 2]]), 1)

    assert scale[0] == 0 and np.isnan(scale[1]) and scale[2] == 1
    assert scoring.mase(np.array([[5.0, 5, 5]]), np.zeros((1, 3)), scale) == 5.0


def test_quantile_scores_by_hand() -> None:
    actual = column(10, -10)
    quantiles = np.stack([column(8, -12), column(9, -8), column(13, -4)])
    levels = (0.1, 0.5, 0.9)
    first = 2 * (0.1 * 2 + 0.5 * 1 + 0.1 * 3) / 3
    second = 2 * (0.1 * 2 + 0.5 * 2 + 0.1 * 6) / 3

    assert scoring.crps(actual, quantiles, levels) == pytest.approx((first + second) / 2)
    assert scoring.wql(actual, quantiles, levels) == pytest.approx((first + second) / 20)


def test_coverage_takes_the_outermost_symmetric_pair() -> None:
    actual = column(1, 2, 3, 4, NAN)
    quantiles = np.stack([np.full((5, 1), value) for value in (0.0, 2, 2.5, 3, 3.5)])

    assert scoring.coverage(actual, quantiles, (0.01, 0.1, 0.5, 0.9, 0.95)) == 0.5  # of .1 and .9
    assert np.isnan(scoring.coverage(actual, quantiles[:2], (0.1, 0.5)))
    assert scoring.outermost_pair((0.1, 0.2, 0.8, 0.9)) == (0, 3)


def test_missing_actual_values_are_not_scored() -> None:
    rng = np.random.default_rng(0)
    actual, forecast = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    quantiles, levels = np.sort(rng.normal(size=(3, 6, 2)), axis=0), (0.1, 0.5, 0.9)
    holed = np.concatenate([actual, np.full((3, 2), NAN)])
    longer, more = np.concatenate([forecast, forecast[:3]]), np.concatenate([quantiles, quantiles[:, :3]], axis=1)

    assert scoring.mae(holed, longer) == pytest.approx(scoring.mae(actual, forecast))
    assert scoring.rmse(holed, longer) == pytest.approx(scoring.rmse(actual, forecast))
    assert scoring.smape(holed, longer).value == pytest.approx(scoring.smape(actual, forecast).value)
    for score in (scoring.crps, scoring.wql, scoring.coverage):
        assert score(holed, more, levels) == pytest.approx(score(actual, quantiles, levels))


def test_nothing_to_score_is_nan() -> None:
    nothing = np.full((2, 1), NAN)

    assert np.isnan(scoring.mae(nothing, np.zeros((2, 1))))
    assert np.isnan(scoring.mape(np.zeros((2, 1)), np.ones((2, 1))).value)
    assert np.isnan(scoring.wql(np.zeros((2, 1)), np.ones((1, 2, 1)), (0.5,)))


# -- published figures ---


@dataclass(frozen=True)
class M3Series:
    """One series of the competition: what was given, and what was asked for."""

    train: Array
    test: Array
    season: int


def m3() -> dict[str, list[M3Series]]:
    found: dict[str, list[M3Series]] = {period: [] for period in SEASONS}
    for line in M3.read_text().splitlines()[1:]:
        _, period, _, _, _, train, test = line.split(",")
        found[period].append(M3Series(np.array(train.split(), float), np.array(test.split(), float), SEASONS[period]))
    return found


def naive(series: M3Series) -> Array:
    return np.full(len(series.test), series.train[-1])


def seasonal_naive(series: M3Series) -> Array:
    return np.resize(series.train[-series.season :], len(series.test))


@pytest.mark.skipif(not M3.is_file(), reason="../shared/data/m3 is not on this machine")
@pytest.mark.parametrize(
    ("forecast", "published"),
    [
        (
            naive,
            {
                "YEARLY": (17.880, 3.172),
                "QUARTERLY": (11.323, 1.464),
                "MONTHLY": (18.181, 1.175),
                "OTHER": (6.302, 3.089),
                "ALL": (15.701, 1.787),
            },
        ),
        (
            seasonal_naive,
            {
                "YEARLY": (17.880, 3.172),
                "QUARTERLY": (11.065, 1.425),
                "MONTHLY": (17.234, 1.146),
                "OTHER": (6.302, 3.089),
                "ALL": (15.186, 1.764),
            },
        ),
    ],
)
def test_the_published_figures_of_m3(
    forecast: Callable[[M3Series], Array], published: dict[str, tuple[float, float]]
) -> None:
    scores = {
        period: [
            (
                scoring.smape(one.test, forecast(one)).value,
                scoring.mase(one.test, forecast(one), scoring.seasonal_scale(one.train, one.season)),
            )
            for one in series
        ]
        for period, series in m3().items()
    }
    scores["ALL"] = [one for period in SEASONS for one in scores[period]]

    for period, figures in published.items():
        assert np.mean(scores[period], axis=0) == pytest.approx(figures, abs=5.1e-4)
