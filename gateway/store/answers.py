"""Answers to calls that came with an idempotency key, shared by all gateways of a Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import msgspec
from redis.exceptions import RedisError

from gateway.errors import Code, GatewayError
from gateway.store import keys
from gateway.store.connection import Redis


class Held(Protocol):
    """An entry: who made it."""

    @property
    def holder(self) -> str: ...


Entry = TypeVar("Entry", bound=Held)


class AnswerStore(Generic[Entry]):
    """Entries by name, each with its time to live. Raises UNAVAILABLE where Redis is away."""

    shared = True

    def __init__(self, redis: Redis, kind: type[Entry]) -> None:
        self._redis = redis
        self._kind = kind

    async def take(self, name: str, entry: Entry, lease_s: float) -> Entry | None:
        """Put down `entry` where there is none; else the one that is there."""
        key = keys.ANSWER(name)
        with _redis_away():
            while True:
                if await self._redis.set(key, msgspec.msgpack.encode(entry), nx=True, px=int(lease_s * 1000)):
                    return None
                found = await self._read(key)
                if found is not None:  # it may have ended between the two calls
                    return found

    async def keep(self, name: str, entry: Entry, kept_s: float) -> None:
        """Replace the entry of the same holder."""
        key = keys.ANSWER(name)
        with _redis_away():
            there = await self._read(key)
            if there is not None and there.holder == entry.holder:
                await self._redis.set(key, msgspec.msgpack.encode(entry), xx=True, px=int(kept_s * 1000))

    async def free(self, name: str, holder: str) -> None:
        """Forget the entry of this holder."""
        key = keys.ANSWER(name)
        with _redis_away():
            there = await self._read(key)
            if there is not None and there.holder == holder:
                await self._redis.delete(key)

    async def _read(self, key: str) -> Entry | None:
        found = await self._redis.get(key)
        return None if found is None else msgspec.msgpack.decode(found, type=self._kind)


@contextlib.contextmanager
def _redis_away() -> Iterator[None]:
    try:
        yield
    except RedisError:
        told = "Redis, which keeps the answers of idempotency keys, does not answer: try again, or without a key."
        raise GatewayError(Code.UNAVAILABLE, told, retry_after_s=1.0) from None
