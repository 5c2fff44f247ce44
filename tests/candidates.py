"""Models whose errors are known beforehand, for tests that compare, weigh and blend models."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import pytest

from adapters.base import Batch, BatchForecast, Device, Series, SeriesFailure, SeriesForecast
from catalog.card import Batching, Catalog, Licence, ModelCard
from gateway.domain import Caller, Parameters, SeriesInput
from gateway.engine import Engine
from gateway.engine.worker import WARM_UP_LENGTH
from gateway.service import ForecastService
from gateway.settings import EngineSettings
from tests.live.gated import Gate

REPOSITORY = Path(__file__).parent.parent
HANG_LIMIT_S = 60.0
CALLER = Caller(id="tester")

T = TypeVar("T")


def biased(name: str, *, bias: float = 0.0, drift: float = 0.0, picky: bool = False, horizon: int = 64) -> ModelCard:
    """Forecasts the last value plus `bias` plus `drift` a step; a picky one fails on series that begin below 0."""
    return _card(name, "tests.candidates:Biased", {"bias": bias, "drift": drift, "picky": picky}, horizon)


def raising(name: str) -> ModelCard:
    """Raises whatever it is asked, once it is loaded."""
    return _card(name, "tests.candidates:Raising", {}, 64)


def gated(name: str, gate: Gate, length: int) -> ModelCard:
    """Forecasts the last value, behind a gate for every batch with a series of `length` rows."""
    return _card(name, "tests.live.gated:Gated", {"folder": str(gate.folder), "length": length}, 64)


def slow_to_load(name: str, gate: Gate) -> ModelCard:
    """Forecasts the last value, once a gate lets it load."""
    return _card(name, "tests.engine_adapters:Slow", {"folder": str(gate.folder)}, 64)


def broken(name: str) -> ModelCard:
    """Cannot be loaded."""
    return _card(name, "tests.engine_adapters:Broken", {}, 64)


def _card(name: str, adapter: str, options: dict[str, str | int | float | bool], horizon: int) -> ModelCard:
    return ModelCard(
        id=name,
        title=name,
        family="test",
        adapter=adapter,
        adapter_options=options,
        licence=Licence(id="MIT"),
        max_context=1024,
        max_horizon=horizon,
        batching=Batching(pool="statistical", shortest_bucket=16),
    )


class Biased:
    """See `biased`."""

    def __init__(self, bias: float, drift: float, picky: bool) -> None:
        self._bias = bias
        self._drift = drift
        self._picky = picky

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        options = card.adapter_options
        return cls(float(options["bias"]), float(options["drift"]), bool(options["picky"]))

    def predict(self, batch: Batch) -> BatchForecast:
        return BatchForecast(tuple(self._forecast(series) for series in batch.series))

    def close(self) -> None:
        pass

    def _forecast(self, series: Series) -> SeriesForecast | SeriesFailure:
        if self._picky and (series.target[:, 0] < 0).any():
            return SeriesFailure("It does not like this series.")
        steps = np.arange(1, series.horizon + 1)[:, None]
        point = series.target[:, -1] + self._bias + self._drift * steps
        offsets = np.array(series.levels).reshape(-1, 1, 1) - 0.5
        return SeriesForecast(point=point, quantiles=point + offsets)


class Raising(Biased):
    """See `raising`."""

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        return cls(0.0, 0.0, False)

    def predict(self, batch: Batch) -> BatchForecast:
        if all(series.target.shape[1] == WARM_UP_LENGTH for series in batch.series):
            return super().predict(batch)
        raise RuntimeError("told to")


@dataclass(frozen=True)
class Bench:
    """A service over a real engine, in a loop that outlives single calls so that tests can share its workers."""

    service: ForecastService
    engine: Engine
    _runner: asyncio.Runner

    def run(self, work: Coroutine[None, None, T]) -> T:
        """The result of `work`, within a hang limit."""
        return self._runner.run(asyncio.wait_for(work, HANG_LIMIT_S))


@contextmanager
def bench(cards: Sequence[ModelCard], *, workers: int = 2, load_wait_s: float = HANG_LIMIT_S) -> Iterator[Bench]:
    """Serve `cards`, the first of which is the default."""
    catalog = Catalog(cards, default=cards[0].id)
    engine = Engine(catalog, EngineSettings(statistical_workers=workers, load_wait_s=load_wait_s, cancel_grace_s=0.05))
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        runner.run(engine.start())
        try:
            yield Bench(ForecastService(catalog, engine), engine, runner)
        finally:
            runner.run(engine.stop(0.0))


def in_time() -> float:
    """A deadline that is a hang limit."""
    return asyncio.get_running_loop().time() + HANG_LIMIT_S


def series(*values: float, metadata: str | None = None) -> SeriesInput:
    """One channel."""
    return SeriesInput(target=np.array(values, dtype=np.float64)[:, None], metadata=metadata)


def parameters(horizon: int, **fields: object) -> Parameters:
    """Of a forecast of `horizon` steps."""
    return replace(Parameters(prediction_length=horizon), **fields)
