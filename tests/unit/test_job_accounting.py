"""Jobs before their owners' accounts: written once by whichever gateway, stopped when their key has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from gateway.domain import Caller, Job
from gateway.jobs.accounting import Accounting
from gateway.store import JobRecord, JobStore, connect, keys
from tests.redis_servers import redis_server

HANG_LIMIT_S = 25.0


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


def record(id: str, owner: str, *, hidden: bool = False) -> JobRecord:
    job = Job(id=id, type="forecast", status="queued", owner=owner, done=0, total=8, failed=0, created=time.time())
    return JobRecord(job=job, caller=Caller(id=owner), chunks=2, hidden=hidden)


class Books:
    """The accounts of one gateway."""

    def __init__(self, store: JobStore) -> None:
        self.written: list[Job] = []
        self.counted: list[str] = []
        self.ended: set[str] = set()
        self.accounting = Accounting(
            store=store, admitted=self.admitted, write=self.write, count=lambda job: self.counted.append(job.id)
        )

    async def admitted(self, owner: str) -> bool:
        return owner not in self.ended

    async def write(self, job: Job) -> None:
        self.written.append(job)


async def until_owed(store: JobStore, many: int) -> None:
    """Wait until no more than so many jobs are owed."""
    limit = time.monotonic() + HANG_LIMIT_S
    while (owed := await store.redis.zcard(keys.OWED())) > many:
        assert time.monotonic() < limit, f"{owed} jobs are owed"
        await asyncio.sleep(0.01)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel until it is heard: Python 3.11's `wait_for`, which the Redis client uses, may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


def test_a_job_is_written_when_it_is_over_and_counted_by_one_gateway(redis_url: str) -> None:
    async def main() -> None:
        store = JobStore(connect(redis_url), retention_s=60.0)
        one, two = Books(store), Books(store)
        for id, hidden in (("done", False), ("running", False), ("hidden", True), ("forgotten", False)):
            await store.create(record(id, "alice", hidden=hidden))
            if id != "running":
                assert await store.finish(id, "completed")
        forgotten = await store.record("forgotten")
        assert forgotten is not None
        await store.forget(forgotten)
        both = [asyncio.create_task(books.accounting.run()) for books in (one, two)]
        await until_owed(store, 1)
        assert one.counted + two.counted == ["done"]
        assert {job.id for books in (one, two) for job in books.written} == {"done"}
        one.ended.add("alice")  # her key was revoked
        await until_owed(store, 0)
        for task in both:
            await ended(task)
        stopped = await store.record("running")
        assert stopped is not None
        assert (stopped.job.status, stopped.job.code) == ("failed", "UNAUTHENTICATED")
        assert "running" in one.counted + two.counted
        await store.redis.aclose()

    asyncio.run(main())
