"""The weights of Chronos-Bolt's layers, arranged for the lean forward pass.

Every matrix lies input-major, (in, out), so that a product is `x @ weight`: torch's own (out, in) takes 2% longer for a
whole pass at any number of tokens, 5% for that of one row. On a CPU its rows lie `GAP` further apart than they are
long: rows a power of two apart meet in a few places of the cache, which costs 4% of one row's pass and up to 1% of a
large one. (Medians of CPU time on a Zen 3 core, in turns.)
Shapes: d model width, h heads, k head width, m any number of tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.checkpoint import Checkpoint
from adapters.chronos_bolt.checkpoint import BoltConfig

GAP = 16  # numbers between the rows of a matrix: a line of the cache in float32
REGISTER_TOKEN = 1  # row of the shared embedding; upstream fixes it, whatever config.json says


@dataclass(frozen=True, slots=True)
class PatchBlock:
    """Two layers with a linear bypass, between patches and tokens."""

    hidden: Tensor
    hidden_bias: Tensor
    output: Tensor
    bypass: Tensor
    bias: Tensor  # of output and bypass together

    def __call__(self, x: Tensor) -> Tensor:
        """(m, in) -> (m, out)"""
        hidden = torch.addmm(self.hidden_bias, x, self.hidden).relu_()
        return torch.addmm(self.bias, x, self.bypass).addmm_(hidden, self.output)


@dataclass(frozen=True, slots=True)
class FeedForward:
    """T5's two layers with ReLU between; the norm's weight is part of `inner`."""

    inner: Tensor
    outer: Tensor

    def add_to(self, x: Tensor, floor: Tensor) -> None:
        """x (m, d) += outer(relu(inner(norm x)))"""
        x.addmm_(torch.mm(normed(x, floor), self.inner).relu_(), self.outer)


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """Self-attention over the tokens, then the feed-forward part."""

    query_key_value: Tensor  # (d, 3 h k)
    output: Tensor  # (h k, d)
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """What a single token does in a decoder layer."""

    itself: Tensor  # (d, d): value and output of self-attention in one
    query: Tensor  # (d, h k)
    key: Tensor  # (h, k, d): from a head's query to the token space
    value: Tensor  # (h, d, k): from the token space to a head's value
    output: Tensor  # (h k, d)
    feed_forward: FeedForward


def normed(x: Tensor, floor: Tensor) -> Tensor:
    """Tokens x (m, d) at unit length; one much shorter than `floor` stays short.

    T5's norm is x / sqrt(mean(x^2) + eps) = sqrt(d) x / sqrt(|x|^2 + d eps), here without sqrt(d), which is part of
    the weight: three kernels instead of six. `floor` is sqrt(d eps).
    """
    length = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32), floor)
    return (x / length).to(x.dtype)


class LayerReader:
    """Takes a checkpoint's tensors, and raises ValueError where one is missing or of another shape."""

    def __init__(self, config: BoltConfig, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self._config = config
        self._take = checkpoint.take
        self._device = device
        self._dtype = dtype
        self._d, self._h, self._k = config.d_model, config.num_heads, config.d_kv
        special_tokens = 2 if config.chronos_config.use_reg_token else 1
        self._special = self._take("shared.weight", special_tokens, self._d)

    def register_token(self) -> Tensor | None:
        """The token behind the last patch, (1, d), where the model has one."""
        return self._placed(self._special[REGISTER_TOKEN:]) if len(self._special) > 1 else None

    def start_token(self) -> Tensor:
        """What the decoder starts from, (1, d)."""
        start = self._config.decoder_start_token_id
        return self._placed(self._special[start : start + 1])

    def norm_floor(self) -> Tensor:
        """The length below which `normed` leaves a token short, () float32."""
        return torch.tensor(math.sqrt(self._d * self._config.layer_norm_epsilon), device=self._device)

    def position_bias(self, tokens: int) -> Tensor:
        """The bias of the encoder's attention by distance, (1, h, tokens, tokens)."""
        buckets = self._config.relative_attention_num_buckets
        name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        by_bucket = self._take(name, buckets, self._h)
        bucket = distance_buckets(tokens, buckets, self._config.relative_attention_max_distance)
        return self._placed(by_bucket[bucket].permute(2, 0, 1).unsqueeze(0))

    def patch_embedding(self, width_in: int) -> PatchBlock:
        """The block from patches to tokens."""
        return self._patch_block("input_patch_embedding", width_in, self._d, torch.ones(width_in, 1))

    def head(self, width_out: int) -> PatchBlock:
        """The block from the decoder's token to the quantiles, the decoder's last norm folded in."""
        norm = self._norm("decoder.final_layer_norm")
        return self._patch_block("output_patch_embedding", self._d, width_out, norm)

    def encoder_layer(self, index: int) -> EncoderLayer:
        """Both norms folded in."""
        block = f"encoder.block.{index}.layer"
        query, key, value, output = self._attention(f"{block}.0.SelfAttention")
        return EncoderLayer(
            query_key_value=self._placed(self._norm(f"{block}.0.layer_norm") * torch.cat([query, key, value], dim=1)),
            output=self._placed(output),
            feed_forward=self._feed_forward(f"{block}.1"),
        )

    def decoder_layer(self, index: int) -> DecoderLayer:
        """All norms folded in, the encoder's last one included."""
        block = f"decoder.block.{index}.layer"
        _, _, own_value, own_output = self._attention(f"{block}.0.SelfAttention")
        query, key, value, output = self._attention(f"{block}.1.EncDecAttention")
        encoder_norm = self._norm("encoder.final_layer_norm")
        by_head = (self._d, self._h, self._k)
        return DecoderLayer(
            itself=self._placed(self._norm(f"{block}.0.layer_norm") * own_value @ own_output),
            query=self._placed(self._norm(f"{block}.1.layer_norm") * query),
            key=self._placed((encoder_norm * key).reshape(by_head).permute(1, 2, 0)),
            value=self._placed((encoder_norm * value).reshape(by_head).transpose(0, 1)),
            output=self._placed(output),
            feed_forward=self._feed_forward(f"{block}.2"),
        )

    def _attention(self, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inner = self._h * self._k
        query, key, value = (self._matrix(f"{name}.{part}", self._d, inner) for part in "qkv")
        return query, key, value, self._matrix(f"{name}.o", inner, self._d)

    def _feed_forward(self, name: str) -> FeedForward:
        width = self._config.d_ff
        inner = self._matrix(f"{name}.DenseReluDense.wi", self._d, width)
        outer = self._matrix(f"{name}.DenseReluDense.wo", width, self._d)
        return FeedForward(
            inner=self._placed(self._norm(f"{name}.layer_norm") * inner),
            outer=self._placed(outer),
        )

    def _patch_block(self, name: str, width_in: int, width_out: int, norm: Tensor) -> PatchBlock:
        width = self._config.d_ff
        output_bias = self._take(f"{name}.output_layer.bias", width_out)
        bypass_bias = self._take(f"{name}.residual_layer.bias", width_out)
        return PatchBlock(
            hidden=self._placed(norm * self._matrix(f"{name}.hidden_layer", width_in, width)),
            hidden_bias=self._placed(self._take(f"{name}.hidden_layer.bias", width)),
            output=self._placed(self._matrix(f"{name}.output_layer", width, width_out)),
            bypass=self._placed(norm * self._matrix(f"{name}.residual_layer", width_in, width_out)),
            bias=self._placed(output_bias + bypass_bias),
        )

    def _matrix(self, name: str, width_in: int, width_out: int) -> Tensor:
        return self._take(f"{name}.weight", width_out, width_in).t()

    def _norm(self, name: str) -> Tensor:
        """The norm's weight with what `normed` leaves to it, (d, 1), to be multiplied into the matrix behind it."""
        return self._take(f"{name}.weight", self._d).unsqueeze(1) * math.sqrt(self._d)

    def _placed(self, weight: Tensor) -> Tensor:
        weight = weight.to(self._device, self._dtype)
        if weight.dim() != 2 or self._device.type != "cpu":
            return weight.contiguous()
        # Zeros between: processes that share their weights compare all that a storage holds.
        spread = torch.zeros(len(weight), weight.shape[1] + GAP, dtype=self._dtype)[:, :-GAP]
        return spread.copy_(weight)


def distance_buckets(tokens: int, buckets: int, max_distance: int) -> Tensor:
    """T5's bucket of every distance between two positions, (tokens, tokens) int64.

    Half of the buckets are for keys ahead of the query. Of each half the first half holds the short distances one
    by one, the rest grows by logarithm up to `max_distance`; all beyond share the last.
    """
    positions = torch.arange(tokens)
    distance = positions[None, :] - positions[:, None]
    side = buckets // 2
    single = side // 2
    length = distance.abs()
    growth = torch.log(length.clamp(min=1).float() / single) / math.log(max_distance / single)
    far = (single + (growth * (side - single)).long()).clamp(max=side - 1)
    return torch.where(length < single, length, far) + (distance > 0) * side
