"""Batches of training series: step k of a seed is always the same batch, so a position in the data is one number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.config import Config
from training.synthetic.draws import log_uniform
from training.synthetic.events import gaps
from training.synthetic.mixing import generate

Group = tuple[Tensor, Tensor]  # context (series, time) with NaN where missing, target (series, horizon)


class Batches(Dataset[list[Group]]):
    """Item k: the groups of step k, each of one context length."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __getitem__(self, step: int) -> list[Group]:
        rng = np.random.default_rng([self.config.seed, step])
        data, shape = self.config.data, self.config.model
        lengths = log_uniform(rng, data.shortest, shape.context, data.groups).astype(int)
        sizes = [(data.full, shape.context)] + [(data.shorter, int(length)) for length in lengths]
        return [self._group(rng, count, length) for count, length in sizes]

    def _group(self, rng: np.random.Generator, count: int, length: int) -> Group:
        data = self.config.data
        y = generate(rng, count, length + self.config.model.horizon, data.shares, data.combined)
        context, target = y[:, :length], y[:, length:]
        varies = context.std(axis=1) > 1e-3  # nothing can be learnt from a context of one value
        context = gaps(rng, context[varies], data.missing)
        return torch.from_numpy(context), torch.from_numpy(np.ascontiguousarray(target[varies]))


def stream(config: Config, first: int) -> DataLoader[list[Group]]:
    """Batches from step `first` on, drawn ahead by `data.workers` processes."""
    workers = config.data.workers
    return DataLoader(
        Batches(config),
        batch_size=None,
        sampler=range(first, config.schedule.steps),
        num_workers=workers,
        prefetch_factor=6 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )
