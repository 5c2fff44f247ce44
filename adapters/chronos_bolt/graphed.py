"""Chronos-Bolt on a GPU: `LeanBolt`, whose small passes of one block are replayed from CUDA graphs."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from adapters.chronos_bolt.lean import LeanBolt
from adapters.cuda_graphs import Graphs, bucket, padded

# Padded patches up to which a GPU is asked by graph: about where the kernels of the tiny model take longer than their
# launches (reckoned for an H100, not measured yet).
GRAPH_TOKENS = 4096


class GraphedBolt:
    """`LeanBolt` with its face. Longer horizons than a block, and large passes, are its own business."""

    def __init__(self, model: LeanBolt, graphs: Graphs) -> None:
        """`graphs`: of `model.ahead`."""
        self.levels = model.levels
        self.context_length = model.context_length
        self.patch = model.patch
        self.block = model.block
        self._model = model
        self._graphs = graphs

    def predict(self, context: Tensor, horizon: int) -> Tensor:
        """As `LeanBolt.predict`."""
        context = context[:, -self.context_length :]
        rows, patches = len(context), math.ceil(context.shape[1] / self.patch)
        shape = bucket(rows, patches, GRAPH_TOKENS)
        if shape is None or horizon > self.block:
            return self._model.predict(context, horizon)
        width = min(shape[1], math.ceil(self.context_length / self.patch)) * self.patch
        context = pad(context, (width - context.shape[1], 0), value=math.nan)
        # Whether a patch is without observation is seen here: the device would have to be waited for.
        gaps = bool(context.isnan().view(rows, -1, self.patch).all(-1).any())
        block: Tensor = self._graphs((padded(context, shape[:1]),), gaps)[0]
        return block[:rows, :, :horizon]


def graphed(model: LeanBolt, device: str) -> GraphedBolt:
    """`model`, which is on the GPU `device`."""
    return GraphedBolt(model, Graphs(model.ahead, torch.device(device)))
