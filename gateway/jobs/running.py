"""One chunk through the service: whatever can be waited for is waited for, and one bad series fails alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from catalog import Catalog, ModelCard
from gateway.domain import (
    AnomalyRequest,
    Answer,
    BacktestRequest,
    BatchAnswer,
    BatchRequest,
    Caller,
    EnsembleRequest,
    Forecast,
    ForecastPlan,
    ForecastRequest,
    SeriesError,
    SeriesInput,
    Work,
)
from gateway.errors import Code, GatewayError
from gateway.jobs import answers, codec
from gateway.jobs.chunks import forecast_of, members, weight_of, whole, with_members
from gateway.jobs.stored import work_of
from gateway.pacing import paced
from gateway.service import ForecastService, anomalies, backtests
from gateway.settings import JobSettings
from gateway.store import JobRecord

T = TypeVar("T")
Steps = Generator[None, None, T]

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0  # between tries of what an overloaded engine refused

GATEWAY = Caller(id="gateway")  # who looks at the models of this process


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The answer to a chunk, as it is kept."""

    answer: Answer
    content: bytes
    model: str = ""
    tokens: int = 0  # that took time; of an answer that was kept, none
    waited_s: float = 0.0  # for room, not for the model


def caller_of(record: JobRecord) -> Caller:
    """Who a chunk runs for, and what they may use now: the one place that decides it."""
    return record.caller


class Runner:
    """Runs chunks on the engine of this process."""

    def __init__(self, service: ForecastService, catalog: Catalog, settings: JobSettings) -> None:
        self._service = service
        self._catalog = catalog
        self._settings = settings

    def offers(self) -> Steps[tuple[str, ...]]:
        """Ids of the models that can be run here, loaded or not; looks for the files of each, and yields after it."""
        found = []
        for card in self._catalog:
            status = self._service.model(card.id, GATEWAY).status
            if status.state != "unavailable" or status.retry_after_s is not None:
                found.append(card.id)
            yield
        return tuple(found)

    def hindrance(self, model: str) -> str:
        """Why a model cannot be run here, in a sentence; empty where it can or is not known."""
        if self._catalog.get(model) is None:
            return ""
        status = self._service.model(model, GATEWAY).status
        return status.reason if status.state == "unavailable" else ""

    async def run(self, content: bytes, record: JobRecord) -> Made:
        """The answer to a stored chunk. Raises GatewayError where all of it failed."""
        work = await work_of(content)
        waits = _Waits(self._settings.chunk_timeout_s, _deadline(record))
        caller = caller_of(record)
        tokens = sum(weight_of(m, work).tokens for m in members(work))
        if isinstance(work, BatchRequest):
            answer: Answer = await self._batch(work, caller, waits)
            return Made(answer=answer, content=await paced(codec.encode(answer)))
        card = self._service.card(forecast_of(work).model, caller)
        answer = await self._alone(work, card, caller, waits)
        encoded = await paced(codec.encode(answer))
        if isinstance(answer, Forecast) and answer.cached:
            tokens = 0
        return Made(answer=answer, content=encoded, model=card.id, tokens=tokens, waited_s=waits.waited_s)

    async def failure(self, work: Work, error: GatewayError) -> Made:
        """The answer to a chunk that failed for good."""
        card = None
        if not isinstance(work, (BatchRequest, EnsembleRequest)):
            card = self._catalog.get(forecast_of(work).model)
        answer = answers.failed(work, error, card, int(time.time()))
        return Made(answer=answer, content=await paced(codec.encode(answer)))

    # -- calls of the service ---

    async def _batch(self, work: BatchRequest, caller: Caller, waits: _Waits) -> BatchAnswer:
        async def one(request: ForecastRequest | GatewayError) -> Forecast | ForecastPlan | GatewayError:
            if isinstance(request, GatewayError):
                return request
            try:
                card = self._service.card(request.model, caller)
                return await waits.run(
                    lambda deadline: self._service.forecast(request, caller=caller, deadline=deadline),
                    lambda: self._loaded(card),
                )
            except GatewayError as error:
                return error

        return BatchAnswer(results=tuple(await asyncio.gather(*(one(r) for r in work.requests))))

    async def _alone(self, work: Work, card: ModelCard, caller: Caller, waits: _Waits) -> Answer:
        """Run a chunk; series that are wrong are left out and answered with what is wrong with them."""
        wrong: dict[int, GatewayError] = {}
        every = members(work)
        while True:
            right = [i for i in range(len(every)) if i not in wrong]
            part = with_members(work, tuple(every[i] for i in right)) if wrong else work
            try:
                answer = await waits.run(
                    lambda deadline, part=part: self._call(part, caller, deadline),  # type: ignore[misc]
                    lambda: self._loaded(card),
                )
            except GatewayError as error:
                found = {right[i]: e for i, e in _wrong_series(error, len(right)).items()}
                if not found or len(wrong) + len(found) >= len(every) or whole(work):
                    raise
                wrong |= found
                continue
            return _with_errors(answer, every, wrong) if wrong else answer

    def _call(self, work: Work, caller: Caller, deadline: float) -> Awaitable[Answer]:
        if isinstance(work, BacktestRequest):
            return backtests.backtest(self._service, work, caller=caller, deadline=deadline)
        if isinstance(work, AnomalyRequest):
            return anomalies.detect_anomalies(self._service, work, caller=caller, deadline=deadline)
        assert isinstance(work, ForecastRequest)
        return self._service.attempt(work, caller=caller, deadline=deadline)

    async def _loaded(self, card: ModelCard) -> None:
        """Wait until a model is there, however long that takes."""
        status = self._service.model(card.id, GATEWAY).status
        if status.state in ("loading", "loadable"):
            await self._service.load_model(card.id, GATEWAY)
        elif status.state == "unavailable" and status.retry_after_s is None:
            raise GatewayError(Code.UNAVAILABLE, status.reason)


class _Waits:
    """Tries a call until the engine has room for it."""

    def __init__(self, timeout_s: float, deadline: float | None) -> None:
        self._timeout_s = timeout_s
        self._deadline = deadline
        self.waited_s = 0.0

    async def run(self, call: Callable[[float], Awaitable[T]], loaded: Callable[[], Awaitable[None]]) -> T:
        """`call` is given its deadline; `loaded` waits for its model."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await loaded()
            self.waited_s += loop.time() - begun
            begun = loop.time()
            try:
                until = begun + self._timeout_s
                return await call(until if self._deadline is None else min(until, self._deadline))
            except GatewayError as error:
                if error.code is not Code.UNAVAILABLE or error.retry_after_s is None:
                    raise
                await asyncio.sleep(min(max(error.retry_after_s, SHORTEST_WAIT_S), LONGEST_WAIT_S))
                self.waited_s += loop.time() - begun


def _deadline(record: JobRecord) -> float | None:
    """A job's deadline by the loop's clock."""
    if record.job.deadline is None:
        return None
    return asyncio.get_running_loop().time() + record.job.deadline - time.time()


def _wrong_series(error: GatewayError, count: int) -> dict[int, GatewayError]:
    """The series that a refusal is about, each with what is said of it; none if it is about anything else."""
    found: dict[int, GatewayError] = {}
    if error.code is not Code.INVALID_ARGUMENT:
        return found
    for fault in error.faults:
        match fault.loc:
            case ("inputs", int(index), *_) if index < count:
                found.setdefault(index, GatewayError.invalid(fault))
            case _:
                return {}
    return found


def _with_errors(answer: Answer, every: tuple[object, ...], wrong: dict[int, GatewayError]) -> Answer:
    """An answer with errors in the places of the series that were left out."""
    rest = iter(cast(Forecast, answer).outputs)
    positions = [i for i in range(len(every)) if i not in wrong]
    outputs = []
    for i, member in enumerate(every):
        if i in wrong:
            assert isinstance(member, SeriesInput)
            outputs.append(SeriesError(code=wrong[i].code, sentence=wrong[i].sentence, metadata=member.metadata))
        else:
            output = next(rest)
            told = tuple(n if n.item is None else replace(n, item=positions[n.item]) for n in output.notices)
            outputs.append(replace(output, notices=told) if told else output)  # type: ignore[arg-type]
    return replace(cast(Forecast, answer), outputs=tuple(outputs))
