"""The TimesFM 2.5 network in plain torch, over the tensors of the published checkpoint.

The same function as `timesfm.TimesFM_2p5_200M_torch_module` (google-research/timesfm, Apache-2.0), arranged for
inference: rows stand flush left, so that causal attention alone keeps the padding behind a row out of it and every
row counts its positions from 0; the heads read a row's last token only; rotations are computed once for all layers.
All sizes come from the shapes of the tensors, because the published config.json holds none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu, softplus

EPSILON = 1e-6  # of every RMS norm
LOG2_E = 1.442695041  # queries are scaled by log2(e) / sqrt(head_dim), as upstream rounds it
SLOWEST_ROTATION = 10000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of a checkpoint."""

    patch: int  # observations a token
    width: int  # features of a token between layers
    inner: int  # features inside a feed-forward block
    layers: int
    heads: int
    outputs: int  # numbers a step: the mean and each quantile
    step: int  # steps of one pass
    reach: int  # steps that the quantile head sees

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], outputs: int) -> Self | None:
        """Read from the shapes of `tensors`, or None where they are not laid out as `Network` expects.

        `outputs` is the one number that shapes do not tell.
        """
        try:
            width, token = tensors["tokenizer.hidden_layer.weight"].shape
            sizes = cls(
                patch=token // 2,
                width=width,
                inner=len(tensors["stacked_xf.0.ff0.weight"]),
                layers=len({name.split(".")[1] for name in tensors if name.startswith("stacked_xf.")}),
                heads=width // len(tensors["stacked_xf.0.attn.query_ln.scale"]),
                outputs=outputs,
                step=len(tensors["output_projection_point.output_layer.weight"]) // outputs,
                reach=len(tensors["output_projection_quantiles.output_layer.weight"]) // outputs,
            )
        except KeyError:
            return None
        return sizes if {name: tuple(t.shape) for name, t in tensors.items()} == _layout(sizes) else None


@dataclass(slots=True)
class Memory:
    """What attention remembers of each row: keys and values (rows, heads, tokens, head_dim) of every layer."""

    counts: Tensor  # (rows,) tokens of each row's context; what stands behind them is padding
    context: int  # tokens of the longest context
    kept: bool  # False: nothing will be read on, so nothing is remembered
    new: int = 0  # tokens read after the context, the same number for all rows
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def add(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of `layer`, these last."""
        if layer in self.keys:
            key, value = torch.cat([self.keys[layer], key], 2), torch.cat([self.values[layer], value], 2)
        if self.kept:
            self.keys[layer], self.values[layer] = key, value
        return key, value


@dataclass(frozen=True, slots=True)
class _Block:
    """Two linear layers with a linear way around them."""

    hidden: Tensor
    output: Tensor
    residual: Tensor
    hidden_bias: Tensor | None = None
    output_bias: Tensor | None = None
    residual_bias: Tensor | None = None

    def __call__(self, x: Tensor, features: int | None = None) -> Tensor:
        """(..., inputs) -> (..., outputs), or only the first `features` outputs."""
        hidden = silu(linear(x, self.hidden, self.hidden_bias))
        around = linear(x, self.residual[:features], self.residual_bias)
        return linear(hidden, self.output[:features], self.output_bias).add_(around)


@dataclass(frozen=True, slots=True)
class _Layer:
    before_attention: Tensor  # scales of the norms (width,)
    after_attention: Tensor
    before_feed_forward: Tensor
    after_feed_forward: Tensor
    queries_keys_values: Tensor  # (3 width, width)
    query_key_scale: Tensor  # (2, 1, head_dim)
    merge: Tensor  # (width, width): heads to features
    expand: Tensor  # (inner, width)
    contract: Tensor  # (width, inner)


class Network:
    """Tokens in, forecasts in normalised units out.

    `tensors` are used as they are where no cast is needed: they stay mapped from their file, and all workers of a
    machine share one copy. (Repacking them for the processor would be up to 1.6 times faster on a few tokens.)
    """

    def __init__(self, tensors: Mapping[str, Tensor], sizes: Sizes, device: str, dtype: torch.dtype) -> None:
        self.sizes = sizes
        self._device, self._dtype = torch.device(device), dtype
        source = {name: tensor.to(self._device, dtype) for name, tensor in tensors.items()}
        self._tokenizer = _block(source, "tokenizer", bias=True)
        self._point = _block(source, "output_projection_point")
        self._quantiles = _block(source, "output_projection_quantiles")
        self._layers = [_layer(source, f"stacked_xf.{i}.") for i in range(sizes.layers)]
        half = sizes.width // sizes.heads // 2
        self._periods = SLOWEST_ROTATION ** (torch.arange(half, device=self._device) / half)

    def read(self, tokens: Tensor, counts: Tensor, remember: bool) -> tuple[Tensor, Memory]:
        """Read contexts: `tokens` (rows, tokens, 2 patch) flush left, of which `counts` (rows,) are each row's own.

        Returns the state (rows, width) at each row's last token, and the memory for `read_on` if it is to come.
        """
        counts = counts.to(self._device)
        memory = Memory(counts, context=tokens.shape[1], kept=remember)
        states = self._run(tokens, torch.arange(tokens.shape[1], device=self._device)[None], memory, mask=None)
        return states[torch.arange(len(states), device=self._device), counts - 1], memory

    def read_on(self, tokens: Tensor, memory: Memory) -> Tensor:
        """Read `tokens` (rows, tokens, 2 patch) after all that `memory` holds; the state at the last of them."""
        new = torch.arange(memory.new, memory.new + tokens.shape[1], device=self._device)
        own = torch.arange(memory.context, device=self._device) < memory.counts[:, None]  # (rows, context)
        seen = torch.arange(memory.new + tokens.shape[1], device=self._device) <= new[:, None]  # (tokens, new)
        mask = torch.cat(
            [own[:, None].expand(-1, len(new), -1), seen[None].expand(len(own), -1, -1)], dim=-1
        ).unsqueeze(1)
        positions = memory.counts[:, None] + new
        memory.new += tokens.shape[1]
        return self._run(tokens, positions, memory, mask)[:, -1]

    def point(self, states: Tensor) -> Tensor:
        """States (rows, width) -> mean and quantiles of the next steps (rows, step, outputs)."""
        return self._point(states).view(len(states), -1, self.sizes.outputs)

    def quantiles(self, states: Tensor, steps: int) -> Tensor:
        """States (rows, width) -> what the quantile head sees of the next `steps` (rows, steps, outputs)."""
        features = steps * self.sizes.outputs
        return self._quantiles(states, features).view(len(states), steps, -1)

    def _run(self, tokens: Tensor, positions: Tensor, memory: Memory, mask: Tensor | None) -> Tensor:
        """All layers; `mask` (rows, 1, tokens, keys) is True where a token may look, None: plain causal."""
        x = self._tokenizer(tokens.to(self._device, self._dtype))
        angles = (positions[..., None] / self._periods)[:, :, None, None]
        cos = torch.cat([angles.cos(), angles.cos()], -1).to(self._dtype)
        sin = torch.cat([-angles.sin(), angles.sin()], -1).to(self._dtype)
        for i, layer in enumerate(self._layers):
            heads = self._attention(layer, i, x, (cos, sin), memory, mask)
            x = _norm(linear(heads, layer.merge), layer.after_attention).add_(x)
            inner = silu(linear(_norm(x, layer.before_feed_forward), layer.expand), inplace=True)
            x = _norm(linear(inner, layer.contract), layer.after_feed_forward).add_(x)
        return x

    def _attention(
        self, layer: _Layer, i: int, x: Tensor, rotation: tuple[Tensor, Tensor], memory: Memory, mask: Tensor | None
    ) -> Tensor:
        """Attention of `layer`, the `i`-th, which adds its keys and values to `memory`."""
        rows, count, width = x.shape
        projected = linear(_norm(x, layer.before_attention), layer.queries_keys_values)
        projected = projected.view(rows, count, 3, self.sizes.heads, -1)
        turned = _norm(_rotated(projected[:, :, :2], *rotation)).mul_(layer.query_key_scale)
        query, key, value = (t.transpose(1, 2) for t in (*turned.unbind(2), projected[:, :, 2]))
        key, value = memory.add(i, key, value)
        # The scale is part of the query's own.
        heads = scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=1.0)
        return heads.transpose(1, 2).reshape(rows, count, width)


def _norm(x: Tensor, scale: Tensor | None = None) -> Tensor:
    return rms_norm(x, x.shape[-1:], scale, EPSILON)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + half) of the last axis."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _layout(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a checkpoint, by name."""
    width, head = sizes.width, sizes.width // sizes.heads
    layer = {
        "pre_attn_ln.scale": (width,),
        "attn.qkv_proj.weight": (3 * width, width),
        "attn.query_ln.scale": (head,),
        "attn.key_ln.scale": (head,),
        "attn.per_dim_scale.per_dim_scale": (head,),
        "attn.out.weight": (width, width),
        "post_attn_ln.scale": (width,),
        "pre_ff_ln.scale": (width,),
        "ff0.weight": (sizes.inner, width),
        "ff1.weight": (width, sizes.inner),
        "post_ff_ln.scale": (width,),
    }
    shapes: dict[str, tuple[int, ...]] = {
        f"stacked_xf.{i}.{name}": shape for i in range(sizes.layers) for name, shape in layer.items()
    }
    for block, inputs, outputs in (
        ("tokenizer", 2 * sizes.patch, width),
        ("output_projection_point", width, sizes.step * sizes.outputs),
        ("output_projection_quantiles", width, sizes.reach * sizes.outputs),
    ):
        shapes[f"{block}.hidden_layer.weight"] = (width, inputs)
        shapes[f"{block}.output_layer.weight"] = (outputs, width)
        shapes[f"{block}.residual_layer.weight"] = (outputs, inputs)
    for part in ("hidden", "output", "residual"):
        shapes[f"tokenizer.{part}_layer.bias"] = (width,)
    return shapes


def _block(source: Mapping[str, Tensor], name: str, bias: bool = False) -> _Block:
    layers = [f"{name}.{part}_layer" for part in ("hidden", "output", "residual")]
    weights = [source[f"{layer}.weight"] for layer in layers]
    return _Block(*weights, *(source[f"{layer}.bias"] for layer in layers if bias))


def _layer(source: Mapping[str, Tensor], at: str) -> _Layer:
    query = source[at + "attn.query_ln.scale"]
    scale = LOG2_E / math.sqrt(len(query)) * softplus(source[at + "attn.per_dim_scale.per_dim_scale"])
    return _Layer(
        before_attention=source[at + "pre_attn_ln.scale"],
        after_attention=source[at + "post_attn_ln.scale"],
        before_feed_forward=source[at + "pre_ff_ln.scale"],
        after_feed_forward=source[at + "post_ff_ln.scale"],
        queries_keys_values=source[at + "attn.qkv_proj.weight"],
        query_key_scale=torch.stack([query * scale, source[at + "attn.key_ln.scale"]])[:, None],
        merge=source[at + "attn.out.weight"],
        expand=source[at + "ff0.weight"],
        contract=source[at + "ff1.weight"],
    )
