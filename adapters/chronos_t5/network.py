"""Chronos-T5's network over the modules that `transformers` loads, with a decoder made for many paths of one context.

The library repeats a context for each of its paths, and its keys and values with it. Here the paths of one row are
queries side by side against keys and values that exist once; only what a path itself has drawn is cached for it.

Shapes: r rows, n tokens of context, s paths, h heads, k head width, d model width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from chronos.chronos import ChronosConfig, ChronosTokenizer
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, T5ForConditionalGeneration

from adapters.chronos_t5.drawing import Controls, draw


@dataclass(frozen=True, slots=True)
class Attention:
    """The projections of one attention and the norm before it."""

    norm: nn.Module
    q: nn.Module
    k: nn.Module
    v: nn.Module
    o: nn.Module


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the decoder."""

    itself: Attention
    context: Attention
    feed_forward: nn.Module  # its norm and the way around it included


@dataclass(frozen=True, slots=True)
class Context:
    """An encoded context as the decoder's layers read it."""

    keys: list[Tensor]  # (r, h, n, k) a layer
    values: list[Tensor]
    seen: Tensor  # (r, 1, 1, n) bool


class Network:
    """A loaded model. It holds no state between calls."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Raises ValueError where `folder` is not a whole Chronos-T5 checkpoint."""
        try:
            settings = AutoConfig.from_pretrained(folder).chronos_config
            model, report = T5ForConditionalGeneration.from_pretrained(
                folder, dtype=getattr(torch, dtype), output_loading_info=True
            )
            self.config = ChronosConfig(**settings)
            self.tokenizer: ChronosTokenizer = self.config.create_tokenizer()
        except Exception as exc:  # whatever the libraries raise, this checkpoint is the cause
            raise ValueError(f"{folder} is no Chronos-T5 checkpoint that can be loaded ({exc})") from exc
        if self.config.model_type != "seq2seq":
            raise ValueError(f"{folder} holds a {self.config.model_type} model, not an encoder and a decoder")
        if missing := sorted(report["missing_keys"]):
            # The library would forecast with random numbers in their place.
            raise ValueError(f"the checkpoint lacks {len(missing)} tensors, {missing[0]} among them")
        self._model = model.to(device).eval()
        self._device, self._heads = torch.device(device), model.config.num_heads
        self._start = model.config.decoder_start_token_id
        self._scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
        self._layers = [_layer(block) for block in model.decoder.block]
        with torch.inference_mode():
            first = model.decoder.block[0].layer[0].SelfAttention
            self._bias = first.compute_bias(self.config.prediction_length, self.config.prediction_length)

    @torch.inference_mode()
    def encode(self, tokens: Tensor, seen: Tensor) -> Context:
        """Read contexts: tokens (r, n) int64 and which of them hold an observation, (r, n) bool."""
        tokens, seen = tokens.to(self._device), seen.to(self._device)
        memory = self._model.encoder(input_ids=tokens, attention_mask=seen.long()).last_hidden_state
        keys = [self._by_head(layer.context.k(memory)) for layer in self._layers]
        values = [self._by_head(layer.context.v(memory)) for layer in self._layers]
        return Context(keys, values, seen[:, None, None, :])

    @torch.inference_mode()
    def paths(self, context: Context, uniforms: Tensor, controls: Controls) -> Tensor:
        """Draw paths step by step: uniforms (r, s, steps) float64 -> tokens (r, s, steps) int64 on the CPU.

        `steps` is one block at most.
        """
        rows, paths, steps = uniforms.shape
        uniforms = uniforms.to(self._device)
        shape = (2, len(self._layers), rows * paths, self._heads, steps, context.keys[0].shape[-1])
        cache = torch.empty(shape, dtype=context.keys[0].dtype, device=self._device)
        drawn = torch.empty((rows, paths, steps), dtype=torch.int64, device=self._device)
        last = torch.full((rows, paths), self._start, device=self._device)
        for step in range(steps):
            logits = self._logits(last, step, context, cache)
            logits[..., self.config.eos_token_id] = -torch.inf  # a forecast does not end before its horizon
            last = drawn[..., step] = draw(logits, uniforms[..., step], controls)
        return drawn.cpu()

    def _logits(self, last: Tensor, step: int, context: Context, cache: Tensor) -> Tensor:
        """The decoder's next step: tokens (r, s) -> logits (r, s, tokens) float32; writes to `cache`."""
        rows, paths = last.shape
        bias = self._bias[:, :, step, None, : step + 1]
        x = self._model.shared(last)
        for index, layer in enumerate(self._layers):
            own, keys, values = layer.itself, cache[0, index], cache[1, index]
            normed = own.norm(x).view(rows * paths, 1, -1)
            keys[:, :, step], values[:, :, step] = (
                self._by_head(own.k(normed))[:, :, 0],
                self._by_head(own.v(normed))[:, :, 0],
            )
            query = self._by_head(own.q(normed))
            found = scaled_dot_product_attention(
                query, keys[:, :, : step + 1], values[:, :, : step + 1], attn_mask=bias, scale=1.0
            )
            x = x + own.o(found.reshape(rows, paths, -1))
            other = layer.context
            query = self._by_head(other.q(other.norm(x)))
            found = scaled_dot_product_attention(
                query, context.keys[index], context.values[index], attn_mask=context.seen, scale=1.0
            )
            x = x + other.o(found.transpose(1, 2).reshape(rows, paths, -1))
            x = layer.feed_forward(x)
        x = self._model.decoder.final_layer_norm(x) * self._scale
        logits: Tensor = self._model.lm_head(x).float()
        return logits

    def _by_head(self, projected: Tensor) -> Tensor:
        """(r, n, h k) -> (r, h, n, k)"""
        return projected.view(*projected.shape[:-1], self._heads, -1).transpose(1, 2)


def _layer(block: nn.Module) -> Layer:
    def attention(norm: str, name: str) -> Attention:
        q, k, v, o = (block.get_submodule(f"{name}.{part}") for part in "qkvo")
        return Attention(block.get_submodule(norm), q, k, v, o)

    return Layer(
        itself=attention("layer.0.layer_norm", "layer.0.SelfAttention"),
        context=attention("layer.1.layer_norm", "layer.1.EncDecAttention"),
        feed_forward=block.get_submodule("layer.2"),
    )
