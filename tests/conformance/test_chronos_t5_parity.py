"""Chronos-T5 against its library: path for path where a draw has no choice, in distribution where it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from adapters.base import Adapter, Array, Batch, Device, Sampling, Series, SeriesForecast
from adapters.chronos_t5 import ChronosT5
from adapters.chronos_t5.drawing import Controls, candidates, draw
from catalog.card import CARDS, load_cards
from tests.checkpoints.chronos_t5 import BLOCK, CONTEXT, paths, write
from tests.conformance.checks import SAME, difference, holed, wave

KINDS: Mapping[str, Callable[[Path], None]] = {
    "tied": write,
    "gated, not tied": partial(write, activation="gated-gelu", tied=False, seed=1),
}
CARD = next(card for card in load_cards(CARDS) if card.id == "amazon/chronos-t5-tiny")
GREEDY = Sampling(count=2, seed=0, top_k=1)


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    adapter: Adapter
    upstream: Callable[[Series], Array]


def load(folder: Path, dtype: str = "float32") -> Adapter:
    return ChronosT5.load(CARD, {"model": folder}, Device(dtype=dtype))


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("chronos-t5")
    KINDS[request.param](folder)
    return Checkpoint(folder, load(folder), paths(folder))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("chronos-t5")
    write(folder)
    return Checkpoint(folder, load(folder), paths(folder))


def ask(*rows: Array, horizon: int = 8, sampling: Sampling = GREEDY) -> Series:
    return Series(target=np.stack(rows), horizon=horizon, levels=(0.1, 0.5, 0.9), sampling=sampling)


def samples(adapter: Adapter, *batch: Series) -> list[Array]:
    found = [one.samples for one in adapter.predict(Batch(batch)).series if isinstance(one, SeriesForecast)]
    assert len(found) == len(batch)
    return [one for one in found if one is not None]


def test_a_ragged_batch_without_a_choice_is_the_librarys_path_of_each_series_alone(checkpoint: Checkpoint) -> None:
    """Around the context's limit; around a block and in the recursion's second and third; with gaps."""
    shapes = ((1, 5), (5, 1), (40, 2 * BLOCK), (CONTEXT, BLOCK), (CONTEXT + 1, BLOCK + 1), (200, 30))
    batch = [ask(wave(n, i) * 10.0**i - 50 * i, horizon=horizon) for i, (n, horizon) in enumerate(shapes)]
    batch += [ask(holed(wave(60)), wave(60, 2) * 1e-4, np.full(60, 3.0), horizon=30)]
    batch += [ask(np.concatenate([wave(30), np.full(7, np.nan)]), horizon=2 * BLOCK + 1)]
    for one, found in zip(batch, samples(checkpoint.adapter, *batch), strict=True):
        assert difference(found, checkpoint.upstream(one), one.target) < SAME


@pytest.mark.parametrize(("top_k", "top_p", "temperature"), [(50, 1.0, 1.0), (0, 1.0, 0.7), (40, 0.6, 1.4)])
def test_draws_are_distributed_as_the_librarys(tied: Checkpoint, top_k: int, top_p: float, temperature: float) -> None:
    count = 800
    sampling = Sampling(count=count, seed=1, top_k=top_k, top_p=top_p, temperature=temperature)
    series = ask(wave(40), horizon=4, sampling=sampling)
    found, expected = samples(tied.adapter, series)[0], tied.upstream(series)
    grid = np.unique(expected)
    for step in range(series.horizon):
        ours, theirs = (np.sort(one[:, step, 0]) for one in (found, expected))
        below = [np.searchsorted(one, grid, side="right") / count for one in (ours, theirs)]
        # Kolmogorov and Smirnov's distance, which chance exceeds once in 30,000 times.
        assert np.abs(below[0] - below[1]).max() < 2.35 * np.sqrt(2 / count)


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-6])
@pytest.mark.parametrize("top_k", [0, 1, 50, 1000])
def test_the_controls_bend_probabilities_as_the_library_does(top_k: int, top_p: float) -> None:
    logits = 3 * torch.randn(20, 300, generator=torch.Generator().manual_seed(0))
    warpers = LogitsProcessorList([TemperatureLogitsWarper(1.7)])
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = warpers(torch.zeros(20, 1, dtype=torch.int64), logits.clone()).softmax(-1)
    tokens, weights = candidates(logits, Controls(1.7, top_k, top_p))
    found = torch.zeros_like(expected).scatter(-1, tokens, weights / weights.sum(-1, keepdim=True))
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_draw_never_takes_what_has_no_probability() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, 5)
    uniforms = torch.tensor([0.0, 0.5, 1.0 - 2.0**-53], dtype=torch.float64)
    for top_k in (0, 4):
        assert draw(logits, uniforms, Controls(1.0, top_k, 1.0)).tolist() == [1, 3, 3]


def test_channels_and_series_of_one_seed_are_drawn_apart(tied: Checkpoint) -> None:
    series = ask(wave(40), wave(40, 1), sampling=Sampling(count=500, seed=4))
    found = samples(tied.adapter, series)[0][:, 0]
    centred = (found - found.mean(axis=0)) / found.std(axis=0)
    assert abs(centred.prod(axis=1).mean()) < 0.2


def test_more_paths_than_fit_at_once_are_one_draw(tied: Checkpoint) -> None:
    many = samples(tied.adapter, ask(wave(40), sampling=Sampling(count=300, seed=4)))[0]
    assert many.shape == (300, 8, 1)
    assert len(np.unique(many, axis=0)) > 200


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_every_magnitude_of_float64_has_a_forecast(tied: Checkpoint, scale: float) -> None:
    unit, scaled = samples(tied.adapter, ask(wave(50)), ask(wave(50) * scale))
    assert difference(scaled / scale, unit, wave(50)) < 0.2  # of one bin: another unit moves a value over its edge


def test_half_precision_draws_from_nearly_the_same_distribution(tied: Checkpoint) -> None:
    series = ask(wave(40), sampling=Sampling(count=400, seed=1))
    full, half = samples(tied.adapter, series)[0], samples(load(tied.folder, "bfloat16"), series)[0]
    assert np.abs(full.mean(axis=0) - half.mean(axis=0)).max() < 0.2 * full.std()


def test_a_bad_checkpoint_is_refused_with_its_fault(tied: Checkpoint, tmp_path: Path) -> None:
    weights = (tied.folder / "model.safetensors").read_bytes()
    config = json.loads((tied.folder / "config.json").read_bytes())

    def refused(reason: str, config: dict[str, object]) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes(weights)
        with pytest.raises(ValueError, match=reason):
            load(tmp_path)

    refused("no Chronos-T5 checkpoint", {key: value for key, value in config.items() if key != "chronos_config"})
    refused("lacks .* tensors, decoder.block.2", {**config, "num_layers": 3, "num_decoder_layers": 3})
    refused("no Chronos-T5 checkpoint", {**config, "d_ff": 96})
    causal = {**config["chronos_config"], "model_type": "causal"}
    refused("causal", {**config, "chronos_config": causal})
