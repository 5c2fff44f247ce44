"""Kronos' tokenizer: candles to pairs of tokens and back.

A candle's encoding is quantised to the signs of its numbers: the first half of the bits is the coarse token s1, the
rest the fine token s2, least significant bit first in each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.checkpoint import Checkpoint
from adapters.kronos.blocks import Blocks, Memory, WeightReader
from adapters.kronos.config import TokenizerConfig


class Tokenizer:
    """A loaded tokenizer. It computes in float32 whatever the model does: a token is decided by signs."""

    def __init__(self, config: TokenizerConfig, checkpoint: Checkpoint, device: torch.device) -> None:
        """Raises ValueError where a tensor is missing or of another shape than the configuration says."""
        reader = WeightReader(checkpoint, device, torch.float32)
        width, inner, bits = config.d_model, config.ff_dim, config.s1_bits + config.s2_bits
        self.features = config.d_in
        self._split = (config.s1_bits, config.s2_bits)
        self._embed = reader.linear(width, config.d_in, "embed")
        encoder = [reader.block(f"encoder.{i}", width, inner) for i in range(config.n_enc_layers - 1)]
        decoder = [reader.block(f"decoder.{i}", width, inner) for i in range(config.n_dec_layers - 1)]
        self._encoder, self._decoder = Blocks(encoder, config.n_heads), Blocks(decoder, config.n_heads)
        self._to_bits = reader.linear(bits, width, "quant_embed")
        self._from_bits = reader.linear(width, bits, "post_quant_embed")
        self._head = reader.linear(config.d_in, width, "head")

    def encode(self, candles: Tensor) -> Tensor:
        """Tokens s1 and s2 of normalised candles, (time, features) float32 -> (time, 2) int64."""
        hidden, _ = self._encoder.begin(self._embed(candles))
        bits = (self._to_bits(hidden) > 0).long()
        halves = (bits[:, : self._split[0]], bits[:, self._split[0] :])
        return torch.stack(
            [(half << torch.arange(half.shape[-1], device=half.device)).sum(-1) for half in halves], dim=-1
        )

    def decode(self, history: Tensor, paths: Tensor) -> Tensor:
        """Candles of the tokens that each path appends to a shared history.

        history (time, 2), which may be empty, paths (rows, steps, 2) int64 -> (rows, steps, features) float32
        """
        _, prefix = self._decoder.begin(self._embedded(history))
        memories = [Memory(layer, len(paths), paths.shape[1]) for layer in prefix]
        return self._head(self._decoder.append(self._embedded(paths), memories))

    def _embedded(self, tokens: Tensor) -> Tensor:
        """(..., 2) int64 -> (..., d)"""
        halves = []
        for token, size in zip(tokens.unbind(-1), self._split, strict=True):
            halves.append((token.unsqueeze(-1) >> torch.arange(size, device=tokens.device)) & 1)
        bits = torch.cat(halves, dim=-1).float()
        return self._from_bits((2 * bits - 1) * sum(self._split) ** -0.5)
