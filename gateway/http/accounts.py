"""Keys, limits and ledger of a running gateway: opened together, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from catalog import ModelCard
from gateway.access import pepper
from gateway.access.charges import CardOf, cost, cost_of_series
from gateway.access.keys import Keys
from gateway.access.limits import Limits
from gateway.access.ring import KeyRing
from gateway.access.sessions import Sessions
from gateway.database import Database, open_database
from gateway.domain import Caller, ForecastRequest, Job, SeriesInput, Work
from gateway.errors import GatewayError
from gateway.http.access import Access
from gateway.http.exchange import Exchange
from gateway.http.metrics import Metrics
from gateway.http.origin import Proxies
from gateway.http.problems import STATUS
from gateway.service import ForecastService
from gateway.settings import Settings, SettingsError
from gateway.store.connection import Redis
from gateway.usage.ledger import Ledger
from gateway.usage.rollups import Maintenance
from gateway.usage.tables import ACCEPTED, Entry

JOBS = "/v1/jobs"
CHARGED_AT_ONCE = 256  # series of an upload: one question to Redis for as many as a chunk has
HERE = frozenset({"", "localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Who calls, how much, how fast. Open with `open_accounts`."""

    database: Database
    ring: KeyRing
    sessions: Sessions
    limits: Limits
    ledger: Ledger
    access: Access
    metrics: Metrics

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow keys and write the ledger for as long as the block lasts; what is recorded by then is written."""
        self.ledger.start()
        await self.ring.start()
        leases = asyncio.create_task(self.limits.keep_leases())
        try:
            yield
        finally:
            leases.cancel()
            await self.ring.stop()
            await self.limits.close()
            await asyncio.to_thread(self.ledger.stop)
            self.database.close()

    def share_limits(self, redis: Redis) -> None:
        """Count limits in Redis from now on, together with the other gateways on it."""
        self.limits.share(redis)

    async def charge(self, exchange: Exchange, work: Work, service: ForecastService) -> None:
        """Take the series and tokens of `work` before it runs or is queued. Raises RESOURCE_EXHAUSTED."""
        grant = exchange.grant
        if grant is not None and grant.quota.quantities:
            asked = cost(work, _cards(service, exchange.caller))
            await self.limits.charge(grant, series=asked.series, tokens=asked.tokens)

    async def charged(
        self, exchange: Exchange, head: ForecastRequest, series: AsyncIterator[SeriesInput], service: ForecastService
    ) -> AsyncIterator[SeriesInput]:
        """`series` as they come, each some of them charged before they are passed on. Raises RESOURCE_EXHAUSTED."""
        grant = exchange.grant
        if grant is None or not grant.quota.quantities:
            async for one in series:
                yield one
            return
        held: list[SeriesInput] = []
        more = True
        while more:
            async for one in series:
                held.append(one)
                if len(held) == CHARGED_AT_ONCE:
                    break
            else:
                more = False
            asked = cost_of_series(held, head, _cards(service, exchange.caller))
            await self.limits.charge(grant, series=asked.series, tokens=asked.tokens)
            for one in held:
                yield one
            held.clear()

    def request_over(self, exchange: Exchange) -> None:
        """Settle with the caller, and take down what it was; returns at once."""
        if exchange.queued:
            return
        if exchange.grant is not None:
            if exchange.job and exchange.delivered:
                exchange.grant.charges.clear()  # a job is charged by what was handed in
            self.limits.settle(exchange.grant, series=exchange.series, usage=exchange.usage)
        if exchange.counted:
            self.ledger.record(_entry(exchange))

    # -- jobs ---

    async def admitted(self, owner: str) -> bool:
        """Whether the owner of a job may still have work done."""
        return await self.ring.caller_of(owner) is not None

    async def job_over(self, job: Job) -> None:
        """Write the row of a job that is over, under the id that its submission has; twice is once."""
        self.ledger.record(job_entry(job))
        await self.ledger.flush()

    def job_counted(self, job: Job) -> None:
        """Count what a job came to, in the metrics of this process."""
        self.metrics.tokens_used(JOBS, job.model, job.usage)


def _cards(service: ForecastService, caller: Caller) -> CardOf:
    """The cards of models that `caller` may use."""

    def card_of(name: str) -> ModelCard | None:
        try:
            return service.card(name, caller)
        except GatewayError:
            return None  # it will be refused for that

    return card_of


def _entry(exchange: Exchange) -> Entry:
    """The ledger's row of an exchange. A caller may use one request id for several requests: each has its row."""
    row_id = exchange.request_id if not exchange.named else f"{exchange.request_id}.{secrets.token_hex(6)}"
    handed_in = bool(exchange.job) and exchange.delivered
    if handed_in:
        row_id = f"job.{exchange.job}"
    return Entry(
        id=row_id,
        request_id=exchange.request_id,
        time=time.time(),
        key_id=exchange.caller.id,
        endpoint=exchange.endpoint,
        model=exchange.model,
        status=exchange.status,
        code=ACCEPTED if handed_in else exchange.code,
        latency_ms=round(exchange.elapsed_s * 1e3, 3),
        queue_ms=exchange.queue_ms,
        compute_ms=exchange.compute_ms,
        series=exchange.series,
        input_tokens=exchange.usage.input_tokens,
        output_tokens=exchange.usage.output_tokens,
        cached=exchange.cached,
    )


def job_entry(job: Job) -> Entry:
    """The ledger's row of a job that is over: the tokens of what was delivered, whatever became of the rest."""
    finished = job.finished or time.time()
    code = job.code.value if job.code is not None else "OK"
    return Entry(
        id=f"job.{job.id}",
        request_id=job.request_id or job.id,
        time=finished,
        key_id=job.owner,
        endpoint=JOBS,
        model=job.model,
        status=200 if job.code is None else STATUS[job.code],
        code=code,
        latency_ms=round((finished - job.created) * 1e3, 3),
        queue_ms=round(((job.started or finished) - job.created) * 1e3, 3),
        compute_ms=round((finished - job.started) * 1e3, 3) if job.started is not None else None,
        series=job.done - job.failed,
        input_tokens=job.usage.input_tokens,
        output_tokens=job.usage.output_tokens,
    )


def open_accounts(settings: Settings, metrics: Metrics) -> Accounts:
    """Open the database and what stands on it. Raises GatewayError and SettingsError."""
    server, ledger = settings.server, settings.ledger
    database = open_database(server.data_dir, ledger.database_url)
    if database.sqlite and not ledger.local_ledger and _elsewhere(settings.redis.redis_url):
        raise SettingsError(
            "redis_url is on another machine and the ledger in SQLite on this one: gateways would share limits and "
            "jobs, but neither keys nor usage. Set database_url to a PostgreSQL, or local_ledger = true."
        )
    secret = pepper.read(server.data_dir, server.key_pepper)
    ring, sessions = KeyRing(Keys(database, secret)), Sessions(secret)
    limits = Limits(
        awaited=bool(settings.redis.redis_url), without_redis=settings.limits.without_redis, observer=metrics
    )
    try:
        proxies = Proxies(server.trusted_proxies)
    except ValueError as exc:
        raise SettingsError(f"trusted_proxies: {exc}") from None
    maintenance = Maintenance(database, ledger_days=ledger.ledger_days, hourly_days=ledger.hourly_days)
    return Accounts(
        database=database,
        ring=ring,
        sessions=sessions,
        limits=limits,
        metrics=metrics,
        ledger=Ledger(database, server.data_dir, observer=metrics, maintenance=maintenance),
        access=Access(
            allow_anonymous=server.allow_anonymous,
            ring=ring,
            sessions=sessions,
            limits=limits,
            limit_settings=settings.limits,
            proxies=proxies,
            cors_origins=server.cors_origins,
        ),
    )


def _elsewhere(redis_url: str | None) -> bool:
    """Whether Redis is on another machine."""
    if not redis_url or redis_url.startswith("unix:"):
        return False
    if "+sentinel" in redis_url:
        return True
    try:
        return (urlsplit(redis_url).hostname or "") not in HERE
    except ValueError:
        return True
