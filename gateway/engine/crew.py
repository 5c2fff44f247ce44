"""The worker processes of one pool: started, given their models, and replaced when they die."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from adapters.base import Device
from catalog.card import ModelCard
from gateway.engine import machine
from gateway.engine.frames import Begin, Begun, Done, FromWorker, Load, Loaded, LoadFailed, Run, Skip, Unload
from gateway.engine.process import WorkerProcess
from gateway.settings import EngineSettings

log = logging.getLogger(__name__)

Pool = Literal["neural", "statistical"]
WorkerState = Literal["stopped", "starting", "loading", "idle", "busy"]
Loss = Literal["died", "hung", "cancelled", "load_timeout"]  # why a worker was replaced

FAILED_STARTS = 3  # in a row, after which nobody waits for this worker's models any longer
LONGEST_PAUSE_S = 30.0  # between starts of a worker that does not come up


class LoadError(Exception):
    """A model that a worker could not load, with a reason that is safe to show."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What it took to load a model."""

    seconds: float  # of the slowest worker
    memory_bytes: int  # of all workers together


class CrewClient(Protocol):
    """Whoever gives the workers their work."""

    def idle(self) -> None:
        """A worker waits for work."""

    def done(self, worker: Worker, message: Done) -> None:
        """A worker finished a task."""

    def lost(self, worker: Worker, reason: Loss) -> None:
        """A worker is gone, and what it still had to do was not done."""

    def dropped(self, model: str, reason: str) -> None:
        """A model could not be loaded again after a restart; no worker holds it any more."""


@dataclass(slots=True, eq=False)
class Worker:
    """A place for a process: the one that lives there now and those that will replace it."""

    name: str
    device: Device
    process: WorkerProcess | None = None
    begun: bool = False
    models: dict[str, Loaded] = field(default_factory=dict)  # held, as it was told
    loads: dict[str, None] = field(default_factory=dict)  # asked for and not answered, in order
    tasks: int = 0  # given and not answered
    restarts: int = 0
    failed_starts: int = 0
    loss: Loss | None = None  # why it was killed
    watch: asyncio.TimerHandle | None = None  # over a load

    @property
    def state(self) -> WorkerState:
        if self.process is None or self.loss is not None:
            return "stopped"
        if not self.begun:
            return "starting"
        if self.tasks:
            return "busy"
        return "loading" if self.loads else "idle"


@dataclass(slots=True)
class _Loading:
    """A first load of a model, by every worker."""

    report: asyncio.Future[LoadReport]
    waiting: set[str]  # names of workers
    seconds: float = 0.0
    memory_bytes: int = 0


class Crew:
    """Workers that all hold the same models. Nothing here waits for a request."""

    def __init__(self, pool: Pool, settings: EngineSettings) -> None:
        self.pool: Pool = pool
        self.workers = tuple(Worker(f"{pool}-{i}", d) for i, d in enumerate(devices(pool, settings)))
        self._settings = settings
        self._client: CrewClient | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._models: dict[str, Load] = {}  # what every worker shall hold
        self._weights: dict[str, machine.MemoryFile] = {}  # of which there is one copy for all workers
        self._loading: dict[str, _Loading] = {}
        self._held: dict[str, asyncio.Event] = {}  # set while a worker holds the model
        self._costs: Counter[str] = Counter()  # workers that were lost while they loaded a model

    @property
    def gpu(self) -> bool:
        """Whether all workers have a GPU, so that any may be given what fills one."""
        return all(worker.device.gpu for worker in self.workers)

    def serve(self, client: CrewClient) -> None:
        """Name who gives the work; once, before anything is started."""
        self._client = client

    def start(self) -> None:
        """Start the processes, unless they are started."""
        if not self._keepers:
            self._keepers = [asyncio.create_task(self._keep(worker)) for worker in self.workers]

    async def close(self) -> None:
        """End the processes; returns when they are gone."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(w.process.close() for w in self.workers if w.process is not None))
        for worker in self.workers:
            worker.process = None
        while self._weights:
            self._weights.popitem()[1].close()

    # -- models ---

    async def load(self, card: ModelCard, folders: Mapping[str, Path]) -> LoadReport:
        """Let every worker hold a model; raises LoadError."""
        self.start()
        loading = _Loading(asyncio.get_running_loop().create_future(), {w.name for w in self.workers})
        self._loading[card.id] = loading
        where = {k: str(f) for k, f in folders.items()}
        identify, shared = self._settings.cache_mb > 0, self._room_for_weights(card.id)
        self._models[card.id] = Load(card=card, folders=where, identify=identify, shared=shared)
        for worker in self.workers:
            self._ask(worker, card.id)
        return await loading.report

    def unload(self, model: str) -> None:
        """Let no worker hold a model any more."""
        self._models.pop(model, None)
        if (weights := self._weights.pop(model, None)) is not None:
            weights.close()
        for worker in self.workers:
            worker.loads.pop(model, None)
            if worker.models.pop(model, None) is not None and worker.process is not None:
                worker.process.send(Unload(model=model))
        self._review(model)

    def holds(self, model: str) -> bool:
        """Whether a living worker holds a model."""
        return any(model in w.models for w in self.workers)

    def identity(self, model: str) -> bytes:
        """What decides a model's numbers, where all who hold it say the same and it was asked for; else nothing."""
        told = {w.models[model].identity for w in self.workers if model in w.models}
        return told.pop() if len(told) == 1 else b""

    async def held(self, model: str) -> None:
        """Wait until a worker holds a model."""
        await self._held.setdefault(model, asyncio.Event()).wait()

    def _room_for_weights(self, model: str) -> str | None:
        """Where workers that compute on this machine's memory find the weights that all of them use."""
        if self.pool != "neural" or len([w for w in self.workers if w.device.name == "cpu"]) < 2:
            return None
        if (before := self._weights.pop(model, None)) is not None:
            before.close()
        try:
            self._weights[model] = machine.MemoryFile("weights")
        except OSError as exc:
            log.info("each worker keeps weights of its own: %s", exc)
            return None
        return self._weights[model].path

    def _ask(self, worker: Worker, model: str) -> None:
        worker.loads[model] = None
        if worker.process is not None:
            worker.process.send(self._models[model])
            if worker.watch is None:
                self._watch(worker)

    def _fail(self, model: str, reason: str) -> None:
        """Give a model up everywhere."""
        self.unload(model)
        del self._costs[model]
        loading = self._loading.pop(model, None)
        if loading is None:
            log.error("%s is lost: %s", model, reason)
            self._call().dropped(model, reason)
        elif not loading.report.done():
            loading.report.set_exception(LoadError(reason))

    def _review(self, model: str) -> None:
        event = self._held.setdefault(model, asyncio.Event())
        if self.holds(model):
            event.set()
        else:
            event.clear()

    # -- work ---

    def idle(self) -> Iterator[Worker]:
        """Workers that wait for work."""
        return (w for w in self.workers if w.state == "idle" and w.process is not None and w.process.alive)

    def run(self, worker: Worker, message: Run) -> None:
        """Give an idle worker a cut."""
        assert worker.process is not None
        worker.tasks = len(message.tasks)
        worker.process.send(message)

    def skip(self, worker: Worker, message: Skip) -> None:
        """Spare a worker a task."""
        if worker.process is not None:
            worker.process.send(message)

    def kill(self, worker: Worker, reason: Loss) -> None:
        """Replace a worker by a fresh one."""
        if worker.process is not None and worker.loss is None:
            worker.loss = reason
            worker.process.kill()

    # -- processes ---

    async def _keep(self, worker: Worker) -> None:
        """Keep one place filled."""
        while True:
            try:
                worker.process = await WorkerProcess.spawn(
                    worker.name, environment(worker.device), partial(self._receive, worker)
                )
            except OSError as exc:
                log.error("cannot start worker %s: %s", worker.name, exc)
            else:
                self._begin(worker)
                status = await worker.process.ended()
                loss, pid = worker.loss or "died", worker.process.pid
                log.warning("worker %s (%d) is lost: %s (status %d)", worker.name, pid, loss, status)
            self._mourn(worker)
            if worker.failed_starts:
                await asyncio.sleep(min(LONGEST_PAUSE_S, 0.25 * 2.0**worker.failed_starts))

    def _begin(self, worker: Worker) -> None:
        assert worker.process is not None
        library = "torch" if self.pool == "neural" else None
        worker.process.send(Begin(device=worker.device, library=library))
        for model in self._models:
            self._ask(worker, model)

    def _mourn(self, worker: Worker) -> None:
        """Take note that a worker is gone."""
        started, busy, pending = worker.begun, worker.tasks > 0, list(worker.loads)
        models = list(worker.models)
        worker.process, worker.begun, worker.tasks = None, False, 0
        worker.models, worker.loads = {}, {}
        worker.restarts += 1
        worker.failed_starts = 0 if started else worker.failed_starts + 1
        self._unwatch(worker)
        for model in models:
            self._review(model)
        if pending and worker.loss == "load_timeout":
            self._fail(pending[0], f"it did not load within {self._settings.load_timeout_s:g} s")
        elif pending and started and not busy:
            self._blame(pending[0])
        elif worker.failed_starts >= FAILED_STARTS:
            for model in pending:
                self._fail(model, "no worker process comes up to load it")
        loss, worker.loss = worker.loss or "died", None
        self._call().lost(worker, loss)

    def _blame(self, model: str) -> None:
        """Give up a model whose load has cost two workers in a row; the first may have died of something else."""
        self._costs[model] += 1
        if self._costs[model] > 1:
            self._fail(model, "the worker process did not survive loading it")

    def _receive(self, worker: Worker, message: FromWorker) -> None:
        match message:
            case Done():
                worker.tasks -= 1
                self._call().done(worker, message)
            case Begun():
                worker.begun, worker.device = True, message.device
                log.info("worker %s began on %s after %.1f s", worker.name, worker.device.label, message.seconds)
            case Loaded():
                self._loaded(worker, message)
            case LoadFailed():
                worker.loads.pop(message.model, None)
                self._fail(message.model, message.reason)
                self._watch(worker)
        if worker.state == "idle":
            self._call().idle()

    def _loaded(self, worker: Worker, message: Loaded) -> None:
        if message.model not in worker.loads:  # given up meanwhile
            assert worker.process is not None
            worker.process.send(Unload(model=message.model))
            return
        del worker.loads[message.model]
        del self._costs[message.model]
        worker.models[message.model] = message
        self._watch(worker)
        self._review(message.model)
        loading = self._loading.get(message.model)
        if loading is None:
            return
        if worker.name in loading.waiting:
            loading.waiting.remove(worker.name)
            loading.seconds = max(loading.seconds, message.seconds)
            # What is shared is counted with the first of them.
            loading.memory_bytes += message.memory_bytes - (message.shared_bytes if loading.memory_bytes else 0)
        if not loading.waiting:
            del self._loading[message.model]
            if not loading.report.done():
                loading.report.set_result(LoadReport(loading.seconds, loading.memory_bytes))

    def _watch(self, worker: Worker) -> None:
        """Let the first load that a worker was asked for have its time, and no more."""
        self._unwatch(worker)
        if worker.loads:
            loop = asyncio.get_running_loop()
            worker.watch = loop.call_later(self._settings.load_timeout_s, self.kill, worker, "load_timeout")

    def _unwatch(self, worker: Worker) -> None:
        if worker.watch is not None:
            worker.watch.cancel()
            worker.watch = None

    def _call(self) -> CrewClient:
        assert self._client is not None, "serve() comes first"
        return self._client


def devices(pool: Pool, settings: EngineSettings) -> Sequence[Device]:
    """One device for each worker of a pool."""
    half = max(1, machine.cores() // 2)
    if pool == "statistical":
        names = ["cpu"] * (settings.statistical_workers or half)
    else:
        gpus = machine.gpus() if settings.device in ("auto", "cuda") else 0
        if gpus:
            names = [f"cuda:{i % gpus}" for i in range(settings.workers or gpus)]
        elif settings.device in ("auto", "cpu"):
            names = ["cpu"] * (settings.workers or half)
        else:
            names = [settings.device] * (settings.workers or 1)
    return [
        Device(name=n, dtype=settings.dtype, threads=settings.threads, engine=settings.engine, tf32=settings.tf32)
        for n in names
    ]


def environment(device: Device) -> dict[str, str]:
    """Variables that a worker is started with, over the gateway's own."""
    threads = str(device.threads)
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads of a busy host slow each other down
        # Every forward pass takes and frees the same few megabytes. Left alone, glibc gives them back to the system
        # each time, and faulting their pages in again takes 8 to 10% of a batch; huge pages save 3% more.
        "GLIBC_TUNABLES": ":".join(
            (
                f"glibc.malloc.mmap_threshold={32 << 20}",
                f"glibc.malloc.trim_threshold={128 << 20}",
                "glibc.malloc.hugetlb=1",
            )
        ),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",  # a request never downloads
        "TRANSFORMERS_OFFLINE": "1",
    }
