"""Chronos-2 against its library where covariates, several channels and cross-learning come in."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from adapters.base import Adapter, Array, Batch, Device, Remark, Series, SeriesForecast
from adapters.chronos2.adapter import MOST_ROWS
from adapters.chronos2.variates import encoded
from adapters.loading import adapter_class
from catalog.card import CARDS, load_cards
from tests.checkpoints import Sample, build, chronos_2

CARD = next(card for card in load_cards(CARDS) if card.id == "autogluon/chronos-2-small")
WORDS = np.array(["calm", "rain", "storm", None], dtype=object)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return build(CARD, tmp_path_factory.mktemp("chronos-2"))


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


def with_words(one: Series, covariate: int, seed: int = 0, words: int = 4) -> Series:
    """`one` with codes of the first `words` of WORDS for a covariate; the horizon may have more of them."""
    draw = np.random.default_rng(seed)
    codes = np.array([0.0, 1.0, 2.0, np.nan])
    past, future = one.past.copy(), one.future.copy()
    past[covariate] = codes[draw.integers(0, words, past.shape[1])]
    if covariate < one.known:
        future[covariate] = codes[draw.integers(0, 4, one.horizon)]
    return replace(one, past=past, future=future, categorical=(*one.categorical, covariate))


def forecasts(adapter: Adapter, *batch: Series) -> list[SeriesForecast]:
    found = adapter.predict(Batch(batch)).series
    assert all(isinstance(one, SeriesForecast) for one in found)
    return [one for one in found if isinstance(one, SeriesForecast)]


def library(sample: Sample, batch: Sequence[Series], cross_learning: bool = False) -> list[Array]:
    """What `chronos` says of dictionaries with the covariates' names and words; (levels, horizon, channels) each."""
    import torch
    from chronos import BaseChronosPipeline

    pipeline = BaseChronosPipeline.from_pretrained(sample.folders["model"], device_map="cpu", dtype=torch.float32)

    def column(one: Series, covariate: int, values: Array) -> Array:
        if covariate not in one.categorical:
            return values
        return WORDS[np.where(np.isnan(values), 3, values).astype(int)]

    inputs = [
        {
            "target": one.target,
            "past_covariates": {f"c{i}": column(one, i, row) for i, row in enumerate(one.past)},
            "future_covariates": {f"c{i}": column(one, i, row) for i, row in enumerate(one.future)},
        }
        for one in batch
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, _ = pipeline.predict_quantiles(
            inputs,
            prediction_length=batch[0].horizon,
            quantile_levels=list(CARD.quantile_levels),
            cross_learning=cross_learning,
        )
    return [np.sort(one.numpy().astype(np.float64), axis=-1).transpose(2, 1, 0) for one in values]


def difference(found: Array, expected: Array, context: Array) -> float:
    """The design's measure: the largest gap over the larger of the forecast's and the context's size."""
    size = max(float(np.abs(expected).max()), float(np.nanstd(context)), 1e-6)
    return float(np.abs(found - expected).max()) / size


def changed(one: Series, step: int, by: float = 3.0) -> Series:
    """`one` with another value of its first known covariate over the horizon."""
    future = one.future.copy()
    future[0, step] += by
    return replace(one, future=future)


def test_any_mix_of_covariates_in_one_batch_is_what_the_library_says_of_each_series_alone(
    sample: Sample, adapter: Adapter
) -> None:
    holed = series(90, known=1, seed=8)
    holed.target[0, 30:55] = np.nan
    holed.past[0, 10:14] = np.nan
    batch = [
        series(5, horizon=1, known=1),
        series(40, known=2, past=1, seed=1),
        series(40, channels=3, seed=2),
        series(100, channels=2, known=1, past=2, seed=3),
        series(257, horizon=64, past=1, seed=4),
        series(300, horizon=16, known=1, seed=5),  # longer than the context: covariates are cut with the target
        series(60, horizon=150, known=1, past=1, seed=6),  # beyond one pass
        series(60, horizon=65, channels=2, known=2, seed=7),
        holed,
        with_words(series(80, known=1, seed=9), 0),
        with_words(with_words(series(80, known=2, past=1, seed=10), 1, words=2), 2),
        with_words(series(80, channels=2, known=1, seed=11), 0, words=2),
        with_words(series(80, channels=2, known=1, past=1, seed=12), 1),
    ]
    for one, found in zip(batch, forecasts(adapter, *batch), strict=True):
        cut = replace(one, target=one.target[:, -chronos_2.CONTEXT :], past=one.past[:, -chronos_2.CONTEXT :])
        (expected,) = library(sample, [cut])
        assert difference(found.quantiles, expected, cut.target) < 1e-4


def test_a_channel_learns_from_the_other_channels(adapter: Adapter) -> None:
    both = series(60, channels=2)
    other = replace(both, target=np.stack([both.target[0], wave(60, 7)]))
    found, changed_beside = forecasts(adapter, both, other)
    assert difference(changed_beside.quantiles[..., :1], found.quantiles[..., :1], both.target[:1]) > 1e-2


@pytest.mark.parametrize("step", [0, 5, 19])
def test_a_known_covariate_moves_its_own_forecast_and_no_other(adapter: Adapter, step: int) -> None:
    mine, beside = series(60, known=1), series(60, known=1, seed=1)
    before = forecasts(adapter, mine, beside)
    moved = forecasts(adapter, changed(mine, step), beside)
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
    unpaired = replace(one, future=np.concatenate([one.future, one.future + 1]))
    found, used = forecasts(adapter, unpaired, one)
    assert found.remarks == (Remark("covariates_ignored", (3,)),)
    assert used.remarks == ()
    assert difference(found.quantiles, used.quantiles, one.target) < 1e-5


def test_cross_learning_is_the_librarys_within_a_group_and_stops_there(sample: Sample, adapter: Adapter) -> None:
    shapes = ((40, 0), (70, 0), (25, 1), (60, 1), (30, 1))
    asked = [
        replace(series(length, known=1, past=group, seed=i), cross_learning=True, group=group)
        for i, (length, group) in enumerate(shapes)
    ]
    alone = series(50, known=1, seed=9)
    found = forecasts(adapter, *asked[:2], alone, *asked[2:])
    expected = library(sample, asked[:2], cross_learning=True) + library(sample, asked[2:], cross_learning=True)
    for one, mine, theirs in zip(asked, [*found[:2], *found[3:]], expected, strict=True):
        assert difference(mine.quantiles, theirs, one.target) < 1e-4
    assert difference(found[2].quantiles, library(sample, [alone])[0], alone.target) < 1e-4
    apart = forecasts(adapter, *[replace(one, cross_learning=False) for one in asked])
    for mine, without in zip([*found[:2], *found[3:]], apart, strict=True):
        assert difference(mine.quantiles, without.quantiles, alone.target) > 1e-2


def test_more_rows_than_one_pass_takes_are_the_rows_alone(adapter: Adapter) -> None:
    batch = [series(3, horizon=5, seed=i % 20) for i in range(MOST_ROWS + 10)]
    batch.append(series(20, horizon=5, channels=MOST_ROWS + 1))
    found = forecasts(adapter, *batch)
    for place in (0, MOST_ROWS - 1, MOST_ROWS, len(batch) - 1):
        (alone,) = forecasts(adapter, batch[place])
        assert difference(found[place].quantiles, alone.quantiles, batch[place].target) < 1e-5


def test_a_series_that_hardly_moves_at_a_high_level_keeps_its_movement(adapter: Adapter) -> None:
    low = series(100, known=1)
    high = replace(low, target=low.target + 1e7, past=low.past + 1e7, future=low.future + 1e7)
    found, expected = forecasts(adapter, high, low)
    assert np.abs(found.quantiles - 1e7 - expected.quantiles).max() < 1e-4 * np.abs(expected.quantiles).max()


def test_categories_are_smoothed_means_of_the_target_under_them() -> None:
    past, future = np.array([3.0, 3.0, 5.0, np.nan]), np.array([5.0, 3.0, 4.0, np.nan])
    before, ahead = encoded(past, future, np.array([[1.0, 2.0, 9.0, np.nan]]))
    mean = 4.0  # of what was observed; the missing category has no observation of its own
    assert np.allclose(before, [(mean + 3) / 3, (mean + 3) / 3, (mean + 9) / 2, mean])
    assert np.allclose(ahead, [(mean + 9) / 2, (mean + 3) / 3, mean, mean])


def test_categories_of_several_channels_are_ranks_of_the_series_own(adapter: Adapter) -> None:
    past, future = np.array([7.0, 3.0, np.nan, 7.0]), np.array([3.0, 4.0, 7.0, np.nan])
    before, ahead = encoded(past, future, np.ones((2, 4)))
    assert np.array_equal(before, [1.0, 0.0, 2.0, 1.0])
    assert np.array_equal(ahead, [0.0, np.nan, 1.0, 2.0], equal_nan=True)


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
        ("holds no Chronos-2 checkpoint", tmp_path),
        ("holds no Chronos-2 checkpoint", damaged(folder, tmp_path / "cut", cut=1000)),
        ("lacks 4 weights", damaged(folder, tmp_path / "incomplete", drop="self_attention.o")),
    ):
        with pytest.raises(ValueError, match=sentence):
            load(replace(sample, folders={"model": bad}))
    with pytest.raises(ValueError, match="levels"):
        load(replace(sample, card=msgspec.structs.replace(sample.card, quantile_levels=(0.1, 0.5, 0.9))))
