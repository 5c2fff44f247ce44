"""A worker: takes chunks of the models it offers from the queue and runs them on the engine of this process.

It holds a lease on each chunk that it runs and renews it every second; each renewal also says whether the chunk is
still wanted. What a broken connection to Redis interrupts is tried again for as long as the worker lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec
from redis.exceptions import RedisError

from gateway import tracing
from gateway.errors import Code, GatewayError
from gateway.jobs import answers
from gateway.jobs.blobs import Blobs
from gateway.jobs.queue import Slots, Taking, Ticket
from gateway.jobs.running import Runner
from gateway.jobs.stored import result_name, work_name, work_of
from gateway.pacing import paced
from gateway.settings import JobSettings
from gateway.store import JobRecord, JobStore, News, keys
from gateway.store.jobs import Settlement
from gateway.store.news import news_or

log = logging.getLogger(__name__)

T = TypeVar("T")

RENEW_S = 1.0
LOOK_S = 0.5  # between looks at the queue where no news comes
BEAT_S = 1.0
HEARTBEAT_LIVES_S = 5.0
OFFERS_S = 5.0  # between looks for weights that came or went
AGAIN_S = 0.5  # before something is tried again that Redis did not take

# The chunk's own fault, whoever runs it: another try would say the same.
FINAL = frozenset({Code.INVALID_ARGUMENT, Code.MALFORMED, Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.CONFLICT})


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself every second."""

    id: str
    name: str
    host: str
    pid: int
    models: tuple[str, ...]  # catalog ids that it can run
    slots: int
    busy: int
    embedded: bool  # in a gateway's process, on its engine
    started: float


class Worker:
    """Runs chunks. `offers` says which models it can run now."""

    def __init__(
        self,
        store: JobStore,
        news: News,
        blobs: Blobs,
        runner: Runner,
        settings: JobSettings,
        *,
        slots: int,
        models: tuple[str, ...] = ("*",),
        embedded: bool,
        name: str = "",
    ) -> None:
        host = socket.gethostname()
        self.id = f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._name = name or f"{host}-{os.getpid()}"
        self._host = host
        self._store = store
        self._news = news
        self._blobs = blobs
        self._runner = runner
        self._settings = settings
        self._globs = models
        self._embedded = embedded
        self._started = time.time()
        self._offers: tuple[str, ...] = ()
        self._looked = 0.0
        self._slots = Slots(slots)
        self._wake = asyncio.Event()
        self._taking = Taking(store.redis, self._slots, self._run, self._wake.set)
        self._stopping = asyncio.Event()  # take no more
        self._leaving = asyncio.Event()  # give back what runs
        self._running: set[asyncio.Task[None]] = set()

    # -- life ---

    async def serve(self) -> None:
        """Take chunks until `stop`."""
        await self._look_around()
        beating = asyncio.create_task(self._beat())
        try:
            with self._news.about(keys.WORK()) as work:
                while not self._stopping.is_set():
                    work.clear()
                    self._wake.clear()
                    try:
                        await self._taking.take(self._offers)
                    except (RedisError, OSError) as exc:
                        log.debug("the queue cannot be read: %s", type(exc).__name__)
                    await self._until_work(work)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def stop(self, grace_s: float) -> None:
        """Take nothing more, let what runs finish within `grace_s`, and give the rest back."""
        self._stopping.set()
        self._wake.set()
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        self._leaving.set()
        if self._running:
            await asyncio.wait(self._running, timeout=5.0)
        with contextlib.suppress(RedisError, OSError):
            await self._store.gone(self.id)

    async def _until_work(self, work: asyncio.Event) -> None:
        """Wait until there may be something to take."""
        woken = [asyncio.create_task(e.wait()) for e in (work, self._wake)]
        try:
            await asyncio.wait(woken, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in woken:
                task.cancel()

    async def _look_around(self) -> None:
        """See which models can be run here now."""
        found = await paced(self._runner.offers())
        self._offers = tuple(m for m in found if any(fnmatchcase(m, g) for g in self._globs))
        self._looked = time.monotonic()

    async def _beat(self) -> None:
        while True:
            if time.monotonic() - self._looked > OFFERS_S:
                await self._look_around()
            beat = Heartbeat(
                id=self.id,
                name=self._name,
                host=self._host,
                pid=os.getpid(),
                models=self._offers,
                slots=self._slots.count,
                busy=self._slots.taken,
                embedded=self._embedded,
                started=self._started,
            )
            with contextlib.suppress(RedisError, OSError):
                await self._store.beat(self.id, msgspec.msgpack.encode(beat), lives_s=HEARTBEAT_LIVES_S)
            await asyncio.sleep(BEAT_S)

    # -- one chunk ---

    async def _run(self, ticket: Ticket) -> None:
        """Run a chunk that was found in the queue, if it is still wanted."""
        if await self._store.take(ticket.job, ticket.chunk, ticket.number, self.id) != "ours":
            return
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await self._run_taken(ticket)
        finally:
            self._running.discard(task)

    async def _run_taken(self, ticket: Ticket) -> None:
        """Compute, unless the chunk is not ours any more or the worker leaves first."""
        computing = asyncio.create_task(self._compute(ticket))
        unwanted = asyncio.create_task(self._renew(ticket))
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({computing, unwanted, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if computing.done():
                computing.result()
                return
            given_up = leaving.done() and not unwanted.done()
        finally:
            for task in (computing, unwanted, leaving):
                task.cancel()
            await asyncio.gather(computing, unwanted, leaving, return_exceptions=True)
        if given_up:
            with contextlib.suppress(RedisError, OSError):
                await self._store.give_back(ticket.job, ticket.chunk, ticket.number, failed=False)

    async def _renew(self, ticket: Ticket) -> None:
        """Keep the lease; returns when the chunk is not wanted from us any more."""
        with self._news.about(keys.CANCELLED(ticket.job)) as cancelled:
            while True:
                await news_or(cancelled, RENEW_S)
                cancelled.clear()
                with contextlib.suppress(RedisError, OSError):
                    if await self._store.renew(ticket.job, ticket.chunk, ticket.number, self.id) != "ours":
                        return

    async def _compute(self, ticket: Ticket) -> None:
        record = await self._patient(lambda: self._store.record(ticket.job))
        if record is None:
            return
        try:
            await self._answer(ticket, record)
        except GatewayError as error:
            await self._failed(ticket, record, error)
        except (RedisError, OSError) as exc:
            await self._failed(ticket, record, GatewayError(Code.UNAVAILABLE, f"Not stored: {type(exc).__name__}."))
        except Exception:
            log.exception("chunk %s broke", ticket.id)
            await self._failed(ticket, record, GatewayError(Code.INTERNAL, "This part of the job broke the gateway."))

    async def _answer(self, ticket: Ticket, record: JobRecord) -> None:
        started = time.monotonic()
        about: tracing.Attributes = {"forecast.job": ticket.job, "forecast.chunk": ticket.chunk}
        with tracing.span("job chunk", about, parent=record.trace):
            made = await self._runner.run(await self._work(ticket), record)
        await self.settle(ticket, made.content, answers.settlement(made.answer))
        seconds = time.monotonic() - started - made.waited_s
        if made.tokens and seconds > 0:
            with contextlib.suppress(RedisError, OSError):
                await self._store.note_speed(made.model, made.tokens / seconds)

    async def _work(self, ticket: Ticket) -> bytes:
        try:
            return await self._patient(lambda: self._blobs.read(ticket.job, work_name(ticket.chunk)))
        except GatewayError:
            told = f"The worker {self._name} does not see the files of this job: job_blobs must be the same everywhere."
            raise GatewayError(Code.UNAVAILABLE, told) from None

    async def settle(self, ticket: Ticket, content: bytes, what: Settlement) -> None:
        """Keep a result and have it counted, or drop it if another one counts."""
        name = result_name(ticket.chunk, ticket.number)
        await self._patient(lambda: self._blobs.write(ticket.job, name, content))
        if not await self._patient(lambda: self._store.settle(ticket.job, ticket.chunk, ticket.number, what)):
            await self._blobs.remove(ticket.job, name)

    async def _failed(self, ticket: Ticket, record: JobRecord, error: GatewayError) -> None:
        """Leave a chunk to another try, or settle it as failed where that would be of no use."""
        if error.code in FINAL:
            work = await work_of(await self._work(ticket))
            made = await self._runner.failure(work, error)
            await self.settle(ticket, made.content, answers.settlement(made.answer))
            return
        log.warning("chunk %s failed: %s", ticket.id, error.sentence)
        await self._patient(
            lambda: self._store.give_back(
                ticket.job, ticket.chunk, ticket.number, failed=True, code=error.code.value, reason=error.sentence
            )
        )

    async def _patient(self, call: Callable[[], Awaitable[T]]) -> T:
        """Do something in Redis, again and again while it is away: others take over if the lease runs out meanwhile."""
        while True:
            try:
                return await call()
            except (RedisError, ConnectionError):
                await asyncio.sleep(AGAIN_S)
