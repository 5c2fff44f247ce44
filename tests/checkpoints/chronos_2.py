"""Small Chronos-2 checkpoints, written and read again by the `chronos` library."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from adapters.base import Series
from catalog.card import ModelCard
from tests.checkpoints import Reference, Sample

CONTEXT, PATCH, BLOCK = 256, 16, 64


def build(card: ModelCard, folder: Path) -> Sample:
    """A checkpoint of two layers and four patches of horizon; horizons up to two and a half passes."""
    write(folder, card.quantile_levels)
    small = msgspec.structs.replace(card, max_context=CONTEXT, native_horizon=BLOCK, max_horizon=2 * BLOCK + BLOCK // 2)
    return Sample(card=small, folders={"model": folder}, reference=upstream(folder))


def write(folder: Path, levels: tuple[float, ...], seed: int = 0) -> None:
    """Write config.json and model.safetensors of a small random model to `folder`."""
    import torch
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    config = Chronos2CoreConfig(
        architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
        chronos_config={
            "context_length": CONTEXT,
            "input_patch_size": PATCH,
            "input_patch_stride": PATCH,
            "output_patch_size": PATCH,
            "max_output_patches": BLOCK // PATCH,
            "quantiles": list(levels),
            "time_encoding_scale": CONTEXT,
            "use_arcsinh": True,
            "use_reg_token": True,
        },
        d_model=32,
        d_kv=12,  # heads x d_kv is not d_model
        d_ff=64,
        num_heads=4,
        num_layers=2,
    )
    model = Chronos2Model(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "layer_norm" in name:
                weight.copy_(1.0 + 0.2 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.1 * noise)
            elif "shared" in name:
                weight.copy_(noise)
            else:
                weight.copy_(noise * weight.shape[1] ** -0.5)
    model.save_pretrained(folder)


def upstream(folder: Path) -> Reference:
    """The forecasts of `chronos` on the checkpoint in `folder`, one series at a time, its channels jointly."""
    import torch
    from chronos import BaseChronosPipeline

    pipeline = BaseChronosPipeline.from_pretrained(folder, device_map="cpu", dtype=torch.float32)

    def quantiles(series: Series) -> npt.NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of horizons over one pass, which are meant here
            (values,), _ = pipeline.predict_quantiles(
                [torch.tensor(series.target, dtype=torch.float32)],
                prediction_length=series.horizon,
                quantile_levels=pipeline.quantiles,
            )
        ordered = np.sort(values.numpy().astype(np.float64), axis=-1).transpose(2, 1, 0)
        kept: npt.NDArray[np.float64] = ordered[[pipeline.quantiles.index(level) for level in series.levels]]
        return kept

    return quantiles
