"""adapters.copula: paths with the forecast's marginals and the context's autocorrelation."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist

import msgspec
import numpy as np
import pytest

from adapters.base import Array, Batch, BatchForecast, Device, Sampling, Series, SeriesFailure, SeriesForecast
from adapters.copula import FEWEST_PAIRS, GRID, CopulaSampling, autoregressive, normal_scores, persistence, read
from adapters.quantiles import at_levels
from adapters.seasonal_naive import SeasonalNaive
from catalog.card import CARDS, load_cards

DECILES = tuple(round(0.1 * i, 1) for i in range(1, 10))
CARD = next(card for card in load_cards(CARDS) if card.id.endswith("seasonal-naive"))
DRAW = Sampling(count=4000, seed=7, copula=True)


def ar1(correlation: float, length: int, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).standard_normal((1, length))
    row: Array = autoregressive(noise, correlation)[0]
    return row


@pytest.fixture(scope="module", params=["any level", "deciles"])
def adapter(request: pytest.FixtureRequest) -> CopulaSampling:
    levels = DECILES if request.param == "deciles" else ()
    card = msgspec.structs.replace(CARD, quantile_levels=levels)
    return CopulaSampling(SeasonalNaive.load(card, {}, Device()), card)


def forecast(adapter: CopulaSampling, *series: Series) -> SeriesForecast:
    (found, *_) = adapter.predict(Batch(series)).series
    assert isinstance(found, SeriesForecast)
    return found


def drawn(adapter: CopulaSampling, *series: Series) -> Array:
    samples = forecast(adapter, *series).samples
    assert samples is not None
    return samples


def ask(*rows: Array, horizon: int = 6, sampling: Sampling | None = DRAW, season: int = 1) -> Series:
    return Series(
        target=np.stack(rows), horizon=horizon, levels=(0.05, 0.25, 0.5, 0.9), season=season, sampling=sampling
    )


def test_the_paths_of_each_step_are_distributed_as_the_quantile_forecast(adapter: CopulaSampling) -> None:
    series = ask(ar1(0.8, 200) + 30, ar1(0.1, 200, 1) * 5)
    found = forecast(adapter, series)
    assert found.samples is not None and found.samples.shape == (4000, 6, 2)
    for i, level in enumerate(series.levels):
        below = (found.samples <= found.quantiles[i]).mean(axis=0)
        assert np.abs(below - level).max() < 0.03  # four standard deviations of a share of 4000


def test_the_paths_keep_the_contexts_autocorrelation(adapter: CopulaSampling) -> None:
    for correlation in (0.0, 0.5, 0.9):
        row = ar1(correlation, 2000)
        samples = drawn(adapter, ask(row, horizon=8))[..., 0]
        scores = np.stack([normal_scores(step) for step in samples.T])
        found = np.mean([np.corrcoef(*pair)[0, 1] for pair in pairwise(scores)])
        assert abs(found - correlation) < 0.07


def test_channels_are_drawn_apart(adapter: CopulaSampling) -> None:
    samples = drawn(adapter, ask(ar1(0.5, 60), ar1(0.5, 60, 1)))
    scores = [normal_scores(channel) for channel in samples[:, 0].T]
    assert abs((scores[0] * scores[1]).mean()) < 0.1


def test_one_seed_is_one_set_of_paths_whatever_the_batch(adapter: CopulaSampling) -> None:
    mine, other = ask(ar1(0.5, 60)), ask(ar1(0.9, 90, 3), horizon=11, sampling=None)
    assert np.array_equal(drawn(adapter, mine), drawn(adapter, mine, other))
    assert not np.array_equal(drawn(adapter, mine), drawn(adapter, ask(ar1(0.5, 60), sampling=replace(DRAW, seed=8))))


def test_what_is_forecast_does_not_depend_on_the_paths(adapter: CopulaSampling) -> None:
    row = ar1(0.5, 60)
    with_paths, without = forecast(adapter, ask(row)), forecast(adapter, ask(row, sampling=None))
    assert np.array_equal(with_paths.quantiles, without.quantiles)
    assert np.array_equal(with_paths.point, without.point)
    assert without.samples is None


def test_a_series_that_fails_stays_failed() -> None:
    class Failing(SeasonalNaive):
        def predict(self, batch: Batch) -> BatchForecast:
            return BatchForecast((SeriesFailure("no"),))

    failing = CopulaSampling(Failing.load(CARD, {}, Device()), CARD)
    assert failing.predict(Batch((ask(ar1(0.5, 20)),))).series == (SeriesFailure("no"),)


@pytest.mark.parametrize("levels", [DECILES, GRID])
def test_a_path_is_read_where_at_levels_reads(levels: tuple[float, ...]) -> None:
    quantiles = np.sort(np.random.default_rng(0).normal(size=(len(levels), 1)), axis=0)
    asked = (0.001, 0.07, 0.1, 0.33, 0.5, 0.86, 0.995)
    scores = np.array([[NormalDist().inv_cdf(level)] for level in asked])
    expected = at_levels(quantiles, levels, asked, "normal")
    assert np.allclose(read(scores, quantiles, levels), expected, rtol=0, atol=1e-9)


def test_the_season_is_taken_away_before_the_correlation() -> None:
    swing = 50 * np.sin(np.arange(400) * np.pi / 6)
    noise = np.random.default_rng(0).standard_normal(400)
    assert persistence(swing + noise, 1) > 0.6
    assert persistence(swing + noise, 12) < 0.15
    assert abs(persistence(swing + ar1(0.8, 400), 12) - 0.8) < 0.1


def test_a_context_that_tells_nothing_leaves_the_steps_independent() -> None:
    nothing = np.full(30, np.nan)
    nothing[::2] = np.arange(15)  # no two neighbours observed
    for row in (
        np.array([7.0]),
        np.full(30, 5.0),
        np.arange(float(FEWEST_PAIRS)),
        nothing,
        -np.cos(np.pi * np.arange(30)),
    ):
        assert persistence(row, 1) == 0.0
    assert persistence(np.arange(100.0), 1) <= 0.99


def test_equal_values_share_their_score() -> None:
    scores = normal_scores(np.array([3.0, 1.0, 3.0, np.nan, 8.0]))
    assert scores[0] == scores[2] == pytest.approx(0.0)
    assert np.isnan(scores[3])
    assert scores[1] == pytest.approx(-scores[4])
