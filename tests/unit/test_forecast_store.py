"""Forecasts in Redis: each with its end, within their bytes, and never waited for where Redis does not answer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.store import ForecastStore, Redis, connect, forecasts
from gateway.store.forecasts import AT_ONCE, LARGEST, OVERHEAD, Failure
from tests.redis_servers import redis_server

HANG_LIMIT_S = 30.0
LIVES_S = 600.0


class Failures(Counter[str]):
    def forecasts_failed(self, what: Failure, count: int) -> None:
        self[what] += count


@asynccontextmanager
async def shared(folder: Path, max_bytes: int = 1 << 20) -> AsyncIterator[tuple[ForecastStore, Redis, Failures]]:
    with redis_server(folder) as url:
        redis, failures = connect(url), Failures()
        store = ForecastStore(lives_s=LIVES_S, max_bytes=max_bytes, observer=failures)
        store.open(redis)
        try:
            yield store, redis, failures
        finally:
            await store.close()
            await redis.aclose()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_LIMIT_S):
        while not there():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def written(store: ForecastStore) -> None:
    """Wait for what is written in the background."""
    await until(lambda: store._writer is None or store._writer.done())


def test_what_is_written_is_read_and_every_key_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with shared(tmp_path) as (store, redis, failures):
            items = [(b"%03d" % i, b"\xff\x00" * i) for i in range(3 * AT_ONCE)]
            await store.write(items)
            await written(store)
            assert await store.read([b"none", *(key for key, _ in items)]) == [None, *(c for _, c in items)]
            names = [name async for name in redis.scan_iter(match="*")]
            assert len(names) == len(items)
            for name in names:
                assert name.startswith(b"fg:forecast:")
                assert 0 < await redis.pttl(name) <= LIVES_S * 1e3
            assert not failures

    asyncio.run(main())


def test_the_oldest_leave_for_room(tmp_path: Path) -> None:
    async def main() -> None:
        content = bytes(1000)
        async with shared(tmp_path, max_bytes=10 * (len(content) + OVERHEAD)) as (store, redis, _):
            for i in range(25):
                await store.write([(b"%02d" % i, content)])
                await written(store)
            assert await redis.dbsize() == 10
            assert [c is not None for c in await store.read([b"14", b"15", b"24"])] == [False, True, True]

    asyncio.run(main())


def test_a_forecast_too_large_to_come_in_time_is_not_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with shared(tmp_path) as (store, _, failures):
            await store.write([(b"large", bytes(LARGEST + 1)), (b"small", b"s")])
            await written(store)
            assert await store.read([b"large", b"small"]) == [None, b"s"]
            assert not failures

    asyncio.run(main())


def test_what_comes_faster_than_it_is_written_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(forecasts, "MOST_WAITING", 100)
        async with shared(tmp_path) as (store, redis, failures):
            await store.write([(b"%d" % i, bytes(30)) for i in range(5)])
            await written(store)
            assert await redis.dbsize() == 3
            assert failures == {"dropped": 2}

    asyncio.run(main())


def test_nothing_is_shared_before_there_is_a_redis_and_after_it_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        alone = ForecastStore(lives_s=1.0, max_bytes=1 << 20)
        await alone.write([(b"a", b"1")])
        assert await alone.read([b"a"]) == [None]
        await alone.close()
        async with shared(tmp_path) as (store, redis, _):
            await store.write([(b"a", b"1")])
            await store.close()
            assert await redis.dbsize() == 1, "what waited was written"
            await store.write([(b"b", b"2")])
            assert await store.read([b"a"]) == [None]
            assert await redis.dbsize() == 1

    asyncio.run(main())


def test_a_redis_that_hangs_is_asked_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with shared(tmp_path) as (store, redis, failures):
            await store.write([(b"a", b"1")])
            await written(store)
            pid = (await redis.info("server"))["process_id"]
            os.kill(pid, signal.SIGSTOP)
            try:
                assert await store.read([b"a", *(b"%d" % i for i in range(AT_ONCE))]) == [None] * (AT_ONCE + 1)
                many = await asyncio.gather(*(store.read([b"a"]) for _ in range(50)))
                assert many == [[None]] * 50
                assert failures == {"read": 1}, "the others did not wait"
                await store.write([(b"b", b"2")])
                await written(store)
                assert failures == {"read": 1, "write": 1, "dropped": 1}
                await store.write([(b"c", b"3")])
                await written(store)
                assert failures["dropped"] == 2, "and not tried"
            finally:
                os.kill(pid, signal.SIGCONT)
            monkeypatch.setattr(forecasts, "PAUSE_S", 0.01)
            async with asyncio.timeout(HANG_LIMIT_S):
                while await store.read([b"a"]) != [b"1"]:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.05)
                while (await store.read([b"d"]))[0] is None:
                    await store.write([(b"d", b"4")])
                    await asyncio.sleep(0.05)

    asyncio.run(main())


def test_a_redis_that_is_gone_neither_raises_nor_is_asked_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with shared(tmp_path) as (store, redis, failures):
            os.kill((await redis.info("server"))["process_id"], signal.SIGKILL)
            for _ in range(3):
                assert await store.read([b"a"]) == [None]
            assert failures["read"] == 1

    asyncio.run(main())
