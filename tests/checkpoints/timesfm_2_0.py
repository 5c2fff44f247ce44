"""Small TimesFM 2.0 checkpoints, written and read again by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from adapters.base import Series
from catalog.card import ModelCard
from tests.checkpoints import Reference, Sample

if TYPE_CHECKING:
    from torch import Tensor

PATCH, BLOCK, CONTEXT = 32, 128, 256
DAY_S = 86400.0


def build(card: ModelCard, folder: Path) -> Sample:
    """A checkpoint of three layers; horizons up to two and a half blocks."""
    write(folder)
    small = msgspec.structs.replace(card, max_context=CONTEXT, max_horizon=2 * BLOCK + BLOCK // 2)
    return Sample(card=small, folders={"model": folder}, reference=upstream(folder))


def write(folder: Path, seed: int = 0) -> None:
    """Write config.json and model.safetensors of a small random model to `folder`."""
    import torch
    from transformers import TimesFmConfig, TimesFmModelForPrediction

    config = TimesFmConfig(
        patch_length=PATCH,
        context_length=CONTEXT,
        horizon_length=BLOCK,
        hidden_size=48,
        intermediate_size=64,
        head_dim=12,
        num_attention_heads=4,
        num_hidden_layers=3,
        use_positional_embedding=False,
    )
    model = TimesFmModelForPrediction(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(_lively(name, torch.randn(weight.shape, generator=generator)))
    model.save_pretrained(folder)


def _lively(name: str, noise: Tensor) -> Tensor:
    """Scale unit noise so that attention is far from uniform and every layer has a say."""
    if "layernorm" in name or "layer_norm.weight" in name:
        return 1.0 + 0.2 * noise
    if name.endswith(("bias", "freq_emb.weight")):
        return 0.3 * noise
    if name.endswith("scaling"):
        return noise
    gain: float = noise.shape[1] ** -0.5
    return noise * gain


def upstream(folder: Path) -> Reference:
    """The forecasts of transformers on the checkpoint in `folder`, channel by channel, one series at a time.

    Horizons of several blocks are a chain of calls, each with the means so far appended to the context: what the
    library does itself where the context fills its window, and fails to do where it does not, because its padding
    mask stays behind. Gaps, which the library does not take, are filled as its authors' own package fills them.
    """
    import torch
    from transformers import TimesFmModelForPrediction

    model = TimesFmModelForPrediction.from_pretrained(folder).eval()

    def quantiles(series: Series) -> npt.NDArray[np.float64]:
        step_s = series.step_s or DAY_S
        frequency = int(np.searchsorted([7 * DAY_S, 90 * DAY_S], step_s, side="right"))
        channels = []
        for row in series.target:
            context, blocks = _without_gaps(row[-CONTEXT:]), []
            for _ in range(-(-series.horizon // BLOCK)):
                with torch.no_grad():
                    out = model(past_values=[torch.tensor(context, dtype=torch.float32)], freq=[frequency])
                blocks.append(out.full_predictions[0].double().numpy())
                context = np.concatenate([context, blocks[-1][:, 0]])
            channels.append(np.concatenate(blocks)[: series.horizon, 1:])
        ordered = np.sort(np.stack(channels), axis=-1)  # (channels, horizon, levels)
        places = [round(10 * level) - 1 for level in series.levels]
        return ordered[..., places].transpose(2, 1, 0)

    return quantiles


def _without_gaps(row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    steps = np.flatnonzero(~np.isnan(row))
    return np.interp(np.arange(steps[0], len(row)), steps, row[steps])
