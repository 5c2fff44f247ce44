"""The loss: pinball, each series in units of its own predicted spread."""

from __future__ import annotations

from torch import Tensor

TARGET_LIMIT = 20.0  # context spreads; a target beyond it says more about the context than about the future


def pinball(values: Tensor, target: Tensor, levels: Tensor) -> Tensor:
    """Mean pinball loss a series, (batch,), of `values` (batch, levels, horizon) against `target` (batch, horizon)."""
    error = target[:, None] - values
    q = levels[None, :, None]
    return (error * (q - (error < 0).to(error.dtype))).mean(dim=(1, 2)) * 2


def objective(values: Tensor, target: Tensor, levels: Tensor, floor: float) -> Tensor:
    """Sum over the batch of the pinball loss over the predicted width of the central 80%.

    The width comes from the context only and carries no gradient: easy series count as much as hard ones, and no
    series is favoured for how its future turned out.
    """
    low, high = (int((levels - q).abs().argmin()) for q in (0.1, 0.9))
    width = (values[:, high] - values[:, low]).detach().abs().mean(dim=1)
    loss = pinball(values, target.clamp(-TARGET_LIMIT, TARGET_LIMIT), levels)
    return (loss / width.clamp_min(floor)).sum()
