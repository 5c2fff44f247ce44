"""The queue of chunks: arq on Redis, one queue a model. Everything that arq is used for is in this module.

A queue holds tickets; what is to be done and how it stands is in the store. Priority is a score in the past.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from arq.connections import ArqRedis
from arq.worker import Worker as ArqWorker
from arq.worker import func

from gateway.store import Redis, keys

log = logging.getLogger(__name__)
logging.getLogger("arq").setLevel(logging.WARNING)  # a line for every chunk otherwise

PRIORITIES = 10  # each way
STEP_MS = 10**9  # 11 days: between one priority and the next
LOOK_AHEAD = 16  # entries of a queue that are looked at: the first may be taken already
HANG_S = 24 * 3600.0  # nothing that a lease watches over needs a limit by arq
HELD_S = 10.0  # arq looks at a ticket again after this; the store knows if it runs still


@dataclass(frozen=True, slots=True)
class Ticket:
    """One delivery of a chunk."""

    job: str
    chunk: int
    number: int

    @property
    def id(self) -> str:
        return f"{self.job}:{self.chunk}:{self.number}"


Run = Callable[[Ticket], Awaitable[None]]


def _arq(redis: Redis) -> ArqRedis:
    return ArqRedis(
        redis.connection_pool, job_serializer=msgspec.msgpack.encode, job_deserializer=msgspec.msgpack.decode
    )


class Queue:
    """The coordinators' end."""

    def __init__(self, redis: Redis, *, retention_s: float) -> None:
        self._redis = redis
        self._arq = _arq(redis)
        self._retention_s = retention_s

    async def put(self, ticket: Ticket, model: str, *, priority: int, expires_s: float) -> None:
        """Queue a chunk for those who offer `model`; it is dropped if nobody takes it for `expires_s`."""
        queue = keys.QUEUE(model)
        past_ms = time.time() * 1000 - (PRIORITIES + 1 + priority) * STEP_MS
        await self._arq.enqueue_job(
            "chunk",
            ticket.job,
            ticket.chunk,
            ticket.number,
            _job_id=ticket.id,
            _queue_name=queue,
            _defer_until=datetime.fromtimestamp(past_ms / 1000, UTC),
            _expires=max(1.0, expires_s),
        )
        lives_ms = int(self._retention_s * 1000)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.pexpire(queue, lives_ms)
            pipe.zadd(keys.QUEUES(), {model: time.time()})
            pipe.pexpire(keys.QUEUES(), lives_ms)
            pipe.publish(keys.WORK(), b"")
            await pipe.execute()

    async def holds(self, tickets: Iterable[tuple[Ticket, str]]) -> set[str]:
        """Ids of those tickets that are in their model's queue."""
        asked = list(tickets)
        async with self._redis.pipeline(transaction=False) as pipe:
            for ticket, model in asked:
                pipe.zscore(keys.QUEUE(model), ticket.id)
            found = await pipe.execute()
        return {t.id for (t, _), score in zip(asked, found, strict=True) if score is not None}

    async def withdraw(self, tickets: Iterable[tuple[Ticket, str]]) -> None:
        """Take tickets out of their queues; those that run are told by other means."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for ticket, model in tickets:
                pipe.zrem(keys.QUEUE(model), ticket.id)
                pipe.delete(keys.ARQ_JOB(ticket.id), keys.ARQ_IN_PROGRESS(ticket.id), keys.ARQ_RETRY(ticket.id))
            await pipe.execute()


class Slots:
    """How many chunks a worker runs at a time, over all its queues."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0


class _Taker(ArqWorker):  # type: ignore[misc]  # arq is without type hints here
    """arq's worker for one queue, driven from outside, that shares its slots with those for the other queues."""

    def __init__(self, slots: Slots, **options: Any) -> None:
        self._slots = slots
        super().__init__(**options)

    @property
    def job_counter(self) -> int:
        return self._slots.taken

    @job_counter.setter
    def job_counter(self, taken: int) -> None:
        self._slots.taken = taken


class Taking:
    """A worker's end: takes the most urgent chunk of all the models it offers, and runs it."""

    def __init__(self, redis: Redis, slots: Slots, run: Run, freed: Callable[[], None]) -> None:
        """`freed` is called whenever a slot is free again."""
        self._redis = redis
        self._arq = _arq(redis)
        self._slots = slots
        self._run = run
        self._freed = freed
        self._takers: dict[str, _Taker] = {}

    async def take(self, models: Iterable[str]) -> None:
        """Begin as many chunks as there are slots and work."""
        offered = set(models)
        waiting = [m.decode() for m in await self._redis.zrange(keys.QUEUES(), 0, -1)]
        mine = [m for m in waiting if m in offered]
        while mine and self._slots.taken < self._slots.count:
            if not await self._take_some(mine):
                return

    async def _take_some(self, models: list[str]) -> bool:
        """Begin what is most urgent; False if there was nothing to begin."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for model in models:
                pipe.zrange(keys.QUEUE(model), 0, LOOK_AHEAD - 1, withscores=True)
            found = await pipe.execute()
        heads = [(score, id, model) for model, some in zip(models, found, strict=True) for id, score in some]
        begun = False
        for _, id, model in sorted(heads):
            if self._slots.taken >= self._slots.count:
                return begun
            taker = self._taker(model)
            before = set(taker.tasks)
            if id.decode() in before:
                continue
            await taker.start_jobs([id])
            for name in taker.tasks.keys() - before:
                begun = True
                taker.tasks[name].add_done_callback(lambda task, t=taker, n=name: self._ended(t, n, task))
        return begun

    def _taker(self, model: str) -> _Taker:
        taker = self._takers.get(model)
        if taker is None:
            queue = keys.QUEUE(model)
            taker = self._takers[model] = _Taker(
                self._slots,
                functions=[func(self._runner(queue), name="chunk", timeout=HANG_S, keep_result=0, max_tries=1000)],
                queue_name=queue,
                redis_pool=self._arq,
                handle_signals=False,
                max_jobs=self._slots.count,
                retry_jobs=False,
                log_results=False,
                job_serializer=msgspec.msgpack.encode,
                job_deserializer=msgspec.msgpack.decode,
            )
            taker.in_progress_timeout_s = HELD_S
        return taker

    def _runner(self, queue: str) -> Callable[..., Awaitable[None]]:
        """What arq calls with a ticket of `queue`."""

        async def chunk(context: dict[str, Any], job: str, chunk: int, number: int) -> None:
            ticket = Ticket(job, chunk, number)
            # arq would leave it there until the chunk is done, and nobody would see past many such tickets.
            await cast(Awaitable[int], self._redis.zrem(queue, ticket.id))
            await self._run(ticket)

        return chunk

    def _ended(self, taker: _Taker, name: str, task: Any) -> None:
        taker.tasks.pop(name, None)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.warning("chunk %s: %s", name, type(fault).__name__)  # Redis was away; its lease tells the others
        self._freed()
