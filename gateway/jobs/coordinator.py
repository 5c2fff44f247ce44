"""Coordinators: one task a job, on whichever process holds the job's lease. They hold no slot of any worker.

A coordinator keeps a few chunks queued a slot, takes chunks whose worker is lost back into the queue, fails those that
failed too often, and ends the job. All that it knows is in the store, so that another can go on where it was cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec
from redis.exceptions import RedisError

from gateway.domain import Caller, EnsembleForecast, EnsembleRequest, JobStatus
from gateway.errors import Code, GatewayError
from gateway.jobs import answers, codec
from gateway.jobs.blobs import Blobs
from gateway.jobs.chunks import Plan
from gateway.jobs.queue import Queue, Ticket
from gateway.jobs.running import Runner, caller_of
from gateway.jobs.stored import read_plan, result_name, work_name, work_or_blanks
from gateway.jobs.worker import Heartbeat
from gateway.pacing import paced
from gateway.settings import JobSettings
from gateway.store import JobRecord, JobStore, News, Open, keys
from gateway.store.jobs import Settlement
from gateway.store.news import news_or

log = logging.getLogger(__name__)

QUEUED_A_SLOT = 4  # chunks: enough that no worker waits, few enough that urgent jobs and cancelling are quick
FEWEST_QUEUED = 4
LOOK_S = 1.0  # between looks where no news comes
SHORTEST_LOOK_S = 0.05  # news of many chunks at once are one look
LOST_S = 2.0  # without a lease, or in no queue, before a chunk is taken again: Redis may have been away
SCAN_S = 1.0  # between looks for jobs that nobody coordinates
SWEEP_S = 600.0  # between looks for what deleted and forgotten jobs left
UPLOAD_S = 3600.0  # a job's first chunks may lie this long before the job itself is made

RunEnsemble = Callable[[EnsembleRequest, Caller, float], Awaitable[EnsembleForecast]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What coordinators work with."""

    store: JobStore
    news: News
    blobs: Blobs
    queue: Queue
    runner: Runner
    settings: JobSettings
    ensemble: RunEnsemble | None = None  # None: this process has not all models, and leaves ensembles to others


class Workers:
    """The workers that live, looked at once a second at most."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._seen: tuple[Heartbeat, ...] = ()
        self._at = 0.0

    async def now(self) -> tuple[Heartbeat, ...]:
        if time.monotonic() - self._at > LOOK_S:
            beats = await self._store.heartbeats()
            self._seen = tuple(_readable(beats))
            self._at = time.monotonic()
        return self._seen

    async def slots(self, model: str) -> int:
        """Chunks of a model that can run at a time."""
        return sum(w.slots for w in await self.now() if model in w.models)


def _readable(beats: Iterable[bytes]) -> Iterator[Heartbeat]:
    """The heartbeats of this release's kind."""
    for beat in beats:
        with contextlib.suppress(msgspec.DecodeError):
            yield msgspec.msgpack.decode(beat, type=Heartbeat)


class Coordinator:
    """Sees one job through."""

    def __init__(self, id: str, token: str, parts: Parts, workers: Workers) -> None:
        self._id = id
        self._token = token
        self._parts = parts
        self._store = parts.store
        self._workers = workers
        self._plan: Plan | None = None
        self._since: dict[tuple[int, int], float] = {}  # chunk and ticket -> when it was first seen lost
        self._unserved: dict[str, float] = {}  # model -> since when no worker offers it

    async def run(self) -> None:
        """Return when the job is over or gone. Raises RedisError where Redis is away."""
        with self._parts.news.about(keys.JOB_CHANGED(self._id)) as changed:
            while True:
                changed.clear()
                record, opened, settled = await self._store.progress(self._id)
                if record is None:
                    await self._store.drop_active(self._id)
                    return
                if record.job.over or await self._ended(record, settled):
                    await self._withdraw(opened)
                    return
                await self._tend(record, opened)
                await asyncio.sleep(SHORTEST_LOOK_S)
                left = LOOK_S if record.job.deadline is None else record.job.deadline - time.time()
                await news_or(changed, min(LOOK_S, max(SHORTEST_LOOK_S, left)))

    async def _ended(self, record: JobRecord, settled: int) -> bool:
        """End the job if there is nothing left to do, or no time."""
        job = record.job
        if settled >= record.chunks:
            status: JobStatus = "completed" if not job.failed else "failed" if job.failed >= job.total else "partial"
            await self._store.finish(self._id, status)
            return True
        if job.deadline is not None and job.deadline <= time.time():
            error = answers.cancelled("expired")
            await self._store.finish(self._id, "expired", code=error.code.value, error="The deadline passed.")
            return True
        return False

    async def _tend(self, record: JobRecord, opened: dict[int, Open]) -> None:
        plan = await self._read_plan()
        if record.job.type == "ensemble":
            await self._run_ensemble(record, opened.get(0))
            return
        opened = await self._recovered(plan, opened)
        for chunk, one in opened.items():
            if one.state == "w" and one.failures >= self._parts.settings.chunk_tries:
                code = Code(one.code) if one.code else Code.INTERNAL
                await self._fail(chunk, one, GatewayError(code, _told(one)))
            elif one.state == "w":
                await self._queue(plan, chunk, record)
            elif one.state == "q" and await self._without_worker(plan.chunks[chunk].model):
                model = plan.chunks[chunk].model
                told = f"No worker offers the model {model}. {self._parts.runner.hindrance(model)}".rstrip()
                await self._fail(chunk, one, GatewayError(Code.UNAVAILABLE, told))
        queued = sum(one.state != "r" for one in opened.values())
        for chunk in range(record.next, len(plan.chunks)):
            slots = await self._workers.slots(plan.chunks[chunk].model)
            if queued >= max(FEWEST_QUEUED, QUEUED_A_SLOT * slots):
                break
            await self._queue(plan, chunk, record)
            queued += 1

    async def _read_plan(self) -> Plan:
        if self._plan is None:
            self._plan = await read_plan(self._parts.blobs, self._id)
        return self._plan

    async def _queue(self, plan: Plan, chunk: int, record: JobRecord) -> None:
        number = await self._store.open(self._id, chunk, self._token)
        if number is None:
            return
        deadline = record.job.deadline
        expires_s = self._parts.settings.job_retention_s if deadline is None else deadline - time.time()
        ticket = Ticket(self._id, chunk, number)
        await self._parts.queue.put(ticket, plan.chunks[chunk].model, priority=record.job.priority, expires_s=expires_s)

    # -- chunks that are lost ---

    async def _recovered(self, plan: Plan, opened: dict[int, Open]) -> dict[int, Open]:
        """The open chunks, those taken back whose worker is lost or that fell out of the queue."""
        running = [c for c, one in opened.items() if one.state == "r"]
        leased = await self._store.leased(self._id, running)
        queued = [(self._ticket(c, one), plan.chunks[c].model) for c, one in opened.items() if one.state == "q"]
        held = await self._parts.queue.holds(queued) if queued else set()
        lost = {c for c in running if not leased[c]} | {t.chunk for t, _ in queued if t.id not in held}
        now, since = time.monotonic(), self._since
        self._since = {(c, opened[c].ticket): since.get((c, opened[c].ticket), now) for c in lost}
        for (chunk, number), first in self._since.items():
            if now - first < LOST_S:
                continue
            one = opened[chunk]
            was_running = one.state == "r"
            reason = "The worker that ran this was lost."
            await self._parts.queue.withdraw([(self._ticket(chunk, one), plan.chunks[chunk].model)])
            await self._store.give_back(
                self._id, chunk, number, failed=was_running, code=Code.MODEL_FAILED.value, reason=reason
            )
            log.warning(
                "chunk %s:%d is taken again: %s", self._id, chunk, "worker lost" if was_running else "not queued"
            )
            opened = {**opened, chunk: Open("w", number, one.failures + was_running, Code.MODEL_FAILED.value, reason)}
        return opened

    def _ticket(self, chunk: int, one: Open) -> Ticket:
        return Ticket(self._id, chunk, one.ticket)

    async def _without_worker(self, model: str) -> bool:
        """Whether nobody has offered a model for too long."""
        if await self._workers.slots(model):
            self._unserved.pop(model, None)
            return False
        first = self._unserved.setdefault(model, time.monotonic())
        return time.monotonic() - first > self._parts.settings.worker_wait_s

    async def _withdraw(self, opened: dict[int, Open]) -> None:
        """Take what is still queued out of the queue."""
        if opened:
            plan = await self._read_plan()
            await self._parts.queue.withdraw((self._ticket(c, one), plan.chunks[c].model) for c, one in opened.items())

    # -- results that no worker makes ---

    async def _fail(self, chunk: int, one: Open, error: GatewayError) -> None:
        """Settle a chunk as failed: its members' results are the error."""
        count = (await self._read_plan()).chunks[chunk].count
        work = await work_or_blanks(self._parts.blobs, self._id, chunk, count, error)
        made = await self._parts.runner.failure(work, error)
        await self._settle(chunk, one.ticket, made.content, answers.settlement(made.answer))

    async def _settle(self, chunk: int, number: int, content: bytes, what: Settlement) -> None:
        await self._parts.blobs.write(self._id, result_name(chunk, number), content)
        await self._store.settle(self._id, chunk, number, what)

    async def _run_ensemble(self, record: JobRecord, before: Open | None) -> None:
        """Run an ensemble here: it waits for candidates, which run as jobs of their own where there are workers."""
        assert self._parts.ensemble is not None
        if before is not None and before.state == "r":  # its coordinator died meanwhile
            reason = "The gateway that ran this was lost."
            await self._store.give_back(
                self._id, 0, before.ticket, failed=True, code=Code.INTERNAL.value, reason=reason
            )
            if before.failures + 1 >= self._parts.settings.chunk_tries:
                await self._store.finish(self._id, "failed", code=Code.INTERNAL.value, error=reason)
                return
        number = await self._store.open(self._id, 0, self._token)
        if number is None or await self._store.take(self._id, 0, number, self._token) != "ours":
            return
        content = await self._parts.blobs.read(self._id, work_name(0))
        request = await paced(codec.decode(content, EnsembleRequest))
        loop = asyncio.get_running_loop()
        until = loop.time() + self._parts.settings.chunk_timeout_s
        if record.job.deadline is not None:
            until = min(until, loop.time() + record.job.deadline - time.time())
        try:
            answer = await self._while_wanted(self._parts.ensemble(request, caller_of(record), until))
        except GatewayError as error:
            await self._store.finish(self._id, "failed", code=error.code.value, error=error.sentence)
            return
        except asyncio.CancelledError:
            await self._store.give_back(self._id, 0, number, failed=False)
            raise
        if answer is not None:
            encoded = await paced(codec.encode(answer))
            await self._settle(0, number, encoded, answers.settlement(answer))

    async def _while_wanted(self, work: Awaitable[EnsembleForecast]) -> EnsembleForecast | None:
        """The outcome of `work`; None if the job ended first."""
        task = asyncio.ensure_future(work)
        try:
            with self._parts.news.about(keys.CANCELLED(self._id)) as cancelled:
                while not task.done():
                    news = asyncio.create_task(news_or(cancelled, LOOK_S))
                    await asyncio.wait({task, news}, return_when=asyncio.FIRST_COMPLETED)
                    news.cancel()
                    cancelled.clear()
                    record = await self._store.record(self._id)
                    if record is None or record.job.over:
                        return None
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Supervisor:
    """Coordinates every job that nobody else does, and sweeps up after jobs that are gone."""

    def __init__(self, parts: Parts, workers: Workers) -> None:
        self._parts = parts
        self._workers = workers
        self._token = uuid.uuid4().hex
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Go on until cancelled; then leave the jobs to others."""
        swept = -SWEEP_S
        try:
            with self._parts.news.about(keys.WORK()) as work:
                while True:
                    work.clear()
                    with contextlib.suppress(RedisError, OSError):
                        await self._look()
                        if time.monotonic() - swept > SWEEP_S:
                            swept = time.monotonic()
                            await self._sweep()
                    await asyncio.sleep(SHORTEST_LOOK_S)
                    await news_or(work, SCAN_S)
        finally:
            held = dict(self._tasks)
            for task in held.values():
                task.cancel()
            await asyncio.gather(*held.values(), return_exceptions=True)
            with contextlib.suppress(RedisError, OSError):
                for id in held:
                    await self._parts.store.leave(id, self._token)

    async def _look(self) -> None:
        """Renew what is coordinated here, and take up what nobody coordinates."""
        store = self._parts.store
        for id in await store.active():
            if self._parts.ensemble is None and id not in self._tasks and await self._is_ensemble(id):
                continue
            held = await store.coordinate(id, self._token)
            if held and id not in self._tasks:
                self._begin(id)
            elif not held and id in self._tasks:
                self._tasks.pop(id).cancel()

    async def _is_ensemble(self, id: str) -> bool:
        record = await self._parts.store.record(id)
        return record is not None and record.job.type == "ensemble"

    def _begin(self, id: str) -> None:
        task = asyncio.create_task(Coordinator(id, self._token, self._parts, self._workers).run())
        self._tasks[id] = task
        task.add_done_callback(lambda done: self._ended(id, done))

    def _ended(self, id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(id) is task:
            del self._tasks[id]
        if task.cancelled():
            return
        fault = task.exception()
        if isinstance(fault, (RedisError, OSError)):
            log.warning("job %s is taken up again: Redis was away", id)
        elif isinstance(fault, GatewayError):
            log.error("job %s cannot go on: %s", id, fault.sentence)
            self._tasks[id] = asyncio.create_task(self._give_up(id, fault))
            self._tasks[id].add_done_callback(lambda done: self._tasks.pop(id, None))
        elif fault is not None:
            log.error("the coordinator of job %s broke", id, exc_info=fault)

    async def _give_up(self, id: str, error: GatewayError) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._parts.store.finish(id, "failed", code=error.code.value, error=error.sentence)

    async def _sweep(self) -> None:
        """Forget blobs of jobs that are no more."""
        async for id in self._parts.blobs.jobs(older_than_s=UPLOAD_S):
            if await self._parts.store.record(id) is None:
                log.info("the files of job %s are removed", id)
                await self._parts.blobs.forget(id)


def _told(one: Open) -> str:
    """Why a chunk failed for good."""
    tries = f"{one.failures} tries failed" if one.failures > 1 else "A try failed"
    return f"{tries}; the last one: {one.reason or 'no reason is known.'}"
