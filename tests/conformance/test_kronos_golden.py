"""Kronos against its golden file: inputs, every intermediate and greedy forecasts of the reference implementation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch

from adapters.base import Array, Batch, Device, Sampling, Series, SeriesForecast
from adapters.checkpoint import Checkpoint
from adapters.kronos import Kronos
from adapters.kronos.candles import Scale, calendar
from adapters.kronos.config import ModelConfig, TokenizerConfig, read_config
from adapters.kronos.model import KronosModel, Walk
from adapters.kronos.sampling import filtered
from adapters.kronos.tokenizer import Tokenizer
from catalog.card import CARDS, load_cards

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "kronos"
SAME = 1e-4
GREEDY = Sampling(count=1, seed=0, top_k=1)

pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="the golden file of Kronos is not beside this repository")


class Golden(msgspec.Struct):
    """The part of golden.json that is compared; lists of numbers as they stand in the file."""

    candles: list[list[float]]
    timestamps: list[str]
    future_timestamps: list[str]
    stamps: list[list[float]]
    mean: list[float]
    std: list[float]
    normalised: list[list[float]]
    s1_ids: list[int]
    s2_ids: list[int]
    decode_half: list[list[float]]
    s1_logits_last: list[float]
    context_last: list[float]
    forced_s1: int
    s2_logits_last_given_forced_s1: list[float]
    greedy_forecast_max_context_512: list[list[float]]
    greedy_forecast_max_context_24: list[list[float]]
    greedy_forecast_no_volume: list[list[float]]
    greedy_forecast_no_amount: list[list[float]]
    filter: dict[str, list[float | None]]


@dataclass(frozen=True)
class Networks:
    """Both networks of the golden file, and what stands in it."""

    golden: Golden
    tokenizer: Tokenizer
    model: KronosModel

    @property
    def features(self) -> Array:
        return np.array(self.golden.candles)

    @property
    def times(self) -> npt.NDArray[np.int64]:
        return np.array(self.golden.stamps).astype(np.int64)

    @property
    def tokens(self) -> torch.Tensor:
        return torch.tensor([self.golden.s1_ids, self.golden.s2_ids]).T


@pytest.fixture(scope="module")
def networks() -> Networks:
    cpu = torch.device("cpu")
    tokenizer, model = GOLDEN / "tokenizer", GOLDEN / "model"
    return Networks(
        golden=msgspec.json.decode((GOLDEN / "golden.json").read_bytes(), type=Golden),
        tokenizer=Tokenizer(read_config(tokenizer, TokenizerConfig), Checkpoint(tokenizer), cpu),
        model=KronosModel(read_config(model, ModelConfig), Checkpoint(model), cpu),
    )


def assert_close(found: torch.Tensor | Array, expected: object) -> None:
    """Within 1e-4 of the values, or of their spread where they are near zero."""
    wanted = np.array(expected, dtype=np.float64)
    assert found.shape == wanted.shape
    floor = wanted.std(axis=0) if wanted.ndim > 1 else wanted.std()
    error = np.abs(np.asarray(found, dtype=np.float64) - wanted) / np.maximum(np.abs(wanted), np.maximum(floor, 1e-6))
    assert error.max() < SAME


def test_the_calendar_is_read_from_the_stamps(networks: Networks) -> None:
    texts = [*networks.golden.timestamps, *networks.golden.future_timestamps]
    seconds = np.array(texts, dtype="datetime64[s]").astype(np.int64)
    assert np.array_equal(calendar(seconds), networks.times)


def test_a_history_is_normalised_by_its_mean_and_deviation(networks: Networks) -> None:
    scale = Scale.of(networks.features)
    assert_close(scale.mean, networks.golden.mean)
    assert_close(scale.deviation, networks.golden.std)
    assert_close(scale.normalised(networks.features), networks.golden.normalised)


def test_the_tokens_are_the_same(networks: Networks) -> None:
    unit = torch.tensor(networks.golden.normalised)
    assert torch.equal(networks.tokenizer.encode(unit), networks.tokens)


def test_tokens_decode_to_the_same_candles(networks: Networks) -> None:
    tokens = networks.tokens
    whole = torch.cat(
        [networks.tokenizer.decode(tokens[:1], tokens[None, 1:end])[0, -1:] for end in range(2, len(tokens) + 1)]
    )
    assert_close(whole, networks.golden.decode_half[1:])
    assert_close(networks.tokenizer.decode(tokens[:0], tokens[None])[0], networks.golden.decode_half)


@pytest.mark.parametrize("shared", [1, 17, 40], ids=lambda n: f"{n}_shared")
def test_both_heads_say_the_same(networks: Networks, shared: int) -> None:
    golden, tokens, times = networks.golden, networks.tokens, torch.from_numpy(networks.times)
    walk = Walk(networks.model, tokens[:shared], times[:shared], rows=3, room=40)
    for end in range(shared, 40, 8):  # eight tokens at a time behind what is shared
        stop = min(40, end + 8)
        walk.append(tokens[end:stop].expand(3, -1, -1), times[end:stop])
    forced = torch.full((3,), golden.forced_s1)
    for row in range(3):
        assert_close(walk.last[row], golden.context_last)
        assert_close(walk.s1_logits()[row], golden.s1_logits_last)
        assert_close(walk.s2_logits(forced)[row], golden.s2_logits_last_given_forced_s1)


@pytest.mark.parametrize(
    ("name", "top_k", "top_p"),
    [("top_k_2", 2, 1.0), ("top_p_0_7", 0, 0.7), ("top_p_0_1", 0, 0.1), ("top_k_3_and_top_p_0_1", 3, 0.1)],
)
def test_filters_keep_the_same_tokens(networks: Networks, name: str, top_k: int, top_p: float) -> None:
    logits = torch.tensor([networks.golden.filter["logits"]])
    expected = [float("-inf") if one is None else one for one in networks.golden.filter[name]]
    assert filtered(logits, top_k, top_p)[0].tolist() == expected


@pytest.mark.parametrize("max_context", [512, 24])
def test_the_greedy_path_is_the_same(networks: Networks, max_context: int) -> None:
    # The whole history is encoded and gives the scale, however little of it the window holds.
    adapter = Kronos(networks.tokenizer, networks.model, max_context, torch.device("cpu"))
    found = adapter.paths(networks.features, networks.times, GREEDY, horizon=6)
    assert_close(found[0], getattr(networks.golden, f"greedy_forecast_max_context_{max_context}"))


@pytest.mark.parametrize(
    ("name", "channels"), [("max_context_512", 6), ("no_volume", 4), ("no_amount", 5)], ids=lambda value: str(value)
)
def test_the_adapter_forecasts_the_same_candles(networks: Networks, name: str, channels: int) -> None:
    card = next(card for card in load_cards(CARDS) if card.id == "NeoQuasar/Kronos-small")
    adapter = Kronos.load(card, {"model": GOLDEN / "model", "tokenizer": GOLDEN / "tokenizer"}, Device())
    texts = [*networks.golden.timestamps, *networks.golden.future_timestamps]
    order = tuple(reversed(range(channels)))  # channels come by name, in any order
    series = Series(
        target=networks.features.T[list(order)],
        channels=order,
        horizon=6,
        levels=(0.5,),
        stamps=np.array(texts, dtype="datetime64[s]").astype(np.int64),
        sampling=GREEDY,
    )
    (answer,) = adapter.predict(Batch((series,))).series
    assert isinstance(answer, SeriesForecast)
    expected = np.array(json.loads((GOLDEN / "golden.json").read_bytes())[f"greedy_forecast_{name}"])[:, order]
    assert_close(answer.point, expected)
    assert answer.samples is not None
    assert np.array_equal(answer.samples[0], answer.point) and np.array_equal(answer.quantiles[0], answer.point)
