"""The network: the library's Chronos-Bolt, and a leaner way through it for training.

The weights live in `ChronosBoltModelForForecasting`, so that what is saved is an ordinary Chronos-Bolt checkpoint.
`forecast` computes what its `forward` does with about half the work: one product for queries, keys and values, and a
decoder whose only token is the same for every series.
"""

from __future__ import annotations

import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting, ResidualBlock
from torch import Tensor
from torch.nn.functional import linear, pad, relu, rms_norm
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5LayerFF, T5LayerNorm, T5LayerSelfAttention

from training.config import Shape


def settings(shape: Shape) -> T5Config:
    """The checkpoint's config.json."""
    config = T5Config(
        architectures=["ChronosBoltModelForForecasting"],
        d_model=shape.d_model,
        d_ff=shape.d_ff,
        d_kv=shape.d_model // shape.heads,
        num_heads=shape.heads,
        num_layers=shape.encoder_layers,
        num_decoder_layers=shape.decoder_layers,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        initializer_factor=shape.initializer_factor,
        relative_attention_num_buckets=shape.distance_buckets,
        relative_attention_max_distance=128,
        vocab_size=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    config.reg_token_id = 1
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    config.chronos_config = {
        "context_length": shape.context,
        "prediction_length": shape.horizon,
        "input_patch_size": shape.patch,
        "input_patch_stride": shape.patch,
        "quantiles": list(shape.quantile_levels),
        "use_reg_token": True,
    }
    return config


def build(shape: Shape, seed: int) -> ChronosBoltModelForForecasting:
    """An untrained network."""
    torch.manual_seed(seed)
    return ChronosBoltModelForForecasting(settings(shape))


def _residual(block: ResidualBlock, x: Tensor) -> Tensor:
    hidden = relu(block.hidden_layer(x))
    out: Tensor = block.output_layer(hidden) + block.residual_layer(x)
    return out


def _norm(layer: T5LayerNorm, x: Tensor) -> Tensor:
    return rms_norm(x, x.shape[-1:], layer.weight, layer.variance_epsilon)


def _feed_forward(layer: T5LayerFF, x: Tensor) -> Tensor:
    dense = layer.DenseReluDense
    out: Tensor = x + dense.wo(relu(dense.wi(_norm(layer.layer_norm, x))))
    return out


def _self_attention(layer: T5LayerSelfAttention, x: Tensor, bias: Tensor) -> Tensor:
    """`bias` (1 or batch, heads, tokens, tokens); T5 does not scale the products."""
    attention = layer.SelfAttention
    weight = torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
    batch, tokens, _ = x.shape
    qkv = linear(_norm(layer.layer_norm, x), weight).view(batch, tokens, 3, attention.n_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    mixed = torch.softmax(q @ k.transpose(2, 3) + bias, dim=-1) @ v
    out: Tensor = x + attention.o(mixed.transpose(1, 2).reshape(batch, tokens, -1))
    return out


def _encode(model: ChronosBoltModelForForecasting, patches: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Patches (batch, patches, size) and their 0/1 masks to encoder states and the additive mask of tokens."""
    x = _residual(model.input_patch_embedding, torch.cat([patches, observed], dim=-1))
    register = model.shared.weight[1].expand(len(x), 1, -1)
    x = torch.cat([x, register], dim=1)
    blank = pad(observed.amax(dim=-1) == 0, (0, 1))
    hidden = torch.zeros(blank.shape, device=x.device).masked_fill(blank, -1e9)[:, None, None, :]
    first = model.encoder.block[0].layer[0].SelfAttention
    bias = first.compute_bias(x.shape[1], x.shape[1]) + hidden
    for block in model.encoder.block:
        x = _feed_forward(block.layer[1], _self_attention(block.layer[0], x, bias))
    return _norm(model.encoder.final_layer_norm, x), hidden


def _decode(model: ChronosBoltModelForForecasting, states: Tensor, hidden: Tensor) -> Tensor:
    """The one output token, (batch, d_model). Its attention to itself is its value."""
    x = model.shared.weight[:1][None]
    for block in model.decoder.block:
        own, cross = block.layer[0], block.layer[1]
        x = x + own.SelfAttention.o(own.SelfAttention.v(_norm(own.layer_norm, x)))
        attention = cross.EncDecAttention
        heads = attention.n_heads
        q = attention.q(_norm(cross.layer_norm, x)).view(x.shape[0], 1, heads, -1).transpose(1, 2)
        k, v = (
            part(states).view(len(states), -1, heads, attention.key_value_proj_dim).transpose(1, 2)
            for part in (attention.k, attention.v)
        )
        mixed = torch.softmax(q @ k.transpose(2, 3) + hidden, dim=-1) @ v
        x = _feed_forward(block.layer[2], x + attention.o(mixed.transpose(1, 2).flatten(2)))
    return _norm(model.decoder.final_layer_norm, x)[:, 0]


def forecast(model: ChronosBoltModelForForecasting, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantiles in units of the context's spread, (batch, levels, horizon), and its mean and spread, (batch, 1).

    `context` is (batch, time) float32 with NaN where missing, no longer than the model's context.
    """
    scaled, (mean, spread) = model.instance_norm(context)
    patches = model.patch(scaled)
    observed = torch.isfinite(patches)
    patches = torch.where(observed, patches, 0.0)
    states, hidden = _encode(model, patches, observed.to(patches.dtype))
    values = _residual(model.output_patch_embedding, _decode(model, states, hidden))
    return values.view(len(context), model.num_quantiles, -1), mean, spread
