"""Sliding windows: whatever comes, no span of a window admits more than its limit, and refusals say when to return."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.keys import KeyLimits
from gateway.access.limits import Grant, Limits, Quota, quota_of_anonymous, quota_of_key
from gateway.access.windows import HOUR, MINUTE, SERIES_DAY, TOKENS_DAY, Rule, Windows
from gateway.domain import Usage
from gateway.errors import Code, GatewayError
from gateway.settings import LimitSettings
from gateway.store import connect
from tests.redis_servers import redis_server

START = 1_800_000_000.0


@given(
    gaps=st.lists(st.floats(0, 20), min_size=1, max_size=120),
    limit=st.integers(1, 8),
    amount=st.integers(1, 3),
)
@settings(max_examples=200, deadline=None)
def test_any_span_admits_at_most_the_limit(gaps: list[float], limit: int, amount: int) -> None:
    windows, now = Windows(), START
    admitted: list[float] = []
    for gap in gaps:
        now += gap
        verdict = windows.take("a", [Rule(MINUTE, limit)], {"requests": amount}, now)
        if verdict.exceeded is None:
            admitted += [now] * amount
        elif verdict.retry_after_s is not None:
            assert windows.take("a", [Rule(MINUTE, limit)], {}, now).standings[0].used + amount > limit
            later = now + verdict.retry_after_s + 1e-3
            trial = Windows()
            trial._counts = {key: dict(counts) for key, counts in windows._counts.items()}
            assert trial.take("a", [Rule(MINUTE, limit)], {"requests": amount}, later).exceeded is None
        else:
            assert amount > limit
    for first in admitted:
        assert sum(first <= t < first + MINUTE.seconds for t in admitted) <= limit


def test_capacity_comes_back_after_the_window() -> None:
    windows, rules = Windows(), [Rule(MINUTE, 2)]
    for _ in range(2):
        assert windows.take("a", rules, {"requests": 1}, START).exceeded is None
    refused = windows.take("a", rules, {"requests": 1}, START + 30)
    assert refused.exceeded == rules[0]
    assert refused.retry_after_s == pytest.approx(30.5)
    assert windows.take("a", rules, {"requests": 1}, START + 60.5).exceeded is None
    assert windows.take("b", rules, {"requests": 1}, START).exceeded is None  # another caller


def test_one_rule_that_refuses_counts_nothing_in_the_others() -> None:
    windows, rules = Windows(), [Rule(MINUTE, 5), Rule(HOUR, 1)]
    assert windows.take("a", rules, {"requests": 1}, START).exceeded is None
    for _ in range(3):
        assert windows.take("a", rules, {"requests": 1}, START + 120).exceeded == rules[1]
    assert windows.take("a", rules, {}, START + 120).standings[0].used == 0


def test_what_is_given_back_can_be_taken_again() -> None:
    windows, rules = Windows(), [Rule(SERIES_DAY, 10), Rule(TOKENS_DAY, 100)]
    taken = windows.take("a", rules, {"series": 4, "tokens": 90}, START)
    assert windows.take("a", rules, {"series": 1, "tokens": 20}, START).exceeded == rules[1]
    windows.give_back("a", rules, taken.slices, {"series": 4, "tokens": 80})
    after = windows.take("a", rules, {"series": 10, "tokens": 90}, START + 3600)
    assert after.exceeded is None
    assert [s.used for s in after.standings] == [10, 100]
    assert windows.take("a", rules, {"tokens": 101}, START).retry_after_s is None  # never


# -- the same through Redis ---


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


async def admitted(limits: Limits, grant: Grant, *, series: int = 0, tokens: int = 0) -> str:
    """`ok`, or the sentence of the refusal."""
    try:
        await limits.admit(grant)
        if series or tokens:
            await limits.charge(grant, series=series, tokens=tokens)
    except GatewayError as error:
        assert error.code is Code.RESOURCE_EXHAUSTED
        return error.sentence
    return "ok"


@pytest.mark.parametrize("shared", [True, False])
def test_limits_are_the_same_in_redis_and_in_the_process(shared: bool, redis_url: str) -> None:
    quota = Quota(requests=(Rule(MINUTE, 50),), quantities=(Rule(TOKENS_DAY, 100),), concurrent=2)

    async def run() -> None:
        limits, other = Limits(), Limits()
        if shared:
            limits.share(connect(redis_url))
            other.share(connect(redis_url))
        else:
            other = limits

        def grant() -> Grant:
            return Grant(subject="key:same", quota=quota)

        first, second, third = grant(), grant(), grant()
        assert await admitted(limits, first, tokens=90) == "ok"
        assert first.tightest is not None
        assert first.tightest.remaining == 10
        assert "100 tokens a day" in await admitted(other, second, tokens=20)
        assert "2 requests at a time" in await admitted(other, third)
        limits.settle(first, series=1, usage=Usage(input_tokens=5, output_tokens=5))  # far less than was charged
        other.settle(second, series=0, usage=Usage())
        await limits.close()
        await other.close()
        fourth = grant()
        assert await admitted(other, fourth, tokens=90) == "ok"
        other.settle(fourth, series=0, usage=Usage())  # it failed
        await other.close()
        fifth = grant()
        assert await admitted(limits, fifth, tokens=90) == "ok"
        limits.settle(fifth, series=1, usage=Usage(input_tokens=50, output_tokens=40))
        await limits.close()
        assert "100 tokens a day" in await admitted(limits, grant(), tokens=1)
        await limits.close()

    asyncio.run(run())


@pytest.mark.parametrize("reached", [True, False])
@pytest.mark.parametrize("choice", ["serve", "refuse"])
def test_without_redis_the_operator_decides(choice: str, reached: bool, tmp_path: Path) -> None:
    told: list[object] = []

    class Observer:
        def limits_shared(self, shared: bool) -> None:
            told.append(shared)

        def limits_alone(self, outcome: str) -> None:
            told.append(outcome)

    async def run() -> list[str]:
        limits = Limits(awaited=True, without_redis=choice, observer=Observer())  # type: ignore[arg-type]
        if reached:  # else it is away from the start
            limits.share(connect(f"unix://{tmp_path}/nothing.sock"))
        quota, found = Quota(requests=(Rule(MINUTE, 2),)), []
        for _ in range(3):
            try:
                found.append(await admitted(limits, Grant(subject="a", quota=quota)))
            except AssertionError:
                found.append("unavailable")
        return found

    found = asyncio.run(run())
    if choice == "serve":
        assert found[:2] == ["ok", "ok"]
        assert "2 requests a minute" in found[2]  # it still counts, alone
        assert "served" in told
    else:
        assert found == ["unavailable"] * 3
        assert "refused" in told
    assert told[-2:].count(False) == 1


def test_where_no_redis_is_named_nothing_is_refused_for_its_sake() -> None:
    async def run() -> str:
        return await admitted(Limits(without_redis="refuse"), Grant(subject="a", quota=Quota(concurrent=2)))

    assert asyncio.run(run()) == "ok"


def test_a_keys_own_limits_come_before_the_defaults() -> None:
    settings = LimitSettings(key_requests_per_minute=7, key_tokens_per_day=9)
    quota = quota_of_key(KeyLimits(requests_per_hour=0, tokens_per_day=5, concurrent_requests=3), settings)
    assert quota == Quota(requests=(Rule(MINUTE, 7),), quantities=(Rule(TOKENS_DAY, 5),), concurrent=3)
    assert quota_of_key(KeyLimits(), LimitSettings()).requests == (Rule(HOUR, 1000),)
    assert quota_of_anonymous(LimitSettings(), loopback=True).requests == (Rule(MINUTE, 1_000_000),)
    assert quota_of_anonymous(LimitSettings(), loopback=False).requests == (Rule(MINUTE, 100),)
