"""Limits of callers: counted in Redis where there is one, so that they hold over all gateways, else in this process.

All windows of a caller are asked and taken in one script, by Redis' own clock: a request is counted everywhere or
nowhere. Requests are counted when they are admitted; series and tokens are charged before the run by what the request
asks for at most, and what was not delivered is given back. When Redis is away, the setting `without_redis` decides
whether each gateway counts alone or refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import structlog
from redis.exceptions import RedisError

from gateway.access.keys import KeyLimits
from gateway.access.windows import (
    HOUR,
    MINUTE,
    SERIES_DAY,
    TOKENS_DAY,
    Rule,
    Standing,
    Unit,
    Verdict,
    Window,
    Windows,
)
from gateway.domain import Usage
from gateway.errors import Code, GatewayError
from gateway.settings import LimitSettings
from gateway.store.connection import Redis
from gateway.store.keys import LIMIT, RUNNING

TIMEOUT_S = 0.5  # of one call: a caller rather goes uncounted than waits
AWAY_S = 1.0  # after a failed call Redis is left alone this long
LEASE_S = 30.0  # of a running request: what a killed gateway was running stops counting after this
VALVE = 100_000  # a limit this high guards against a loop gone wild, not a share: each gateway counts it alone

log = structlog.get_logger(__name__)

# KEYS: one hash a window, and perhaps the zset of running requests. ARGV: the number of windows; of each its slice in
# ms, slices, limit and amount; the limit of running requests (0: none), the lease's id and its ms.
# Answers: 1 if taken; of each window used before, ms until its oldest part returns, the slice, ms until it fits (-1:
# never, 0: it does); running before.
TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local n = tonumber(ARGV[1])
local answer, taken = {1}, true
for i = 1, n do
  local at = 2 + (i - 1) * 4
  local slice, slices = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local limit, amount = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local current = math.floor(now / slice)
  local kept = redis.call('HGETALL', KEYS[i])
  local live, used = {}, 0
  for j = 1, #kept, 2 do
    local slot, count = tonumber(kept[j]), tonumber(kept[j + 1])
    if slot < current - slices then
      redis.call('HDEL', KEYS[i], kept[j])
    elseif count > 0 then
      used = used + count
      live[#live + 1] = {slot, count}
    end
  end
  table.sort(live, function(a, b) return a[1] < b[1] end)
  local reset, wait = 0, 0
  if #live > 0 then reset = (live[1][1] + slices + 1) * slice - now end
  if used + amount > limit then
    taken, wait = false, -1
    if amount <= limit then
      local left = used
      for j = 1, #live do
        left = left - live[j][2]
        if left + amount <= limit then
          wait = (live[j][1] + slices + 1) * slice - now
          break
        end
      end
    end
  end
  answer[#answer + 1] = used
  answer[#answer + 1] = reset
  answer[#answer + 1] = current
  answer[#answer + 1] = wait
end
local at = 2 + n * 4
local most, running = tonumber(ARGV[at]), 0
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[n + 1], '-inf', now)
  running = redis.call('ZCARD', KEYS[n + 1])
  if running >= most then taken = false end
end
answer[#answer + 1] = running
if not taken then
  answer[1] = 0
  return answer
end
for i = 1, n do
  local at = 2 + (i - 1) * 4
  local amount = tonumber(ARGV[at + 3])
  if amount > 0 then
    redis.call('HINCRBY', KEYS[i], answer[4 + (i - 1) * 4], amount)
    redis.call('PEXPIRE', KEYS[i], tonumber(ARGV[at]) * (tonumber(ARGV[at + 1]) + 1))
  end
end
if most > 0 then
  redis.call('ZADD', KEYS[n + 1], now + tonumber(ARGV[at + 2]), ARGV[at + 1])
  redis.call('PEXPIRE', KEYS[n + 1], tonumber(ARGV[at + 2]))
end
return answer
"""

# KEYS: the zset of running requests, then hashes of windows. ARGV: the lease to end ('': none), then of each hash its
# slice's number and the amount to give back; below 0 it is taken.
SETTLE = """
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[1], ARGV[1]) end
for i = 2, #KEYS do
  local slot, amount = ARGV[i * 2 - 2], tonumber(ARGV[i * 2 - 1])
  local count = tonumber(redis.call('HGET', KEYS[i], slot) or '0')
  if amount ~= 0 and (count > 0 or amount < 0) then
    redis.call('HINCRBY', KEYS[i], slot, -math.min(amount, count))
  end
end
return 1
"""

# KEYS: zsets of running requests. ARGV: the ms of a lease, then one lease a key.
RENEW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], 'XX', now + tonumber(ARGV[1]), ARGV[i + 1])
  redis.call('PEXPIRE', KEYS[i], tonumber(ARGV[1]))
end
return 1
"""


class Observer(Protocol):
    """Told when limits had to do without Redis."""

    def limits_shared(self, shared: bool) -> None:
        """Whether counts are those of all gateways."""

    def limits_alone(self, outcome: Literal["served", "refused"]) -> None:
        """A request met limits while Redis was away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one caller may use."""

    requests: tuple[Rule, ...] = ()
    quantities: tuple[Rule, ...] = ()  # series and tokens
    concurrent: int = 0  # 0: no limit

    @property
    def shared(self) -> bool:
        """Whether gateways count it together."""
        return bool(self.quantities or self.concurrent or any(r.limit < VALVE for r in self.requests))


@dataclass(frozen=True, slots=True)
class Charge:
    """Series and tokens that were taken, and where."""

    amounts: Mapping[Unit, int]
    slices: tuple[int, ...]
    shared: bool  # whether in Redis


@dataclass(slots=True, kw_only=True)
class Grant:
    """A request before its caller's limits: what it has taken so far, and what headers say."""

    subject: str
    quota: Quota
    standings: tuple[Standing, ...] = ()
    lease: str | None = None
    charges: list[Charge] = field(default_factory=list)

    @property
    def tightest(self) -> Standing | None:
        """The rule that will refuse first."""
        return min(self.standings, key=lambda s: (s.remaining / max(1, s.rule.limit), s.remaining), default=None)


def quota_of_key(own: KeyLimits, settings: LimitSettings) -> Quota:
    """A key's own limits over the defaults."""

    def limit(name: str) -> int:
        value: int | None = getattr(own, name)
        default: int = getattr(settings, f"key_{name}")
        return default if value is None else value

    return Quota(
        requests=_rules((MINUTE, limit("requests_per_minute")), (HOUR, limit("requests_per_hour"))),
        quantities=_rules((SERIES_DAY, limit("series_per_day")), (TOKENS_DAY, limit("tokens_per_day"))),
        concurrent=limit("concurrent_requests"),
    )


def quota_of_anonymous(settings: LimitSettings, *, loopback: bool) -> Quota:
    """What a caller without a key may use, by address."""
    if loopback:
        return Quota(requests=_rules((MINUTE, settings.loopback_requests_per_minute)))
    return Quota(
        requests=_rules((MINUTE, settings.anonymous_requests_per_minute)),
        concurrent=settings.anonymous_concurrent_requests,
    )


def _rules(*limits: tuple[Window, int]) -> tuple[Rule, ...]:
    return tuple(Rule(window, limit) for window, limit in limits if limit > 0)


class Limits:
    """Admits, charges and settles. Where nobody named a Redis this process counts alone until there is one."""

    def __init__(
        self,
        *,
        awaited: bool = False,
        without_redis: Literal["serve", "refuse"] = "serve",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`awaited`: there is a Redis that others count in, so until `share` it is away."""
        self._redis: Redis | None = None
        self._awaited = awaited
        self._without_redis = without_redis
        self._observer = observer
        self._clock = clock
        self._windows = Windows()
        self._running: dict[str, int] = {}
        self._leases: dict[str, str] = {}  # lease -> subject, of those in Redis
        self._away_until = 0.0
        self._errands: set[asyncio.Task[None]] = set()
        if observer is not None:
            observer.limits_shared(False)

    def share(self, redis: Redis) -> None:
        """Count in Redis from now on, together with all gateways that do."""
        self._take_script = redis.register_script(TAKE)
        self._settle_script = redis.register_script(SETTLE)
        self._renew_script = redis.register_script(RENEW)
        self._redis = redis
        if self._observer is not None:
            self._observer.limits_shared(True)

    # -- a request's way ---

    async def admit(self, grant: Grant) -> None:
        """Count one request. Raises RESOURCE_EXHAUSTED; the grant says how its caller stands all the same."""
        quota = grant.quota
        if quota.requests or quota.concurrent:
            lease = secrets.token_hex(8) if quota.concurrent else None
            await self._take(grant, quota.requests, {"requests": 1}, lease)

    async def charge(self, grant: Grant, *, series: int, tokens: int) -> None:
        """Take what a run may use at most, before it runs. Raises RESOURCE_EXHAUSTED."""
        if grant.quota.quantities:
            amounts: dict[Unit, int] = {"series": series, "tokens": tokens}
            verdict, shared = await self._take(grant, grant.quota.quantities, amounts, None)
            grant.charges.append(Charge(amounts, verdict.slices, shared))

    def settle(self, grant: Grant, *, series: int, usage: Usage) -> None:
        """A request is over: set what was charged right by what was delivered, in the background."""
        left: dict[Unit, int] = {"series": series, "tokens": usage.total_tokens}
        backs: list[tuple[Charge, dict[Unit, int]]] = []
        for i, charge in enumerate(grant.charges):
            last = i == len(grant.charges) - 1  # which bears what was not foreseen
            kept = {unit: left[unit] if last else min(n, left[unit]) for unit, n in charge.amounts.items()}
            left = {unit: left[unit] - kept[unit] for unit in left}
            back = {unit: n - kept[unit] for unit, n in charge.amounts.items()}
            if any(back.values()) and charge.shared:
                backs.append((charge, back))
            elif any(back.values()):
                self._windows.give_back(grant.subject, grant.quota.quantities, charge.slices, back)
        grant.charges = []
        leased = grant.lease is not None and self._leases.pop(grant.lease, None) is not None
        if grant.lease is not None and not leased:
            self._leave(grant.subject)
        if leased or backs:
            self._send(self._settle(grant, backs, leased))

    async def close(self) -> None:
        """Finish what is on its way to Redis."""
        if self._errands:
            await asyncio.wait(self._errands, timeout=TIMEOUT_S)

    async def keep_leases(self) -> None:
        """Renew the leases of what runs here, for as long as this gateway lives."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            if self._leases and self._redis is not None:
                leases = list(self._leases)
                keys = [RUNNING(self._leases[lease]) for lease in leases]
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    async with asyncio.timeout(TIMEOUT_S):
                        await self._renew_script(keys=keys, args=[int(LEASE_S * 1e3), *leases])

    # -- counting ---

    async def _take(
        self, grant: Grant, rules: Sequence[Rule], amounts: Mapping[Unit, int], lease: str | None
    ) -> tuple[Verdict, bool]:
        """Take `amounts` from every rule, and whether in Redis. Raises RESOURCE_EXHAUSTED and takes nothing."""
        most = grant.quota.concurrent if lease is not None else 0
        verdict, running, shared = None, 0, False
        if self._redis is not None and grant.quota.shared:
            try:
                verdict, running = await self._take_shared(grant.subject, rules, amounts, lease, most)
                shared = True
            except (RedisError, OSError, TimeoutError) as exc:
                self._lost(exc)
        elif self._awaited and self._redis is None and grant.quota.shared:
            self._alone()
        if verdict is None:
            running = self._running.get(grant.subject, 0)
            free = most == 0 or running < most
            verdict = self._windows.take(grant.subject, rules, amounts if free else {}, self._clock())
            if most and free and verdict.exceeded is None:
                self._running[grant.subject] = running + 1
        grant.standings = (*(s for s in grant.standings if s.rule not in rules), *verdict.standings)
        if verdict.exceeded is not None:
            raise _exceeded(verdict.exceeded, verdict.retry_after_s)
        if most and running >= most:
            raise GatewayError(
                Code.RESOURCE_EXHAUSTED,
                f"{most} requests at a time are this caller's limit, and as many are running.",
                retry_after_s=1.0,
            )
        if lease is not None:
            grant.lease = lease
            if shared:
                self._leases[lease] = grant.subject
        return verdict, shared

    async def _take_shared(
        self, subject: str, rules: Sequence[Rule], amounts: Mapping[Unit, int], lease: str | None, most: int
    ) -> tuple[Verdict, int]:
        """Ask Redis. Raises its errors, TimeoutError, and UNAVAILABLE where it is away and that is to refuse."""
        now = time.monotonic()
        if now < self._away_until:
            self._alone()
            raise TimeoutError
        keys = [LIMIT(subject, rule.window.name) for rule in rules]
        args: list[int | str] = [len(rules)]
        for rule in rules:
            window = rule.window
            args += [int(window.slice_s * 1e3), window.slices, rule.limit, amounts.get(window.unit, 0)]
        args += [most, lease or "", int(LEASE_S * 1e3)]
        if most:
            keys.append(RUNNING(subject))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer: list[int] = await self._take_script(keys=keys, args=args)
        except (RedisError, OSError, TimeoutError):
            self._away_until = time.monotonic() + AWAY_S
            self._alone()
            raise
        if self._away_until:
            self._away_until = 0.0
            if self._observer is not None:
                self._observer.limits_shared(True)
        return _verdict(rules, amounts, answer), answer[-1]

    def _alone(self) -> None:
        """Redis is away: go on alone, or raise UNAVAILABLE, as the operator has set it."""
        outcome: Literal["served", "refused"] = "served" if self._without_redis == "serve" else "refused"
        if self._observer is not None:
            self._observer.limits_shared(False)
            self._observer.limits_alone(outcome)
        if outcome == "refused":
            raise GatewayError(
                Code.UNAVAILABLE, "Limits cannot be checked: Redis is away.", retry_after_s=AWAY_S
            ) from None

    def _lost(self, exc: Exception) -> None:
        if str(exc):  # a TimeoutError of our own while Redis is left alone says nothing
            log.warning("limits_without_redis", reason=type(exc).__name__)

    def _leave(self, subject: str) -> None:
        left = self._running.get(subject, 0) - 1
        if left > 0:
            self._running[subject] = left
        else:
            self._running.pop(subject, None)

    async def _settle(self, grant: Grant, backs: Sequence[tuple[Charge, Mapping[Unit, int]]], leased: bool) -> None:
        if self._redis is None:
            return
        keys, args = [RUNNING(grant.subject)], [grant.lease or "" if leased else ""]
        for charge, back in backs:
            for rule, slot in zip(grant.quota.quantities, charge.slices, strict=True):
                keys.append(LIMIT(grant.subject, rule.window.name))
                args += [str(slot), str(back.get(rule.window.unit, 0))]
        with contextlib.suppress(RedisError, OSError, TimeoutError):  # what stays counted leaves with its window
            async with asyncio.timeout(TIMEOUT_S):
                await self._settle_script(keys=keys, args=args)

    def _send(self, errand: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


def _verdict(rules: Sequence[Rule], amounts: Mapping[Unit, int], answer: Sequence[int]) -> Verdict:
    """What the script's numbers mean."""
    standings, slices, waits = [], [], []
    for i, rule in enumerate(rules):
        used, reset_ms, slot, wait_ms = answer[1 + i * 4 : 5 + i * 4]
        taken = amounts.get(rule.window.unit, 0) if answer[0] else 0
        whole_s = rule.window.seconds + rule.window.slice_s
        standings.append(Standing(rule, used + taken, reset_ms / 1e3 if used else whole_s if taken else 0.0))
        slices.append(slot)
        if wait_ms:
            waits.append((rule, None if wait_ms < 0 else wait_ms / 1e3))
    if not waits:
        return Verdict(tuple(standings), slices=tuple(slices))
    rule, wait_s = max(waits, key=lambda found: float("inf") if found[1] is None else found[1])
    return Verdict(tuple(standings), rule, wait_s)


def _exceeded(rule: Rule, retry_after_s: float | None) -> GatewayError:
    unit, span = rule.window.unit, "day" if rule.window in (SERIES_DAY, TOKENS_DAY) else rule.window.name
    said = f"{rule.limit} {unit} a{'n' if span == 'hour' else ''} {span} are this caller's limit"
    if retry_after_s is None:
        return GatewayError(Code.RESOURCE_EXHAUSTED, f"{said}, and this request alone asks for more.")
    return GatewayError(
        Code.RESOURCE_EXHAUSTED,
        f"{said}, and it is used up. There is room again in {max(1, round(retry_after_s))} s.",
        retry_after_s=retry_after_s,
    )
