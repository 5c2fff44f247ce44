"""Jobs in this process over a real engine and a redis-server of their own, for tests that need no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from catalog import Catalog, ModelCard
from gateway.domain import Caller, ForecastRequest, Job, JobOrder, Parameters, SeriesInput
from gateway.engine import Engine
from gateway.errors import GatewayError
from gateway.jobs import JobPool, Jobs
from gateway.service import ForecastService
from gateway.settings import EngineSettings, JobSettings, RedisSettings, ServerSettings, Settings
from gateway.store import JobStore, connect
from tests.engine_adapters import card

HANG_LIMIT_S = 60.0
ALICE, BOB, ADMIN = Caller(id="alice"), Caller(id="bob"), Caller(id="admin", admin=True)
MODEL = "test/scripted"


@dataclass(frozen=True)
class Running:
    """Jobs that answer."""

    pool: JobPool
    service: ForecastService
    engine: Engine
    store: JobStore  # of the same Redis, to look at what nobody else shows

    @property
    def jobs(self) -> Jobs:
        return self.pool.jobs

    async def end(self, job: Job, caller: Caller = ALICE) -> Job:
        """The job when it is over."""
        async with asyncio.timeout(HANG_LIMIT_S):
            async for state in self.jobs.events(job.id, caller):
                job = state
        assert job.over
        return job


@asynccontextmanager
async def running(
    data_dir: Path,
    *cards: ModelCard,
    engine: EngineSettings | None = None,
    grace_s: float = 5.0,
    models: tuple[str, ...] = ("*",),
    embedded: bool = True,
    redis_url: str | None = None,
    answers: bool = True,
    **jobs: object,
) -> AsyncIterator[Running]:
    """Start an engine and jobs on `data_dir`; `jobs` are fields of JobSettings.

    Waits for Redis if it `answers`.
    """
    settings = Settings(
        server=ServerSettings(data_dir=str(data_dir)),
        engine=engine or EngineSettings(statistical_workers=1, workers=1, load_wait_s=HANG_LIMIT_S),
        redis=RedisSettings(redis_url=redis_url),
        jobs=msgspec.convert({"chunk_series": 4, **jobs}, JobSettings),
    )
    catalog = Catalog(cards or (card(),), {}, None)
    made = Engine(catalog, settings.engine)
    service = ForecastService(catalog, made)
    pool = JobPool(service, catalog, settings, models=models, ensembles=embedded, embedded=embedded)
    pool.start()
    redis = connect(redis_url or f"unix://{data_dir}/redis/redis.sock")
    try:
        yield Running(await answering(pool) if answers else pool, service, made, JobStore(redis, retention_s=60.0))
    finally:
        await redis.aclose()
        await pool.stop(grace_s)
        await made.stop(grace_s)


async def answering(pool: JobPool) -> JobPool:
    """Wait until Redis answers."""
    async with asyncio.timeout(HANG_LIMIT_S):
        while True:
            try:
                await pool.jobs.jobs(ALICE)
            except GatewayError:
                await asyncio.sleep(0.01)
            else:
                return pool


def request(lasts: Sequence[float], *, acts: dict[int, float] | None = None) -> ForecastRequest:
    """Series that are forecast as their last value; `acts` says what the model does at some of them."""
    series = []
    for i, last in enumerate(lasts):
        target = np.zeros((8, 1))
        target[-1], target[0] = last, (acts or {}).get(i, 0.0)
        series.append(SeriesInput(target=target))
    return ForecastRequest(
        model=MODEL, series=tuple(series), parameters=Parameters(prediction_length=3, quantile_levels=(0.1, 0.9))
    )


ORDER = JobOrder(type="forecast")
