"""Counts in Redis: what waits together goes together, and each request has the answer that it would have had alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from redis.exceptions import ConnectionError

from gateway.access.shared import AwayError, Question, Return, SharedCounts, Trips
from gateway.access.windows import HOUR, MINUTE, TOKENS_DAY, Rule, Verdict
from gateway.store import connect
from tests.redis_servers import redis_server


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


class Road:
    """Where trips wait to be let through, and what each of them carried."""

    def __init__(self) -> None:
        self.carried: list[list[int]] = []
        self.free = asyncio.Event()
        self.broken = False

    async def carry(self, asked: Sequence[int]) -> list[int]:
        self.carried.append(list(asked))
        await self.free.wait()
        if self.broken:
            raise ConnectionError("gone")
        return [-n for n in asked]


async def turn() -> None:
    """Let a trip begin."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_what_comes_during_a_trip_goes_with_the_next_one() -> None:
    async def run() -> None:
        road = Road()
        trips = Trips(road.carry)
        first = trips.ask(1)
        await turn()
        later = [trips.ask(n) for n in (2, 3, 4)]
        later[1].cancel()  # its caller has left
        road.free.set()
        assert await first == -1
        assert [await later[0], await later[2]] == [-2, -4]
        assert road.carried == [[1], [2, 3, 4]]
        assert await trips.ask(5) == -5  # and on

    asyncio.run(run())


def test_a_trip_that_fails_tells_all_who_wait_and_is_not_the_last() -> None:
    async def run() -> None:
        road = Road()
        trips = Trips(road.carry)
        first = trips.ask(1)
        await turn()
        second = trips.ask(2)
        road.broken = True
        road.free.set()
        told = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(one) for one in told] == [AwayError, AwayError]
        assert told[0] is not told[1]
        assert road.carried == [[1]]
        road.broken = False
        assert await trips.ask(3) == -3

    asyncio.run(run())


async def together(counts: SharedCounts, question: Question, times: int) -> list[tuple[Verdict, int]]:
    leases = [f"{question.subject}-{i}" if question.most else None for i in range(times)]
    return [*await asyncio.gather(*(counts.take(question, lease) for lease in leases))]


def test_requests_that_wait_together_are_let_in_up_to_the_limit_one_by_one(redis_url: str) -> None:
    async def run() -> None:
        counts = SharedCounts(connect(redis_url))
        rules = (Rule(MINUTE, 7), Rule(HOUR, 100))
        question = Question("key:crowd", rules, (1, 1), 0)
        found = await together(counts, question, 10)
        assert [v.exceeded for v, _ in found] == [None] * 7 + [rules[0]] * 3
        assert [v.standings[0].remaining for v, _ in found] == [6, 5, 4, 3, 2, 1, 0, 0, 0, 0]
        assert [v.standings[1].used for v, _ in found] == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7]  # the refused are in neither
        assert all(0 < (v.retry_after_s or 0) <= 60.5 for v, _ in found[7:])
        ((again, _),) = await together(counts, question, 1)
        assert (again.exceeded, again.standings[1].used) == (rules[0], 7)
        await counts.close()

    asyncio.run(run())


def test_questions_of_one_trip_do_not_meet(redis_url: str) -> None:
    async def run() -> None:
        counts = SharedCounts(connect(redis_url))
        rules = (Rule(TOKENS_DAY, 100),)
        asked = [("a", 60), ("b", 60), ("a", 30), ("b", 101), ("a", 30)]
        found = await asyncio.gather(*(counts.take(Question(f"key:{s}", rules, (n,), 0), None) for s, n in asked))
        # Those that are alike go with the first of them.
        assert [v.standings[0].used for v, _ in found] == [60, 60, 90, 60, 90]
        assert [v.exceeded for v, _ in found] == [None, None, None, rules[0], rules[0]]
        assert found[3][0].retry_after_s is None  # never: more than the whole limit
        await counts.close()

    asyncio.run(run())


def test_no_more_run_at_a_time_than_may(redis_url: str) -> None:
    async def run() -> None:
        counts = SharedCounts(connect(redis_url))
        question = Question("key:few", (Rule(MINUTE, 100),), (1,), 3)
        found = await together(counts, question, 5)
        assert [running for _, running in found] == [0, 1, 2, 3, 3]
        assert [v.standings[0].used for v, _ in found] == [1, 2, 3, 3, 3]  # who waits for room is not counted
        counts.give_back(Return("key:few", "key:few-0", ()))
        counts.give_back(Return("key:few", "key:few-2", ((question.rules[0], found[0][0].slices[0], 2),)))
        await counts.close()
        ((verdict, running),) = await together(counts, question, 1)
        assert (running, verdict.standings[0].used) == (1, 2)
        await counts.close()

    asyncio.run(run())


def test_a_server_that_forgot_its_scripts_is_told_them_again(redis_url: str) -> None:
    async def run() -> None:
        redis = connect(redis_url)
        counts = SharedCounts(redis)
        question = Question("key:forgotten", (Rule(MINUTE, 100),), (1,), 0)
        await together(counts, question, 1)
        await redis.script_flush()
        ((verdict, _),) = await together(counts, question, 1)
        assert verdict.standings[0].used == 2
        await counts.close()
        await redis.aclose()

    asyncio.run(run())


def test_a_connection_that_broke_is_opened_again_and_nobody_is_told(redis_url: str) -> None:
    async def run() -> None:
        redis = connect(redis_url)
        counts = SharedCounts(redis)
        question = Question("key:broken", (Rule(MINUTE, 100),), (1,), 0)
        await together(counts, question, 1)
        await redis.client_kill_filter(skipme=True)
        ((verdict, _),) = await together(counts, question, 1)
        assert verdict.standings[0].used == 2
        await counts.close()
        await redis.aclose()

    asyncio.run(run())


def test_a_server_that_says_nothing_is_away_in_time_and_there_again_after(redis_url: str) -> None:
    async def run() -> None:
        redis = connect(redis_url)
        counts = SharedCounts(redis)
        question = Question("key:silent", (Rule(MINUTE, 100),), (1,), 0)
        await together(counts, question, 1)
        await redis.execute_command("CLIENT", "PAUSE", "2000", "ALL")  # longer than a trip may take
        with pytest.raises(AwayError):
            await together(counts, question, 1)
        while True:  # until it speaks again
            try:
                found = await together(counts, question, 1)
            except AwayError:
                continue
            break
        assert found[0][0].exceeded is None
        await counts.close()
        await redis.aclose()

    asyncio.run(run())
