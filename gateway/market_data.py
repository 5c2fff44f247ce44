"""Candles of the market, from the source that the operator named: a URL of klines, or a CSV file.

Read anew for every forecast, within a time and a number of bytes; a redirect is not followed. What the source answers
is nobody's to read: callers learn that it failed, the log why.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import structlog

from gateway import __version__
from gateway.dialects.kronos_space import candles
from gateway.dialects.kronos_space.candles import CandleError, Candles
from gateway.errors import Code, GatewayError
from gateway.settings import MarketDataSettings, SettingsError

log = structlog.get_logger(__name__)

NO_SOURCE = (
    "This gateway has no candles of the market. Its operator sets where they come from under [market_data]: "
    "market_data_url, which answers with hourly klines, or market_data_file, a CSV file. "
    "/predict_custom forecasts candles of your own."
)
RETRY_S = 5.0


class MarketData:
    """The source of candles. Raises SettingsError for settings that name two, or a URL that is none."""

    def __init__(self, settings: MarketDataSettings) -> None:
        self._settings = settings
        if settings.market_data_url and settings.market_data_file:
            raise SettingsError("market_data_url and market_data_file: set one of the two.")
        if settings.market_data_url and not settings.market_data_url.startswith(("http://", "https://")):
            raise SettingsError("market_data_url must begin with http:// or https://.")

    async def candles(self) -> Candles:
        """The newest candles. Raises UNAVAILABLE where there is no source, or it does not give any."""
        settings = self._settings
        if not settings.market_data_url and not settings.market_data_file:
            raise GatewayError(Code.UNAVAILABLE, NO_SOURCE)
        try:
            async with asyncio.timeout(settings.market_data_timeout_s):
                if settings.market_data_url:
                    content = await self._fetched(settings.market_data_url)
                    return await asyncio.to_thread(candles.of_klines, content)
                return await asyncio.to_thread(self._read)
        except (CandleError, OSError, httpx.HTTPError, httpx.InvalidURL, TimeoutError) as exc:
            reason = str(exc) if isinstance(exc, CandleError) else type(exc).__name__  # others may hold the URL
            log.warning("market_data_failed", reason=reason)
            told = f": {exc}" if isinstance(exc, CandleError) else ""
            raise GatewayError(
                Code.UNAVAILABLE, f"The source of the market's candles gave none{told}.", retry_after_s=RETRY_S
            ) from None

    async def _fetched(self, url: str) -> bytes:
        limit = self._settings.market_data_max_bytes
        headers = {"accept-encoding": "identity", "user-agent": f"forecast-gateway/{__version__}"}
        received = bytearray()
        async with (
            httpx.AsyncClient(timeout=self._settings.market_data_timeout_s, follow_redirects=False) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise CandleError(f"it answered with {answer.status_code}")
            async for piece in answer.aiter_raw():
                received += piece
                if len(received) > limit:
                    raise CandleError(f"it answered with more than {limit} bytes")
        return bytes(received)

    def _read(self) -> Candles:
        limit = self._settings.market_data_max_bytes
        with Path(self._settings.market_data_file).expanduser().open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise CandleError(f"the file has more than {limit} bytes")
        return candles.of_csv(content)
