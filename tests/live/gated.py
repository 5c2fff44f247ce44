"""A model that says when it starts and waits to be let go on, so that tests need not guess how long things take.

`started` and `gate` are named pipes: opening one blocks until the other side opens it too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapters.base import Batch, BatchForecast, Device
from adapters.seasonal_naive import SeasonalNaive
from catalog.card import ModelCard


@dataclass(frozen=True)
class Gate:
    """Both pipes, on the test's side."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        folder.mkdir(parents=True, exist_ok=True)
        gate = cls(folder)
        for pipe in (gate.started, gate.gate):
            os.mkfifo(pipe)
        return gate

    @property
    def started(self) -> Path:
        return self.folder / "started"

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    def wait_until_started(self) -> str:
        """Block until a batch reaches the model; how many series it holds."""
        return self.started.read_text()

    def open(self) -> None:
        """Let the batch that waits go on."""
        self.gate.write_text("go")


class Gated:
    """Seasonal naive behind a gate for every batch whose series are `length` long."""

    def __init__(self, inner: SeasonalNaive, gate: Gate, length: int) -> None:
        self._inner = inner
        self._gate = gate
        self._length = length

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        options = card.adapter_options
        inner = SeasonalNaive.load(card, folders, device)
        return cls(inner, Gate(Path(str(options["folder"]))), int(options["length"]))

    def predict(self, batch: Batch) -> BatchForecast:
        if any(s.target.shape[1] == self._length for s in batch.series):
            self._gate.started.write_text(str(len(batch.series)))
            self._gate.gate.read_text()
        return self._inner.predict(batch)

    def close(self) -> None:
        self._inner.close()
