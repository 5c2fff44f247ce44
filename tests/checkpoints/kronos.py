"""Small Kronos checkpoints in the published layout, and the family once more without cache or shared prefix."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu

from adapters.base import Array, Sampling, Series
from adapters.kronos.adapter import UNASKED
from adapters.kronos.candles import CLOSE, HIGH, LOW, OPEN, VOLUME, calendar
from adapters.kronos.sampling import chances, drawn
from catalog.card import ModelCard
from tests.checkpoints import Sample

CONTEXT, HORIZON = 96, 48
TABLES = {"minute": 60, "hour": 24, "weekday": 7, "day": 32, "month": 13}


def build(card: ModelCard, folder: Path) -> Sample:
    """A model of two layers with a tokenizer of two and three, five bits for each half of a token."""
    write(folder)
    folders = {"model": folder, "tokenizer": folder / "tokenizer"}
    small = msgspec.structs.replace(card, max_context=CONTEXT, max_horizon=HORIZON)
    return Sample(card=small, folders=folders, reference=Plain(folders, CONTEXT).quantiles)


def write(folder: Path, width: int = 32, inner: int = 48, heads: int = 2, bits: int = 5, seed: int = 0) -> None:
    """Write a model to `folder` and its tokenizer to `tokenizer` below, config.json and model.safetensors each."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"d_model": width, "n_heads": heads, "ff_dim": inner, "s1_bits": bits, "s2_bits": bits}

    def save(place: Path, config: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> None:
        weights = {key: _lively(key, torch.randn(shape, generator=generator)) for key, shape in shapes.items()}
        place.mkdir(parents=True, exist_ok=True)
        save_file(weights, place / "model.safetensors")
        (place / "config.json").write_text(json.dumps({**config, "learn_te": True}))

    save(folder, {**sizes, "n_layers": 2}, _model_shapes(width, inner, bits))
    stacks = {"d_in": 6, "n_enc_layers": 3, "n_dec_layers": 4}
    save(folder / "tokenizer", {**sizes, **stacks}, _tokenizer_shapes(width, inner, bits))


def _affine(name: str, width_out: int, width_in: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width_out, width_in), f"{name}.bias": (width_out,)}


def _attention(name: str, width: int) -> dict[str, tuple[int, ...]]:
    parts = [_affine(f"{name}.{part}_proj", width, width) for part in ("q", "k", "v", "out")]
    return {key: shape for part in parts for key, shape in part.items()}


def _block(name: str, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    norms = {f"{name}.norm{i}.weight": (width,) for i in (1, 2)}
    up = {f"{name}.ffn.{part}.weight": (inner, width) for part in ("w1", "w3")}
    return norms | up | _attention(f"{name}.self_attn", width) | {f"{name}.ffn.w2.weight": (width, inner)}


def _model_shapes(width: int, inner: int, bits: int) -> dict[str, tuple[int, ...]]:
    tables = {f"time_emb.{name}_embed.weight": (size, width) for name, size in TABLES.items()}
    tokens = {f"embedding.emb_{half}.weight": (2**bits, width) for half in ("s1", "s2")}
    heads = _affine("head.proj_s1", 2**bits, width) | _affine("head.proj_s2", 2**bits, width)
    norms = {"norm.weight": (width,), "dep_layer.norm.weight": (width,)}
    blocks = _block("transformer.0", width, inner) | _block("transformer.1", width, inner)
    fusion = _affine("embedding.fusion_proj", width, 2 * width)
    return tables | tokens | heads | norms | blocks | fusion | _attention("dep_layer.cross_attn", width)


def _tokenizer_shapes(width: int, inner: int, bits: int) -> dict[str, tuple[int, ...]]:
    shapes = _affine("embed", width, 6) | _affine("head", 6, width)
    shapes |= _affine("quant_embed", 2 * bits, width) | _affine("post_quant_embed", width, 2 * bits)
    for name in ("encoder.0", "encoder.1", "decoder.0", "decoder.1", "decoder.2"):
        shapes |= _block(name, width, inner)
    return shapes


def _lively(name: str, noise: Tensor) -> Tensor:
    """Scale unit noise so that attention is far from uniform and every layer has a say."""
    if "norm" in name:
        return 1.0 + 0.2 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    # Where a table is read, the width is the last dimension; so it is where a map is applied.
    gain: float = noise.shape[-1] ** -0.5
    return noise * (2 * gain if "head.proj" in name else gain)


class Plain:
    """Kronos as the paper's code runs it: every step computes every path's whole window anew."""

    def __init__(self, folders: Mapping[str, Path], max_context: int) -> None:
        self._tokenizer = load_file(folders["tokenizer"] / "model.safetensors")
        self._model = load_file(folders["model"] / "model.safetensors")
        configs = {name: json.loads((folder / "config.json").read_text()) for name, folder in folders.items()}
        self._heads = {name: config["n_heads"] for name, config in configs.items()}
        self._bits = configs["model"]["s1_bits"]
        self._max_context = max_context

    def quantiles(self, series: Series) -> Array:
        """(levels, horizon, channels) of candles without a volume; gaps are filled by straight lines."""
        steps = np.arange(series.target.shape[1])
        known = [~np.isnan(row) for row in series.target]
        rows = [np.interp(steps, steps[k], row[k]) for k, row in zip(known, series.target, strict=True)]
        features = np.zeros((len(steps), 6))
        features[:, [OPEN, HIGH, LOW, CLOSE]] = np.stack(rows, axis=-1)
        assert series.stamps is not None and len(rows) <= VOLUME
        paths = self.paths(features, calendar(series.stamps), series.sampling or UNASKED, series.horizon)
        found: Array = np.quantile(paths[..., : len(rows)], series.levels, axis=0)
        return found

    @torch.inference_mode()
    def paths(self, features: Array, times: npt.NDArray[np.int64], sampling: Sampling, horizon: int) -> Array:
        """The adapter's `paths` once more."""
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        unit = np.clip((features - mean) / (deviation + 1e-5), -5, 5)
        tokens = self._encoded(torch.tensor(unit, dtype=torch.float32)).expand(sampling.count, -1, -1)
        moments, chance = torch.from_numpy(times), chances(sampling, horizon, features)
        for step in range(horizon):
            window = tokens[:, -self._max_context :]
            end = tokens.shape[1]
            context = self._context(window, moments[end - window.shape[1] : end])
            s1 = drawn(self._affine("head.proj_s1", context[:, -1]), chance[step, 0], sampling)
            s2 = drawn(self._s2_logits(context, s1), chance[step, 1], sampling)
            tokens = torch.cat([tokens, torch.stack([s1, s2], dim=-1).unsqueeze(1)], dim=1)
        decoded = self._decoded(tokens[:, -self._max_context :])[:, -horizon:]
        restored: Array = decoded.numpy().astype(np.float64) * (deviation + 1e-5) + mean
        return restored

    def _encoded(self, unit: Tensor) -> Tensor:
        w = self._tokenizer
        x = linear(unit, w["embed.weight"], w["embed.bias"]).unsqueeze(0)
        x = self._stack("tokenizer", "encoder", x)
        bits = linear(x, w["quant_embed.weight"], w["quant_embed.bias"]) > 0
        powers = 2 ** torch.arange(self._bits)
        return torch.stack([(half * powers).sum(-1) for half in bits.chunk(2, dim=-1)], dim=-1)

    def _decoded(self, tokens: Tensor) -> Tensor:
        w = self._tokenizer
        bits = (tokens.unsqueeze(-1) & 2 ** torch.arange(self._bits)) != 0
        signs = torch.where(bits.flatten(-2), 1.0, -1.0) / (2 * self._bits) ** 0.5
        x = linear(signs, w["post_quant_embed.weight"], w["post_quant_embed.bias"])
        return linear(self._stack("tokenizer", "decoder", x), w["head.weight"], w["head.bias"])

    def _context(self, tokens: Tensor, moments: Tensor) -> Tensor:
        w = self._model
        halves = [embedding(tokens[..., i], w[f"embedding.emb_s{i + 1}.weight"]) for i in range(2)]
        x = self._affine("embedding.fusion_proj", torch.cat(halves, dim=-1) * halves[0].shape[-1] ** 0.5)
        x = x + sum(embedding(moments[:, i], w[f"time_emb.{name}_embed.weight"]) for i, name in enumerate(TABLES))
        x = self._stack("model", "transformer", x)
        return rms_norm(x, x.shape[-1:], w["norm.weight"], 1e-5)

    def _s2_logits(self, context: Tensor, s1: Tensor) -> Tensor:
        w, layer = self._model, "dep_layer.cross_attn"
        asked = embedding(s1, w["embedding.emb_s1.weight"]).unsqueeze(1)
        query = _heads(self._affine(f"{layer}.q_proj", asked), 4)
        key, value = (_heads(self._affine(f"{layer}.{part}_proj", context), 4) for part in "kv")
        found = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = context + self._affine(f"{layer}.out_proj", found)
        return self._affine("head.proj_s2", rms_norm(x, x.shape[-1:], w["dep_layer.norm.weight"], 1e-5)[:, -1])

    def _affine(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self._model[f"{name}.weight"], self._model[f"{name}.bias"])

    def _stack(self, network: str, name: str, x: Tensor) -> Tensor:
        """Every block of `name` over whole windows, (rows, time, d)."""
        w = self._model if network == "model" else self._tokenizer
        for i in range(len({key.split(".")[1] for key in w if key.startswith(f"{name}.")})):
            attention, feed = f"{name}.{i}.self_attn", f"{name}.{i}.ffn"
            y = rms_norm(x, x.shape[-1:], w[f"{name}.{i}.norm1.weight"], 1e-5)
            projected = (linear(y, w[f"{attention}.{p}_proj.weight"], w[f"{attention}.{p}_proj.bias"]) for p in "qkv")
            query, key, value = (_heads(part, self._heads[network]) for part in projected)
            mixed = scaled_dot_product_attention(_turned(query), _turned(key), value, is_causal=True)
            mixed = mixed.transpose(1, 2).flatten(2)
            x = x + linear(mixed, w[f"{attention}.out_proj.weight"], w[f"{attention}.out_proj.bias"])
            y = rms_norm(x, x.shape[-1:], w[f"{name}.{i}.norm2.weight"], 1e-5)
            gated = silu(linear(y, w[f"{feed}.w1.weight"])) * linear(y, w[f"{feed}.w3.weight"])
            x = x + linear(gated, w[f"{feed}.w2.weight"])
        return x


def _heads(x: Tensor, count: int) -> Tensor:
    return x.view(*x.shape[:2], count, -1).transpose(1, 2)


def _turned(x: Tensor) -> Tensor:
    """Each pair of a head's halves turned by its angle, as complex numbers; (..., time, k)."""
    half = x.shape[-1] // 2
    angles = torch.outer(torch.arange(x.shape[-2]).float(), 10000.0 ** (-torch.arange(half) / half))
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], dim=-1)
