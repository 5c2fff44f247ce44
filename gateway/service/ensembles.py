"""Ensembles: candidates are backtested side by side, and the forecasts of the best are blended.

The budget is one clock. Backtests run until what is left of it is needed for the forecasts of the best; what has not
come by then is withdrawn, reported and left out. A forecast that does not come in time drops out of the blend.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from gateway.domain import (
    Backtest,
    BacktestRequest,
    Caller,
    EnsembleForecast,
    EnsembleRequest,
    Forecast,
    ForecastRequest,
    Parameters,
)
from gateway.errors import Code, Fault, GatewayError
from gateway.pacing import paced
from gateway.service import backtests
from gateway.service.blends import answer, choose
from gateway.service.candidates import Candidate, candidates, nothing_left
from gateway.service.forecasts import ForecastService

SCORED_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # that crps is the mean over
DEFAULT_LEVELS = (0.1, 0.5, 0.9)
RESERVE = 3.0  # times the longest forecast expected, kept for the forecasts of the best: they run side by side
RESTART_S = 3.0  # kept besides where others are withdrawn from a pool: a worker may end, and load its models again
LEAST_RESERVE, LARGEST_RESERVE = 0.05, 0.5  # of the budget
IN_TIME = 0.95  # of the time to the caller's deadline: the blend has to be made and sent
HANG_SHARE = 0.2  # of the budget: a candidate whose one batch takes longer is withdrawn if it holds others up
HANG_LEAST_S = 5.0  # that a batch may take in any case: most are cut to 1 s of work, on a machine that is not busy
PROBE_S = 0.1  # between two looks at what the engine computes
RETRY_S = 1.0  # between two calls of a model that is being loaded or has too much to do


class Backtester(Protocol):
    """Where a candidate is backtested: in the engine of this process, or as a job of its own on the pool.

    Cancelling the call withdraws the work.
    """

    def __call__(self, request: BacktestRequest, *, caller: Caller, deadline: float) -> Awaitable[Backtest]: ...


@dataclass(frozen=True, slots=True)
class _Run:
    """One ensemble under way. Times are seconds of the loop's clock."""

    service: ForecastService
    request: EnsembleRequest
    caller: Caller
    backtester: Backtester
    began: float
    end: float

    @property
    def parameters(self) -> Parameters:
        """Of the members' forecasts."""
        asked = self.request.parameters
        levels = DEFAULT_LEVELS if asked.quantile_levels is None else asked.quantile_levels
        return replace(asked, quantile_levels=levels, num_samples=None, sample_method=None)

    @property
    def seconds(self) -> float:
        """Of the budget, as far as the caller's deadline leaves it."""
        return self.end - self.began

    @property
    def late(self) -> GatewayError:
        """Of a candidate that has not come."""
        sentence = f"It did not come within the budget of {self.seconds:.3g} s."
        return GatewayError(Code.DEADLINE_EXCEEDED, sentence)

    @property
    def hung(self) -> GatewayError:
        """Of a candidate that is withdrawn for the sake of others."""
        sentence = (
            f"It held others up: one batch took over {self.patience_s:.3g} s of the budget of {self.seconds:.3g} s."
        )
        return GatewayError(Code.DEADLINE_EXCEEDED, sentence)

    @property
    def patience_s(self) -> float:
        """Seconds that one batch may hold others up."""
        return max(HANG_LEAST_S, HANG_SHARE * self.seconds)

    def reserve(self, there: Iterable[Candidate], others: Iterable[Candidate]) -> float:
        """Seconds before the end that the forecasts of `there` need, if work of `others` is withdrawn for them."""
        there, withdrawn = list(there), {c.pool for c in others}
        longest = max(map(_seconds, there), default=0.0)
        restart_s = RESTART_S if any(c.pool in withdrawn for c in there) else 0.0
        return min(LARGEST_RESERVE * self.seconds, LEAST_RESERVE * self.seconds + RESERVE * longest + restart_s)


async def ensemble(
    service: ForecastService,
    request: EnsembleRequest,
    *,
    caller: Caller,
    deadline: float,
    backtester: Backtester | None = None,
) -> EnsembleForecast:
    """Rank the candidates and blend the best within the budget; without a `backtester`, through the engine here.

    Raises GatewayError where no candidate is left, or where no series is long enough to hold anything out.
    """
    started = time.perf_counter()
    began = asyncio.get_running_loop().time()
    _refuse(request)

    here = partial(backtests.backtest, service)
    end = began + min(request.budget_s, IN_TIME * (deadline - began))
    run = _Run(service, request, caller, backtester or here, began, end)
    found = await candidates(service, request, run.parameters, caller)
    await _try_out(run, [c for c in found if c.alive])
    tried = [c for c in found if c.alive]
    if not tried:
        raise nothing_left(found)
    weights = await paced(choose(request, tried, SCORED_LEVELS))
    wanted = [c for i, c in enumerate(tried) if weights[:, i].any()]
    await _forecast(run, wanted, sorted((c for c in tried if c not in wanted), key=_standing))
    if not any(c.forecast is not None for c in tried):
        raise nothing_left(found)
    return await paced(answer(request, run.parameters.quantile_levels or (), found, tried, weights, started))


def _refuse(request: EnsembleRequest) -> None:
    """What no choice of candidates could do."""
    if request.parameters.dry_run:
        raise GatewayError.invalid(Fault(("parameters", "dry_run"), "an ensemble has no dry run"))
    horizon = request.parameters.prediction_length
    longest = max(len(series.target) for series in request.series)
    if longest <= horizon:
        told = f"an ensemble is scored on held-out rows: at least one series must be longer than {horizon} rows"
        raise GatewayError.invalid(Fault(("inputs",), f"{told} (prediction_length), the longest has {longest}"))


def _standing(candidate: Candidate) -> tuple[bool, float]:
    return candidate.score is None, candidate.score or 0.0


# -- backtests ---


async def _try_out(run: _Run, tried: Sequence[Candidate]) -> None:
    """Backtest all side by side, until the forecasts of the best must begin."""
    cheapest_first = sorted(tried, key=lambda c: c.price(run.request))
    tasks = {asyncio.create_task(_patiently(_backtest(run, c), run.end)): c for c in cheapest_first}
    pending = set(tasks)
    try:
        while pending:
            there = [c for c in tried if c.backtest is not None]
            until = run.end - run.reserve(there, (tasks[task] for task in pending)) if there else run.end
            if _now() >= until:
                break
            await _progress(run, tasks, pending, until)
    finally:
        for task in pending:
            _withdraw(task)
            tasks[task].fail(run.late)


def _backtest(run: _Run, candidate: Candidate) -> Callable[[], Awaitable[None]]:
    order = BacktestRequest(
        forecast=candidate.request(run.request, replace(run.parameters, quantile_levels=SCORED_LEVELS)),
        windows=run.request.windows,
        step=run.request.step,
        forecasts=run.request.weighting == "greedy",
        fewer_windows=True,
    )

    async def once() -> None:
        candidate.backtest = await run.backtester(order, caller=run.caller, deadline=run.end)

    return once


# -- the forecasts of the best ---


async def _forecast(run: _Run, wanted: Sequence[Candidate], spare: list[Candidate]) -> None:
    """Have all of `wanted` forecast, and of `spare` one at a time while none of the others has or can in time."""
    tasks = {_begin(run, c): c for c in wanted}
    pending = set(tasks)
    hurry = run.end - run.reserve(spare, wanted)
    try:
        while pending or spare:
            some = any(c.forecast is not None for c in wanted)
            if _now() >= run.end or (some and all(tasks[task] not in wanted for task in pending)):
                break
            if spare and not some and (not pending or _now() >= hurry):
                left_s = run.end - _now()
                chosen = next((c for c in spare if RESERVE * _seconds(c) <= left_s), min(spare, key=_seconds))
                spare.remove(chosen)
                task = _begin(run, chosen)
                tasks[task] = chosen
                pending.add(task)
                hurry = run.end
            await _progress(run, tasks, pending, hurry if spare and not some else run.end)
    finally:
        for task in pending:
            _withdraw(task)
            if tasks[task] in wanted or _now() >= run.end:  # a spare that is not needed any more is not late
                tasks[task].fail(run.late)


def _begin(run: _Run, candidate: Candidate) -> asyncio.Task[None]:
    asked: ForecastRequest = candidate.request(run.request, run.parameters)

    async def once() -> None:
        forecast = await run.service.forecast(asked, caller=run.caller, deadline=run.end)
        assert isinstance(forecast, Forecast)  # no dry run
        candidate.forecast = forecast

    return asyncio.create_task(_patiently(once, run.end))


def _seconds(candidate: Candidate) -> float:
    """That one forecast of a candidate takes, by its backtest."""
    backtest = candidate.backtest
    return backtest.latency_ms / 1e3 / max(1, backtest.windows) if backtest is not None else 0.0


# -- waiting ---


async def _patiently(call: Callable[[], Awaitable[None]], until: float) -> None:
    """Call again while a model is being loaded or the engine has too much to do, if there is time."""
    while True:
        try:
            return await call()
        except GatewayError as error:
            if error.code is not Code.UNAVAILABLE or error.retry_after_s is None:
                raise
            pause = min(error.retry_after_s, RETRY_S)
            if _now() + pause >= until:
                raise
        await asyncio.sleep(pause)


async def _progress(
    run: _Run, tasks: Mapping[asyncio.Task[None], Candidate], pending: set[asyncio.Task[None]], until: float
) -> None:
    """Wait for one of `pending`, not past `until`; whatever is done, or is given up, leaves the set."""
    wait_s = min(PROBE_S, max(0.0, until - _now()))
    done, _ = await asyncio.wait(pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        pending.discard(task)
        error = task.exception()
        if isinstance(error, GatewayError):
            tasks[task].fail(run.late if error.code is Code.DEADLINE_EXCEEDED else error)
        elif error is not None:
            raise error
    for task in _holding_up(run, tasks, pending):
        pending.discard(task)
        _withdraw(task)
        tasks[task].fail(run.hung)


def _holding_up(
    run: _Run, tasks: Mapping[asyncio.Task[None], Candidate], pending: set[asyncio.Task[None]]
) -> list[asyncio.Task[None]]:
    """Those whose batch takes so long that it may never end, while others wait for the same workers."""
    slow = {model for model, seconds in run.service.computing().items() if seconds > run.patience_s}
    held_up = {tasks[task].pool for task in pending if tasks[task].model not in slow}
    return [task for task in pending if tasks[task].model in slow and tasks[task].pool in held_up]


def _withdraw(task: asyncio.Task[None]) -> None:
    """End a task that nobody waits for."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


def _now() -> float:
    return asyncio.get_running_loop().time()
