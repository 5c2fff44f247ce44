"""Small Chronos-Bolt checkpoints, written and read again by the `chronos` library."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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

DECILES = tuple(round(0.1 * i, 1) for i in range(1, 10))
CONTEXT, PATCH, BLOCK = 256, 16, 64


def build(card: ModelCard, folder: Path) -> Sample:
    """A checkpoint of two encoder and three decoder layers; horizons up to two and a half blocks."""
    write(folder, levels=card.quantile_levels)
    small = msgspec.structs.replace(card, max_context=CONTEXT, max_horizon=2 * BLOCK + BLOCK // 2)
    return Sample(card=small, folders={"model": folder}, reference=upstream(folder))


def write(
    folder: Path,
    levels: Sequence[float] = DECILES,
    context: int = CONTEXT,
    register_token: bool = True,
    dtype: str = "float32",
    stride: int = PATCH,
    activation: str = "relu",
    seed: int = 0,
) -> None:
    """Write config.json and model.safetensors of a small random model to `folder`.

    `stride` and `activation` other than the defaults make models that only the library knows.
    """
    import torch
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    config = T5Config(
        architectures=["ChronosBoltModelForForecasting"],
        chronos_pipeline_class="ChronosBoltPipeline",
        chronos_config={
            "context_length": context,
            "input_patch_size": PATCH,
            "input_patch_stride": stride,
            "prediction_length": BLOCK,
            "quantiles": list(levels),
            "use_reg_token": register_token,
        },
        d_model=32,
        d_kv=12,  # heads x d_kv is not d_model, as in chronos-bolt-mini
        d_ff=64,
        num_heads=4,
        num_layers=2,
        num_decoder_layers=3,
        vocab_size=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        feed_forward_proj=activation,
    )
    model = ChronosBoltModelForForecasting(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(_lively(name, noise))
    model.to(getattr(torch, dtype)).save_pretrained(folder)


def _lively(name: str, noise: Tensor) -> Tensor:
    """Scale unit noise so that attention is far from uniform and every layer has a say."""
    if "layer_norm" in name:
        return 1.0 + 0.2 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    if "shared" in name or "relative_attention_bias" in name:
        return noise
    gain: float = noise.shape[1] ** -0.5
    return noise * (0.5 * gain if ".q." in name else gain)


def upstream(folder: Path) -> Reference:
    """The forecasts of `chronos` on the checkpoint in `folder`, channel by channel, one series at a time."""
    import torch
    from chronos import BaseChronosPipeline

    pipeline = BaseChronosPipeline.from_pretrained(folder, device_map="cpu", dtype=torch.float32)

    def quantiles(series: Series) -> npt.NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of horizons over one block, which are meant here
            values = pipeline.predict(torch.tensor(series.target, dtype=torch.float32), series.horizon)
        ordered = np.sort(values.numpy().astype(np.float64), axis=1).transpose(1, 2, 0)
        kept: npt.NDArray[np.float64] = ordered[[pipeline.quantiles.index(level) for level in series.levels]]
        return kept

    return quantiles
