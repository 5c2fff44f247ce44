"""An engine that keeps every forecast on disk, so that what is made of them can be tried again without the models."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapters.base import Series, SeriesFailure, SeriesForecast
from catalog import ModelCard
from gateway.engine import Engine, Outcome
from gateway.engine.batcher import Result

TABLE = "create table if not exists forecasts (series blob primary key, failure text, point blob, quantiles blob)"


class RememberingEngine(Engine):
    """Runs what it has not run before. What it keeps is of one version of the models: a new one needs a new file."""

    def keep_in(self, file: Path) -> None:
        """Keep forecasts in `file`; call once, before the first `run`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._kept = sqlite3.connect(file, timeout=60)
        self._kept.execute("pragma journal_mode=wal")
        self._kept.execute(TABLE)

    async def run(self, card: ModelCard, series: Sequence[Series], *, deadline: float) -> Outcome:
        keys = [_key(card, one) for one in series]
        results = {key: found for key, one in zip(keys, series, strict=True) if (found := self._find(key, one))}
        missing = {key: one for key, one in zip(keys, series, strict=True) if key not in results}
        if missing:
            made = await super().run(card, list(missing.values()), deadline=deadline)
            for key, result in zip(missing, made.results, strict=True):
                results[key] = result
                self._keep(key, result)
            self._kept.commit()
        return Outcome(tuple(results[key] for key in keys))

    def _find(self, key: bytes, one: Series) -> Result | None:
        row = self._kept.execute("select failure, point, quantiles from forecasts where series = ?", (key,)).fetchone()
        if row is None:
            return None
        failure, point, quantiles = row
        if failure is not None:
            return SeriesFailure(failure)
        shape = (one.horizon, len(one.target))
        return SeriesForecast(
            point=np.frombuffer(point).reshape(shape),
            quantiles=np.frombuffer(quantiles).reshape(len(one.levels), *shape),
        )

    def _keep(self, key: bytes, result: Result) -> None:
        if isinstance(result, SeriesFailure):
            row = (key, result.reason, None, None)
        else:
            row = (key, None, result.point.tobytes(), result.quantiles.tobytes())
        self._kept.execute("insert or replace into forecasts values (?, ?, ?, ?)", row)


def _key(card: ModelCard, one: Series) -> bytes:
    """A digest of what decides the forecast of a series without covariates and without sampling."""
    digest = hashlib.blake2b(repr((card.id, card.revision, one.horizon, one.levels, one.season)).encode())
    digest.update(repr(one.target.shape).encode() + one.target.tobytes())
    return digest.digest()[:16]
