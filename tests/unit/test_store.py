"""The store: each change is one step, whoever makes it, and nothing is kept for ever."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.domain import Caller, Job, Usage
from gateway.errors import GatewayError
from gateway.redis_server import RedisServer
from gateway.store import JobRecord, JobStore, connect, keys, masked
from gateway.store.jobs import Settlement

SETTLED = Settlement(done=4, failed=1, usage=Usage(input_tokens=10, output_tokens=5))


@asynccontextmanager
async def stored(folder: Path) -> AsyncIterator[JobStore]:
    server = RedisServer(folder)
    await server.start()
    redis = connect(server.url)
    try:
        yield JobStore(redis, retention_s=60.0)
    finally:
        await redis.aclose()
        await server.stop()


def record(id: str = "a" * 32, *, owner: str = "alice", idempotency: str = "", **fields: object) -> JobRecord:
    job = Job(
        id=id, type="forecast", status="queued", owner=owner, done=0, total=8, failed=0, created=time.time(), **fields
    )
    return JobRecord(job=job, caller=Caller(id=owner, models=("a/*",)), chunks=2, idempotency=idempotency)


async def opened(store: JobStore, made: JobRecord, chunk: int = 0) -> int:
    """A chunk in the queue; its ticket."""
    assert await store.coordinate(made.job.id, "me")
    ticket = await store.open(made.job.id, chunk, "me")
    assert ticket is not None
    return ticket


def test_a_job_comes_back_as_it_was_written(tmp_path: Path) -> None:
    async def main() -> None:
        made = record(priority=-3, deadline=time.time() + 60, model="a/b", callback_url="http://c", request_id="r")
        async with stored(tmp_path) as store:
            assert await store.create(made) is None
            assert await store.record(made.job.id) == made
            assert await store.record("b" * 32) is None

    asyncio.run(main())


def test_a_result_counts_once(tmp_path: Path) -> None:
    async def main() -> None:
        made = record()
        id = made.job.id
        async with stored(tmp_path) as store:
            await store.create(made)
            first = await opened(store, made)
            assert await store.take(id, 0, first, "w1") == "ours"
            second = await opened(store, made)  # as if w1 was lost
            assert await store.take(id, 0, second, "w2") == "ours"
            assert await store.renew(id, 0, first, "w1") == "gone"
            assert await store.settle(id, 0, first, SETTLED)  # it was only late
            assert await store.settle(id, 0, first, SETTLED)  # a broken connection asks again
            assert not await store.settle(id, 0, second, SETTLED)
            assert await store.renew(id, 0, second, "w2") == "gone"
            found = await store.record(id)
            assert found is not None
            assert (found.job.done, found.job.failed, found.job.usage) == (4, 1, SETTLED.usage)
            assert await store.settled(id, 0) == first

    asyncio.run(main())


def test_a_chunk_is_taken_by_one_worker(tmp_path: Path) -> None:
    async def main() -> None:
        made = record()
        async with stored(tmp_path) as store:
            await store.create(made)
            ticket = await opened(store, made)
            taken = [await store.take(made.job.id, 0, ticket, f"w{i}") for i in range(3)]
            assert taken == ["ours", "gone", "gone"]
            assert await store.take(made.job.id, 0, ticket + 1, "w9") == "gone"

    asyncio.run(main())


def test_a_chunk_given_back_counts_its_failures(tmp_path: Path) -> None:
    async def main() -> None:
        made = record()
        id = made.job.id
        async with stored(tmp_path) as store:
            await store.create(made)
            for failed in (True, False, True):
                ticket = await opened(store, made)
                await store.take(id, 0, ticket, "w")
                for _ in range(2):  # the second time as after a broken connection
                    await store.give_back(id, 0, ticket, failed=failed, code="INTERNAL", reason="it | broke")
            _, chunks, settled = await store.progress(id)
            assert settled == 0
            assert (chunks[0].state, chunks[0].failures, chunks[0].reason) == ("w", 2, "it | broke")

    asyncio.run(main())


def test_a_job_that_is_over_changes_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        made = record()
        id = made.job.id
        async with stored(tmp_path) as store:
            await store.create(made)
            ticket = await opened(store, made)
            assert await store.take(id, 0, ticket, "w") == "ours"
            assert await store.finish(id, "cancelled")
            assert not await store.finish(id, "completed")
            assert await store.renew(id, 0, ticket, "w") == "over"
            assert not await store.settle(id, 0, ticket, SETTLED)
            assert await store.open(id, 1, "me") is None
            assert await store.active() == []
            found = await store.record(id)
            assert found is not None
            assert (found.job.status, found.job.done) == ("cancelled", 0)

    asyncio.run(main())


def test_one_process_coordinates_a_job(tmp_path: Path) -> None:
    async def main() -> None:
        made = record()
        id = made.job.id
        async with stored(tmp_path) as store:
            await store.create(made)
            assert await store.coordinate(id, "first")
            assert not await store.coordinate(id, "second")
            assert await store.open(id, 0, "second") is None
            await store.leave(id, "second")  # not its to give
            assert not await store.coordinate(id, "second")
            await store.leave(id, "first")
            assert await store.coordinate(id, "second")

    asyncio.run(main())


def test_an_idempotency_key_makes_one_job(tmp_path: Path) -> None:
    async def main() -> None:
        key = keys.IDEMPOTENCY("alice", "f00")
        first, second = record("a" * 32, idempotency=key), record("b" * 32, idempotency=key)
        async with stored(tmp_path) as store:
            claims = await asyncio.gather(store.create(first, body="x"), store.create(second, body="y"))
            assert [c is None for c in claims].count(True) == 1
            other = next(c for c in claims if c is not None)
            assert (other.body, other.id) in {("x", first.job.id), ("y", second.job.id)}
            winner = first if other.id == first.job.id else second
            loser = second if winner is first else first
            assert await store.record(loser.job.id) is None
            await store.forget(winner)
            assert await store.create(loser, body="y") is None  # a job that is deleted frees its key

    asyncio.run(main())


def test_every_key_is_in_the_table_and_passes(tmp_path: Path) -> None:
    async def main() -> None:
        made = record(callback_url="http://c", idempotency=keys.IDEMPOTENCY("alice", "f00"))
        async with stored(tmp_path) as store:
            await store.create(made)
            ticket = await opened(store, made)
            await store.take(made.job.id, 0, ticket, "w")
            await store.settle(made.job.id, 0, ticket, SETTLED)
            await opened(store, made, 1)
            await store.beat("w", b"", lives_s=5.0)
            await store.note_speed("a/b", 3.0)
            await store.finish(made.job.id, "completed")
            await undocumented(store)

    asyncio.run(main())


async def undocumented(store: JobStore) -> None:
    """Assert that every key has a time to live and a line in the table."""
    patterns = [re.sub(r"\\{[^}]*\\}", ".+", re.escape(k.pattern)) for k in keys.KEYS]
    found = [name.decode() async for name in store.redis.scan_iter()]
    assert found
    for name in found:
        assert await store.redis.ttl(name) > 0, name
        assert any(re.fullmatch(p, name) for p in patterns), name


def test_the_table_names_every_key() -> None:
    assert keys.__doc__ is not None
    named = {line.split("|")[1].strip() for line in keys.__doc__.splitlines() if line.startswith(("| fg", "| arq"))}
    shapes = {re.sub(r"\{[^}]*\}", "{}", n) for n in named}
    assert shapes == {re.sub(r"\{[^}]*\}", "{}", k.pattern) for k in keys.KEYS}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:s3cret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:s3cret@host", "rediss://user:***@host"),
        ("redis+sentinel://u:s3cret@a:1,b:2/m?sentinel_password=s3cret", "redis+sentinel://u:***@a:1,b:2/m?sentinel_password=***"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)  # fmt: skip
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_urls_lead_where_they_say() -> None:
    pool = connect("redis://u:p@h:1/2").connection_pool
    assert pool.connection_kwargs | {"host": "h", "port": 1, "db": 2, "password": "p"} == pool.connection_kwargs
    sentinel = connect("rediss+sentinel://u:p%40@a:1,b/master/3").connection_pool
    assert (sentinel.service_name, sentinel.connection_kwargs["password"]) == ("master", "p@")
    hosts = [s.connection_pool.connection_kwargs for s in sentinel.sentinel_manager.sentinels]
    assert [(h["host"], h["port"]) for h in hosts] == [("a", 1), ("b", 26379)]
    for wrong in ("http://h", "redis+sentinel://h:1", "nothing"):
        with pytest.raises(GatewayError):
            connect(wrong)
