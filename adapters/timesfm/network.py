"""The TimesFM 2.5 network in plain torch, over the tensors of the published checkpoint.

The same function as `timesfm.TimesFM_2p5_200M_torch_module` (google-research/timesfm, Apache-2.0), arranged for
inference: rows stand flush left, so that causal attention alone keeps the padding behind a row out of it and every
row counts its positions from 0; the last layer and the heads compute a row's last token only; rotations are computed
once for all layers. Nearly all of the rest is the products of the layers themselves: nine tenths of a core's time.
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
    machine share one copy. Packed for the processor they would be each worker's own: 1.25 to 1.6 times faster on a few
    tokens, and up to a tenth slower on many. Turned to input-major or copied to huge pages they gain 1 to 4%.
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

    def ahead(self, tokens: Tensor, counts: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Both heads after reading contexts as in `read`: (rows, steps, outputs) each, `steps` within one pass.

        A function of its arguments alone, without a look at any number of theirs: a CUDA graph can hold it.
        """
        state, _ = self.read(tokens, counts, remember=False)
        return self.point(state, steps), self.quantiles(state, steps)

    def read(self, tokens: Tensor, counts: Tensor, remember: bool) -> tuple[Tensor, Memory]:
        """Read contexts: `tokens` (rows, tokens, 2 patch) flush left, of which `counts` (rows,) are each row's own.

        Returns the state (rows, width) at each row's last token, and the memory for `read_on` if it is to come.
        """
        counts = counts.to(self._device)
        memory = Memory(counts, context=tokens.shape[1], kept=remember)
        positions = torch.arange(tokens.shape[1], device=self._device)
        own = (positions < counts[:, None])[:, None, None]
        return self._run(tokens, positions[None], memory, None, own, counts - 1), memory

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
        last = torch.full_like(memory.counts, tokens.shape[1] - 1)
        return self._run(tokens, positions, memory, mask, mask[:, :, -1:], last)

    def point(self, states: Tensor, steps: int) -> Tensor:
        """States (rows, width) -> mean and quantiles of the next `steps` of one pass (rows, steps, outputs)."""
        return self._point(states, steps * self.sizes.outputs).view(len(states), steps, -1)

    def quantiles(self, states: Tensor, steps: int) -> Tensor:
        """States (rows, width) -> what the quantile head sees of the next `steps` (rows, steps, outputs)."""
        features = steps * self.sizes.outputs
        return self._quantiles(states, features).view(len(states), steps, -1)

    def _run(
        self, tokens: Tensor, positions: Tensor, memory: Memory, mask: Tensor | None, last_mask: Tensor, last: Tensor
    ) -> Tensor:
        """All layers: the state (rows, width) at the token `last` (rows,) of each row.

        `mask` (rows, 1, tokens, keys) is True where a token may look, None: plain causal; `last_mask` the same for
        the last token alone. The last layer asks for that token only, and needs keys and values of the others.
        """
        x = self._tokenizer(tokens.to(self._device, self._dtype))
        angles = (positions[..., None] / self._periods)[:, :, None, None]
        cos = torch.cat([angles.cos(), angles.cos()], -1).to(self._dtype)
        sin = torch.cat([-angles.sin(), angles.sin()], -1).to(self._dtype)
        final = len(self._layers) - 1
        for i, layer in enumerate(self._layers):
            query, key, value = self._projected(layer, x, cos, sin)
            key, value = memory.add(i, key, value)
            if i == final:
                row, mask = torch.arange(len(x), device=self._device), last_mask
                x, query = x[row, last].unsqueeze(1), query.transpose(1, 2)[row, last].unsqueeze(2)
            # The scale is part of the query's own.
            heads = scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=1.0)
            x = _norm(linear(heads.transpose(1, 2).flatten(2), layer.merge), layer.after_attention).add_(x)
            inner = silu(linear(_norm(x, layer.before_feed_forward), layer.expand), inplace=True)
            x = _norm(linear(inner, layer.contract), layer.after_feed_forward).add_(x)
        return x.squeeze(1)

    def _projected(self, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of every token, (rows, heads, tokens, head_dim) each.

        Queries and keys are turned by their position and then normed; turning changes no length, so the scales of
        the norm are part of the turn.
        """
        rows, count, _ = x.shape
        projected = linear(_norm(x, layer.before_attention), layer.queries_keys_values)
        projected = projected.view(rows, count, 3, self.sizes.heads, -1)
        both = projected[:, :, :2]
        length = torch.linalg.vector_norm(both, dim=-1, keepdim=True, dtype=torch.float32)
        turned = _turned(both, cos * layer.query_key_scale, sin * layer.query_key_scale)
        turned.mul_((length.square_().div_(both.shape[-1]).add_(EPSILON)).rsqrt_().to(turned.dtype))
        query, key, value = (t.transpose(1, 2) for t in (*turned.unbind(2), projected[:, :, 2]))
        return query, key, value


def _norm(x: Tensor, scale: Tensor | None = None) -> Tensor:
    return rms_norm(x, x.shape[-1:], scale, EPSILON)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + half) of the last axis."""
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half])
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


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
