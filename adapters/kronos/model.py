"""Kronos' decoder: the next candle's tokens, coarse s1 first, fine s2 given s1.

`KronosModel` holds the weights, `Walk` a number of paths that grow out of one history.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import embedding

from adapters.checkpoint import Checkpoint
from adapters.kronos.blocks import Blocks, KeyValue, Memory, WeightReader, heads, normed
from adapters.kronos.config import ModelConfig

DEPENDENCY_HEADS = 4  # of the layer between s1 and s2, whatever the model's size
# Tables of the time embedding in the order of `candles.calendar`, and how many values each has a row for.
CALENDAR = {"minute": 60, "hour": 24, "weekday": 7, "day": 32, "month": 13}


class KronosModel:
    """A loaded model. It holds no state between calls."""

    def __init__(
        self, config: ModelConfig, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        """Raises ValueError where a tensor is missing or of another shape than the configuration says."""
        reader = WeightReader(checkpoint, device, dtype)
        width, coarse, fine = config.d_model, 2**config.s1_bits, 2**config.s2_bits
        self.blocks = Blocks(
            [reader.block(f"transformer.{i}", width, config.ff_dim) for i in range(config.n_layers)], config.n_heads
        )
        self._s1 = reader.take("embedding.emb_s1.weight", coarse, width)
        self._s2 = reader.take("embedding.emb_s2.weight", fine, width)
        self._fusion = reader.linear(width, 2 * width, "embedding.fusion_proj")
        self._calendar = [reader.take(f"time_emb.{name}_embed.weight", n, width) for name, n in CALENDAR.items()]
        self._norm = reader.take("norm.weight", width)
        attention = "dep_layer.cross_attn"
        self._query = reader.linear(width, width, f"{attention}.q_proj")
        self._key_value = reader.linear(width, width, f"{attention}.k_proj", f"{attention}.v_proj")
        self._output = reader.linear(width, width, f"{attention}.out_proj")
        self._dependency_norm = reader.take("dep_layer.norm.weight", width)
        self._head_s1 = reader.linear(coarse, width, "head.proj_s1")
        self._head_s2 = reader.linear(fine, width, "head.proj_s2")

    def embedded(self, tokens: Tensor, calendar: Tensor) -> Tensor:
        """Tokens at their times, (..., n, 2) int64 and (n, 5) int64 -> (..., n, d)."""
        s1, s2 = embedding(tokens[..., 0], self._s1), embedding(tokens[..., 1], self._s2)
        fused = self._fusion(torch.cat([s1, s2], dim=-1) * math.sqrt(s1.shape[-1]))
        for column, table in zip(calendar.unbind(-1), self._calendar, strict=True):
            fused = fused + embedding(column, table)
        return fused

    def context(self, hidden: Tensor) -> Tensor:
        """The blocks' output as both heads read it."""
        return normed(hidden, self._norm)

    def remembered(self, context: Tensor) -> KeyValue:
        """What s2 can look up in `context`, (..., n, d) -> (..., 4, n, k) each."""
        key, value = (heads(part, DEPENDENCY_HEADS) for part in self._key_value(context).chunk(2, dim=-1))
        return KeyValue(key, value)

    def s1_logits(self, context: Tensor) -> Tensor:
        """(r, d) of the last token -> (r, coarse tokens)"""
        return self._head_s1(context)

    def s2_logits(self, s1: Tensor, context: Tensor, lookup: Memory) -> Tensor:
        """s1 (r,) int64, context (r, d) of the last token, and all tokens to look up -> (r, fine tokens)."""
        query = heads(self._query(embedding(s1, self._s1)).unsqueeze(1), DEPENDENCY_HEADS)
        found = self._output(lookup.attend(query).flatten(1))
        return self._head_s2(normed(context + found, self._dependency_norm))


class Walk:
    """Paths that grow out of one history, token by token; the history is computed once for all of them."""

    def __init__(self, model: KronosModel, history: Tensor, calendar: Tensor, rows: int, room: int) -> None:
        """history (time, 2) int64, calendar (time, 5) int64; each of `rows` paths takes up to `room` tokens."""
        self._model = model
        hidden, prefix = model.blocks.begin(model.embedded(history, calendar))
        context = model.context(hidden)
        self._layers = [Memory(layer, rows, room) for layer in prefix]
        self._lookup = Memory(model.remembered(context), rows, room)
        self.last = context[-1].expand(rows, -1)  # context of the last token of every path

    def append(self, tokens: Tensor, calendar: Tensor) -> None:
        """Let every path grow by its tokens, (rows, n, 2) int64, at the times `calendar`, (n, 5) int64."""
        hidden = self._model.blocks.append(self._model.embedded(tokens, calendar), self._layers)
        context = self._model.context(hidden)
        self._lookup.add(self._model.remembered(context))
        self.last = context[:, -1]

    def s1_logits(self) -> Tensor:
        """Of the next token of every path, (rows, coarse tokens)."""
        return self._model.s1_logits(self.last)

    def s2_logits(self, s1: Tensor) -> Tensor:
        """Of the next token of every path given its s1, (rows,) int64 -> (rows, fine tokens)."""
        return self._model.s2_logits(s1, self.last, self._lookup)
