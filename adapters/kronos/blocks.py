"""Kronos' transformer blocks, over a prefix that all rows share.

Every path of a series continues the same candles. The blocks run over those once; a `Memory` a layer holds what
attention to them needs, and what each path adds. Attention is causal, so nothing in it changes as tokens are
appended, and the numbers are those of a full pass over each row.

Shapes: r rows (paths), n new tokens, p tokens of the prefix, d width, h heads, k head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from adapters.checkpoint import Checkpoint

EPSILON = 1e-5  # of every RMS norm
SLOWEST_ROTATION = 10000.0


@dataclass(frozen=True, slots=True)
class KeyValue:
    """Keys and values of one layer, (..., h, n, k) each."""

    key: Tensor
    value: Tensor


class Memory:
    """What attention of one layer can look up: a prefix of all rows, and what each row has behind it."""

    def __init__(self, prefix: KeyValue, rows: int, room: int) -> None:
        """`prefix` is (h, p, k); `room` is how many tokens each row will have at most."""
        count, length, width = prefix.key.shape
        self._prefix = prefix
        self._key = prefix.key.new_empty(rows, count, room, width)
        self._value = torch.empty_like(self._key)
        self._own = 0
        self.length = length

    def add(self, new: KeyValue) -> None:
        """Keep keys and values of the next tokens of every row, (r, h, n, k) each."""
        end = self._own + new.key.shape[2]
        self._key[:, :, self._own : end] = new.key
        self._value[:, :, self._own : end] = new.value
        self.length += end - self._own
        self._own = end

    def attend(self, query: Tensor) -> Tensor:
        """What the last n tokens of each row see, causally: (r, h, n, k) -> (r, h, n, k).

        The prefix is one product for all rows.
        """
        rows, count, new, width = query.shape
        key, value = self._key[:, :, : self._own], self._value[:, :, : self._own]
        query = query * width**-0.5
        together = query.transpose(0, 1).reshape(count, rows * new, width)
        far = torch.bmm(together, self._prefix.key.transpose(1, 2)).view(count, rows, new, -1)
        near = torch.matmul(query, key.transpose(2, 3))
        if new > 1:
            later = torch.ones(new, self._own, dtype=torch.bool, device=query.device).triu(self._own - new + 1)
            near = near.masked_fill(later, float("-inf"))
        weights = torch.cat([far, near.transpose(0, 1)], dim=-1).softmax(-1)
        far, near = weights[..., : far.shape[-1]], weights[..., far.shape[-1] :]
        seen = torch.bmm(far.reshape(count, rows * new, -1), self._prefix.value).view(count, rows, new, width)
        return seen.transpose(0, 1) + torch.matmul(near.transpose(0, 1), value)


@dataclass(frozen=True, slots=True)
class Linear:
    """An affine map; several of one input may stand in it as one product."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Weights of one layer."""

    norm1: Tensor
    query_key_value: Linear
    output: Linear
    norm2: Tensor
    gate_and_up: Linear  # w1, then w3
    down: Linear  # w2


class WeightReader:
    """Weights of a checkpoint, placed on the device."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self._checkpoint, self._device, self._dtype = checkpoint, device, dtype

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor `name` of `shape`; raises ValueError where the checkpoint has another or none."""
        return self._checkpoint.take(name, *shape).to(self._device, self._dtype)

    def linear(self, width_out: int, width_in: int, *names: str, bias: bool = True) -> Linear:
        """The maps `names` of one input as one, (len(names) width_out, width_in)."""
        weights = [self.take(f"{name}.weight", width_out, width_in) for name in names]
        biases = [self.take(f"{name}.bias", width_out) for name in names] if bias else None
        return Linear(torch.cat(weights), torch.cat(biases) if biases else None)

    def block(self, name: str, width: int, inner: int) -> Block:
        """The block whose tensors' names begin with `name`."""
        attention = f"{name}.self_attn"
        return Block(
            norm1=self.take(f"{name}.norm1.weight", width),
            query_key_value=self.linear(width, width, *(f"{attention}.{part}_proj" for part in "qkv")),
            output=self.linear(width, width, f"{attention}.out_proj"),
            norm2=self.take(f"{name}.norm2.weight", width),
            gate_and_up=self.linear(inner, width, f"{name}.ffn.w1", f"{name}.ffn.w3", bias=False),
            down=self.linear(width, inner, f"{name}.ffn.w2", bias=False),
        )


class Blocks:
    """A stack of layers with causal attention and rotary positions."""

    def __init__(self, blocks: Sequence[Block], heads: int) -> None:
        self._blocks = tuple(blocks)
        self._heads = heads

    def begin(self, x: Tensor) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Run over the shared tokens, (p, d) -> (p, d), and what each layer's attention to them needs."""
        prefix = []
        rotation = self._rotation(x, 0)
        for block in self._blocks:
            query, key, value = self._projected(block, x, rotation)
            mixed = scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
            x = _completed(block, x, mixed)
            prefix.append(KeyValue(key, value))
        return x, tuple(prefix)

    def append(self, x: Tensor, memories: Sequence[Memory]) -> Tensor:
        """Run over the next tokens of every row, (r, n, d) -> (r, n, d), and keep them in `memories`, one a layer."""
        rotation = self._rotation(x, memories[0].length)
        for block, memory in zip(self._blocks, memories, strict=True):
            query, key, value = self._projected(block, x, rotation)
            memory.add(KeyValue(key, value))
            x = _completed(block, x, memory.attend(query))
        return x

    def _projected(self, block: Block, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, (..., n, d) -> (..., h, n, k) each, the first two rotated."""
        projected = block.query_key_value(normed(x, block.norm1))
        query, key, value = (heads(part, self._heads) for part in projected.chunk(3, dim=-1))
        return _rotated(query, *rotation), _rotated(key, *rotation), value

    def _rotation(self, x: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angles of the positions from `first` on, (n, k) each."""
        width = x.shape[-1] // self._heads
        fractions = torch.arange(0, width, 2, device=x.device, dtype=torch.float32) / width
        positions = torch.arange(first, first + x.shape[-2], device=x.device, dtype=torch.float32)
        angles = torch.outer(positions, SLOWEST_ROTATION**-fractions).repeat(1, 2)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def heads(x: Tensor, count: int) -> Tensor:
    """(..., n, d) -> (..., h, n, k)"""
    return x.view(*x.shape[:-1], count, x.shape[-1] // count).transpose(-2, -3)


def _completed(block: Block, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a layer behind its attention, mixed (..., h, n, k)."""
    x = x + block.output(mixed.transpose(-2, -3).flatten(-2))
    gate, up = block.gate_and_up(normed(x, block.norm2)).chunk(2, dim=-1)
    return x + block.down(silu(gate) * up)


def normed(x: Tensor, weight: Tensor) -> Tensor:
    """RMS norm over the last dimension, in float32."""
    return rms_norm(x.float(), weight.shape, eps=EPSILON).to(x.dtype) * weight


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the two halves of every head against each other."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine
