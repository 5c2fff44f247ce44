"""Jobs before their owners' accounts: a job that is over is written in the ledger once, one whose key ended is stopped.

Jobs end wherever their coordinator runs, and a worker has no ledger. So every job is owed from the moment it is made,
in Redis, and the gateways settle what is over; a job is struck off after its row is written. Two gateways may write
the same row: it is one row all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from redis.exceptions import RedisError

from gateway.domain import Job
from gateway.errors import Code, GatewayError
from gateway.store import JobStore, keys

LOOK_S = 1.0
AT_ONCE = 500  # jobs of one look

Admitted = Callable[[str], Awaitable[bool]]  # whether the owner of this id may still have work done
Write = Callable[[Job], Awaitable[None]]  # returns when the job's row cannot be lost any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """Settles jobs of one Redis, beside other gateways that do the same."""

    store: JobStore
    admitted: Admitted
    write: Write
    count: Callable[[Job], None]  # called by one gateway only

    async def run(self) -> None:
        """Go on until cancelled."""
        owners: dict[str, str] = {}
        while True:
            with contextlib.suppress(RedisError, OSError, GatewayError):
                await self._look(owners)
            await asyncio.sleep(LOOK_S)

    async def _look(self, owners: dict[str, str]) -> None:
        active = set(await self.store.active())
        for id in [id for id in owners if id not in active]:
            del owners[id]
        found = await cast(Awaitable[list[bytes]], self.store.redis.zrange(keys.OWED(), 0, -1))
        over = [id for id in (raw.decode() for raw in found) if id not in active][:AT_ONCE]
        for id in over:
            await self._settle(id)
        for id in active:
            await self._stop_if_ended(id, owners)

    async def _settle(self, id: str) -> None:
        record = await self.store.record(id)
        if record is not None and not record.job.over:
            return
        if record is not None:
            await self.write(record.job)
        ours = await self.store.redis.zrem(keys.OWED(), id)  # of several gateways one has struck it off
        if ours and record is not None:
            self.count(record.job)

    async def _stop_if_ended(self, id: str, owners: dict[str, str]) -> None:
        """Stop a job whose owner's key was revoked or has expired."""
        if id not in owners:
            record = await self.store.record(id)
            if record is None:
                return
            owners[id] = record.job.owner
        if not await self.admitted(owners[id]):
            error = "The key of this job was revoked or has expired."
            await self.store.finish(id, "failed", code=Code.UNAUTHENTICATED.value, error=error)
