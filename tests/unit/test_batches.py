"""What a batch makes of its forecasts: all at once, each alone, and none that outlives the call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
import structlog

from gateway.domain import BatchRequest, Caller, Forecast, ForecastRequest, Parameters, SeriesInput, Usage
from gateway.errors import Code, GatewayError
from gateway.service import ForecastService
from gateway.service.batches import batch

HANG_LIMIT_S = 60.0


class Scripted(ForecastService):
    """A service whose forecasts are made by a function."""

    def __init__(self, make: Callable[[str], Awaitable[Forecast]]) -> None:
        self.make = make
        self.asked: list[tuple[str, str, float]] = []

    async def forecast(self, request: ForecastRequest, *, caller: Caller, deadline: float) -> Forecast:
        self.asked.append((request.model, caller.id, deadline))
        return await self.make(request.model)


def forecast_of(model: str) -> Forecast:
    return Forecast(
        id=model,
        created=1,
        model=model,
        model_revision="r",
        provider="p",
        point="mean",
        horizon=1,
        quantile_levels=(),
        input_points=1,
        outputs=(),
        usage=Usage(),
        latency_ms=1.0,
    )


def request_of(*models: str | GatewayError) -> BatchRequest:
    series = (SeriesInput(target=np.ones((1, 1))),)
    parameters = Parameters(prediction_length=1)
    return BatchRequest(
        requests=tuple(
            m if isinstance(m, GatewayError) else ForecastRequest(model=m, series=series, parameters=parameters)
            for m in models
        ),
        metadata="opaque",
    )


def run(service: ForecastService, request: BatchRequest) -> tuple[object, ...]:
    async def limited() -> tuple[object, ...]:
        async with asyncio.timeout(HANG_LIMIT_S):
            answer = await batch(service, request, caller=Caller(id="c"), deadline=7.0)
        assert answer.metadata == "opaque"
        return answer.results

    return asyncio.run(limited())


def test_all_forecasts_of_a_batch_are_under_way_at_once() -> None:
    async def meet(model: str) -> Forecast:
        await meeting.wait()
        return forecast_of(model)

    meeting = asyncio.Barrier(64)
    service = Scripted(meet)
    names = [f"m{i}" for i in range(64)]
    results = run(service, request_of(*names))
    assert [r.id for r in results if isinstance(r, Forecast)] == names
    assert service.asked == [(name, "c", 7.0) for name in names]


def test_what_fails_fails_alone_and_in_its_place() -> None:
    unread = GatewayError(Code.INVALID_ARGUMENT, "No.")
    denied = GatewayError(Code.PERMISSION_DENIED, "Not yours.")

    async def make(model: str) -> Forecast:
        if model == "denied":
            raise denied
        if model == "bug":
            raise KeyError("a secret")
        return forecast_of(model)

    with structlog.testing.capture_logs() as logs:
        first, second, third, bug, last = run(Scripted(make), request_of("a", unread, "denied", "bug", "b"))
    assert (second, third) == (unread, denied)
    assert isinstance(first, Forecast)
    assert isinstance(last, Forecast)
    assert isinstance(bug, GatewayError)
    assert bug.code is Code.INTERNAL
    assert "secret" not in bug.sentence
    assert [entry["event"] for entry in logs] == ["batched_request_failed"]


def test_a_batch_of_failures_is_an_answer() -> None:
    async def fail(model: str) -> Forecast:
        raise GatewayError(Code.UNAVAILABLE, model)

    results = run(Scripted(fail), request_of("a", "b"))
    assert [r.sentence for r in results if isinstance(r, GatewayError)] == ["a", "b"]


def test_a_batch_that_is_cancelled_takes_its_forecasts_with_it() -> None:
    begun, ended = asyncio.Event(), []

    async def wait(model: str) -> Forecast:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(model)
        return forecast_of(model)

    async def leave() -> None:
        task = asyncio.create_task(
            batch(Scripted(wait), request_of("a", "b"), caller=Caller(), deadline=7.0),
        )
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(ended) == ["a", "b"]

    asyncio.run(asyncio.wait_for(leave(), HANG_LIMIT_S))


def test_more_forecasts_than_places_take_turns() -> None:
    """A dialect may bring thousands: what waits in the queue must not have the rest refused."""
    under_way: list[int] = []

    async def turn(model: str) -> Forecast:
        under_way.append(+1)
        most.append(sum(under_way))
        await asyncio.sleep(0)
        under_way.append(-1)
        return forecast_of(model)

    most: list[int] = []
    names = [f"m{i}" for i in range(200)]
    results = run(Scripted(turn), request_of(*names))
    assert [r.id for r in results if isinstance(r, Forecast)] == names
    assert max(most) == 64
