"""The event-loop shell around the queue of one pool: callers, deadlines, workers, and what to do when one dies."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from adapters.base import Series, SeriesFailure, SeriesForecast
from catalog.card import ModelCard
from gateway.engine.batching import BatchQueue, Group, Item, item_of
from gateway.engine.crew import Crew, Loss, Worker
from gateway.engine.frames import Done, Run, Skip, Task
from gateway.errors import Code, GatewayError
from gateway.pacing import paced
from gateway.settings import EngineSettings

Result = SeriesForecast | SeriesFailure

FIRST_TOKENS_PER_S = 10_000.0  # of a model that has not run yet; its first batch replaces it
SPEED_MEMORY = 0.9  # how much of the measured speed outlives a batch
PATIENCE = 3  # cancel graces for a group that nobody waits for while others of its cut do: a restart costs them time


class Observer(Protocol):
    """Whoever counts what the engine does."""

    def batch_done(self, model: str, rows: int, tokens: float, padded_tokens: float, compute_s: float) -> None: ...
    def model_loaded(self, model: str, seconds: float) -> None: ...
    def worker_restarted(self, pool: str, reason: str) -> None: ...
    def queue_changed(self, pool: str, series: int, tokens: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """One result a series, in order, and how long the caller waited and computed."""

    results: tuple[Result, ...] = ()
    queue_ms: float = 0.0
    compute_ms: float = 0.0


@dataclass(slots=True, eq=False)
class _Call:
    """One call of `run`: where its results gather."""

    model: str
    answer: asyncio.Future[None]
    results: list[Result | None]
    missing: int
    compute_s: float = 0.0
    deaths: dict[int, int] = field(default_factory=dict)  # of workers, by series that ran meanwhile


@dataclass(slots=True, eq=False)
class _Running:
    """A cut in a worker."""

    number: int
    groups: tuple[Group, ...]
    done: int = 0  # groups answered; the next one is being computed
    since: float = 0.0  # when that one began
    watch: asyncio.TimerHandle | None = None  # over the group that is being computed
    farewell: asyncio.TimerHandle | None = None  # runs when nobody waits for the cut any more

    @property
    def left(self) -> tuple[Group, ...]:
        return self.groups[self.done :]

    def unwatch(self) -> None:
        if self.watch is not None:
            self.watch.cancel()

    def stay(self) -> None:
        if self.farewell is not None:
            self.farewell.cancel()
            self.farewell = None

    def end(self) -> None:
        self.unwatch()
        self.stay()


class _Speed:
    """Tokens a second of one model, weighted towards the latest batches and the large ones."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    @property
    def tokens_per_s(self) -> float:
        return self._tokens / self._seconds if self._seconds > 0 else FIRST_TOKENS_PER_S

    def measure(self, tokens: float, seconds: float) -> None:
        self._tokens = SPEED_MEMORY * self._tokens + tokens
        self._seconds = SPEED_MEMORY * self._seconds + seconds


class Batcher:
    """Runs series in batches: a cut is made whenever a worker is idle, and never by a timer."""

    def __init__(
        self, crew: Crew, settings: EngineSettings, observer: Observer, lost: Callable[[str, str], None]
    ) -> None:
        """`lost` is called with a model that the workers hold no longer, and why."""
        self._crew = crew
        self._settings = settings
        self._observer = observer
        self._lost = lost
        self._queue = BatchQueue()
        self._suspects: deque[Group] = deque()  # ran when a worker died; each shall run by itself
        self._tried = False  # whether the latest cut was of suspects
        self._calls: dict[int, _Call] = {}
        self._running: dict[Worker, _Running] = {}
        self._speeds: defaultdict[str, _Speed] = defaultdict(_Speed)
        self._requests = itertools.count(1)
        self._cuts = itertools.count(1)
        self._called = False  # whether the loop will make cuts in its next turn
        self.batches = 0  # groups given to workers
        crew.serve(self)

    # -- callers ---

    async def run(self, card: ModelCard, series: Sequence[Series], deadline: float) -> Outcome:
        """Forecast `series` with a model that the workers hold; a cancelled call is withdrawn.

        `deadline` is in seconds of the loop's clock. Raises GatewayError.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._admit()
        request = next(self._requests)
        call = _Call(card.id, loop.create_future(), [None] * len(series), missing=len(series))
        self._calls[request] = call
        alarm = loop.call_at(deadline, self._expire, request)
        try:
            await paced(self._push(card, series, request))
            await call.answer
        finally:
            alarm.cancel()
            del self._calls[request]
            if call.missing:
                self._forget(request)
        elapsed = loop.time() - started
        compute_s = min(call.compute_s, elapsed)
        results = tuple(r for r in call.results if r is not None)
        return Outcome(results, (elapsed - compute_s) * 1e3, compute_s * 1e3)

    def _push(self, card: ModelCard, series: Sequence[Series], request: int) -> Generator[None, None, None]:
        together: list[Item] = []  # a cut takes those that learn from each other at once, if all are there
        for index, one in enumerate(series):
            item = item_of(card, one, request, index)
            if item.key.family is None:
                self._queue.push([item])
                self._wake()
            else:
                together.append(item)
            yield
        if together:
            self._queue.push(together)
            self._wake()

    def fail_all(self, error: GatewayError) -> None:
        """Answer every caller with `error`."""
        for request in self._calls:
            self._fail(request, error)

    @property
    def waiting(self) -> tuple[int, float]:
        """Series and tokens that no worker was given."""
        return len(self._queue), sum(self._queue.tokens().values())

    def computing(self) -> dict[str, float]:
        """Seconds that the group a worker computes now has taken, the longest of each model."""
        now = asyncio.get_running_loop().time()
        found: dict[str, float] = {}
        for running in self._running.values():
            model, seconds = running.left[0].key.model, now - running.since
            found[model] = max(seconds, found.get(model, 0.0))
        return found

    def _admit(self) -> None:
        """Refuse at once what would wait too long."""
        work_s = sum([t / self._speeds[m].tokens_per_s for m, t in self._queue.tokens().items()])
        if work_s <= self._settings.max_queue_s:  # as it is nearly always, even if one worker had it all
            return
        wait_s = work_s / max(1, sum(w.process is not None for w in self._crew.workers))
        if wait_s > self._settings.max_queue_s:
            raise GatewayError(
                Code.UNAVAILABLE,
                f"Overloaded: about {wait_s:.0f} s of work wait already.",
                retry_after_s=max(1, math.ceil(wait_s - self._settings.max_queue_s)),
            )

    def _fail(self, request: int, error: GatewayError) -> None:
        answer = self._calls[request].answer
        if not answer.done():
            answer.set_exception(error)

    def _expire(self, request: int) -> None:
        self._fail(request, deadline_exceeded())

    def _forget(self, request: int) -> None:
        """Compute nothing more for a caller that left."""
        self._queue.withdraw(request)
        self._report()
        for worker, running in self._running.items():
            if any(i.request == request for g in running.left for i in g.items):
                self._spare(worker, running)

    def _report(self) -> None:
        self._observer.queue_changed(self._crew.pool, *self.waiting)

    # -- cuts ---

    def _wake(self) -> None:
        """Make cuts once everything that comes in this turn of the loop is in the queue."""
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self.idle)

    def idle(self) -> None:
        """Give every idle worker a cut."""
        self._called = False
        if not len(self._queue) and not self._suspects:
            return
        free = list(self._crew.idle())
        cuts: list[tuple[Group, ...]] = []
        while len(cuts) < len(free) and (groups := self._cut()):
            cuts.append(groups)
        for worker, groups in zip(free, spread(cuts, len(free)), strict=False):
            self._begin(worker, groups)
        self._report()

    def _cut(self) -> tuple[Group, ...]:
        """Suspects and others take turns, so that a poison series does not stop everybody's work."""
        while self._suspects and not (self._tried and len(self._queue)):
            group = self._suspects.popleft()
            if alive := self._alive(group.items):
                self._tried = True
                return (Group(key=group.key, items=alive),)
        self._tried = False
        return self._queue.cut(gpu=self._crew.gpu)

    def _begin(self, worker: Worker, groups: tuple[Group, ...]) -> None:
        self.batches += len(groups)
        running = self._running[worker] = _Running(next(self._cuts), groups)
        self._watch(worker, running)
        tasks = tuple(Task(model=g.key.model, series=tuple(i.series for i in g.items)) for g in groups)
        self._crew.run(worker, Run(cut=running.number, tasks=tasks))

    def _watch(self, worker: Worker, running: _Running) -> None:
        """A group that is not done in time counts as hung."""
        running.unwatch()
        loop = asyncio.get_running_loop()
        running.since = loop.time()
        running.watch = loop.call_later(self._settings.batch_timeout_s, self._crew.kill, worker, "hung")

    def done(self, worker: Worker, message: Done) -> None:
        """Deliver what a worker finished."""
        running = self._running[worker]
        group = running.groups[running.done]
        running.done += 1
        if running.left:
            self._watch(worker, running)
            if self._alive(running.left[0].items):
                running.stay()
        else:
            running.end()
            del self._running[worker]
        self._deliver(group, message)
        if message.results:
            tokens, compute_s = group.tokens, message.compute_s
            self._speeds[group.key.model].measure(tokens, compute_s)
            self._observer.batch_done(group.key.model, len(group.items), tokens, group.padded_tokens, compute_s)

    def _deliver(self, group: Group, message: Done) -> None:
        results: Sequence[SeriesForecast | str] = message.results
        if len(results) != len(group.items):
            results = ["The worker answered with another number of forecasts."] * len(group.items)
        for request in {i.request for i in group.items} & self._calls.keys():
            self._calls[request].compute_s += message.compute_s
        for item, result in zip(group.items, results, strict=True):
            self._settle(item, SeriesFailure(result) if isinstance(result, str) else result)

    def _settle(self, item: Item, result: Result) -> None:
        call = self._calls.get(item.request)
        if call is None or call.results[item.index] is not None:
            return
        call.results[item.index] = result
        call.missing -= 1
        if call.missing == 0 and not call.answer.done():
            call.answer.set_result(None)

    # -- work that nobody waits for, and workers that are lost ---

    def _alive(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Items that somebody waits for."""
        return tuple(i for i in items if i.request in self._calls)

    def _spare(self, worker: Worker, running: _Running) -> None:
        """Skip groups that nobody waits for; one that is being computed ends with its worker, after a grace."""
        dead = [n for n in range(running.done, len(running.groups)) if not self._alive(running.groups[n].items)]
        for number in dead:
            if number > running.done:
                self._crew.skip(worker, Skip(cut=running.number, task=number))
        if running.done in dead:
            loop = asyncio.get_running_loop()
            graces = 1 if len(dead) == len(running.left) else PATIENCE
            when = loop.time() + graces * self._settings.cancel_grace_s
            if running.farewell is None or running.farewell.when() > when:
                running.stay()
                running.farewell = loop.call_at(when, self._crew.kill, worker, "cancelled")

    def lost(self, worker: Worker, reason: Loss) -> None:
        """Put back what a lost worker had not begun, and try what it was computing again in halves."""
        self._observer.worker_restarted(self._crew.pool, reason)
        running = self._running.pop(worker, None)
        if running is None:
            return
        running.end()
        begun, *rest = running.left
        self._queue.restore(i for g in rest for i in self._alive(g.items))
        self._suspect(Group(key=begun.key, items=self._alive(begun.items)), reason)
        self._wake()

    def _suspect(self, group: Group, reason: Loss) -> None:
        """A series whose worker was lost twice, the second time while it ran alone, is the cause."""
        for item in group.items:
            deaths = self._calls[item.request].deaths
            deaths[item.index] = deaths.get(item.index, 0) + 1
        if len(group.items) == 1 and self._calls[group.items[0].request].deaths[group.items[0].index] > 1:
            what = "took too long on" if reason == "hung" else "ended its process on"
            self._settle(group.items[0], SeriesFailure(f"The model {what} this series."))
            return
        middle = (len(group.items) + 1) // 2
        for half in (group.items[:middle], group.items[middle:]):
            if half:
                self._suspects.append(Group(key=group.key, items=half))

    def dropped(self, model: str, reason: str) -> None:
        """Answer everybody who waits for a model that could not be loaded again."""
        self._lost(model, reason)
        error = GatewayError(Code.MODEL_FAILED, f"{model} could not be loaded again: {reason}.")
        for request, call in self._calls.items():
            if call.model == model:
                self._fail(request, error)


def spread(cuts: Sequence[tuple[Group, ...]], workers: int) -> list[tuple[Group, ...]]:
    """`cuts`, in parts where a worker would be left without one: groups of several models run side by side."""
    parts = list(cuts)
    while len(parts) < workers and (longest := max(parts, key=len, default=())) and len(longest) > 1:
        place, middle = parts.index(longest), (len(longest) + 1) // 2
        parts[place : place + 1] = [longest[:middle], longest[middle:]]
    return parts


def deadline_exceeded() -> GatewayError:
    """The error of a caller whose time is over."""
    return GatewayError(Code.DEADLINE_EXCEEDED, "The deadline passed before the forecast was done.")
