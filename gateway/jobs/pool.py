"""What makes jobs go in one process: Redis, the queue's coordinators and a worker, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

from redis.exceptions import RedisError

from catalog import Catalog
from gateway.domain import Caller, EnsembleForecast, EnsembleRequest, Job
from gateway.errors import Code, GatewayError
from gateway.jobs.accounting import Accounting
from gateway.jobs.blobs import Blobs, FileBlobs, RedisBlobs
from gateway.jobs.coordinator import Parts, Supervisor, Workers
from gateway.jobs.jobs import Jobs, Open
from gateway.jobs.queue import Queue
from gateway.jobs.running import Runner
from gateway.jobs.worker import Worker
from gateway.redis_server import RedisServer
from gateway.service import ForecastService, ensembles
from gateway.settings import Settings
from gateway.store import ForecastStore, JobStore, News, Redis, connect

log = logging.getLogger(__name__)

AGAIN_S = 1.0  # before Redis is tried again
CANCEL_AGAIN_S = 1.0  # before a task that was cancelled and goes on is cancelled once more
ANNOUNCE_S = 60.0  # between two times that the folder of jobs is told
ANSWER_S = 15.0  # of a server, until the next try


class Accounts(Protocol):
    """What jobs need of the keys, the limits and the ledger."""

    def share_limits(self, redis: Redis) -> None:
        """Count limits in Redis from now on."""

    async def admitted(self, owner: str) -> bool:
        """Whether the owner of this id may still have work done."""

    async def job_over(self, job: Job) -> None:
        """Write the row of a job that is over."""

    def job_counted(self, job: Job) -> None:
        """Count what a job came to, in the metrics of this process."""


class JobPool:
    """Jobs of one process, from `start` to `stop`. Redis may come late, go and come back."""

    def __init__(
        self,
        service: ForecastService,
        catalog: Catalog,
        settings: Settings,
        *,
        models: tuple[str, ...] = ("*",),
        ensembles: bool,
        embedded: bool,
        forecasts: ForecastStore | None = None,
    ) -> None:
        """`models` are globs of what the worker takes; `ensembles`: whether this process has all models for them.

        `forecasts` are shared through the same Redis for as long as there is one.
        """
        self.jobs = Jobs(service, catalog, settings.jobs)
        self._settings = settings
        self._data_dir = Path(settings.server.data_dir).expanduser()
        self._runner = Runner(service, catalog, settings.jobs)
        self._models = models
        self._service = service
        self._ensembles = ensembles
        self._embedded = embedded
        self._forecasts = forecasts
        self._server: RedisServer | None = None
        self._starting: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._worker: Worker | None = None
        self._redis: Redis | None = None
        self._accounts: Accounts | None = None

    def account(self, accounts: Accounts) -> None:
        """Settle jobs with their owners from this process, and tell when there is a Redis; before `start`."""
        self._accounts = accounts
        self.jobs.before_forgetting = accounts.job_over

    def start(self) -> None:
        """Begin; returns at once, and jobs answer when Redis does."""
        self._starting = asyncio.create_task(self._start())

    async def stop(self, grace_s: float) -> None:
        """Take no more chunks, let those that run finish within `grace_s`, and leave everything to others."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._worker is not None:
            await self._worker.stop(grace_s)
        self.jobs.close(GatewayError(Code.UNAVAILABLE, "The gateway is shutting down."))
        # More than once: Python 3.11's `wait_for`, which the Redis client uses, may swallow a cancellation.
        while left := [task for task in self._tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        if self._forecasts is not None:
            await self._forecasts.close()
        if self._redis is not None:
            await self._redis.aclose()
        if self._server is not None:
            await self._server.stop()

    async def _start(self) -> None:
        said = ""
        while True:
            try:
                await self._connect()
                return
            except GatewayError as exc:
                error = exc
            except (RedisError, OSError) as exc:
                sentence = f"Redis, which jobs need, does not answer ({type(exc).__name__})."
                error = GatewayError(Code.UNAVAILABLE, sentence, retry_after_s=AGAIN_S)
            self.jobs.close(error)
            if error.sentence != said:
                said = error.sentence
                log.warning("no jobs: %s", said)
            if error.retry_after_s is None:
                return
            await asyncio.sleep(AGAIN_S)

    async def _connect(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()  # of the try before
        redis = self._redis = connect(await self._url())
        retention_s = self._settings.jobs.job_retention_s
        store = JobStore(redis, retention_s=retention_s)
        async with asyncio.timeout(ANSWER_S):
            await store.ping()
        news, blobs, workers = News(redis), await self._blobs(store), Workers(store)
        parts = Parts(
            store=store,
            news=news,
            blobs=blobs,
            queue=Queue(redis, retention_s=retention_s),
            runner=self._runner,
            settings=self._settings.jobs,
            ensemble=self._ensemble if self._ensembles else None,
        )
        if self._forecasts is not None:
            self._forecasts.open(redis)
        if self._accounts is not None:
            self._accounts.share_limits(redis)
            accounting = Accounting(
                store=store,
                admitted=self._accounts.admitted,
                write=self._accounts.job_over,
                count=self._accounts.job_counted,
            )
            self._spawn(accounting.run())
        if self._server is not None and isinstance(blobs, FileBlobs):
            self._spawn(self._announce(store))
        self._spawn(news.listen())
        self._spawn(Supervisor(parts, workers).run())
        if slots := self._settings.jobs.job_slots:
            self._worker = Worker(
                store,
                news,
                blobs,
                self._runner,
                self._settings.jobs,
                slots=slots,
                models=self._models,
                embedded=self._embedded,
            )
            self._spawn(self._worker.serve())
        self.jobs.open(Open(store=store, news=news, blobs=blobs, workers=workers))
        log.info("jobs are taken")

    async def _url(self) -> str:
        """The operator's Redis, or one of our own."""
        if self._settings.redis.redis_url:
            return self._settings.redis.redis_url
        if self._server is None:
            self._server = RedisServer(self._data_dir)
        await self._server.start()
        return self._server.url

    async def _ensemble(self, request: EnsembleRequest, caller: Caller, deadline: float) -> EnsembleForecast:
        return await ensembles.ensemble(
            self._service, request, caller=caller, deadline=deadline, backtester=self.jobs.backtest
        )

    async def _blobs(self, store: JobStore) -> Blobs:
        """Files; Redis where a URL names one, unless that is a gateway's own, which says where its files lie."""
        asked, folder = self._settings.jobs.job_blobs, self._data_dir
        if asked == "auto" and self._settings.redis.redis_url:
            told = await store.folder()
            asked, folder = ("redis", folder) if told is None else ("files", Path(told))
        if asked == "redis":
            return RedisBlobs(store.redis, retention_s=self._settings.jobs.job_retention_s)
        if not os.access(folder, os.W_OK):
            sentence = f"The files of jobs lie in {folder}, which this process cannot write: see the setting job_blobs."
            raise GatewayError(Code.UNAVAILABLE, sentence)
        return FileBlobs(folder)

    async def _announce(self, store: JobStore) -> None:
        """Keep telling those who come with a URL where our files lie."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                await store.announce_folder(os.path.abspath(self._data_dir))  # noqa: PTH100, ASYNC240 - asks no disk
            await asyncio.sleep(ANNOUNCE_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_told)
        self._tasks.append(task)


def _told(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        log.error("a part of the jobs has ended", exc_info=fault)
