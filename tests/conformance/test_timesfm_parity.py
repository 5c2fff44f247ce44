"""TimesFM 2.5 and 2.0 against their libraries, and what the comparison alone would not show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from adapters.base import Adapter, Array, Batch, Device, Series, SeriesFailure, SeriesForecast
from adapters.loading import adapter_class
from adapters.timesfm.network import Sizes
from adapters.timesfm.rows import CPU_TOKENS
from adapters.timesfm.timesfm20 import frequency_class
from catalog.card import CARDS, load_cards
from tests.checkpoints import Sample, build, timesfm_2_0, timesfm_2_5

DECILES = tuple(round(0.1 * i, 1) for i in range(1, 10))
DAY_S = 86400.0
# Around one patch, around the native horizon, at and over the window; all of them in one batch.
SHAPES = ((1, 5), (2, 128), (31, 129), (32, 1), (33, 256), (200, 320), (255, 257), (512, 128), (600, 300))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    cards = {card.family: card for card in load_cards(CARDS)}
    return {family: build(cards[family], tmp_path_factory.mktemp(family)) for family in ("timesfm-2.5", "timesfm-2.0")}


def load(sample: Sample, engine: str = "auto") -> Adapter:
    return adapter_class(sample.card).load(sample.card, sample.folders, Device(engine=engine))


def wave(length: int, seed: int = 0) -> Array:
    """A season, a trend and noise."""
    steps = np.arange(length)
    noise = np.random.default_rng(seed).standard_normal(length)
    row: Array = np.sin(steps * (0.2 + 0.05 * seed)) + 0.01 * steps + 0.3 * noise
    return row


def series(row: Array, horizon: int, step_s: float | None = None) -> Series:
    return Series(target=np.atleast_2d(row), horizon=horizon, levels=DECILES, step_s=step_s)


def forecasts(adapter: Adapter, *batch: Series) -> list[SeriesForecast]:
    found = adapter.predict(Batch(batch)).series
    assert all(isinstance(one, SeriesForecast) for one in found)
    return [one for one in found if isinstance(one, SeriesForecast)]


def difference(found: Array, expected: Array, context: Array) -> float:
    """The design's measure: the largest gap over the larger of the forecast's and the context's size."""
    size = max(float(np.abs(expected).max()), float(np.nanstd(context)), 1e-6)
    return float(np.abs(found - expected).max()) / size


def with_holes(row: Array) -> Array:
    """`row` with a leading, an inner and a trailing gap."""
    holed = row.copy()
    holed[: len(row) // 5] = np.nan
    holed[len(row) // 2 : len(row) // 2 + 7] = np.nan
    holed[-3:] = np.nan
    return holed


@pytest.mark.parametrize("engine", ["auto", "upstream"])
@pytest.mark.parametrize("family", ["timesfm-2.5", "timesfm-2.0"])
def test_a_ragged_batch_is_what_the_library_says_of_each_series_alone(
    samples: dict[str, Sample], family: str, engine: str
) -> None:
    sample = samples[family]
    assert sample.reference is not None
    rows = [wave(length, seed) * 10.0**seed + 5 * seed for seed, (length, _) in enumerate(SHAPES)]
    batch = [series(row, horizon) for row, (_, horizon) in zip(rows, SHAPES, strict=True)]
    batch += [series(with_holes(wave(length)), 200) for length in (40, 250, 512)]
    batch += [series(np.stack([wave(90, 3), with_holes(wave(90, 4))]), 140)]
    for one, found in zip(batch, forecasts(load(sample, engine), *batch), strict=True):
        assert difference(found.quantiles, sample.reference(one), one.target) < 1e-4


def test_the_library_gives_the_same_with_the_padding_it_is_usually_set_up_with(samples: dict[str, Sample]) -> None:
    """Upstream's padding zeros take part in its first normalisation, and in nothing else."""
    sample = samples["timesfm-2.5"]
    usual = timesfm_2_5.upstream(sample.folders["model"], max_context=1024)
    batch = [series(wave(length, 1) + 3, 140) for length in (20, 64, 300, 512)]
    for one, found in zip(batch, forecasts(load(sample), *batch), strict=True):
        assert difference(found.quantiles, usual(one), one.target) < 1e-4


@pytest.mark.parametrize("family", ["timesfm-2.5", "timesfm-2.0"])
@pytest.mark.parametrize("length", [50, 64, 200])
def test_a_series_that_hardly_moves_at_a_high_level_keeps_its_movement(
    samples: dict[str, Sample], family: str, length: int
) -> None:
    """Measured by the movement, not the level: beside the library, beside neighbours, and against the series at 0."""
    sample = samples[family]
    assert sample.reference is not None
    adapter = load(sample)
    movement = wave(length) - wave(length).mean()
    high = series(movement + 1e7, 150)
    found = forecasts(adapter, high)[0].quantiles
    beside = forecasts(adapter, series(wave(512, 2), 150), high, series(wave(3), 10))[1].quantiles
    low = forecasts(adapter, series(movement, 150))[0].quantiles
    assert difference(found, sample.reference(high), high.target) < 1e-4
    assert np.abs(found - beside).max() < 1e-4 * movement.std()
    assert np.abs(found - 1e7 - low).max() < 1e-4 * np.abs(low).max()


def test_a_series_that_is_never_negative_has_no_negative_forecast(samples: dict[str, Sample]) -> None:
    adapter = load(samples["timesfm-2.5"])
    row = wave(100) - wave(100).min()
    assert forecasts(adapter, series(row, 100))[0].quantiles.min() == 0.0
    assert forecasts(adapter, series(row - 0.1, 100))[0].quantiles.min() < 0.0


def test_upside_down_is_the_same_forecast_upside_down(samples: dict[str, Sample]) -> None:
    adapter = load(samples["timesfm-2.5"])
    row = wave(150)
    upright, flipped = forecasts(adapter, series(row, 300), series(-row, 300))
    assert difference(upright.quantiles, -flipped.quantiles[::-1], row) < 1e-5
    assert difference(upright.point, -flipped.point, row) < 1e-5


def test_the_point_forecast_is_the_librarys(samples: dict[str, Sample]) -> None:
    """The median in 2.5, the mean in 2.0: the card says which."""
    import torch
    from transformers import TimesFmModelForPrediction

    median = forecasts(load(samples["timesfm-2.5"]), series(wave(100), 200))[0]
    assert np.array_equal(median.point, median.quantiles[4])
    assert samples["timesfm-2.5"].card.point == "median"
    library = TimesFmModelForPrediction.from_pretrained(samples["timesfm-2.0"].folders["model"]).eval()
    expected = library(past_values=[torch.tensor(wave(100), dtype=torch.float32)], freq=[0]).mean_predictions
    mean = forecasts(load(samples["timesfm-2.0"]), series(wave(100), 128))[0]
    assert difference(mean.point[:, 0], expected[0].detach().numpy(), wave(100)) < 1e-4
    assert samples["timesfm-2.0"].card.point == "mean"


def test_more_channels_than_one_pass_takes_are_the_channels_alone(samples: dict[str, Sample]) -> None:
    adapter = load(samples["timesfm-2.5"])
    channels = [wave(60, seed) for seed in range(CPU_TOKENS)]  # two tokens each
    wide = forecasts(adapter, series(np.stack(channels), 130))[0]
    for place in (0, CPU_TOKENS // 2, CPU_TOKENS - 1):
        alone = forecasts(adapter, series(channels[place], 130))[0]
        assert difference(wide.quantiles[..., [place]], alone.quantiles, channels[place]) < 1e-5


@pytest.mark.parametrize("family", ["timesfm-2.5", "timesfm-2.0"])
def test_a_channel_without_observations_fails_its_series_alone(samples: dict[str, Sample], family: str) -> None:
    empty = series(np.stack([wave(60), np.full(60, np.nan)]), 10)
    found = load(samples[family]).predict(Batch((series(wave(60), 10), empty))).series
    assert isinstance(found[0], SeriesForecast)
    assert isinstance(found[1], SeriesFailure)
    assert "no observed value" in found[1].reason


def test_the_librarys_own_recursion_agrees_where_the_context_fills_its_window(samples: dict[str, Sample]) -> None:
    import torch
    from transformers import TimesFmModelForPrediction

    library = TimesFmModelForPrediction.from_pretrained(samples["timesfm-2.0"].folders["model"]).eval()
    library.horizon_len = 320
    row = wave(timesfm_2_0.CONTEXT)
    expected = library(past_values=[torch.tensor(row, dtype=torch.float32)], freq=[1]).full_predictions
    found = forecasts(load(samples["timesfm-2.0"]), series(row, 320, step_s=7 * DAY_S))[0]
    assert difference(found.quantiles[..., 0], np.sort(expected[0, :, 1:].detach().numpy()).T, row) < 1e-4


def test_the_frequency_class_follows_the_length_of_a_step(samples: dict[str, Sample]) -> None:
    """The library's documented classes: up to daily, weekly and monthly, slower."""
    steps = {None: 0, 1.0: 0, 3600.0: 0, DAY_S: 0, 1.4 * DAY_S: 0, 7 * DAY_S: 1, 30.4 * DAY_S: 1, 91.3 * DAY_S: 2}
    assert {step: frequency_class(step) for step in steps} == steps
    assert frequency_class(365.25 * DAY_S) == 2
    sample = samples["timesfm-2.0"]
    assert sample.reference is not None
    batch = [series(wave(100), 20, step_s) for step_s in (None, 30.4 * DAY_S, 91.3 * DAY_S)]
    found = [one.quantiles for one in forecasts(load(sample), *batch)]
    for one, quantiles in zip(batch, found, strict=True):
        assert difference(quantiles, sample.reference(one), one.target) < 1e-4
    assert difference(found[0], found[1], wave(100)) > 1e-2
    assert difference(found[1], found[2], wave(100)) > 1e-2


def test_sizes_come_from_the_tensors(samples: dict[str, Sample]) -> None:
    """The published config.json names none, and the package holds those of one size in its class."""
    from safetensors.torch import load_file

    tensors = load_file(samples["timesfm-2.5"].folders["model"] / "model.safetensors")
    assert Sizes.of(tensors, outputs=10) == Sizes(
        patch=32, width=64, inner=64, layers=2, heads=4, outputs=10, step=128, reach=1024
    )
    del tensors["stacked_xf.1.ff1.weight"]
    assert Sizes.of(tensors, outputs=10) is None


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


def test_a_bad_checkpoint_is_refused(samples: dict[str, Sample], tmp_path: Path) -> None:
    good = samples["timesfm-2.5"]
    folder = good.folders["model"]
    for sentence, bad in (
        ("cannot be read", tmp_path),
        ("cannot be read", damaged(folder, tmp_path / "cut", cut=1000)),
        ("package does not know this checkpoint", damaged(folder, tmp_path / "incomplete", drop="0.attn.out")),
    ):
        with pytest.raises(ValueError, match=sentence):
            load(replace(good, folders={"model": bad}))


def test_a_bad_checkpoint_of_2_0_is_refused(samples: dict[str, Sample], tmp_path: Path) -> None:
    """The library alone would fill what is missing with random numbers."""
    good = samples["timesfm-2.0"]
    folder = good.folders["model"]
    for sentence, bad in (
        ("holds no TimesFM 2.0 checkpoint", tmp_path),
        ("holds no TimesFM 2.0 checkpoint", damaged(folder, tmp_path / "cut", cut=1000)),
        ("lacks 3 weights", damaged(folder, tmp_path / "incomplete", drop="o_proj.weight")),
    ):
        with pytest.raises(ValueError, match=sentence):
            load(replace(good, folders={"model": bad}))


def test_a_card_that_promises_more_than_the_weights_is_refused(samples: dict[str, Sample]) -> None:
    good = samples["timesfm-2.5"]
    with pytest.raises(ValueError, match="promises 2000 steps, the weights 1024"):
        load(replace(good, card=msgspec.structs.replace(good.card, max_horizon=2000)))
