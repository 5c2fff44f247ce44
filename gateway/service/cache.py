"""Forecasts that were computed before, kept by what decides them.

A key is the identity of the loaded model and a digest of its input, both of which the service makes. The caller's id is
part of the digest: what one caller was answered is neither shown to another nor told by the time an answer takes.
Anonymous callers are one caller. A forecast that is kept here grows never stale and leaves only for room.
"""

from __future__ import annotations

import sys
import zlib
from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from typing import Literal, Protocol, TypeVar

import msgspec

from adapters.base import SeriesForecast
from gateway.engine.frames import array_in, array_out
from gateway.pacing import paced

T = TypeVar("T")
Steps = Generator[None, None, T]

VERSION = b"\x02"  # of what is written for other gateways; a forecast of another version is not read
SEAL_BYTES = 4  # over key and content, so that what was cut off, changed or moved to another key is not read
OVERHEAD = 256  # bytes of an entry beside its key and content: the places in the table and in its order

Place = Literal["memory", "redis", "nowhere"]

_encoder = msgspec.msgpack.Encoder(enc_hook=array_out)
_decoder = msgspec.msgpack.Decoder(SeriesForecast, dec_hook=array_in)


class Shared(Protocol):
    """A cache that several gateways use. It may forget anything at any time, and never raises or stalls."""

    async def read(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """What is kept, one a key."""

    async def write(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep contents by key, later."""


class Observer(Protocol):
    """Counts what was looked for."""

    def forecasts_found(self, place: Place, count: int) -> None: ...


class ForecastCache:
    """Forecasts of single series by the digest of all that decides them, the longest unused forgotten first.

    They are kept as they are written: what counts against `max_bytes` is what they take, and nobody who reads one can
    change it for the next.
    """

    def __init__(self, max_bytes: int, shared: Shared | None = None, observer: Observer | None = None) -> None:
        self._max_bytes = max_bytes
        self._shared = shared
        self._observer = observer
        self._bytes = 0
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    async def find(self, keys: Sequence[bytes]) -> list[SeriesForecast | None]:
        """What is kept here or shared, one a key."""
        found = await paced(self._read(keys))
        missing = [i for i, forecast in enumerate(found) if forecast is None]
        self._count("memory", len(keys) - len(missing))
        if self._shared is not None and missing:
            asked = [keys[i] for i in missing]
            fetched = await paced(self._unsealed(asked, await self._shared.read(asked)))
            for i, forecast in zip(missing, fetched, strict=True):
                found[i] = forecast
            nowhere = sum(forecast is None for forecast in fetched)
            self._count("redis", len(missing) - nowhere)
        else:
            nowhere = len(missing)
        self._count("nowhere", nowhere)
        return found

    async def keep(self, forecasts: Sequence[tuple[bytes, SeriesForecast]]) -> None:
        """Keep forecasts here and for other gateways."""
        new = await paced(self._written(forecasts))
        if self._shared is not None and new:
            await self._shared.write(await paced(_sealed(new)))

    def _read(self, keys: Iterable[bytes]) -> Steps[list[SeriesForecast | None]]:
        found = []
        for key in keys:
            content = self._kept.get(key)
            if content is not None:
                self._kept.move_to_end(key)
            found.append(None if content is None else _decoder.decode(content))
            yield
        return found

    def _unsealed(self, keys: Iterable[bytes], contents: Iterable[bytes | None]) -> Steps[list[SeriesForecast | None]]:
        """Shared forecasts, which are kept here too; one that another release wrote, or that was changed, is none."""
        found: list[SeriesForecast | None] = []
        for key, sealed in zip(keys, contents, strict=True):
            found.append(None)
            content = None if sealed is None else _content(key, sealed)
            if content is not None:
                try:
                    found[-1] = _decoder.decode(content)
                except Exception:  # whatever lies there, it is not ours
                    continue
                self._keep(key, content)
            yield
        return found

    def _written(self, forecasts: Iterable[tuple[bytes, SeriesForecast]]) -> Steps[list[tuple[bytes, bytes]]]:
        """Those that were not kept before, as they are written."""
        new = []
        for key, forecast in forecasts:
            if key not in self._kept:
                content = _encoder.encode(forecast)
                if self._keep(key, content):
                    new.append((key, content))
            yield
        return new

    def _keep(self, key: bytes, content: bytes) -> bool:
        """Whether there was a place for an entry."""
        if key in self._kept or _bytes_of(key, content) > self._max_bytes:
            return False
        self._kept[key] = content
        self._bytes += _bytes_of(key, content)
        while self._bytes > self._max_bytes:
            self._bytes -= _bytes_of(*self._kept.popitem(last=False))
        return True

    def _count(self, place: Place, count: int) -> None:
        if self._observer is not None and count:
            self._observer.forecasts_found(place, count)


def _sealed(items: Iterable[tuple[bytes, bytes]]) -> Steps[list[tuple[bytes, bytes]]]:
    """Contents as other gateways read them."""
    sealed = []
    for key, content in items:
        sealed.append((key, VERSION + _seal(key, content) + content))
        yield
    return sealed


def _content(key: bytes, sealed: bytes) -> bytes | None:
    """What `_sealed` sealed under `key`, if it is that."""
    start = len(VERSION) + SEAL_BYTES
    content = sealed[start:]
    return content if sealed[:start] == VERSION + _seal(key, content) else None


def _seal(key: bytes, content: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(key)).to_bytes(SEAL_BYTES)


def _bytes_of(key: bytes, content: bytes) -> int:
    return sys.getsizeof(key) + sys.getsizeof(content) + OVERHEAD
