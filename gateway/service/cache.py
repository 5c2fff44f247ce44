"""Forecasts that were computed before, kept by what decides them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import msgspec

from adapters.base import SeriesForecast
from gateway.engine.frames import array_in, array_out

VERSION = b"\x01"  # of what is written for other gateways; a forecast of another version is not read

_encoder = msgspec.msgpack.Encoder(enc_hook=array_out)
_decoder = msgspec.msgpack.Decoder(SeriesForecast, dec_hook=array_in)


class Shared(Protocol):
    """A cache that several gateways use. It may forget anything at any time, and never raises or stalls."""

    async def read(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    async def write(self, items: Sequence[tuple[bytes, bytes]]) -> None: ...


class ForecastCache:
    """Forecasts of single series by the digest of all that decides them, the longest unused forgotten first."""

    def __init__(self, max_bytes: int, shared: Shared | None = None) -> None:
        self._max_bytes = max_bytes
        self._shared = shared
        self._bytes = 0
        self._kept: OrderedDict[bytes, SeriesForecast] = OrderedDict()

    async def find(self, keys: Sequence[bytes]) -> list[SeriesForecast | None]:
        """What is kept here or shared, one a key."""
        found = [self._kept.get(key) for key in keys]
        for key, forecast in zip(keys, found, strict=True):
            if forecast is not None:
                self._kept.move_to_end(key)
        missing = [i for i, forecast in enumerate(found) if forecast is None]
        if self._shared is not None and missing:
            for i, content in zip(missing, await self._shared.read([keys[i] for i in missing]), strict=True):
                found[i] = _read(content)
                self._keep(keys[i], found[i])
        return found

    async def keep(self, forecasts: Sequence[tuple[bytes, SeriesForecast]]) -> None:
        """Keep forecasts here and for other gateways."""
        for key, forecast in forecasts:
            self._keep(key, forecast)
        if self._shared is not None and forecasts:
            await self._shared.write([(key, VERSION + _encoder.encode(forecast)) for key, forecast in forecasts])

    def _keep(self, key: bytes, forecast: SeriesForecast | None) -> None:
        if forecast is None or key in self._kept or _bytes_of(forecast) > self._max_bytes:
            return
        self._kept[key] = _apart(forecast)
        self._bytes += _bytes_of(forecast)
        while self._bytes > self._max_bytes:
            _, forgotten = self._kept.popitem(last=False)
            self._bytes -= _bytes_of(forgotten)


def _read(content: bytes | None) -> SeriesForecast | None:
    """A shared forecast; one that another release wrote, or that was cut off, is none."""
    if content is None or not content.startswith(VERSION):
        return None
    try:
        return _decoder.decode(memoryview(content)[len(VERSION) :])
    except (msgspec.DecodeError, ValueError, TypeError):
        return None


def _apart(forecast: SeriesForecast) -> SeriesForecast:
    """A forecast that does not keep the whole message alive in which it came."""
    samples = None if forecast.samples is None else forecast.samples.copy()
    return replace(forecast, point=forecast.point.copy(), quantiles=forecast.quantiles.copy(), samples=samples)


def _bytes_of(forecast: SeriesForecast) -> int:
    samples = 0 if forecast.samples is None else forecast.samples.nbytes
    return forecast.point.nbytes + forecast.quantiles.nbytes + samples + 512  # the objects around the arrays
