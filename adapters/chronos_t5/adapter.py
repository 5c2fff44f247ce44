"""Series to Chronos-T5's rows of tokens, and its sampled paths back to forecasts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from adapters.arrays import UNOBSERVED, observed, without_leading_gap
from adapters.base import Array, Batch, BatchForecast, Device, Sampling, Series, SeriesFailure, SeriesForecast
from adapters.chronos_t5.drawing import Controls
from adapters.chronos_t5.network import Context, Network
from adapters.seeding import generator_of
from catalog.card import ModelCard

# Paths that step together. A CPU's products are at full speed from about a hundred on; more only need more memory.
CPU_PATHS, GPU_PATHS = 128, 2048


@dataclass(frozen=True, slots=True)
class Row:
    """One channel: its usable context in units of 2**exponent, and the generator of its draws."""

    context: Tensor  # (time,) float32, NaN where missing, its largest magnitude between 0.5 and 1
    exponent: int
    generator: np.random.Generator


class ChronosT5:
    """The family's adapter. Channels are forecast one by one; covariates are not this model's business."""

    def __init__(self, network: Network, paths_at_once: int) -> None:
        self._network = network
        self._paths_at_once = paths_at_once

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Read `folders["model"]`."""
        network = Network(folders["model"], device.name, device.dtype)
        return cls(network, CPU_PATHS if device.name == "cpu" else GPU_PATHS)

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series; one with a channel that nothing was observed of is a failure of its own."""
        answers: list[SeriesForecast | SeriesFailure] = [UNOBSERVED] * len(batch.series)
        alike = defaultdict(list)
        for i, one in enumerate(batch.series):
            if observed(one, self._network.config.context_length):
                sampling = one.sampling or self._own_sampling()
                controls = Controls(sampling.temperature, sampling.top_k, sampling.top_p)
                alike[controls, sampling.count, one.horizon].append(i)
        for (controls, count, horizon), chosen in alike.items():
            rows = [row for i in chosen for row in self._rows(batch.series[i])]
            paths = iter(self._paths(rows, count, horizon, controls))
            for i in chosen:
                one = batch.series[i]
                samples = np.stack([next(paths) for _ in one.target], axis=-1)
                answers[i] = _forecast(one, samples)
        return BatchForecast(tuple(answers))

    def close(self) -> None:
        """Drop the weights."""
        del self._network

    def _own_sampling(self) -> Sampling:
        config = self._network.config
        return Sampling(
            count=config.num_samples, seed=0, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
        )

    def _rows(self, series: Series) -> Iterator[Row]:
        seed = series.sampling.seed if series.sampling else 0
        for channel in series.target:
            context = without_leading_gap(channel[-self._network.config.context_length :])
            # The model does not care for the unit; a power of two loses no digit, and float32 holds the rest.
            exponent = int(np.frexp(np.nanmax(np.abs(context)))[1])
            unit = torch.from_numpy(np.ldexp(context, -exponent).astype(np.float32))
            yield Row(unit, exponent, generator_of(seed, context))

    def _paths(self, rows: Sequence[Row], count: int, horizon: int, controls: Controls) -> list[Array]:
        """`count` paths of every row, each (paths, horizon)."""
        found: list[Array] = [np.empty(0)] * len(rows)
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i].context))
        at_once = max(1, self._paths_at_once // count)
        for start in range(0, len(rows), at_once):
            chosen = by_length[start : start + at_once]
            values = self._values([rows[i] for i in chosen], count, horizon, controls)
            for i, value in zip(chosen, values, strict=True):
                found[i] = np.ldexp(value.numpy().astype(np.float64), rows[i].exponent)
        return found

    def _values(self, rows: Sequence[Row], count: int, horizon: int, controls: Controls) -> Tensor:
        """Paths (rows, paths, horizon) float32 in the rows' units.

        A horizon beyond one block continues as the library does: the median of the paths is taken for observed.
        """
        contexts = [row.context for row in rows]
        blocks: list[Tensor] = []
        for start in range(0, horizon, self._network.config.prediction_length):
            steps = min(self._network.config.prediction_length, horizon - start)
            if blocks:
                middle = blocks[-1].median(dim=1).values
                contexts = [torch.cat(pair) for pair in zip(contexts, middle, strict=True)]
            # Every row by itself: the sum in its scale does not see the padding of a neighbour's.
            tokenized = [self._network.tokenizer.context_input_transform(one.unsqueeze(0)) for one in contexts]
            encoded = self._network.encode(*self._padded(tokenized))
            uniforms = np.stack([row.generator.random((steps, count)) for row in rows]).transpose(0, 2, 1)
            tokens = self._tokens(encoded, torch.from_numpy(uniforms), controls)
            scales = torch.cat([scale for _, _, scale in tokenized])
            blocks.append(self._network.tokenizer.output_transform(tokens, scales))
        return torch.cat(blocks, dim=-1)

    def _tokens(self, encoded: Context, uniforms: Tensor, controls: Controls) -> Tensor:
        """Tokens (rows, paths, steps), in parts where one row has more paths than fit at once."""
        parts = torch.split(uniforms, self._paths_at_once, dim=1)
        return torch.cat([self._network.paths(encoded, part, controls) for part in parts], dim=1)

    def _padded(self, tokenized: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Rows of tokens (1, time) of any lengths as tokens and mask, (rows, longest)."""
        shape = (len(tokenized), max(tokens.shape[1] for tokens, _, _ in tokenized))
        padded, seen = torch.full(shape, self._network.config.pad_token_id), torch.zeros(shape, dtype=torch.bool)
        for i, (tokens, mask, _) in enumerate(tokenized):
            padded[i, -tokens.shape[1] :], seen[i, -tokens.shape[1] :] = tokens[0], mask[0]
        return padded, seen


def _forecast(series: Series, samples: Array) -> SeriesForecast:
    """Mean and quantiles of `samples` (paths, horizon, channels)."""
    quantiles = np.quantile(samples, series.levels, axis=0)
    return SeriesForecast(
        point=samples.mean(axis=0), quantiles=quantiles, samples=samples if series.sampling is not None else None
    )
