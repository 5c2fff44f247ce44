"""One token a path, drawn by the network's logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Controls:
    """What bends the probabilities before a draw, in this order."""

    temperature: float
    top_k: int  # only the k likeliest tokens; 0: all
    top_p: float  # only the likeliest tokens that hold this much probability together; 1: all


def draw(logits: Tensor, uniforms: Tensor, controls: Controls) -> Tensor:
    """Tokens (...) int64 drawn by `logits` (..., tokens) float32, by inversion at `uniforms` (...) float64.

    The candidates stand in the order of their values, so that a probability that differs in its last digit moves a
    draw to the value next to it at most.
    """
    tokens, weights = candidates(logits, controls)
    reached = weights.double().cumsum(-1)
    sought = uniforms.unsqueeze(-1) * reached[..., -1:]
    places = torch.searchsorted(reached, sought, right=True).clamp_(max=reached.shape[-1] - 1)
    return tokens.gather(-1, places).squeeze(-1)


def candidates(logits: Tensor, controls: Controls) -> tuple[Tensor, Tensor]:
    """Tokens that may be drawn, ascending, and their probabilities up to a factor; each (..., candidates)."""
    logits = logits / controls.temperature
    count = logits.shape[-1]
    if not controls.top_k and controls.top_p >= 1.0:
        return torch.arange(count, device=logits.device).expand_as(logits), logits.softmax(-1)
    kept, tokens = logits.topk(min(controls.top_k or count, count))  # the likeliest first
    weights = kept.softmax(-1)
    if controls.top_p < 1.0:
        likelier = weights.cumsum(-1) - weights
        likelier[..., 0] = 0.0
        weights = weights.masked_fill(likelier >= controls.top_p, 0.0)
    tokens, order = tokens.sort(-1)
    return tokens, weights.gather(-1, order)
