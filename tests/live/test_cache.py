"""Forecasts that are asked again: from the cache where nothing that decides them has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.base import Remark
from adapters.base import SeriesForecast as AdapterForecast
from catalog import Catalog
from gateway.domain import Caller, Forecast, ForecastRequest, Parameters, SeriesForecast, SeriesInput
from gateway.engine import Engine
from gateway.service import ForecastCache, ForecastService
from gateway.settings import EngineSettings
from tests import engine_adapters as models

REPOSITORY = Path(__file__).parents[2]
HANG_LIMIT_S = 60.0
SETTINGS = EngineSettings(statistical_workers=1, workers=1, load_wait_s=HANG_LIMIT_S, cache_mb=1)
CARD = models.card()


class Elsewhere:
    """What gateways share, in memory."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    async def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.kept.get(k) for k in keys]

    async def write(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        self.kept.update(items)


@pytest.fixture(autouse=True)
def _workers_see_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@asynccontextmanager
async def service(cache: ForecastCache | None) -> AsyncIterator[ForecastService]:
    catalog = Catalog([CARD], {}, CARD.id)
    engine = Engine(catalog, SETTINGS)
    await engine.start()
    try:
        yield ForecastService(catalog, engine, cache=cache)
    finally:
        await engine.stop(grace_s=1.0)


async def ask(on: ForecastService, *last: float, caller: str = "a", horizon: int = 2) -> Forecast:
    """Forecast one series a value, each of which ends in it."""
    targets = [np.array([0.0, 0.0, 0.0, value]).reshape(-1, 1) for value in last]
    request = ForecastRequest(
        model=CARD.id,
        series=tuple(SeriesInput(target=t) for t in targets),
        parameters=Parameters(prediction_length=horizon),
    )
    deadline = asyncio.get_running_loop().time() + HANG_LIMIT_S
    answer = await on.forecast(request, caller=Caller(id=caller), deadline=deadline)
    assert isinstance(answer, Forecast)
    return answer


def ends(answer: Forecast) -> list[float]:
    return [float(o.mean[-1, 0]) if isinstance(o, SeriesForecast) else float("nan") for o in answer.outputs]


def test_only_what_was_not_asked_before_is_run() -> None:
    async def steps() -> None:
        async with service(ForecastCache(1 << 20)) as on:
            first = await ask(on, 1.0, 2.0)
            again = await ask(on, 1.0, 2.0)
            partly = await ask(on, 2.0, 3.0, 1.0)
            assert (first.cached, again.cached, partly.cached) == (False, True, False)
            assert ends(again) == [1.0, 2.0]
            assert ends(partly) == [2.0, 3.0, 1.0], "each in its place"
            assert again.usage == first.usage
            assert again.compute_ms == 0.0
            assert not (await ask(on, 1.0, horizon=3)).cached
            assert not (await ask(on, 1.0, caller="b")).cached, "another caller's forecasts are not shown"

    asyncio.run(steps())


def test_without_a_cache_everything_is_run() -> None:
    async def steps() -> None:
        async with service(None) as on:
            await ask(on, 1.0)
            assert not (await ask(on, 1.0)).cached

    asyncio.run(steps())


def test_a_failure_is_not_kept() -> None:
    async def steps() -> None:
        async with service(ForecastCache(1 << 20)) as on:
            failing = ForecastRequest(
                model=CARD.id,
                series=(
                    SeriesInput(target=np.array([[models.NAN], [1.0]])),
                    SeriesInput(target=np.array([[0.0], [7.0]])),
                ),
                parameters=Parameters(prediction_length=1),
            )
            for _ in range(2):
                deadline = asyncio.get_running_loop().time() + HANG_LIMIT_S
                answer = await on.forecast(failing, caller=Caller(id="a"), deadline=deadline)
                assert isinstance(answer, Forecast)
                assert not answer.cached, "the series that failed is tried again"
                assert np.isnan(ends(answer)).tolist() == [True, False]

    asyncio.run(steps())


def test_what_is_shared_is_found_by_another_gateway() -> None:
    async def steps() -> None:
        elsewhere = Elsewhere()
        async with service(ForecastCache(1 << 20, elsewhere)) as one, service(ForecastCache(1 << 20, elsewhere)) as two:
            await ask(one, 5.0)
            answer = await ask(two, 5.0)
            assert answer.cached
            assert ends(answer) == [5.0]
            elsewhere.kept = {k: b"\x00" + v for k, v in elsewhere.kept.items()}
            async with service(ForecastCache(1 << 20, elsewhere)) as three:
                assert not (await ask(three, 5.0)).cached, "what another release wrote is not read"

    asyncio.run(steps())


def test_the_longest_unused_goes_first() -> None:
    async def steps() -> None:
        size = 3 * 8 * 2 + 512
        cache = ForecastCache(2 * size)
        for key in (b"a", b"b"):
            await cache.keep([(key, forecast(1.0))])
        assert (await cache.find([b"a"]))[0] is not None
        await cache.keep([(b"c", forecast(2.0))])
        assert [f is None for f in await cache.find([b"a", b"b", b"c"])] == [False, True, False]

    asyncio.run(steps())


def test_a_forecast_larger_than_the_cache_is_not_kept() -> None:
    async def steps() -> None:
        cache = ForecastCache(100)
        await cache.keep([(b"a", forecast(1.0))])
        assert await cache.find([b"a"]) == [None]

    asyncio.run(steps())


def test_what_is_kept_comes_back_whole_and_cannot_be_changed() -> None:
    async def steps() -> None:
        cache = ForecastCache(1 << 20)
        made = replace(forecast(1.0), samples=np.zeros((3, 2, 1)), remarks=(Remark("fallback", (1, 2), "why"),))
        await cache.keep([(b"a", made)])
        made.point[:] = 9.0  # its maker goes on with it
        (found,) = await cache.find([b"a"])
        assert found is not None
        assert found.remarks == made.remarks
        assert found.samples is not None
        assert (found.point == 1.0).all()
        for array in (found.point, found.quantiles, found.samples):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 5.0

    asyncio.run(steps())


def test_what_is_kept_fits_its_bytes() -> None:
    async def steps() -> None:
        cache, size = ForecastCache(1 << 20), 0
        keys = [b"%04d" % i for i in range(2000)]
        for i, key in enumerate(keys):
            large = replace(forecast(float(i)), quantiles=np.full((9, 1 + i % 200, 1), float(i)))
            await cache.keep([(key, large), (key, large)])
        left = [f for f in await cache.find(keys) if f is not None]
        size = sum(f.point.nbytes + f.quantiles.nbytes for f in left)
        assert 0.8 * (1 << 20) < size <= 1 << 20
        assert len(left) < len(keys)

    asyncio.run(steps())


def forecast(value: float) -> AdapterForecast:
    return AdapterForecast(point=np.full((2, 1), value), quantiles=np.full((2, 2, 1), value))
