"""The state of jobs in Redis. Each change is one script, so that no two processes can disagree.

A chunk is waiting (not written yet), open (in `fg:open:{id}`) or settled. An open chunk is due (`w`), queued (`q`) or
running (`r`). Every time it is queued it gets a new ticket; a result counts for the first ticket that settles it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgspec

from gateway.domain import Caller, Job, JobStatus, JobType, Usage
from gateway.errors import Code
from gateway.store import keys, scripts
from gateway.store.connection import Redis

ChunkState = Literal["w", "q", "r"]
Taken = Literal["ours", "gone", "over"]

LEASE_S = 4.0  # of a chunk or a job: renewed each second, so that three renewals may be late


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job with what only the queue needs to know of it."""

    job: Job
    caller: Caller
    chunks: int
    next: int = 0  # first chunk that was never queued
    hidden: bool = False  # made by the gateway for itself, and in no list
    idempotency: str = ""  # the key that leads to it
    trace: str = ""  # the traceparent of the call that brought it; empty where nothing is traced


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """A job's place in a list; a job that is handed in later does not move it."""

    created: float
    id: str


@dataclass(frozen=True, slots=True)
class Open:
    """A chunk under way."""

    state: ChunkState
    ticket: int
    failures: int
    code: str = ""
    reason: str = ""  # of the latest failure

    @classmethod
    def read(cls, content: bytes) -> Open:
        state, ticket, failures, code, reason = content.decode().split("|", 4)
        return cls(cast(ChunkState, state), int(ticket), int(failures), code, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a chunk came to."""

    done: int
    failed: int
    usage: Usage
    code: str = ""  # of the first failure
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key that was taken before: by which body, for which job."""

    body: str
    id: str


class JobStore:
    """Every read and change of jobs. Raises RedisError where Redis is away."""

    def __init__(self, redis: Redis, *, retention_s: float) -> None:
        self.redis = redis
        self._retention_ms = int(retention_s * 1000)
        self._scripts = scripts.Scripts(redis)

    # -- making, reading and ending jobs ---

    async def create(self, record: JobRecord, *, body: str = "") -> Claim | None:
        """Write a new job, unless its idempotency key was taken: then who took it."""
        job = record.job
        found = await self._scripts.create(
            keys=[
                keys.JOB(job.id),
                keys.ACTIVE(),
                "" if record.hidden else keys.JOBS(),
                "" if record.hidden else keys.JOBS_OF(job.owner),
                record.idempotency,
                keys.JOB_CHANGED(job.id),
                keys.WORK(),
                "" if record.hidden else keys.OWED(),
            ],
            args=[job.id, job.created, self._retention_ms, body, keys.IDEMPOTENCY_S, *_flat(record)],
        )
        if found is None:
            return None
        first, _, id = found.decode().partition(":")
        return None if id == job.id else Claim(first, id)

    async def claimed(self, idempotency: str) -> Claim | None:
        """Who took an idempotency key."""
        found = await self.redis.get(idempotency)
        if found is None:
            return None
        body, _, id = found.decode().partition(":")
        return Claim(body, id)

    async def record(self, id: str) -> JobRecord | None:
        """One job; None where there is none."""
        fields = await cast(Awaitable[dict[bytes, bytes]], self.redis.hgetall(keys.JOB(id)))
        return _record(fields) if fields else None

    async def page(self, owner: str | None, after: Row | None, count: int) -> tuple[list[Row], list[JobRecord]]:
        """The next rows after one, the newest first, and the jobs of those that are still there; no rows: the end."""
        rows = await self._rows(keys.JOBS() if owner is None else keys.JOBS_OF(owner), after, count)
        async with self.redis.pipeline(transaction=False) as pipe:
            for row in rows:
                pipe.hgetall(keys.JOB(row.id))
            found = await pipe.execute()
        return rows, [_record(fields) for fields in found if fields]

    async def _rows(self, index: str, after: Row | None, count: int) -> list[Row]:
        """Rows in the order of Redis: by time, and by id where the time is the same."""
        start, newest = 0, "+inf" if after is None else repr(after.created)
        while True:
            found = await self.redis.zrevrangebyscore(index, newest, "-inf", start=start, num=count, withscores=True)
            rows = [Row(created, id.decode()) for id, created in found]
            rows = [row for row in rows if after is None or row < after]
            if rows or len(found) < count:
                return rows
            start += count

    async def progress(self, id: str) -> tuple[JobRecord | None, dict[int, Open], int]:
        """A job, its open chunks, and how many are settled."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.JOB(id))
            pipe.hgetall(keys.OPEN(id))
            pipe.hlen(keys.SETTLED(id))
            fields, opened, settled = await pipe.execute()
        return (_record(fields) if fields else None), {int(k): Open.read(v) for k, v in opened.items()}, settled

    async def settled(self, id: str, chunk: int) -> int | None:
        """The ticket whose result counts for a chunk; None while there is none."""
        found = await cast(Awaitable[bytes | None], self.redis.hget(keys.SETTLED(id), str(chunk)))
        return None if found is None else int(found)

    async def finish(self, id: str, status: JobStatus, *, code: str = "", error: str = "") -> bool:
        """End a job; False if it is over already, or gone."""
        done = await self._scripts.finish(
            keys=[keys.JOB(id), keys.ACTIVE(), keys.WEBHOOKS(), keys.OPEN(id), keys.SETTLED(id), keys.JOB_CHANGED(id),
                  keys.CANCELLED(id)],
            args=[id, status, code, error, time.time(), self._retention_ms],
        )  # fmt: skip
        return bool(done)

    async def forget(self, record: JobRecord) -> None:
        """Delete everything of a job."""
        id, owner = record.job.id, record.job.owner
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.JOB(id), keys.OPEN(id), keys.SETTLED(id), keys.COORDINATOR(id), keys.BLOB(id))
            if record.idempotency:
                pipe.delete(record.idempotency)
            for index in (keys.ACTIVE(), keys.JOBS(), keys.JOBS_OF(owner), keys.WEBHOOKS()):
                pipe.zrem(index, id)
            pipe.publish(keys.JOB_CHANGED(id), b"")
            pipe.publish(keys.CANCELLED(id), b"")
            await pipe.execute()

    # -- coordinating ---

    async def active(self) -> list[str]:
        """Ids of the jobs that are not over, the oldest first."""
        return [i.decode() for i in await self.redis.zrange(keys.ACTIVE(), 0, -1)]

    async def drop_active(self, id: str) -> None:
        """Take a job that is gone from the list of those to do."""
        await self.redis.zrem(keys.ACTIVE(), id)

    async def coordinate(self, id: str, token: str) -> bool:
        """Take or renew the right to cut a job's chunks into the queue."""
        found = await self._scripts.hold(
            keys=[keys.COORDINATOR(id), keys.JOB(id), keys.OPEN(id), keys.SETTLED(id), keys.ACTIVE()],
            args=[token, int(LEASE_S * 1000), self._retention_ms],
        )
        return bool(found)

    async def leave(self, id: str, token: str) -> None:
        """Give the right back."""
        await self._scripts.leave(keys=[keys.COORDINATOR(id)], args=[token])

    async def open(self, id: str, chunk: int, token: str) -> int | None:
        """A new ticket for a chunk that goes into a queue; None if the job is over or another coordinates it."""
        ticket = await self._scripts.open(
            keys=[keys.JOB(id), keys.OPEN(id), keys.SETTLED(id), keys.COORDINATOR(id)], args=[chunk, token]
        )
        return None if ticket is None else int(ticket)

    async def leased(self, id: str, chunks: Sequence[int]) -> dict[int, bool]:
        """Whether somebody runs each of these chunks."""
        if not chunks:
            return {}
        found = await self.redis.mget([keys.LEASE(id, c) for c in chunks])
        return {c: f is not None for c, f in zip(chunks, found, strict=True)}

    # -- running chunks ---

    async def take(self, id: str, chunk: int, ticket: int, worker: str) -> Taken:
        """Begin a chunk that was found in a queue."""
        found = await self._scripts.take(
            keys=[keys.JOB(id), keys.OPEN(id), keys.LEASE(id, chunk), keys.JOB_CHANGED(id)],
            args=[chunk, ticket, worker, int(LEASE_S * 1000), time.time()],
        )
        return cast(Taken, found.decode())

    async def renew(self, id: str, chunk: int, ticket: int, worker: str) -> Taken:
        """Go on running a chunk."""
        found = await self._scripts.renew(
            keys=[keys.JOB(id), keys.OPEN(id), keys.LEASE(id, chunk)],
            args=[chunk, ticket, worker, int(LEASE_S * 1000)],
        )
        return cast(Taken, found.decode())

    async def settle(self, id: str, chunk: int, ticket: int, what: Settlement) -> bool:
        """Count the result of a chunk, once; False if another result counts or the job is over."""
        found = await self._scripts.settle(
            keys=[keys.JOB(id), keys.OPEN(id), keys.SETTLED(id), keys.LEASE(id, chunk), keys.JOB_CHANGED(id)],
            args=[chunk, ticket, what.done, what.failed, what.usage.input_tokens, what.usage.output_tokens, what.code,
                  what.reason, self._retention_ms],
        )  # fmt: skip
        return bool(found)

    async def give_back(
        self, id: str, chunk: int, ticket: int, *, failed: bool, code: str = "", reason: str = ""
    ) -> None:
        """Leave a chunk to others; it counts as a failure of the chunk if `failed`."""
        await self._scripts.give_back(
            keys=[keys.OPEN(id), keys.LEASE(id, chunk), keys.JOB_CHANGED(id)],
            args=[chunk, ticket, int(failed), code, reason],
        )

    async def speed(self, model: str) -> float | None:
        """Tokens a second that chunks of a model were seen to run at."""
        found = await self.redis.get(keys.SPEED(model))
        return None if found is None else float(found)

    async def note_speed(self, model: str, tokens_per_s: float) -> None:
        """Remember how fast a chunk ran, half weight on what was known."""
        known = await self.speed(model)
        value = tokens_per_s if known is None else (known + tokens_per_s) / 2
        await self.redis.set(keys.SPEED(model), value, px=self._retention_ms)

    async def folder(self) -> str | None:
        """Where gateways with a Redis of their own keep the files of jobs; None where they lie in Redis."""
        found = await self.redis.get(keys.BLOBS())
        return None if found is None else found.decode()

    async def announce_folder(self, folder: str) -> None:
        """Tell those who come with a URL where the files of jobs lie."""
        await self.redis.set(keys.BLOBS(), folder, px=self._retention_ms)

    # -- webhooks ---

    async def claim_webhook(self, now: float, until: float) -> str | None:
        """The id of a job whose callback is due, postponed to `until` for everybody else; None: none is due."""
        found = await self._scripts.claim(keys=[keys.WEBHOOKS()], args=[now, until])
        return None if found is None else found.decode()

    async def postpone_webhook(self, id: str, until: float) -> None:
        """Try a callback again later."""
        await self.redis.zadd(keys.WEBHOOKS(), {id: until}, xx=True)

    async def drop_webhook(self, id: str) -> None:
        """A callback was delivered, or given up."""
        await self.redis.zrem(keys.WEBHOOKS(), id)

    # -- workers ---

    async def beat(self, id: str, heartbeat: bytes, *, lives_s: float) -> None:
        """Write a worker's heartbeat."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.WORKER(id), heartbeat, px=int(lives_s * 1000))
            pipe.zadd(keys.WORKERS(), {id: time.time()})
            pipe.pexpire(keys.WORKERS(), self._retention_ms)
            await pipe.execute()

    async def gone(self, id: str) -> None:
        """Take a worker that ends from the list."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.WORKER(id))
            pipe.zrem(keys.WORKERS(), id)
            await pipe.execute()

    async def heartbeats(self) -> list[bytes]:
        """The heartbeats of all workers that live."""
        ids = [i.decode() for i in await self.redis.zrange(keys.WORKERS(), 0, -1)]
        found = await self.redis.mget([keys.WORKER(i) for i in ids]) if ids else []
        if dead := [i for i, beat in zip(ids, found, strict=True) if beat is None]:
            await self.redis.zrem(keys.WORKERS(), *dead)
        return [beat for beat in found if beat is not None]

    async def ping(self) -> None:
        """Raise RedisError or OSError unless Redis answers."""
        await cast(Awaitable[bool], self.redis.ping())


# -- a job as the fields of a hash ---


def _flat(record: JobRecord) -> list[str | bytes]:
    """Field, value, field, value; fields that say nothing are left out."""
    job, caller = record.job, record.caller
    fields: dict[str, object] = {
        "id": job.id,
        "type": job.type,
        "status": job.status,
        "owner": job.owner,
        "total": job.total,
        "created": job.created,
        "priority": job.priority,
        "deadline": job.deadline,
        "model": job.model,
        "callback_url": job.callback_url,
        "request_id": job.request_id,
        "chunks": record.chunks,
        "hidden": int(record.hidden),
        "idempotency": record.idempotency,
        "trace": record.trace,
    }
    flat: list[str | bytes] = []
    for name, value in fields.items():
        if value not in (None, "", 0):
            flat += [name, str(value)]
    return [*flat, "caller", msgspec.msgpack.encode(caller)]


def _record(fields: Mapping[bytes, bytes]) -> JobRecord:
    texts = {k.decode(): v.decode() for k, v in fields.items() if k != b"caller"}

    def number(name: str) -> int:
        return int(texts.get(name, 0))

    def moment(name: str) -> float | None:
        return float(texts[name]) if name in texts else None

    status = cast(JobStatus, texts["status"])
    failed = status in ("failed", "expired")
    job = Job(
        id=texts["id"],
        type=cast(JobType, texts["type"]),
        status=status,
        owner=texts["owner"],
        done=number("done"),
        total=number("total"),
        failed=number("failed"),
        usage=Usage(input_tokens=number("input_tokens"), output_tokens=number("output_tokens")),
        created=moment("created") or 0.0,
        started=moment("started"),
        finished=moment("finished"),
        priority=number("priority"),
        deadline=moment("deadline"),
        model=texts.get("model", ""),
        code=Code(texts["code"]) if failed and texts.get("code") else None,
        error=texts.get("error") if failed else None,
        callback_url=texts.get("callback_url"),
        request_id=texts.get("request_id", ""),
    )
    return JobRecord(
        job=job,
        caller=msgspec.msgpack.decode(fields[b"caller"], type=Caller),
        chunks=number("chunks"),
        next=number("next"),
        hidden=bool(number("hidden")),
        idempotency=texts.get("idempotency", ""),
        trace=texts.get("trace", ""),
    )
