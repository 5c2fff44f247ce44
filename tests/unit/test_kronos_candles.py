"""Series as candles: features in their order, without gaps, and what cannot be a candle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.base import Batch, Device, Sampling, Series, SeriesFailure, SeriesForecast
from adapters.kronos import Kronos
from adapters.kronos.candles import candles
from tests.checkpoints import build
from tests.serving import packaged

STEPS = 12
ROWS = np.arange(6.0 * STEPS).reshape(6, STEPS) + 1


def series(*places: int, **fields: object) -> Series:
    stamps = 3600 * np.arange(STEPS + 2)
    return Series(**{"target": ROWS[list(places)], "channels": places, "horizon": 2, "stamps": stamps, **fields})


def test_channels_go_to_their_features() -> None:
    assert np.array_equal(candles(series(4, 2, 0, 3, 1, 5), 512), ROWS.T)
    assert np.array_equal(candles(series(3, 2, 1, 0), 512)[:, :4], ROWS[:4].T)
    assert not candles(series(3, 2, 1, 0), 512)[:, 4:].any()


def test_an_amount_is_the_volume_at_the_mean_price() -> None:
    assert np.allclose(candles(series(0, 1, 2, 3, 4), 512)[:, 5], ROWS[4] * ROWS[:4].mean(axis=0))


def test_gaps_are_filled_and_a_leading_one_is_cut() -> None:
    target = ROWS[:4].copy()
    target[:, :2] = np.nan
    target[0, 2] = target[1, 6] = target[3, -1] = np.nan
    found = candles(series(0, 1, 2, 3, target=target), 512)
    assert len(found) == STEPS - 2
    assert found[0, 0] == ROWS[0, 3] and found[4, 1] == ROWS[1, 6] and found[-1, 3] == ROWS[3, -2]
    assert len(candles(series(0, 1, 2, 3), 5)) == 5


@pytest.fixture(scope="module")
def kronos(tmp_path_factory: pytest.TempPathFactory) -> Kronos:
    sample = build(packaged("NeoQuasar/Kronos-mini"), tmp_path_factory.mktemp("kronos"))
    return Kronos.load(sample.card, sample.folders, Device())


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (series(0, 1, 2), "close"),
        (series(0, 1, 2, 3, 5), "volume"),
        (series(0, 1, 2, 3, stamps=None), "time stamp"),
    ],
)
def test_what_is_no_candle_fails_alone(kronos: Kronos, bad: Series, word: str) -> None:
    good, failed = kronos.predict(Batch((series(0, 1, 2, 3), bad))).series
    assert isinstance(good, SeriesForecast)
    assert isinstance(failed, SeriesFailure) and word in failed.reason


def test_series_that_share_a_seed_do_not_share_their_chances(kronos: Kronos) -> None:
    draw = Sampling(count=4, seed=1)
    one, double = kronos.predict(
        Batch((series(0, 1, 2, 3, sampling=draw), series(0, 1, 2, 3, target=2 * ROWS[:4], sampling=draw)))
    ).series
    assert isinstance(one, SeriesForecast) and isinstance(double, SeriesForecast)
    assert one.samples is not None and not np.allclose(2 * one.samples, double.samples)


def test_two_tokenizers_of_different_bits_are_no_pair(tmp_path: Path) -> None:
    card = packaged("NeoQuasar/Kronos-mini")
    sample = build(card, tmp_path)
    config = tmp_path / "tokenizer" / "config.json"
    config.write_text(config.read_text().replace('"s2_bits": 5', '"s2_bits": 6'))
    with pytest.raises(ValueError, match="no tokenizer of candles"):
        Kronos.load(card, sample.folders, Device())
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json"):
        Kronos.load(card, sample.folders, Device())
