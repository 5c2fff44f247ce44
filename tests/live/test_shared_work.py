"""Identical work of one caller that is under way at once: one computation, whoever of them leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from catalog import Catalog
from gateway.domain import Caller, Forecast, ForecastPlan, ForecastRequest, Parameters, SeriesForecast, SeriesInput
from gateway.engine import Engine
from gateway.errors import Code, GatewayError
from gateway.service import ForecastService
from gateway.settings import EngineSettings
from tests import engine_adapters as models
from tests.live.gated import Gate

REPOSITORY = Path(__file__).parents[2]
HANG_LIMIT_S = 60.0
SETTINGS = EngineSettings(statistical_workers=1, workers=1, load_wait_s=HANG_LIMIT_S)

Asking = asyncio.Task[Forecast | ForecastPlan]


@pytest.fixture(autouse=True)
def _workers_see_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


class Desk:
    """A service whose model waits at a gate, and callers of it."""

    def __init__(self, service: ForecastService, engine: Engine, gate: Gate) -> None:
        self.service = service
        self.engine = engine
        self.gate = gate

    async def ask(self, *, within_s: float = HANG_LIMIT_S, caller: str = "a") -> Asking:
        """A call that has come as far as it gets before the gate is opened."""
        request = ForecastRequest(
            model="test/scripted",
            series=(SeriesInput(target=np.array([[models.WAIT], [0.0], [7.0]])),),
            parameters=Parameters(prediction_length=2),
        )
        deadline = asyncio.get_running_loop().time() + within_s
        task = asyncio.create_task(self.service.forecast(request, caller=Caller(id=caller), deadline=deadline))
        for _ in range(20):
            await asyncio.sleep(0)
        return task

    async def begun(self) -> None:
        await asyncio.to_thread(self.gate.wait_until_started)

    async def open(self) -> None:
        await asyncio.to_thread(self.gate.open)

    @property
    def under_way(self) -> int:
        return self.engine.snapshot().in_flight


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    gate = Gate.make(folder / "gate")
    catalog = Catalog([models.card(gate=gate)])
    engine = Engine(catalog, SETTINGS)
    await engine.start()
    try:
        async with asyncio.timeout(5 * HANG_LIMIT_S):
            yield Desk(ForecastService(catalog, engine), engine, gate)
    finally:
        await engine.stop(grace_s=0.0)


async def end_of(asking: Asking) -> float:
    answer = await asking
    assert isinstance(answer, Forecast)
    (output,) = answer.outputs
    assert isinstance(output, SeriesForecast)
    return float(output.mean[-1, 0])


def test_identical_work_is_done_once(tmp_path: Path) -> None:
    async def steps() -> None:
        async with desk(tmp_path) as d:
            first = await d.ask()
            await d.begun()
            second = await d.ask()
            assert d.under_way == 1
            await d.open()
            assert [await end_of(first), await end_of(second)] == [7.0, 7.0]
            assert d.engine.snapshot().batches == 1

    asyncio.run(steps())


def test_the_first_may_leave_and_the_other_is_answered(tmp_path: Path) -> None:
    async def steps() -> None:
        async with desk(tmp_path) as d:
            first = await d.ask()
            await d.begun()
            second = await d.ask()
            first.cancel()
            await asyncio.wait([first])
            assert first.cancelled()
            assert d.under_way == 1
            await d.open()
            assert await end_of(second) == 7.0
            assert d.engine.snapshot().batches == 1

    asyncio.run(steps())


def test_the_last_who_leaves_takes_the_work_with_it(tmp_path: Path) -> None:
    async def steps() -> None:
        async with desk(tmp_path) as d:
            callers = [await d.ask()]
            await d.begun()
            callers.append(await d.ask())
            for one in callers:
                one.cancel()
            await asyncio.wait(callers)
            for _ in range(20):
                await asyncio.sleep(0)
            assert d.under_way == 0

    asyncio.run(steps())


def test_a_deadline_that_is_nearer_than_the_works_is_kept(tmp_path: Path) -> None:
    async def steps() -> None:
        async with desk(tmp_path) as d:
            first = await d.ask()
            await d.begun()
            hurried = await d.ask(within_s=0.05)
            with pytest.raises(GatewayError) as told:
                await hurried
            assert told.value.code is Code.DEADLINE_EXCEEDED
            await d.open()
            assert await end_of(first) == 7.0

    asyncio.run(steps())


def test_work_whose_deadline_passes_is_taken_up_by_who_has_time(tmp_path: Path) -> None:
    async def steps() -> None:
        async with desk(tmp_path) as d:
            patient = await d.ask(caller="b")  # the model is loaded, and the worker held
            await d.begun()
            hurried = await d.ask(within_s=0.05)
            staying = await d.ask()
            with pytest.raises(GatewayError) as told:
                await hurried
            assert told.value.code is Code.DEADLINE_EXCEEDED
            await d.open()
            assert await end_of(patient) == 7.0
            await d.begun()
            await d.open()
            assert await end_of(staying) == 7.0

    asyncio.run(steps())
