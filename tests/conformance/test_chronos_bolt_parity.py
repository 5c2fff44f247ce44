"""Chronos-Bolt against its library, on every kind of checkpoint, and what the comparison alone would not show."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from adapters.base import Adapter, Array, Batch, Device, Series, SeriesForecast
from adapters.chronos_bolt import ChronosBolt
from catalog.card import CARDS, ModelCard, load_cards
from tests.checkpoints import Reference
from tests.checkpoints.chronos_bolt import BLOCK, DECILES, PATCH, upstream, write
from tests.conformance.checks import SAME, difference, holed, wave

TWENTY_ONE = (0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99)
KNOWN: Mapping[str, Callable[[Path], None]] = {
    "nine levels": write,
    "21 levels, context 512": partial(write, levels=TWENTY_ONE, context=512),
    "no register token": partial(write, register_token=False, seed=1),
    "stored as float16": partial(write, dtype="float16", seed=2),
}
LONG: Mapping[str, Callable[[Path], None]] = {"context 2048": partial(write, context=2048)}
UNKNOWN: Mapping[str, Callable[[Path], None]] = {
    "overlapping patches": partial(write, stride=PATCH // 2),
    "another activation": partial(write, activation="silu"),
    "gated feed-forward": partial(write, activation="gated-gelu"),
}
ALL = {**KNOWN, **LONG, **UNKNOWN}


@dataclass(frozen=True)
class Checkpoint:
    card: ModelCard
    folder: Path
    reference: Reference

    def load(self, engine: str = "auto", dtype: str = "float32") -> Adapter:
        return ChronosBolt.load(self.card, {"model": self.folder}, Device(engine=engine, dtype=dtype))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """The checkpoint of a name in ALL, made once."""
    made: dict[str, Checkpoint] = {}
    packaged = next(card for card in load_cards(CARDS) if card.id == "amazon/chronos-bolt-tiny")

    def of(name: str) -> Checkpoint:
        if name not in made:
            folder = tmp_path_factory.mktemp("chronos-bolt")
            ALL[name](folder)
            levels = tuple(json.loads((folder / "config.json").read_bytes())["chronos_config"]["quantiles"])
            card = msgspec.structs.replace(packaged, quantile_levels=levels)
            made[name] = Checkpoint(card, folder, upstream(folder))
        return made[name]

    return of


@pytest.fixture(scope="module")
def nine(checkpoint: Callable[[str], Checkpoint]) -> Checkpoint:
    return checkpoint("nine levels")


def series(*rows: Array, horizon: int = 24, levels: tuple[float, ...] = DECILES) -> Series:
    return Series(target=np.stack(rows), horizon=horizon, levels=levels)


def forecasts(adapter: Adapter, *batch: Series) -> list[SeriesForecast]:
    found = [one for one in adapter.predict(Batch(batch)).series if isinstance(one, SeriesForecast)]
    assert len(found) == len(batch)
    return found


def assert_parity(checkpoint: Checkpoint, adapter: Adapter, *batch: Series) -> None:
    for one, found in zip(batch, forecasts(adapter, *batch), strict=True):
        assert difference(found.quantiles, checkpoint.reference(one), one.target) < SAME


@pytest.mark.parametrize("engine", ["auto", "upstream"])
@pytest.mark.parametrize("name", KNOWN)
def test_a_ragged_batch_is_what_the_library_says_of_each_series_alone(
    checkpoint: Callable[[str], Checkpoint], name: str, engine: str
) -> None:
    """Around a patch, at and over the context; around a block, in the recursion's second and third; with gaps."""
    one = checkpoint(name)
    shapes = ((1, 5), (2, 64), (15, 65), (16, 1), (17, 128), (100, 63), (255, 129), (256, 64), (530, 150))
    ask = partial(series, levels=one.card.quantile_levels)
    batch = [ask(wave(n, i) * 10.0**i - 50 * i, horizon=horizon) for i, (n, horizon) in enumerate(shapes)]
    batch += [ask(holed(wave(n)), horizon=horizon) for n, horizon in ((20, 64), (100, 65), (256, 24), (600, 100))]
    trailing = np.concatenate([wave(60), np.full(20, np.nan)])
    batch += [ask(trailing, horizon=70), ask(wave(90, 3), holed(wave(90, 4)), wave(90, 5) * 1e5, horizon=66)]
    assert_parity(one, one.load(engine), *batch)


def test_the_library_pads_a_ragged_batch_to_the_same_numbers(nine: Checkpoint) -> None:
    import torch
    from chronos import BaseChronosPipeline

    rows = [wave(n, i % 4) for i, n in enumerate((3, 40, 100, 256, 17))]
    pipeline = BaseChronosPipeline.from_pretrained(nine.folder, device_map="cpu", dtype=torch.float32)
    quantiles, mean = pipeline.predict_quantiles(
        [torch.tensor(row, dtype=torch.float32) for row in rows], prediction_length=30, quantile_levels=list(DECILES)
    )
    found = forecasts(nine.load(), *(series(row, horizon=30) for row in rows))
    for i, row in enumerate(rows):
        expected = np.sort(quantiles[i].numpy(), axis=-1).T
        assert difference(found[i].quantiles[..., 0], expected, row) < SAME
        # The library's mean is the value at 0.5 as trained, which may cross; ours is the median after sorting.
        assert np.array_equal(found[i].point, found[i].quantiles[4])
    assert mean.shape == (5, 30)


def test_the_published_context_reaches_every_distance_between_patches(checkpoint: Callable[[str], Checkpoint]) -> None:
    one = checkpoint("context 2048")
    assert_parity(one, one.load(), series(wave(2100)), series(holed(wave(2048, 1)), horizon=65), series(wave(1500, 2)))


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_configuration_that_the_lean_path_does_not_know_goes_to_the_library(
    checkpoint: Callable[[str], Checkpoint], name: str
) -> None:
    one = checkpoint(name)
    assert_parity(one, one.load(), series(wave(100)), series(holed(wave(40, 1)), horizon=BLOCK + 1))


def test_a_small_variation_on_a_high_level_loses_no_digits(nine: Checkpoint) -> None:
    adapter = nine.load()
    row = wave(100) - wave(100).mean()
    for horizon in (24, 100):
        low, high = forecasts(adapter, series(row, horizon=horizon), series(row + 1e9, horizon=horizon))
        assert np.abs(high.quantiles - 1e9 - low.quantiles).max() < SAME * row.std()


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_every_magnitude_of_float64_has_a_forecast(nine: Checkpoint, scale: float) -> None:
    adapter = nine.load()
    unit, scaled = forecasts(adapter, series(wave(50)), series(wave(50) * scale))
    assert difference(scaled.quantiles / scale, unit.quantiles, wave(50)) < SAME


def test_a_constant_is_what_the_library_makes_of_it(nine: Checkpoint) -> None:
    assert_parity(nine, nine.load(), *(series(np.full(n, value)) for n in (1, 40, 300) for value in (0.0, 5.0, -64.0)))


def test_more_rows_than_one_pass_takes_are_the_rows_alone(nine: Checkpoint) -> None:
    adapter = nine.load()
    channels = [wave(200, i % 7) * (1 + i) for i in range(200)]
    for horizon in (24, BLOCK + 1):
        wide = forecasts(adapter, series(*channels, horizon=horizon))[0]
        for place in (0, 99, 199):
            alone = forecasts(adapter, series(channels[place], horizon=horizon))[0]
            assert difference(wide.quantiles[..., [place]], alone.quantiles, channels[place]) < SAME


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_the_full_one(nine: Checkpoint, dtype: str) -> None:
    asked = series(holed(wave(200)), horizon=70), series(wave(30, 1))
    for half, full in zip(forecasts(nine.load(dtype=dtype), *asked), forecasts(nine.load(), *asked), strict=True):
        assert 0 < np.abs(half.quantiles - full.quantiles).max() < 0.2 * full.quantiles.std()


def test_the_lean_path_needs_neither_transformers_nor_chronos(nine: Checkpoint) -> None:
    program = """
import sys
from pathlib import Path
import msgspec, numpy as np
from adapters.base import Batch, Device, Series
from adapters.loading import load
from catalog.card import ModelCard
card = msgspec.json.decode(sys.stdin.buffer.read(), type=ModelCard)
adapter = load(card, {"model": Path(sys.argv[1])}, Device())
adapter.predict(Batch((Series(target=np.arange(40.0)[None], horizon=70, levels=(0.01, 0.5)),)))
print([name for name in ("transformers", "chronos", "pandas") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(nine.folder)]
    done = subprocess.run(command, input=msgspec.json.encode(nine.card), capture_output=True, timeout=120, check=False)
    assert done.stdout.decode().strip() == "[]", done.stderr.decode()


def test_a_bad_checkpoint_is_refused_with_its_fault(nine: Checkpoint, tmp_path: Path) -> None:
    weights = (nine.folder / "model.safetensors").read_bytes()
    config = json.loads((nine.folder / "config.json").read_bytes())

    def refused(reason: str, config: bytes | None, weights: bytes | None, card: ModelCard = nine.card) -> None:
        for name, content in (("config.json", config), ("model.safetensors", weights)):
            (tmp_path / name).unlink(missing_ok=True)
            if content is not None:
                (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            ChronosBolt.load(card, {"model": tmp_path}, Device())

    good = json.dumps(config).encode()
    refused("no readable config.json", None, weights)
    refused("no readable config.json", b"{", weights)
    refused("no readable model.safetensors", good, None)
    refused("no readable model.safetensors", good, weights[: len(weights) // 2])
    refused("64 x 32, its config.json says 96 x 32", json.dumps({**config, "d_ff": 96}).encode(), weights)
    refused("no tensor encoder.block.2", json.dumps({**config, "num_layers": 3}).encode(), weights)
    refused("chronos cannot load", b"{}", weights)
    # A network that only the library knows, without its weights: the library would make them up.
    unknown = json.dumps({**config, "num_layers": 3, "feed_forward_proj": "silu", "dense_act_fn": "silu"}).encode()
    refused("lacks 8 tensors, encoder.block.2.layer.0.SelfAttention.k.weight", unknown, weights)
    refused("its card says", good, weights, msgspec.structs.replace(nine.card, quantile_levels=(0.1, 0.5, 0.9)))


def test_an_unknown_number_format_is_refused(nine: Checkpoint) -> None:
    with pytest.raises(ValueError, match="not in int8"):
        nine.load(dtype="int8")
