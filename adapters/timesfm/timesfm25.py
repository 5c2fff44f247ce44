"""TimesFM 2.5: forecasts by patches of 32 observations, quantiles to 1024 steps.

What the adapter promises: the numbers of the `timesfm` package for each series alone, with the settings of its
documentation (`normalize_inputs`, `use_continuous_quantile_head`, `force_flip_invariance`, `infer_is_positive` and
`fix_quantile_crossing`, all True), whatever the series is batched with.

The package pads contexts with zeros to `max_context` and takes level and scale of a series over those zeros too. Its
forecasts do not depend on them but for rounding: the network normalises every row again, without the zeros. Where the
rounding shows, in a series that hardly moves at a high level, the package is least wrong with the least padding, so
"alone" means `max_context` = the series' length rounded up to whole patches. Here level and scale are those of the
series itself, in float64: the same forecast, with the movement that float32 loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adapters.base import Array, Batch, BatchForecast, Device, Series
from adapters.cuda_graphs import Graphs, bucket, padded
from adapters.timesfm.network import Network, Sizes
from adapters.timesfm.rows import forecast_rows, tokens_at_once
from catalog.card import ModelCard

FLAT = 1e-6  # a standard deviation below this counts as none: upstream then divides by 1
# Padded tokens up to which a GPU is asked by graph: about where 700 kernels take longer than their launches (reckoned
# for an H100, not measured yet).
GRAPH_TOKENS = 1024

Mask = npt.NDArray[np.bool_]


class Forecaster(Protocol):
    """What runs under the adapter."""

    def forecast(self, rows: Sequence[Array], horizon: int) -> Array:
        """Rows (time,) without gaps -> (rows, horizon, outputs): the median, then the trained levels in order."""
        ...


class TimesFM25:
    """The adapter: channels one by one; the point forecast is the median, as upstream's is."""

    def __init__(self, card: ModelCard, forecaster: Forecaster, tokens: int) -> None:
        """`tokens` bounds one pass, padding included."""
        self._card = card
        self._forecaster = forecaster
        self._tokens = tokens

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Read `model.safetensors`; sizes come from its tensors, since the published config.json has none.

        Tensors of a layout that `network` does not know are left to the library.
        """
        file = folders["model"] / "model.safetensors"
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as exc:
            raise ValueError(f"{card.id}: {file} cannot be read ({exc})") from exc
        sizes = Sizes.of(tensors, outputs=1 + len(card.quantile_levels))
        if sizes is not None and card.max_horizon > sizes.reach:
            raise ValueError(f"{card.id}: the card promises {card.max_horizon} steps, the weights {sizes.reach}")
        forecaster: Forecaster
        if sizes is None or device.engine == "upstream":
            from adapters.timesfm.upstream25 import UpstreamForecaster

            forecaster = UpstreamForecaster.of(tensors, sizes, device)
        else:
            network = Network(tensors, sizes, device.name, getattr(torch, device.dtype))
            graphs = Graphs(network.ahead, torch.device(device.name)) if device.gpu and device.graphs else None
            forecaster = LeanForecaster(network, 1 + card.quantile_levels.index(0.5), graphs)
        return cls(card, forecaster, tokens_at_once(card, device.name))

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series of `batch`."""

        def forecast(rows: Sequence[Array], _: Sequence[Series], horizon: int) -> Array:
            return self._forecaster.forecast(rows, horizon)

        return forecast_rows(batch, self._card, self._tokens, forecast)

    def close(self) -> None:
        """Drop the weights."""
        del self._forecaster


class LeanForecaster:
    """TimesFM 2.5 over `network`, with statistics in float64.

    A row and the row upside down run in one pass, the contexts padded to the longest row and not to a fixed length,
    the horizon in as many steps as it needs.
    """

    def __init__(self, network: Network, median: int, graphs: Graphs | None = None) -> None:
        """`median`: index of the level 0.5 among the network's outputs; `graphs`: of `network.ahead`, on a GPU."""
        self._network = network
        self._median = median
        self._graphs = graphs

    @torch.inference_mode()
    def forecast(self, rows: Sequence[Array], horizon: int) -> Array:
        """Rows (time,) without gaps -> (rows, horizon, outputs): the median, then the trained levels in order."""
        scaled = _scaled(rows, self._network.sizes.patch)
        path, fan = (_both_ways(one) for one in self._decode(scaled, horizon))
        median = path[..., self._median]
        out = fan + (median - fan[..., self._median])[..., None]  # the fan of the quantile head around the path
        out[..., [0, self._median]] = median[..., None]
        _uncross(out[..., 1:], self._median - 1)
        out = out * scaled.scale[:, None, None] + scaled.level[:, None, None]
        return np.where(scaled.not_negative[:, None, None], np.maximum(out, 0.0), out)

    def _decode(self, scaled: _Scaled, horizon: int) -> tuple[Array, Array]:
        """Point head step by step, and quantile head: (2 rows, horizon, outputs) each, upside-down rows last."""
        network, sizes = self._network, self._network.sizes
        patches = np.concatenate([scaled.values, -scaled.values])
        observed = np.concatenate([scaled.observed, scaled.observed])
        moments = _Moments.around(patches, observed)
        tokens, unit = moments.follow(patches, observed)
        counts = torch.from_numpy(np.concatenate([scaled.counts, scaled.counts]))
        if horizon <= sizes.step:
            near, far = self._ahead(tokens, counts, horizon)
            return unit.back(near), unit.back(far)
        state, memory = network.read(tokens, counts, remember=True)
        fan = unit.back(network.quantiles(state, horizon))
        path = [unit.back(network.point(state, sizes.step))]
        while len(path) * sizes.step < horizon:
            patches = path[-1][..., self._median].reshape(len(patches), -1, sizes.patch)
            tokens, unit = moments.follow(patches, np.ones(patches.shape, dtype=np.bool_))
            path.append(unit.back(network.point(network.read_on(tokens, memory), sizes.step)))
        return np.concatenate(path, axis=1)[:, :horizon], fan

    def _ahead(self, tokens: Tensor, counts: Tensor, horizon: int) -> tuple[Tensor, ...]:
        """`Network.ahead`, by graph where there are graphs and the pass is small."""
        if self._graphs is None:
            return self._network.ahead(tokens, counts, horizon)
        rows, longest, _ = tokens.shape
        shape = bucket(rows, longest, GRAPH_TOKENS)
        if shape is None:
            return self._graphs.eager((tokens, counts), horizon)
        # A row of padding counts one token: its state is never looked at.
        inputs = padded(tokens, shape), padded(counts, shape[:1], value=1)
        return tuple(outputs[:rows, :horizon] for outputs in self._graphs(inputs, self._network.sizes.step))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaled:
    """Rows in units of their own level and scale, flush left in whole patches."""

    values: Array  # (rows, patches, patch), 0 where nothing is observed
    observed: Mask  # of the same shape
    counts: npt.NDArray[np.int64]  # (rows,) patches of each row
    level: Array  # (rows,)
    scale: Array  # (rows,)
    not_negative: Mask  # (rows,)


def _scaled(rows: Sequence[Array], patch: int) -> _Scaled:
    """Each row by its own mean and deviation; the padding that fills its first patch stands before it."""
    counts = np.array([-(-len(row) // patch) for row in rows])
    values = np.zeros((len(rows), counts.max() * patch))
    observed = np.zeros(values.shape, dtype=np.bool_)
    level, scale = np.array([row.mean() for row in rows]), np.array([row.std() for row in rows])
    for i, row in enumerate(rows):
        own = slice(counts[i] * patch - len(row), counts[i] * patch)
        values[i, own] = (row - level[i]) / _divisor(scale[i])
        observed[i, own] = True
    shape = (len(rows), -1, patch)
    return _Scaled(
        values=values.reshape(shape),
        observed=observed.reshape(shape),
        counts=counts,
        level=level,
        scale=scale,
        not_negative=np.array([(row >= 0).all() for row in rows]),
    )


@dataclass(frozen=True, slots=True)
class _Unit:
    """Mean and deviation that rows' forecasts are in units of: (rows,) each."""

    mean: Array
    deviation: Array

    def back(self, outputs: Tensor) -> Array:
        """(rows, ...) from normalised units."""
        values: Array = outputs.double().cpu().numpy() * self.deviation[:, None, None] + self.mean[:, None, None]
        return values


@dataclass(slots=True)
class _Moments:
    """Running mean and deviation of rows, by which each patch is normalised with what was seen up to its end."""

    centre: Array  # (rows, 1): sums are taken around it, so that a far level costs no digits
    count: Array  # (rows, 1) values seen
    total: Array  # (rows, 1) sum of what was seen, and of its squares
    squares: Array

    @classmethod
    def around(cls, patches: Array, observed: Mask) -> Self:
        """Nothing seen yet, of rows that will be about as high as `patches` (rows, patches, patch)."""
        none = np.zeros((len(patches), 1))
        centre = (patches * observed).sum((1, 2)) / observed.sum((1, 2))
        return cls(centre[:, None], none, none, none)

    def follow(self, patches: Array, observed: Mask) -> tuple[Tensor, _Unit]:
        """See `patches` (rows, patches, patch) next: their tokens (rows, patches, 2 patch), and the unit after them."""
        offsets = np.where(observed, patches - self.centre[..., None], 0.0)
        count = self.count + observed.sum(-1).cumsum(1)
        total = self.total + offsets.sum(-1).cumsum(1)
        squares = self.squares + np.square(offsets).sum(-1).cumsum(1)
        self.count, self.total, self.squares = count[:, -1:], total[:, -1:], squares[:, -1:]
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
        mean += self.centre
        values = np.where(observed, (patches - mean[..., None]) / _divisor(deviation)[..., None], 0.0)
        tokens = np.concatenate([values, ~observed], axis=-1, dtype=np.float32)
        return torch.from_numpy(tokens), _Unit(mean[:, -1], deviation[:, -1])


def _divisor(deviation: Array) -> Array:
    return np.where(deviation < FLAT, 1.0, deviation)


def _both_ways(outputs: Array) -> Array:
    """Rows (2 rows, horizon, outputs) and the same rows forecast upside down, averaged; level p is then 1 - p."""
    upright, flipped = np.split(outputs, 2)
    mean, levels = flipped[..., :1], flipped[..., :0:-1]
    averaged: Array = (upright - np.concatenate([mean, levels], axis=-1)) / 2
    return averaged


def _uncross(levels: Array, median: int) -> None:
    """Push levels (..., levels) that cross outward from the median, in place."""
    below, above = levels[..., median::-1], levels[..., median:]
    np.minimum.accumulate(below, axis=-1, out=below)
    np.maximum.accumulate(above, axis=-1, out=above)
