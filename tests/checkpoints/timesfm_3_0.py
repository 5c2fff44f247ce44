"""Small TimesFM 3.0 checkpoints, written and read again by the `timesfm3` package."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from adapters.base import Series
from catalog.card import ModelCard
from tests.checkpoints import Reference, Sample

CONTEXT, HORIZON, WIDTH = 512, 200, 64


def build(card: ModelCard, folder: Path) -> Sample:
    """A checkpoint of two layers and the published patches; its card's limits are this small ones' own."""
    write(folder)
    small = msgspec.structs.replace(card, max_context=CONTEXT, max_horizon=HORIZON)
    return Sample(card=small, folders={"model": folder}, reference=upstream(folder))


def write(folder: Path, seed: int = 0) -> None:
    """Write config.json and model.safetensors of a small random model to `folder`."""
    import torch
    from timesfm3 import ResidualBlockConfig, StackedTransformersConfig, TimesFM3Torch, TransformerConfig

    model = TimesFM3Torch(
        residual_block_config=ResidualBlockConfig(
            hidden_dims=WIDTH, output_dims=WIDTH, use_bias=False, activation="relu"
        ),
        transformer_config=StackedTransformersConfig(
            num_layers=2,
            transformer=TransformerConfig(
                model_dims=WIDTH,
                hidden_dims=WIDTH,
                num_heads=4,
                attention_norm="rms",
                feedforward_norm="rms",
                qk_norm="rms",
                use_bias=False,
                use_rope_seq=True,
                use_rope_var=False,
                ff_activation="relu",
                deterministic=True,
            ),
        ),
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim >= 2:
                weight.copy_(noise * weight.shape[1] ** -0.5)
            else:  # of norms, scales and the head's bias
                weight.copy_((0.0 if "bias" in name or "scale" in name else 1.0) + 0.2 * noise)
    model.save_pretrained(folder)


def upstream(folder: Path) -> Reference:
    """The forecasts of `timesfm3` on the checkpoint in `folder`, one series at a time, its channels jointly."""
    from timesfm3 import TimesFM3Forecaster

    forecaster = TimesFM3Forecaster.from_pretrained(str(folder), device="cpu")

    def quantiles(series: Series) -> npt.NDArray[np.float64]:
        known = np.concatenate([series.past[: series.known], series.future[: series.known]], axis=1)
        past = series.past[series.known :]
        output = forecaster.predict(
            series.target,
            series.horizon,
            past_only_covariates=past if len(past) else None,
            past_future_covariates=known if len(known) else None,
            return_quantiles=True,
        )
        ordered = output.quantiles.astype(np.float64).transpose(2, 1, 0)
        kept: npt.NDArray[np.float64] = ordered[[forecaster.config.quantiles.index(level) for level in series.levels]]
        return kept

    return quantiles
