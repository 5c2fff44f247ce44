"""Forecasts, and the models that make them."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from adapters.base import Series, SeriesFailure
from adapters.base import SeriesForecast as AdapterForecast
from catalog import Catalog, ModelCard
from gateway import tracing
from gateway.domain import (
    Caller,
    Forecast,
    ForecastPlan,
    ForecastRequest,
    ModelInfo,
    Notice,
    PlannedSeries,
    SeriesError,
    SeriesForecast,
    Usage,
    new_id,
)
from gateway.engine import Engine, Outcome
from gateway.errors import Code, Fault, GatewayError
from gateway.pacing import paced
from gateway.planning import Plan, Steps, Task, notice, plan
from gateway.service.cache import ForecastCache

DIGEST_BYTES = 16
_facts = msgspec.msgpack.Encoder()
MAX_NAME_SHOWN = 128  # characters of an unknown name that a message repeats, and that are compared with the catalog


@dataclass(slots=True)
class _Flight:
    """A computation under way and how many callers wait for it."""

    task: asyncio.Task[Outcome]
    deadline: float
    waiters: int = field(default=0)


class ForecastService:
    """Forecasts through the engine, and the models it can run.

    Work that is refused never reaches the engine. Identical deterministic requests of one caller that are in flight
    together share one computation; later ones are answered from the cache, where there is one.
    """

    def __init__(
        self,
        catalog: Catalog,
        engine: Engine,
        *,
        cache: ForecastCache | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._engine = engine
        self._cache = cache
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}

    # -- models ---

    def card(self, name: str, caller: Caller) -> ModelCard:
        """The card of a model id or alias.

        Raises GatewayError: NOT_FOUND with the nearest names, PERMISSION_DENIED for a model that is not the caller's.
        """
        card = self._catalog.get(name)
        if card is not None and not caller.may_use(card.id):
            raise GatewayError(Code.PERMISSION_DENIED, f"This key may not use the model {card.id}.")
        if card is None:
            shown = name[:MAX_NAME_SHOWN]
            near = [n for n in self._catalog.nearest(shown) if self._may_name(n, caller)]
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            sentence = f"There is no model {shown!r}.{hint} GET /v1/models lists them all."
            raise GatewayError(Code.NOT_FOUND, sentence, faults=(Fault(("model",), "unknown model"),))
        return card

    def default_card(self) -> ModelCard:
        """The model of callers that name none."""
        card = self._catalog.default
        if card is None:
            raise GatewayError(Code.NOT_FOUND, "No default model is configured.")
        return card

    def models(self, caller: Caller) -> tuple[ModelInfo, ...]:
        """Every model that `caller` may use, in the catalog's order."""
        return tuple(self._info(card) for card in self._catalog if caller.may_use(card.id))

    def model(self, name: str, caller: Caller) -> ModelInfo:
        """One model by id or alias."""
        return self._info(self.card(name, caller))

    async def load_model(self, name: str, caller: Caller) -> ModelInfo:
        """Load a model now, however long it takes."""
        card = self.card(name, caller)
        await self._engine.models.load(card)
        return self._info(card)

    async def unload_model(self, name: str, caller: Caller) -> ModelInfo:
        """Drop a model after the work in flight on it."""
        card = self.card(name, caller)
        await self._engine.models.unload(card)
        return self._info(card)

    def pin_model(self, name: str, pinned: bool, caller: Caller) -> ModelInfo:
        """Keep a model from eviction, or no longer."""
        card = self.card(name, caller)
        self._engine.models.pin(card, pinned)
        return self._info(card)

    def _may_name(self, name: str, caller: Caller) -> bool:
        card = self._catalog.get(name)
        return card is not None and caller.may_use(card.id)

    def _info(self, card: ModelCard) -> ModelInfo:
        return ModelInfo(card=card, aliases=self._catalog.names_of(card), status=self._engine.models.status(card))

    # -- forecasts ---

    def computing(self) -> dict[str, float]:
        """Seconds that the batch a worker computes now has taken, the longest of each model."""
        return self._engine.computing()

    async def forecast(self, request: ForecastRequest, *, caller: Caller, deadline: float) -> Forecast | ForecastPlan:
        """Forecast every series of `request`, or say what would be done if it is a dry run.

        `deadline` is in seconds of the running loop's clock. Raises GatewayError; a series that fails alone is a
        `SeriesError` among the outputs, unless all fail.
        """
        answer = await self.attempt(request, caller=caller, deadline=deadline)
        if isinstance(answer, Forecast) and all(isinstance(o, SeriesError) for o in answer.outputs):
            raise _all_failed(answer.outputs)
        return answer

    async def attempt(self, request: ForecastRequest, *, caller: Caller, deadline: float) -> Forecast | ForecastPlan:
        """`forecast`, whose outputs may all have failed."""
        started = time.perf_counter()
        planned = await paced(plan(request, self.card(request.model, caller)))
        if request.parameters.dry_run:
            return self._describe(request, planned, started)
        work = [t.series for t in planned.tasks if t.series is not None]
        begun = time.time()
        outcome, cached = await self._compute(planned, work, caller, deadline) if work else (Outcome(), False)
        about: tracing.Attributes = {"forecast.model": planned.card.id, "forecast.series": len(work)}
        tracing.computed(begun, outcome.queue_ms, outcome.compute_ms, about)
        outputs = await paced(_outputs(planned, outcome))
        delivered = [t.usage for t, o in zip(planned.tasks, outputs, strict=True) if isinstance(o, SeriesForecast)]
        cut = planned.truncated_from
        return Forecast(
            id=new_id(),
            created=int(self._clock()),
            model=planned.card.id,
            model_revision=planned.card.revision,
            provider=planned.card.provider,
            point=planned.card.point,
            horizon=planned.horizon,
            quantile_levels=planned.levels,
            input_points=planned.input_points,
            outputs=outputs,
            usage=_total(delivered),
            latency_ms=_milliseconds_since(started),
            queue_ms=outcome.queue_ms,
            compute_ms=outcome.compute_ms,
            cached=cached,
            truncated_from=cut,
            max_context_length=None if cut is None else planned.card.max_context,
            metadata=request.metadata,
        )

    def _describe(self, request: ForecastRequest, planned: Plan, started: float) -> ForecastPlan:
        """The answer to a dry run."""
        work = [t.series for t in planned.tasks if t.series is not None]
        return ForecastPlan(
            id=new_id(),
            created=int(self._clock()),
            model=planned.card.id,
            model_revision=planned.card.revision,
            provider=planned.card.provider,
            point=planned.card.point,
            horizon=planned.horizon,
            quantile_levels=planned.levels,
            input_points=planned.input_points,
            batch_class=self._engine.batch_class(planned.card, max(work, key=_length)) if work else "",
            outputs=tuple(
                PlannedSeries(
                    input_points=t.points,
                    timestamps=t.timestamps,
                    notices=t.notices,
                    truncated_from=t.truncated_from,
                    metadata=t.metadata,
                )
                for t in planned.tasks
            ),
            usage=_total([t.usage for t in planned.tasks]),
            latency_ms=_milliseconds_since(started),
            truncated_from=planned.truncated_from,
            max_context_length=planned.card.max_context if planned.truncated_from is not None else None,
            metadata=request.metadata,
        )

    async def _compute(
        self, planned: Plan, work: list[Series], caller: Caller, deadline: float
    ) -> tuple[Outcome, bool]:
        """Run what of `work` is not known yet, and whether nothing of it had to be run."""
        if not planned.deterministic:
            return await self._engine.run(planned.card, work, deadline=deadline), False
        keys = await paced(_fingerprints(planned.card, work, caller))
        if self._cache is None:
            return await self._run(planned.card, work, keys, deadline), False
        await self._engine.ready(planned.card, deadline=deadline)
        made_by = self._engine.identity(planned.card)
        entries = [made_by + key for key in keys]
        known = await self._cache.find(entries) if made_by else [None] * len(work)
        missing = [i for i, forecast in enumerate(known) if forecast is None]
        if missing and any(s.cross_learning for s in work):  # those that learn from each other run together
            known, missing = [None] * len(work), list(range(len(work)))
        if missing:
            todo, digests = [work[i] for i in missing], [keys[i] for i in missing]
            outcome = await self._run(planned.card, todo, digests, deadline)
            # A worker that was started again meanwhile may hold other weights: whose these results are is not known.
            if made_by and made_by == self._engine.identity(planned.card):
                made = zip((entries[i] for i in missing), outcome.results, strict=True)
                await self._cache.keep([(key, r) for key, r in made if isinstance(r, AdapterForecast)])
        else:
            outcome = Outcome()
        fresh = iter(outcome.results)
        results = tuple(next(fresh) if forecast is None else forecast for forecast in known)
        return replace(outcome, results=results), not missing

    async def _run(self, card: ModelCard, work: list[Series], keys: list[bytes], deadline: float) -> Outcome:
        """Run `work`, or wait for the same work of the same caller that is already under way."""
        key = b"".join(keys) if len(keys) == 1 else hashlib.blake2b(b"".join(keys), digest_size=DIGEST_BYTES).digest()
        while True:
            flight = self._flights.get(key)
            if flight is None:
                task = asyncio.create_task(self._engine.run(card, work, deadline=deadline))
                flight = self._flights[key] = _Flight(task=task, deadline=deadline)
                task.add_done_callback(functools.partial(self._landed, key, flight))
            try:
                return await self._join(key, flight, deadline)
            except GatewayError as exc:
                # The deadline that passed was another caller's: take the work up again with our own.
                if exc.code is not Code.DEADLINE_EXCEEDED or deadline <= asyncio.get_running_loop().time():
                    raise
                self._land(key, flight)

    async def _join(self, key: bytes, flight: _Flight, deadline: float) -> Outcome:
        """Wait for `flight` until `deadline`; the last caller that leaves takes the work with it."""
        flight.waiters += 1
        try:
            if deadline >= flight.deadline:  # which the engine keeps
                return await asyncio.shield(flight.task)
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(flight.task)
        except TimeoutError:
            raise GatewayError(Code.DEADLINE_EXCEEDED, "The deadline passed before the forecast was done.") from None
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()

    def _land(self, key: bytes, flight: _Flight) -> None:
        """Let no further caller join `flight`."""
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _landed(self, key: bytes, flight: _Flight, task: asyncio.Task[Outcome]) -> None:
        self._land(key, flight)
        if not task.cancelled():
            task.exception()  # seen: whoever waited has it


def _length(series: Series) -> int:
    return int(series.target.shape[1])


def _total(used: list[Usage]) -> Usage:
    return used[0] if len(used) == 1 else sum(used, Usage())


def _milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1e3, 3)


def _fingerprints(card: ModelCard, work: list[Series], caller: Caller) -> Steps[list[bytes]]:
    """A digest a series of everything that decides its deterministic forecast; yields after each series.

    Series that learn from each other are decided by all of them together.
    """
    common = (caller.id, card.id, card.revision)
    digests = []
    for s in work:
        arrays = [a for a in (s.target, s.past, s.future, s.static, s.stamps) if a is not None and a.size]
        facts = (
            common,
            s.target.shape,
            s.channels,
            s.horizon,
            s.levels,
            s.season,
            s.step_s,
            s.past.shape,
            s.future.shape,
            s.static.shape,
            s.known,
            s.categorical,
            s.stamps is None,
            s.sampling,
            s.cross_learning,
        )
        digest = hashlib.blake2b(_facts.encode(facts), digest_size=DIGEST_BYTES)
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        digests.append(digest.digest())
        yield
    if any(s.cross_learning for s in work):
        together = hashlib.blake2b(b"".join(digests), digest_size=DIGEST_BYTES).digest()
        digests = [hashlib.blake2b(together + b"%d" % i, digest_size=DIGEST_BYTES).digest() for i in range(len(work))]
    return digests


def _outputs(planned: Plan, outcome: Outcome) -> Steps[tuple[SeriesForecast | SeriesError, ...]]:
    """The engine's results beside the series that failed before it, in the order of the request."""
    results = iter(outcome.results)
    outputs: list[SeriesForecast | SeriesError] = []
    for task in planned.tasks:
        if task.error is not None:
            outputs.append(task.error)
        else:
            outputs.append(_output(task, next(results)))
        yield
    return tuple(outputs)


def _output(task: Task, result: AdapterForecast | SeriesFailure) -> SeriesForecast | SeriesError:
    if isinstance(result, SeriesFailure):
        return SeriesError(code=Code.MODEL_FAILED, sentence=result.reason, metadata=task.metadata)
    return SeriesForecast(
        mean=result.point,
        quantiles=result.quantiles,
        samples=result.samples,
        timestamps=task.timestamps,
        notices=(*task.notices, *_remarks(task, result)),
        truncated_from=task.truncated_from,
        metadata=task.metadata,
    )


def _remarks(task: Task, result: AdapterForecast) -> list[Notice]:
    """What the adapter said of a series, with the names that the caller used."""
    return [notice(r.code, task.item, [task.covariates[i] for i in r.covariates], r.detail) for r in result.remarks]


def _all_failed(outputs: tuple[SeriesForecast | SeriesError, ...]) -> GatewayError:
    """One error for a request of which nothing is left: the first series' reason."""
    first = next(o for o in outputs if isinstance(o, SeriesError))
    more = f" (all {len(outputs)} series failed)" if len(outputs) > 1 else ""
    faults = (Fault(("inputs", 0, "target"), first.sentence),) if first.code is Code.INVALID_ARGUMENT else ()
    return GatewayError(first.code, first.sentence + more, faults=faults)
