"""Which models are loaded: loading once for all who ask, waiting, eviction by least use within a memory budget."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.card import ModelCard
from gateway.domain import ModelStatus
from gateway.engine import machine
from gateway.engine.crew import Crew, LoadError
from gateway.engine.weights import Missing, locate, require_licence
from gateway.errors import Code, GatewayError
from gateway.settings import EngineSettings

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.7  # of the machine, where no budget is set: the rest is the gateway's, Redis' and the page cache
LOW_WATER = 0.9  # of the budget: evicting below it once is better than evicting at every load
IN_USE_S = 5.0  # a model asked for within this is evicted only if nothing else will do
FIRST_BYTES_PER_S = 200e6  # loading speed until one was measured
SHORTEST_LOAD_S = 2.0  # importing a library and a first forecast, until a load was measured
FIRST_BACK_OFF_S = 5.0  # between a load that failed and the next try; doubles
LONGEST_BACK_OFF_S = 300.0


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory, as eviction sees it."""

    id: str
    memory_bytes: int
    last_used: float
    fixed: bool  # pinned or being loaded


@dataclass(slots=True, eq=False)
class _Entry:
    """What is known of one model that was asked for."""

    card: ModelCard
    ready: bool = False
    leaving: bool = False
    task: asyncio.Task[None] | None = None  # a load or an unload under way
    loading_since: float = 0.0
    expected_s: float = 0.0  # of a load
    memory_bytes: int = 0
    pinned: bool = False
    last_used: float = 0.0
    users: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str = ""
    failures: int = 0
    retry_at: float = 0.0

    def __enter__(self) -> None:
        """Begin to use the model."""
        self.users += 1
        self.unused.clear()

    def __exit__(self, *error: object) -> None:
        """Use it no longer."""
        self.last_used = _now()
        self.users -= 1
        if not self.users:
            self.unused.set()


def standing(card: ModelCard, settings: EngineSettings) -> ModelStatus:
    """Whether `card` could be loaded here: "loadable" or "unavailable" with the reason."""
    if card.adapter is None:
        return ModelStatus(state="unavailable", reason=f"This release has no adapter for {card.id}.")
    try:
        require_licence(card, settings)
    except GatewayError as exc:
        return ModelStatus(state="unavailable", reason=exc.sentence)
    found = locate(card, Path(settings.weights_dir).expanduser())
    if isinstance(found, Missing):
        return ModelStatus(state="unavailable", reason=found.reason)
    return ModelStatus(state="loadable")


def victims(residents: Sequence[Resident], needed: int, budget: int, now: float) -> list[str] | None:
    """Ids to evict so that `needed` bytes more fit `budget`, least recently used first; None if they cannot."""
    used = sum(r.memory_bytes for r in residents)
    chosen: list[str] = []
    candidates = sorted((r for r in residents if not r.fixed and r.memory_bytes), key=lambda r: r.last_used)
    over = used + needed > budget
    for resident in candidates:
        idle = now - resident.last_used >= IN_USE_S
        if over and used + needed > (budget * LOW_WATER if idle else budget):
            chosen.append(resident.id)
            used -= resident.memory_bytes
    return chosen if used + needed <= budget else None


class Models:
    """The models of one gateway. Every method belongs to the event loop's thread."""

    def __init__(
        self,
        settings: EngineSettings,
        crew_of: Callable[[ModelCard], Crew],
        loaded: Callable[[str, float], None],
    ) -> None:
        """`loaded` is told each load's model and seconds."""
        self._settings = settings
        self._crew_of = crew_of
        self._loaded = loaded
        self._entries: dict[str, _Entry] = {}
        self._weights_dir = Path(settings.weights_dir).expanduser()
        self._budget = settings.memory_budget_mb * 2**20 or int(MEMORY_SHARE * machine.memory_bytes())
        self._bytes_per_s = FIRST_BYTES_PER_S
        self._room = asyncio.Lock()  # one load at a time makes room, so that two do not count on the same memory

    # -- what callers see ---

    def status(self, card: ModelCard) -> ModelStatus:
        """How `card` stands now."""
        entry = self._entries.get(card.id)
        if entry is None:
            return standing(card, self._settings)
        memory = entry.memory_bytes or None
        if entry.ready and self._crew_of(card).holds(card.id):
            return ModelStatus(state="ready", memory_bytes=memory, pinned=entry.pinned)
        if entry.ready or entry.task is not None:
            return ModelStatus(
                state="loading",
                reason=f"{card.id} is being loaded.",
                retry_after_s=self._retry_after_s(entry),
                pinned=entry.pinned,
            )
        if entry.failure and (left := entry.retry_at - _now()) > 0:
            return ModelStatus(state="unavailable", reason=entry.failure, retry_after_s=left, pinned=entry.pinned)
        found = standing(card, self._settings)
        return ModelStatus(state=found.state, reason=found.reason, pinned=entry.pinned)

    async def load(self, card: ModelCard) -> None:
        """Load `card` now, however long it takes and whatever failed before; raises GatewayError."""
        entry = self._entry(card)
        entry.retry_at = 0.0
        entry.last_used = _now()
        while not entry.ready:
            await _result(self._load_once(entry))

    async def unload(self, card: ModelCard) -> None:
        """Drop `card` once the work in flight on it is done."""
        entry = self._entries.get(card.id)
        if entry is None:
            return
        if entry.task is not None:
            await asyncio.wait([entry.task])
        if entry.ready:
            await _result(self._start(entry, self._unload(entry)))

    def pin(self, card: ModelCard, pinned: bool) -> None:
        """Keep `card` from eviction, or no longer."""
        self._entry(card).pinned = pinned

    # -- what the engine asks ---

    def used(self, card: ModelCard) -> AbstractContextManager[None]:
        """Keep a ready model from being dropped while work on it is in flight."""
        return self._entry(card)

    async def ready(self, card: ModelCard, until: float) -> None:
        """Return once `card` can forecast, loading it if need be, or raise GatewayError, at `until` at the latest."""
        entry, crew = self._entry(card), self._crew_of(card)
        entry.last_used = _now()
        if entry.ready and crew.holds(card.id):
            return
        try:
            async with asyncio.timeout_at(until):
                while not entry.ready:
                    await _result(self._load_once(entry))
                await crew.held(card.id)
        except TimeoutError:
            retry = self._retry_after_s(entry)
            sentence = f"{card.id} is being loaded: try again in {retry:.0f} s."
            raise GatewayError(Code.UNAVAILABLE, sentence, retry_after_s=retry) from None

    def lost(self, model: str, reason: str) -> None:
        """Take note that no worker holds a model any more."""
        entry = self._entries[model]
        entry.ready, entry.memory_bytes = False, 0
        self._fail(entry, reason)

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = [e.task for e in self._entries.values() if e.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _entry(self, card: ModelCard) -> _Entry:
        entry = self._entries.get(card.id)
        if entry is None:
            entry = self._entries[card.id] = _Entry(card)
            entry.unused.set()
        return entry

    # -- loads and unloads ---

    def _start(self, entry: _Entry, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do one thing at a time with a model, whatever becomes of those who asked for it."""
        entry.task = asyncio.create_task(work)
        entry.task.add_done_callback(lambda done: self._finished(entry, done))
        return entry.task

    def _finished(self, entry: _Entry, done: asyncio.Task[None]) -> None:
        entry.task = None
        if not done.cancelled() and (fault := done.exception()) is not None:
            log.warning("%s: %s", entry.card.id, fault)

    def _load_once(self, entry: _Entry) -> asyncio.Task[None]:
        """The load under way, or a new one; raises GatewayError if there can be none now."""
        if entry.task is not None:
            return entry.task
        if (left := entry.retry_at - _now()) > 0:
            raise GatewayError(Code.MODEL_FAILED, entry.failure, retry_after_s=left)
        found = standing(entry.card, self._settings)
        if found.state == "unavailable":
            raise GatewayError(Code.UNAVAILABLE, found.reason)
        return self._start(entry, self._load(entry))

    async def _load(self, entry: _Entry) -> None:
        card, crew = entry.card, self._crew_of(entry.card)
        located = locate(card, self._weights_dir)
        if isinstance(located, Missing):
            raise GatewayError(Code.UNAVAILABLE, located.reason)
        entry.loading_since = _now()
        entry.expected_s = max(SHORTEST_LOAD_S, located.bytes / self._bytes_per_s)
        try:
            await self._make_room(entry, located.bytes * len(crew.workers))
            report = await crew.load(card, located.folders)
        except LoadError as exc:
            raise self._fail(entry, str(exc)) from None
        finally:
            entry.memory_bytes = 0
        entry.memory_bytes = max(report.memory_bytes, located.bytes)
        entry.ready, entry.failure, entry.failures = True, "", 0
        entry.last_used, entry.expected_s = _now(), _now() - entry.loading_since
        if located.bytes:
            self._bytes_per_s = (self._bytes_per_s + located.bytes / entry.expected_s) / 2
        self._loaded(card.id, report.seconds)
        self._trim(entry)

    def _fail(self, entry: _Entry, reason: str) -> GatewayError:
        """Note a failed load, so that the next try comes after a pause."""
        pause = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0**entry.failures)
        entry.failures += 1
        entry.retry_at = _now() + pause
        entry.failure = f"{entry.card.id} could not be loaded: {reason.rstrip('.')}."
        return GatewayError(Code.MODEL_FAILED, entry.failure, retry_after_s=pause)

    async def _unload(self, entry: _Entry) -> None:
        entry.ready, entry.leaving = False, True
        try:
            await entry.unused.wait()
            self._crew_of(entry.card).unload(entry.card.id)
            entry.memory_bytes = 0
        finally:
            entry.leaving = False

    async def _make_room(self, entry: _Entry, needed: int) -> None:
        """Evict what must go for `needed` bytes more, and book them for `entry`."""
        if not needed:
            return
        async with self._room:
            while (chosen := victims(self._residents(entry), needed, self._budget, _now())) is None:
                # Models that come or go hold memory that cannot be had yet; those that wait for this lock hold none.
                moving = [e.task for e in self._entries.values() if e.task and (e.leaving or e.memory_bytes)]
                if not moving:
                    raise GatewayError(
                        Code.UNAVAILABLE,
                        f"{entry.card.id} needs about {needed >> 20} MB, more than the memory budget of "
                        f"{self._budget >> 20} MB has beside what is pinned (setting memory_budget_mb).",
                    )
                await asyncio.wait(moving, return_when=asyncio.FIRST_COMPLETED)
            for model in chosen:
                log.info("evicting %s for %s", model, entry.card.id)
                await self.unload(self._entries[model].card)
            entry.memory_bytes = needed

    def _trim(self, entry: _Entry) -> None:
        """Evict others, when they are free, if `entry` turned out larger than its weights."""
        for model in victims(self._residents(entry), 0, self._budget, _now()) or ():
            log.info("evicting %s after %s", model, entry.card.id)
            self._start(self._entries[model], self._unload(self._entries[model]))

    def _residents(self, wanted: _Entry) -> list[Resident]:
        return [
            Resident(e.card.id, e.memory_bytes, e.last_used, e.pinned or e is wanted or e.task is not None)
            for e in self._entries.values()
        ]

    def _retry_after_s(self, entry: _Entry) -> float:
        passed = _now() - entry.loading_since if entry.task is not None else 0.0
        return max(1.0, math.ceil(entry.expected_s - passed))


async def _result(task: asyncio.Task[None]) -> None:
    """Wait for work that others wait for too: it goes on if the caller leaves."""
    await asyncio.wait([task])
    if task.cancelled():
        raise GatewayError(Code.UNAVAILABLE, "The gateway is shutting down.")
    task.result()


def _now() -> float:
    return asyncio.get_running_loop().time()
