"""What is published in Redis, brought to those who wait for it: one subscription for a whole process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator

from redis.exceptions import RedisError

from gateway.store.connection import Redis
from gateway.store.keys import CHANNELS

log = logging.getLogger(__name__)

PAUSE_S = 0.5  # before a lost subscription is tried again


class News:
    """Wakes those who wait. News can be missed while Redis is away, so whoever waits also looks now and then."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def listen(self) -> None:
        """Bring news until cancelled."""
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.psubscribe(f"{CHANNELS}*")
                    self._wake_all()  # what came before the subscription stood
                    while True:
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5.0)
                        if message is not None:
                            self._wake(message["channel"].decode())
            except (RedisError, OSError) as exc:
                log.debug("no news: %s", type(exc).__name__)
                await asyncio.sleep(PAUSE_S)

    @contextlib.contextmanager
    def about(self, *channels: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever there is news of one of `channels`; clear it before looking."""
        event = asyncio.Event()
        for channel in channels:
            self._waiting[channel].add(event)
        try:
            yield event
        finally:
            for channel in channels:
                self._waiting[channel].discard(event)
                if not self._waiting[channel]:
                    del self._waiting[channel]

    def _wake(self, channel: str) -> None:
        for event in self._waiting.get(channel, ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()


async def news_or(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for `event`, `timeout_s` seconds at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, timeout_s)):  # wait_for of Python 3.11 can swallow a cancellation
            await event.wait()
