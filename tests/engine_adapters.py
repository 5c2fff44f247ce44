"""Models that misbehave on command, and the settings to run them in an engine of their own.

What `Scripted` does with a batch is written in the first value of each series; a well-behaved one is forecast as its
last value.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from adapters.base import Batch, BatchForecast, Device, Series, SeriesForecast
from catalog.card import Batching, Licence, ModelCard, Weights
from tests.live.gated import Gate

RAISE, HANG, EXIT, NAN, INF, TOO_FEW, WRONG_SHAPE, WAIT, REFUSE = (float(-n) for n in range(1, 10))

# The pool whose workers import no library of their own.
BATCHING = Batching(pool="statistical", shortest_bucket=16)


def series(last: float, *, act: float = 0.0, length: int = 8, horizon: int = 3, channels: int = 1) -> Series:
    """One series that is forecast as `last`, after the model has done what `act` says."""
    target = np.zeros((channels, length))
    target[:, -1] = last
    target[:, 0] = act
    return Series(target=target, horizon=horizon, levels=(0.1, 0.9))


def card(
    name: str = "test/scripted",
    *,
    adapter: str = "Scripted",
    gate: Gate | None = None,
    batching: Batching = BATCHING,
    weights: Mapping[str, Weights] | None = None,
) -> ModelCard:
    """A card of one of this module's models."""
    return ModelCard(
        id=name,
        title=name,
        family="test",
        adapter=f"tests.engine_adapters:{adapter}",
        adapter_options={"folder": str(gate.folder)} if gate else {},
        licence=Licence(id="MIT"),
        max_context=1024,
        max_horizon=64,
        batching=batching,
        weights=dict(weights or {}),
    )


class Scripted:
    """Does what the first value of a series says."""

    def __init__(self, gate: Gate | None) -> None:
        self._gate = gate

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        folder = card.adapter_options.get("folder")
        return cls(Gate(Path(str(folder))) if folder else None)

    def predict(self, batch: Batch) -> BatchForecast:
        acts = {float(s.target[0, 0]) for s in batch.series}
        if WAIT in acts and self._gate is not None:
            self._gate.started.write_text(str(len(batch.series)))
            self._gate.gate.read_text()
        if RAISE in acts:
            raise RuntimeError("told to")
        if HANG in acts:
            signal.pause()
        if EXIT in acts:
            os._exit(3)
        results = [_forecast(s) for s in batch.series]
        return BatchForecast(tuple(results[1:] if TOO_FEW in acts else results))

    def close(self) -> None:
        pass


def _forecast(one: Series) -> SeriesForecast:
    point = np.tile(one.target[:, -1], (one.horizon, 1))
    act = float(one.target[0, 0])
    if act in (NAN, INF):
        point[-1] = np.nan if act == NAN else np.inf
    if act == WRONG_SHAPE:
        point = point[1:]
    return SeriesForecast(point=point, quantiles=np.stack([point] * len(one.levels)))


class Broken(Scripted):
    """Cannot be loaded."""

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        raise ValueError("the checkpoint is of another model")


class Fatal(Scripted):
    """Takes its process with it when it is loaded."""

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        os._exit(4)


class Slow(Scripted):
    """Is loaded when the gate is opened."""

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        model = super().load(card, folders, device)
        assert model._gate is not None
        model._gate.started.write_text("loading")
        model._gate.gate.read_text()
        return model


class Heavy(Scripted):
    """Keeps 64 MB in memory."""

    def __init__(self, gate: Gate | None) -> None:
        super().__init__(gate)
        self._ballast = np.ones(8 << 20)


class Imports(Scripted):
    """Forecasts 1 where a library has been imported that a worker of its pool does not need, else 0."""

    def predict(self, batch: Batch) -> BatchForecast:
        seen = any(library in sys.modules for library in ("torch", "transformers", "pandas"))
        return BatchForecast(
            tuple(
                SeriesForecast(
                    point=np.full((s.horizon, 1), float(seen)),
                    quantiles=np.full((len(s.levels), s.horizon, 1), float(seen)),
                )
                for s in batch.series
            )
        )
