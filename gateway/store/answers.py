"""Answers to calls that came with an idempotency key, shared by all gateways of a Redis."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import msgspec

from gateway.store import keys
from gateway.store.connection import Redis


class Held(Protocol):
    """An entry: who made it."""

    @property
    def holder(self) -> str: ...


Entry = TypeVar("Entry", bound=Held)


class AnswerStore(Generic[Entry]):
    """Entries by name, each with its time to live. Raises RedisError where Redis is away."""

    shared = True

    def __init__(self, redis: Redis, kind: type[Entry]) -> None:
        self._redis = redis
        self._kind = kind

    async def take(self, name: str, entry: Entry, lease_s: float) -> Entry | None:
        """Put down `entry` where there is none; else the one that is there."""
        key = keys.ANSWER(name)
        for _ in range(2):  # the one that is there may end between two calls
            if await self._redis.set(key, msgspec.msgpack.encode(entry), nx=True, px=int(lease_s * 1000)):
                return None
            found = await self._read(key)
            if found is not None:
                return found
        return None

    async def keep(self, name: str, entry: Entry, kept_s: float) -> None:
        """Replace the entry of the same holder."""
        key = keys.ANSWER(name)
        there = await self._read(key)
        if there is not None and there.holder == entry.holder:
            await self._redis.set(key, msgspec.msgpack.encode(entry), xx=True, px=int(kept_s * 1000))

    async def free(self, name: str, holder: str) -> None:
        """Forget the entry of this holder."""
        key = keys.ANSWER(name)
        there = await self._read(key)
        if there is not None and there.holder == holder:
            await self._redis.delete(key)

    async def _read(self, key: str) -> Entry | None:
        found = await self._redis.get(key)
        return None if found is None else msgspec.msgpack.decode(found, type=self._kind)
