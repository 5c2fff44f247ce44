"""TimesFM 3.0 against its package where covariates and several channels come in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from adapters.base import Adapter, Array, Batch, Device, Remark, Series, SeriesFailure, SeriesForecast
from adapters.loading import adapter_class
from catalog.card import CARDS, load_cards
from tests.checkpoints import Sample, build

CARD = next(card for card in load_cards(CARDS) if card.id == "google/timesfm-3.0-pytorch")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return build(CARD, tmp_path_factory.mktemp("timesfm-3"))


@pytest.fixture(scope="module")
def adapter(sample: Sample) -> Adapter:
    return load(sample)


def load(sample: Sample) -> Adapter:
    return adapter_class(sample.card).load(sample.card, sample.folders, Device())


def wave(length: int, seed: int = 0) -> Array:
    """A season, a trend and noise."""
    steps = np.arange(length)
    noise = np.random.default_rng(seed).standard_normal(length)
    row: Array = np.sin(steps * (0.2 + 0.05 * seed)) + 0.01 * steps + 0.3 * noise
    return row


def series(length: int, horizon: int = 20, channels: int = 1, known: int = 0, past: int = 0, seed: int = 0) -> Series:
    """`known` covariates over past and horizon, and `past` ones that end with the context."""
    rows = [wave(length + horizon, 10 * seed + i) * (i + 1) + 5 * i for i in range(channels + known + past)]
    covariates = np.stack(rows)[channels:]
    return Series(
        target=np.stack(rows)[:channels, :length],
        horizon=horizon,
        levels=CARD.quantile_levels,
        past=covariates[:, :length],
        future=covariates[:known, length:],
        known=known,
    )


def forecasts(adapter: Adapter, *batch: Series) -> list[SeriesForecast]:
    found = adapter.predict(Batch(batch)).series
    assert all(isinstance(one, SeriesForecast) for one in found)
    return [one for one in found if isinstance(one, SeriesForecast)]


def difference(found: Array, expected: Array, context: Array) -> float:
    """The design's measure: the largest gap over the larger of the forecast's and the context's size."""
    size = max(float(np.abs(expected).max()), float(np.nanstd(context)), 1e-6)
    return float(np.abs(found - expected).max()) / size


def test_any_mix_of_covariates_in_one_batch_is_what_the_package_says_of_each_series_alone(
    sample: Sample, adapter: Adapter
) -> None:
    assert sample.reference is not None
    holed = series(90, channels=2, known=1, past=1, seed=8)
    holed.target[:, :7] = np.nan
    holed.target[0, 30:55] = np.nan
    holed.target[1, :20] = np.nan
    holed.past[0, 5:14] = np.nan
    batch = [
        series(5, horizon=1, known=1),
        series(33, seed=20),
        series(60, seed=21),
        series(64, channels=2, known=1, seed=22),
        series(40, known=2, past=1, seed=1),
        series(100, channels=3, horizon=100, seed=2),
        series(100, channels=2, known=1, past=2, seed=3),
        series(300, horizon=64, past=1, seed=4),
        series(300, horizon=65, known=1, seed=5),
        series(512, horizon=200, known=1, past=1, seed=6),
        holed,
    ]
    for one, found in zip(batch, forecasts(adapter, *batch), strict=True):
        assert difference(found.quantiles, sample.reference(one), one.target) < 1e-4


@pytest.mark.parametrize("length", [31, 33, 60, 200])
def test_neighbours_of_any_length_and_form_change_nothing(adapter: Adapter, length: int) -> None:
    """In the package's own batches they do."""
    for mine in (series(length), series(length, known=1), series(length, channels=2, past=1)):
        (alone,) = forecasts(adapter, mine)
        for other in (series(5, seed=1), series(500, known=1, seed=1), series(500, channels=2, past=1, seed=1)):
            beside = forecasts(adapter, other, mine, series(length, known=2, seed=2))[1]
            assert difference(beside.quantiles, alone.quantiles, mine.target) < 1e-5


def test_a_channel_learns_from_the_other_channels(adapter: Adapter) -> None:
    both = series(60, channels=2)
    other = replace(both, target=np.stack([both.target[0], wave(60, 7)]))
    found, changed_beside = forecasts(adapter, both, other)
    assert difference(changed_beside.quantiles[..., :1], found.quantiles[..., :1], both.target[:1]) > 1e-2


@pytest.mark.parametrize("step", [0, 5, 19])
def test_a_known_covariate_moves_its_own_forecast_and_no_other(adapter: Adapter, step: int) -> None:
    mine, beside = series(60, known=1), series(60, known=1, seed=1)
    future = mine.future.copy()
    future[0, step] += 3
    before = forecasts(adapter, mine, beside)
    moved = forecasts(adapter, replace(mine, future=future), beside)
    assert difference(moved[0].quantiles, before[0].quantiles, mine.target) > 1e-2
    assert difference(moved[1].quantiles, before[1].quantiles, beside.target) < 1e-5


def test_covariates_of_the_past_move_the_forecast_and_static_ones_do_not(adapter: Adapter) -> None:
    one = series(60, past=1)
    found, without, static = forecasts(
        adapter, one, replace(one, past=np.empty((0, 60))), replace(one, static=np.array([1.0, 2.0]))
    )
    assert difference(without.quantiles, found.quantiles, one.target) > 1e-2
    assert difference(static.quantiles, found.quantiles, one.target) < 1e-5


def test_a_covariate_without_a_past_is_named_and_not_used(adapter: Adapter) -> None:
    one = series(60, known=1, past=2)
    found, used = forecasts(adapter, replace(one, future=np.concatenate([one.future, one.future + 1])), one)
    assert found.remarks == (Remark("covariates_ignored", (3,)),)
    assert used.remarks == ()
    assert difference(found.quantiles, used.quantiles, one.target) < 1e-5


def test_a_series_that_hardly_moves_at_a_high_level_keeps_its_movement(adapter: Adapter) -> None:
    low = series(100, known=1)
    high = replace(low, target=low.target + 1e7, past=low.past + 1e7, future=low.future + 1e7)
    found, expected = forecasts(adapter, high, low)
    assert np.abs(found.quantiles - 1e7 - expected.quantiles).max() < 1e-4 * np.abs(expected.quantiles).max()


def test_a_channel_without_observations_fails_its_series_alone(adapter: Adapter) -> None:
    empty = replace(series(60, channels=2), target=np.stack([wave(60), np.full(60, np.nan)]))
    found = adapter.predict(Batch((series(60), empty))).series
    assert isinstance(found[0], SeriesForecast)
    assert isinstance(found[1], SeriesFailure)


def damaged(folder: Path, target: Path, drop: str = "", cut: int | None = None) -> Path:
    """A copy of a checkpoint without the tensors whose name has `drop` in it, or with its file cut short."""
    from safetensors.torch import load_file, save_file

    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes()[:cut] if "safetensors" in file.name else file.read_bytes())
    if drop:
        kept = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if drop not in name}
        save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_a_bad_checkpoint_is_refused(sample: Sample, tmp_path: Path) -> None:
    folder = sample.folders["model"]
    for sentence, bad in (
        ("has no config.json", tmp_path),
        ("holds no TimesFM 3.0 checkpoint", damaged(folder, tmp_path / "cut", cut=1000)),
        ("lacks 2 weights", damaged(folder, tmp_path / "incomplete", drop="var_attn.out_proj")),
    ):
        with pytest.raises(ValueError, match=sentence):
            load(replace(sample, folders={"model": bad}))
    with pytest.raises(ValueError, match="levels"):
        load(replace(sample, card=msgspec.structs.replace(sample.card, quantile_levels=(0.1, 0.5, 0.9))))
