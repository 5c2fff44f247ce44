"""A model whose forecast shows what it was given, for tests of the search for anomalies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from adapters.base import Batch, BatchForecast, Device, Series, SeriesForecast
from catalog.card import Batching, Covariates, Licence, ModelCard


def card(name: str = "test/ahead", **fields: object) -> ModelCard:
    """A card of `Ahead`."""
    sound: dict[str, object] = {
        "id": name,
        "title": name,
        "family": "test",
        "adapter": "tests.anomaly_models:Ahead",
        "licence": Licence(id="MIT"),
        "max_context": 1024,
        "max_horizon": 64,
        "covariates": Covariates(past="native", future="native"),
        "batching": Batching(pool="statistical"),
    }
    return ModelCard(**{**sound, **fields})  # type: ignore[arg-type]


class Ahead:
    """Forecasts the first covariate where it is known ahead, else the mean of the context; normal with deviation 1."""

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        return cls()

    def predict(self, batch: Batch) -> BatchForecast:
        return BatchForecast(tuple(_forecast(one) for one in batch.series))

    def close(self) -> None:
        pass


def _forecast(one: Series) -> SeriesForecast:
    channels = len(one.target)
    if len(one.future):
        point = np.tile(one.future[0][:, None], (1, channels))
    else:
        point = np.tile(np.nanmean(one.target, axis=1), (one.horizon, 1))
    # 2.563 / 2 deviations to either side at 0.1 and 0.9, linear in the level, so that each level is its own.
    distance = (np.array(one.levels) - 0.5) / 0.4 * 2.563 / 2
    return SeriesForecast(point=point, quantiles=point + distance[:, None, None])
