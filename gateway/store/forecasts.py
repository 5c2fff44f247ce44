"""Forecasts that gateways share: bytes by key in Redis, each with its time to live.

Nobody waits long for them and nobody is refused for them: what does not answer at once is not there, what cannot be
written soon is dropped, and a Redis that failed is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Literal, Protocol

from gateway.store.connection import Redis
from gateway.store.keys import FORECAST

log = logging.getLogger(__name__)

READ_S = 0.05  # of one question: computing takes little longer
WRITE_S = 1.0
PAUSE_S = 3.0  # that a Redis is left alone after it failed
AT_ONCE = 64  # keys of one question, or forecasts of one call that writes, so that neither holds up the loop
LARGEST = 128 * 1024  # bytes of one forecast: AT_ONCE of them come in time
WRITTEN_AT_ONCE = 1024 * 1024  # bytes
MOST_WAITING = 16 * 1024 * 1024  # bytes that wait to be written
OVERHEAD = 256  # bytes of an entry in Redis beside its content: its name and its place in two tables

Failure = Literal["read", "write", "dropped"]


class Observer(Protocol):
    """Counts what went wrong."""

    def forecasts_failed(self, what: Failure, count: int) -> None: ...


class _Circuit:
    """Whether to call: not for a while after a failure, and then one caller finds out for all."""

    def __init__(self) -> None:
        self._until = 0.0  # 0: the last call went well

    def closed(self) -> bool:
        if self._until:
            now = time.monotonic()
            if now < self._until:
                return False
            self._until = now + PAUSE_S
        return True

    def failed(self) -> bool:
        """Whether that is news."""
        before, self._until = self._until, time.monotonic() + PAUSE_S
        return not before

    def worked(self) -> None:
        self._until = 0.0


class ForecastStore:
    """Reads and writes, once there is a Redis, which holds `max_bytes` of this gateway's; the oldest go first."""

    def __init__(self, *, lives_s: float, max_bytes: int, observer: Observer | None = None) -> None:
        self._lives_s = lives_s
        self._max_bytes = max_bytes
        self._observer = observer
        self._redis: Redis | None = None
        self._reads, self._writes = _Circuit(), _Circuit()
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._written: deque[tuple[float, list[bytes], int]] = deque()  # when they end, keys, bytes
        self._written_bytes = 0

    def open(self, redis: Redis) -> None:
        """Share through `redis` from now on."""
        self._redis = redis

    async def close(self) -> None:
        """Share no more. What waits is written if Redis takes it now, else dropped."""
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=WRITE_S)
            self._writer.cancel()
        self._redis = None

    async def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """What is there, one a key."""
        found: list[bytes | None] = []
        while self._redis is not None and len(found) < len(keys) and self._reads.closed():
            names = [FORECAST(key.hex()) for key in keys[len(found) : len(found) + AT_ONCE]]
            try:
                async with asyncio.timeout(READ_S):
                    found += await self._redis.mget(names)
            except Exception as exc:  # whatever it is, the forecast can be computed
                self._failed("read", self._reads, exc)
            else:
                self._reads.worked()
        return found + [None] * (len(keys) - len(found))

    async def write(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Write `items` in the background."""
        if self._redis is None:
            return
        dropped = 0
        for key, content in items:
            if len(content) > LARGEST:
                continue
            if self._waiting_bytes + len(content) > MOST_WAITING:
                dropped += 1
                continue
            self._waiting.append((key, content))
            self._waiting_bytes += len(content)
        self._count("dropped", dropped)
        if self._waiting and (self._writer is None or self._writer.done()):
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._redis is not None and self._waiting:
            if not self._writes.closed():
                self._count("dropped", len(self._waiting))
                self._waiting.clear()
                self._waiting_bytes = 0
                return
            items = self._next()
            pipeline = self._redis.pipeline(transaction=False)
            forgotten = self._booked(items)
            if forgotten:
                pipeline.unlink(*(FORECAST(key.hex()) for key in forgotten))
            for key, content in items:
                pipeline.set(FORECAST(key.hex()), content, px=int(self._lives_s * 1e3))
            try:
                async with asyncio.timeout(WRITE_S):
                    await pipeline.execute()
            except Exception as exc:
                self._failed("write", self._writes, exc)
                self._count("dropped", len(items))
            else:
                self._writes.worked()

    def _next(self) -> list[tuple[bytes, bytes]]:
        """What is to be written at once."""
        items: list[tuple[bytes, bytes]] = []
        size = 0
        while self._waiting and len(items) < AT_ONCE and size < WRITTEN_AT_ONCE:
            items.append(self._waiting.popleft())
            size += len(items[-1][1])
        self._waiting_bytes -= size
        return items

    def _booked(self, items: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Count `items` as written; the keys that have to go for them."""
        now, forgotten = time.monotonic(), []
        size = sum(len(content) + OVERHEAD for _, content in items)
        self._written.append((now + self._lives_s, [key for key, _ in items], size))
        self._written_bytes += size
        while self._written[0][0] <= now or (self._written_bytes > self._max_bytes and len(self._written) > 1):
            ended, keys, size = self._written.popleft()
            self._written_bytes -= size
            if ended > now:
                forgotten += keys
        return forgotten

    def _failed(self, what: Failure, circuit: _Circuit, exc: Exception) -> None:
        if circuit.failed():
            log.warning("forecasts are kept without Redis: %s", type(exc).__name__)
        self._count(what, 1)

    def _count(self, what: Failure, count: int) -> None:
        if self._observer is not None and count:
            self._observer.forecasts_failed(what, count)
