"""The forecaster in the box: it is the Chronos-Bolt it says it is, and its forecasts look right."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from adapters.base import Adapter, Batch, Device, Series, SeriesForecast
from adapters.loading import load
from catalog.card import BUNDLED, CARDS, ModelCard, load_cards
from gateway.ensemble import scoring

ROOT = Path(__file__).parents[2]
FOLDER = BUNDLED / "bolt-nano"
DECILES = tuple(round(0.1 * i, 1) for i in range(1, 10))
LIMIT_BYTES = 8 << 20


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return next(c for c in load_cards(CARDS) if c.id == "forecast-gateway/bolt-nano")


@pytest.fixture(scope="module")
def model(card: ModelCard) -> Adapter:
    return load(card, {"model": FOLDER}, Device())


def forecast(
    model: Adapter, values: np.ndarray, horizon: int, season: int = 1, levels: tuple[float, ...] = DECILES
) -> SeriesForecast:
    series = Series(target=np.asarray(values, dtype=float)[None], horizon=horizon, levels=levels, season=season)
    (answer,) = model.predict(Batch((series,))).series
    assert isinstance(answer, SeriesForecast)
    return answer


def passengers() -> np.ndarray:
    with (ROOT / "gateway/samples/air_passengers.csv").open() as file:
        return np.array([float(row["y"]) for row in csv.DictReader(file)])


def test_it_is_small_and_tells_its_history(card: ModelCard) -> None:
    assert (FOLDER / "model.safetensors").stat().st_size < LIMIT_BYTES
    told = (FOLDER / "README.md").read_text()
    assert f"{card.parameters:,} parameters" in told and "synthetic series only" in told


def test_the_library_says_the_same(card: ModelCard, model: Adapter) -> None:
    import torch
    from chronos import BaseChronosPipeline

    library = BaseChronosPipeline.from_pretrained(FOLDER, device_map="cpu", dtype=torch.float32)
    for values, horizon in ((passengers(), 24), (np.sin(np.arange(700) * 0.26), 64), (passengers()[:20], 100)):
        context = torch.tensor(values[-512:], dtype=torch.float32)
        levels = card.quantile_levels  # all of them: neighbours may cross, and are sorted together
        theirs, _ = library.predict_quantiles(context, prediction_length=horizon, quantile_levels=list(levels))
        ours = forecast(model, values[-512:], horizon, levels=levels).quantiles[:, :, 0]
        scale = max(np.abs(ours).max(), values.std())
        assert np.abs(np.sort(theirs[0].numpy().T, axis=0) - ours).max() <= 1e-4 * scale


def test_it_beats_seasonal_naive_on_the_passengers(model: Adapter) -> None:
    values = passengers()
    context, actual = values[:-12], values[-12:]
    answer = forecast(model, context, 12, 12)
    scale = scoring.seasonal_scale(context, 12)
    assert scoring.mase(actual, answer.point[:, 0], scale) < 0.8 * scoring.mase(actual, context[-12:], scale)


@pytest.mark.parametrize("period", [7, 12, 24, 48])
def test_it_repeats_a_season_over_a_trend(model: Adapter, period: int) -> None:
    steps = np.arange(10 * period + 48)
    values = 100 + 0.2 * steps + 20 * np.sin(2 * np.pi * steps / period)
    answer = forecast(model, values[:-48], 48, period)
    assert np.abs(answer.point[:, 0] - values[-48:]).mean() < 6.0  # of an amplitude of 20


def test_it_follows_a_level_shift(model: Adapter) -> None:
    noise = np.random.default_rng(0).normal(size=300)
    values = np.where(np.arange(300) < 200, 10.0, 50.0) + noise
    point = forecast(model, values, 24).point[:, 0]
    assert np.abs(point - 50).max() < 4


def test_counts_stay_about_zero_or_above(model: Adapter) -> None:
    counts = np.random.default_rng(1).poisson(1.5, size=400).astype(float)
    quantiles = forecast(model, counts, 28, 7).quantiles
    assert quantiles.min() > -0.25
    assert 0.5 < quantiles[4].mean() < 2.5
