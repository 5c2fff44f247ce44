"""The engine: queues, workers and models behind one call."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from adapters.base import Series
from catalog import Catalog, ModelCard
from gateway.engine import machine
from gateway.engine.batcher import Batcher, Observer, Outcome, deadline_exceeded
from gateway.engine.batching import item_of
from gateway.engine.crew import Crew, Pool, WorkerState
from gateway.engine.models import Models
from gateway.engine.weights import fetch
from gateway.errors import Code, GatewayError
from gateway.settings import EngineSettings

log = logging.getLogger(__name__)

POOLS: tuple[Pool, ...] = ("neural", "statistical")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSnapshot:
    """One worker process."""

    name: str
    pool: Pool
    device: str
    pid: int | None
    state: WorkerState
    models: tuple[str, ...]
    rss_bytes: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSnapshot:
    """What the engine does at one moment."""

    queued_series: int
    queued_tokens: float
    batches: int  # since the start
    in_flight: int  # calls that wait for their answer
    workers: tuple[WorkerSnapshot, ...]


class _Nobody:
    """Counts nothing."""

    def batch_done(self, model: str, rows: int, tokens: float, padded_tokens: float, compute_s: float) -> None:
        pass

    def model_loaded(self, model: str, seconds: float) -> None:
        pass

    def worker_restarted(self, pool: str, reason: str) -> None:
        pass

    def queue_changed(self, pool: str, series: int, tokens: float) -> None:
        pass


class Engine:
    """Forecasts series of any model of the catalog in worker processes."""

    def __init__(self, catalog: Catalog, settings: EngineSettings, observer: Observer | None = None) -> None:
        watching = observer or _Nobody()
        self._catalog = catalog
        self._settings = settings
        self._crews = {pool: Crew(pool, settings) for pool in POOLS}
        self.models = Models(settings, lambda card: self._crews[card.batching.pool], watching.model_loaded)
        self._batchers = {p: Batcher(c, settings, watching, self.models.lost) for p, c in self._crews.items()}
        self._preloading: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._stopping = False

    @property
    def device(self) -> str:
        """What the first of the workers for neural models runs on, such as `cpu`, `cuda:0` or `cuda:0 in TF32`."""
        return self._crews["neural"].workers[0].device.label

    async def start(self) -> None:
        """Start the workers and load the default model and those of `preload`; returns before they are there."""
        if any(card.adapter and card.batching.pool == "neural" for card in self._catalog):
            self._crews["neural"].start()
        self._preloading = asyncio.create_task(self._preload())

    async def stop(self, grace_s: float) -> None:
        """Refuse new work, finish what was accepted within `grace_s`, and end every worker."""
        self._stopping = True
        if self._preloading is not None:
            self._preloading.cancel()
        try:
            async with asyncio.timeout(grace_s):
                await self._drained.wait()
        except TimeoutError:
            for batcher in self._batchers.values():
                batcher.fail_all(_stopping())
        await self.models.close()
        await asyncio.gather(*(crew.close() for crew in self._crews.values()))
        await self._drained.wait()

    async def run(self, card: ModelCard, series: Sequence[Series], *, deadline: float) -> Outcome:
        """Forecast `series`; one result a series, in order. `deadline` is in seconds of the loop's clock.

        Raises GatewayError: UNAVAILABLE (loading, overloaded, weights absent, stopping), MODEL_FAILED (the model
        cannot be loaded), DEADLINE_EXCEEDED. Cancelling the call withdraws its series.
        """
        if not series:
            return Outcome()
        self._in_flight += 1
        self._drained.clear()
        try:
            await self.ready(card, deadline=deadline)
            with self.models.used(card):
                return await self._batchers[card.batching.pool].run(card, series, deadline)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._drained.set()

    async def ready(self, card: ModelCard, *, deadline: float) -> None:
        """Return once `card` can forecast, loading it if need be. Raises as `run` does."""
        now = asyncio.get_running_loop().time()
        if self._stopping:
            raise _stopping()
        if deadline <= now:
            raise deadline_exceeded()
        await self.models.ready(card, min(deadline, now + self._settings.load_wait_s))

    def identity(self, card: ModelCard) -> bytes:
        """What decides the numbers of `card` as the workers hold it (see `gateway.engine.identity`).

        Empty where that is not known: no worker holds it, they hold different files, or nobody keeps forecasts.
        """
        return self._crews[card.batching.pool].identity(card.id)

    def batch_class(self, card: ModelCard, series: Series) -> str:
        """The model, horizon class and length bucket that `series` would run in."""
        return str(item_of(card, series).key)

    def computing(self) -> dict[str, float]:
        """Seconds that the batch a worker computes now has taken, the longest of each model."""
        return {model: s for batcher in self._batchers.values() for model, s in batcher.computing().items()}

    def snapshot(self) -> EngineSnapshot:
        """What the engine does now."""
        waiting = [b.waiting for b in self._batchers.values()]
        return EngineSnapshot(
            queued_series=sum(series for series, _ in waiting),
            queued_tokens=sum(tokens for _, tokens in waiting),
            batches=sum(b.batches for b in self._batchers.values()),
            in_flight=self._in_flight,
            workers=tuple(self._workers()),
        )

    def _workers(self) -> Iterator[WorkerSnapshot]:
        for crew in self._crews.values():
            for worker in crew.workers:
                yield WorkerSnapshot(
                    name=worker.name,
                    pool=crew.pool,
                    device=worker.device.label,
                    pid=worker.process.pid if worker.process else None,
                    state=worker.state,
                    models=tuple(worker.models),
                    rss_bytes=machine.rss_bytes(worker.process.pid) if worker.process else 0,
                    restarts=worker.restarts,
                )

    def _default(self) -> ModelCard | None:
        name = self._settings.default_model
        return self._catalog.get(name) if name else self._catalog.default

    async def _preload(self) -> None:
        default = self._default()
        if default is not None:
            await self._load_at_start(default)
        for name in self._settings.preload:
            card = self._catalog.get(name)
            if card is None:
                log.error("preload names %r, which is in no card", name)
                continue
            try:
                await _in_background(partial(fetch, card, self._settings, log.info))
            except GatewayError as exc:
                log.error("preload: %s", exc.sentence)
            else:
                await self._load_at_start(card)

    async def _load_at_start(self, card: ModelCard) -> None:
        try:
            await self.models.load(card)
        except GatewayError as exc:
            log.error("%s", exc.sentence)


async def _in_background(work: Callable[[], object]) -> None:
    """Wait for `work` in a thread that does not keep the process from ending; raises what it raises."""
    loop = asyncio.get_running_loop()
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as exc:
            done.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    await asyncio.wrap_future(done, loop=loop)


def _stopping() -> GatewayError:
    return GatewayError(Code.UNAVAILABLE, "The gateway is shutting down.")
