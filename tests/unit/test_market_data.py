"""Where the market's candles come from, and what is said when they do not come."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from gateway.errors import Code, GatewayError
from gateway.market_data import MarketData
from gateway.settings import MarketDataSettings, SettingsError
from tests.space import market

CSV = "time,open,high,low,close,volume\n2025-01-01T00:00:00Z,1,2,0.5,1.5,9\n2025-01-01T01:00:00Z,1.5,2,1,1.8,7\n"


def failure(**settings: object) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        asyncio.run(MarketData(MarketDataSettings(**settings)).candles())
    assert caught.value.code is Code.UNAVAILABLE
    return caught.value


def test_klines_come_from_a_url() -> None:
    with market() as source:
        found = asyncio.run(MarketData(MarketDataSettings(market_data_url=source.url)).candles())
    assert (len(found), found.frequency, found.stamps()[0]) == (400, "h", "2025-01-01T00:00:00Z")


def test_candles_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "m.csv"
    file.write_text(CSV)
    found = asyncio.run(MarketData(MarketDataSettings(market_data_file=str(file))).candles())
    assert found.close.tolist() == [1.5, 1.8]


def test_a_source_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/klines?key=secret"
        told = failure(market_data_url=url, market_data_timeout_s=0.2)
    assert told.retry_after_s is not None
    assert "secret" not in told.sentence


def test_a_source_that_is_not_there_is_said_without_its_url() -> None:
    assert "secret" not in failure(market_data_url="http://127.0.0.1:9/klines?key=secret").sentence
    assert "nowhere" not in failure(market_data_file="/nowhere/m.csv").sentence


def test_a_file_over_the_limit_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "m.csv"
    file.write_text(CSV)
    assert "more than 50 bytes" in failure(market_data_file=str(file), market_data_max_bytes=50).sentence


def test_no_source_is_said_with_the_settings_that_make_one() -> None:
    sentence = failure().sentence
    assert all(word in sentence for word in ("[market_data]", "market_data_url", "market_data_file", "/predict_custom"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"market_data_url": "http://x", "market_data_file": "x"}, "one of the two"),
        ({"market_data_url": "file:///etc/passwd"}, "http"),
    ],
)
def test_settings_that_cannot_stand_are_refused_at_start(settings: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        MarketData(MarketDataSettings(**settings))
