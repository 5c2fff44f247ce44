"""Series to Chronos-Bolt's rows, and its quantiles back to forecasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from adapters.arrays import UNOBSERVED, by_series, channel_rows, left_padded, observed, passes
from adapters.base import Array, Batch, BatchForecast, Device, Series, SeriesFailure, SeriesForecast
from adapters.checkpoint import Checkpoint
from adapters.chronos_bolt.checkpoint import known_config
from adapters.chronos_bolt.graphed import graphed
from adapters.chronos_bolt.lean import LeanBolt
from adapters.quantiles import forecasts_of
from catalog.card import ModelCard

# Tokens of one pass. A CPU's products are at full speed from about 500 tokens on, and a larger pass only falls out
# of its caches; a GPU wants all the rows that its memory holds (the cards' 32768 take about 2 GB in the base model).
CPU_TOKENS = 1024
# Patches up to which rows of any lengths run together: their padding costs less than a pass of its own.
SHORTEST_CLASS = 8

Indices = npt.NDArray[np.intp]


class QuantileModel(Protocol):
    """One way to compute the network: `LeanBolt`, `GraphedBolt` or `UpstreamBolt`."""

    levels: tuple[float, ...]
    context_length: int
    block: int  # steps of one pass
    patch: int  # observations of one token

    def predict(self, context: torch.Tensor, horizon: int) -> torch.Tensor:
        """(rows, time) float32, NaN where missing -> (rows, levels, horizon) float32, levels may cross"""
        ...


class ChronosBolt:
    """The family's adapter. Channels are forecast one by one; covariates are not this model's business."""

    def __init__(self, card: ModelCard, model: QuantileModel, tokens: int) -> None:
        """`tokens` bounds one pass of the network, padding included."""
        self._card = card
        self._model = model
        self._tokens = tokens

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Read `folders["model"]`, by the lean path where it knows the configuration."""
        folder = folders["model"]
        model = _open(folder, device)
        if card.quantile_levels and model.levels != card.quantile_levels:
            raise ValueError(
                f"{folder} was trained for the levels {model.levels}, its card says {card.quantile_levels}"
            )
        return cls(card, model, CPU_TOKENS if device.name == "cpu" else card.batching.budget(gpu=True))

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series; one with a channel that nothing was observed of is a failure of its own."""
        answers: list[SeriesForecast | SeriesFailure] = [UNOBSERVED] * len(batch.series)
        sound = [i for i, one in enumerate(batch.series) if observed(one, self._model.context_length)]
        forecasts = self._forecasts([batch.series[i] for i in sound])
        for i, forecast in zip(sound, forecasts, strict=True):
            answers[i] = forecast
        return BatchForecast(tuple(answers))

    def close(self) -> None:
        """Drop the weights."""
        del self._model

    def _forecasts(self, series: Sequence[Series]) -> list[SeriesForecast]:
        rows = [row[-self._model.context_length :] for row in channel_rows(series)]
        horizons = np.array([one.horizon for one in series for _ in one.target], dtype=np.intp)
        values = np.zeros((len(rows), len(self._model.levels), horizons.max(initial=0)))
        for chosen in self._passes(rows, horizons):
            horizon = int(horizons[chosen].max())
            values[chosen, :, :horizon] = self._quantiles(left_padded([rows[i] for i in chosen]), horizon)
        return forecasts_of(series, by_series(values, series), self._model.levels, self._card.tails)

    def _passes(self, rows: Sequence[Array], horizons: Indices) -> Iterator[Indices]:
        """Which rows run together: of one number of blocks and one class of lengths, within the token bound."""
        patches = np.array([-(-len(row) // self._model.patch) for row in rows], dtype=np.intp)
        blocks = -(-horizons // self._model.block)
        for count in sorted(set(blocks.tolist())):
            members = np.flatnonzero(blocks == count)
            # Beyond its first block every row is one path a level.
            paths = 1 if count == 1 else len(self._model.levels)
            for chosen in passes(patches[members], self._tokens // paths, SHORTEST_CLASS):
                yield members[chosen]

    def _quantiles(self, rows: Array, horizon: int) -> Array:
        """Trained quantiles, (rows, time) -> (rows, levels, horizon).

        The network's float32 sees rows between -1 and 1, its forecast is put back in float64: the model itself
        does not care for level and scale, and so a small variation on a high level loses no digits.
        """
        low, high = np.fmin.reduce(rows, axis=1)[:, None], np.fmax.reduce(rows, axis=1)[:, None]  # over the gaps
        centre, reach = low / 2 + high / 2, high / 2 - low / 2
        reach[reach == 0] = 1.0
        unit = torch.from_numpy(((rows - centre) / reach).astype(np.float32))
        values = self._model.predict(unit, horizon).numpy().astype(np.float64)
        forecast: Array = values * reach[:, :, None] + centre[:, :, None]
        return forecast


def _open(folder: Path, device: Device) -> QuantileModel:
    config = known_config(folder)
    if config is not None and device.engine != "upstream":
        lean = LeanBolt(config, Checkpoint(folder), device.name, device.dtype)
        return graphed(lean, device.name) if device.gpu and device.graphs else lean
    # Five seconds and 150 MB of imports, for those who need the library only.
    from adapters.chronos_bolt.upstream import UpstreamBolt

    return UpstreamBolt(folder, device.name, device.dtype)
