"""Limits of callers: counted in Redis where there is one, so that they hold over all gateways, else in this process.

All windows of a caller are asked and taken in one step: a request is counted everywhere or nowhere. Requests are
counted when they are admitted; series and tokens are charged before the run by what the request asks for at most, and
what was not delivered is given back. When Redis is away, the setting `without_redis` decides whether each gateway
counts alone or refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import structlog

from gateway.access.keys import KeyLimits
from gateway.access.shared import LEASE_S, AwayError, Question, Return, SharedCounts
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

AWAY_S = 1.0  # after a failed call Redis is left alone this long
VALVE = 100_000  # a limit this high guards against a loop gone wild, not a share: each gateway counts it alone

log = structlog.get_logger(__name__)


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
    shared: bool = field(init=False)  # whether gateways count it together

    def __post_init__(self) -> None:
        shared = self.quantities or self.concurrent or any(r.limit < VALVE for r in self.requests)
        object.__setattr__(self, "shared", bool(shared))


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
        return min(self.standings, key=_room) if len(self.standings) > 1 else next(iter(self.standings), None)


def _room(standing: Standing) -> tuple[float, int]:
    remaining = standing.remaining
    return remaining / max(1, standing.rule.limit), remaining


@functools.lru_cache(maxsize=1024)
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


@functools.lru_cache(maxsize=16)
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
        self._shared: SharedCounts | None = None
        self._awaited = awaited
        self._without_redis = without_redis
        self._observer = observer
        self._clock = clock
        self._windows = Windows()
        self._running: dict[str, int] = {}
        self._leases: dict[str, str] = {}  # lease -> subject, of those in Redis
        self._away_until = 0.0
        if observer is not None:
            observer.limits_shared(False)

    def share(self, redis: Redis) -> None:
        """Count in Redis from now on, together with all gateways that do."""
        self._shared = SharedCounts(redis)
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
        backs: list[tuple[Rule, int, int]] = []  # of those in Redis
        for i, charge in enumerate(grant.charges):
            last = i == len(grant.charges) - 1  # which bears what was not foreseen
            kept = {unit: left[unit] if last else min(n, left[unit]) for unit, n in charge.amounts.items()}
            left = {unit: left[unit] - kept[unit] for unit in left}
            back = {unit: n - kept[unit] for unit, n in charge.amounts.items()}
            rules = grant.quota.quantities
            if any(back.values()) and charge.shared:
                slots = zip(rules, charge.slices, strict=True)
                backs += [(rule, slot, back.get(rule.window.unit, 0)) for rule, slot in slots]
            elif any(back.values()):
                self._windows.give_back(grant.subject, rules, charge.slices, back)
        grant.charges = []
        leased = grant.lease is not None and self._leases.pop(grant.lease, None) is not None
        if grant.lease is not None and not leased:
            self._leave(grant.subject)
        if self._shared is not None and (leased or backs):
            lease = grant.lease if leased and grant.lease else ""
            self._shared.give_back(Return(grant.subject, lease, tuple(backs)))

    async def close(self) -> None:
        """Finish what is on its way to Redis."""
        if self._shared is not None:
            await self._shared.close()

    async def keep_leases(self) -> None:
        """Renew the leases of what runs here, for as long as this gateway lives."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            if self._leases and self._shared is not None:
                with contextlib.suppress(AwayError):
                    await self._shared.renew(self._leases)

    # -- counting ---

    async def _take(
        self, grant: Grant, rules: tuple[Rule, ...], amounts: Mapping[Unit, int], lease: str | None
    ) -> tuple[Verdict, bool]:
        """Take `amounts` from every rule, and whether in Redis. Raises RESOURCE_EXHAUSTED and takes nothing."""
        most = grant.quota.concurrent if lease is not None else 0
        found, shared = None, False
        if grant.quota.shared:
            if self._shared is not None:
                each = tuple([amounts.get(rule.window.unit, 0) for rule in rules])
                found = await self._take_shared(self._shared, Question(grant.subject, rules, each, most), lease)
                shared = found is not None
            elif self._awaited:
                self._alone()
        verdict, running = found or self._take_here(grant.subject, rules, amounts, most)
        others = [s for s in grant.standings if s.rule not in rules] if grant.standings else ()
        grant.standings = (*others, *verdict.standings)
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
        self, counts: SharedCounts, question: Question, lease: str | None
    ) -> tuple[Verdict, int] | None:
        """Ask Redis; None where it is away and this process counts alone. Raises UNAVAILABLE where that is refused."""
        if self._away_until and time.monotonic() < self._away_until:
            self._alone()
            return None
        try:
            found = await counts.take(question, lease)
        except AwayError as exc:
            if time.monotonic() >= self._away_until:  # the first to notice
                self._away_until = time.monotonic() + AWAY_S
                log.warning("limits_without_redis", reason=str(exc))
            self._alone()
            return None
        if self._away_until:
            self._away_until = 0.0
            if self._observer is not None:
                self._observer.limits_shared(True)
        return found

    def _take_here(
        self, subject: str, rules: tuple[Rule, ...], amounts: Mapping[Unit, int], most: int
    ) -> tuple[Verdict, int]:
        """The same in this process alone."""
        running = self._running.get(subject, 0)
        free = most == 0 or running < most
        verdict = self._windows.take(subject, rules, amounts if free else {}, self._clock())
        if most and free and verdict.exceeded is None:
            self._running[subject] = running + 1
        return verdict, running

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

    def _leave(self, subject: str) -> None:
        left = self._running.get(subject, 0) - 1
        if left > 0:
            self._running[subject] = left
        else:
            self._running.pop(subject, None)


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
