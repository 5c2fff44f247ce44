"""The keys as a running process knows them: found without SQL, and forgotten within seconds of a change.

A counter in the database rises with every change of a key. It is read once a second; when it moved, all that is
remembered here is dropped. Between two readings a revoked key may still pass: 1 s and the time of a query.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable

import sqlalchemy as sa
import structlog

from gateway.access.keys import Key, Keys, id_of
from gateway.database import reason
from gateway.domain import Caller
from gateway.errors import Code, GatewayError

POLL_S = 1.0
REMEMBERED = 10_000  # keys, and ids that are none: guesses must not fill the memory
ANONYMOUS = Caller().id

log = structlog.get_logger(__name__)


class KeyRing:
    """Finds keys. `start` reads once and keeps reading; without it every lookup asks the database."""

    def __init__(self, keys: Keys, *, clock: Callable[[], float] = time.time, poll_s: float = POLL_S) -> None:
        self.keys = keys
        self._clock = clock
        self._poll_s = poll_s
        self._known: OrderedDict[str, Key | None] = OrderedDict()
        self._version = -1
        self._exist = False
        self._poller: asyncio.Task[None] | None = None

    @property
    def exist(self) -> bool:
        """Whether there ever was a key: from the first on nobody is anonymous, even when all are revoked."""
        return self._exist

    async def start(self) -> None:
        await self.refresh()
        self._poller = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller

    async def refresh(self) -> None:
        """Forget what has changed, now: after a change made in this process."""
        version, self._exist = await asyncio.to_thread(self.keys.version)
        if version != self._version:
            self._known.clear()
            self._version = version

    async def find(self, text: str) -> Key:
        """The key that `text` is. Raises UNAUTHENTICATED for one that is unknown, expired or revoked."""
        key_id = id_of(text)
        key = await self.by_id(key_id) if key_id is not None else None
        if key is None or not self.keys.matches(key, text):
            raise GatewayError(Code.UNAUTHENTICATED, "This key is unknown.")
        self.check(key)
        return key

    def check(self, key: Key) -> None:
        """Raise UNAUTHENTICATED for a key that has ended."""
        standing = key.standing(self._clock())
        if standing != "active":
            raise GatewayError(Code.UNAUTHENTICATED, f"This key is {standing}.")

    async def by_id(self, key_id: str) -> Key | None:
        """A key by its id, whether it has ended or not."""
        if key_id in self._known:
            self._known.move_to_end(key_id)
            return self._known[key_id]
        version = self._version
        try:
            key = await asyncio.to_thread(self.keys.get, key_id)
        except sa.exc.SQLAlchemyError as exc:
            log.error("keys_unreadable", reason=reason(exc))
            raise GatewayError(Code.UNAVAILABLE, "Keys cannot be read at the moment.", retry_after_s=1.0) from None
        if version == self._version and self._poller is not None:
            self._known[key_id] = key
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return key

    async def caller_of(self, caller_id: str) -> Caller | None:
        """Who a job belongs to, as far as they may still have it run; None for a key that has ended."""
        if caller_id == ANONYMOUS:
            return Caller()
        key = await self.by_id(caller_id)
        return key.caller if key is not None and key.standing(self._clock()) == "active" else None

    async def _poll(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.refresh()
                failing = False
            except sa.exc.SQLAlchemyError as exc:
                # Nobody can revoke either while the database is away: what is known keeps working.
                if not failing:
                    log.error("keys_unreadable", reason=reason(exc))
                failing = True
