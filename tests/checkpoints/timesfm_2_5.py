"""Small TimesFM 2.5 checkpoints: the `timesfm` package's own network with less width and fewer layers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from adapters.base import Series
from catalog.card import ModelCard
from tests.checkpoints import Reference, Sample

if TYPE_CHECKING:
    from timesfm.timesfm_2p5.timesfm_2p5_torch import TimesFM_2p5_200M_torch_module
    from torch import Tensor

WIDTH, LAYERS, HEADS = 64, 2, 4
PATCH, BLOCK, CONTEXT = 32, 128, 512


def build(card: ModelCard, folder: Path) -> Sample:
    """A checkpoint of two layers; horizons up to two and a half blocks."""
    write(folder)
    small = msgspec.structs.replace(card, max_context=CONTEXT, max_horizon=2 * BLOCK + BLOCK // 2)
    return Sample(card=small, folders={"model": folder}, reference=upstream(folder))


def write(folder: Path, seed: int = 0) -> None:
    """Write model.safetensors of a small random model, and a config.json that says as little as the published one."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: _lively(name, torch.randn(weight.shape, generator=generator))
        for name, weight in network().state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"torch_compile": False}))


def _lively(name: str, noise: Tensor) -> Tensor:
    """Scale unit noise so that attention is far from uniform and every layer has a say."""
    if name.endswith("per_dim_scale"):
        return noise
    if name.endswith("_ln.scale"):
        return 1.0 + 0.2 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    gain: float = noise.shape[1] ** -0.5
    return noise * gain


def network() -> TimesFM_2p5_200M_torch_module:
    """The package's network in the small size; it reads its sizes from a class attribute."""
    from timesfm.timesfm_2p5.timesfm_2p5_torch import TimesFM_2p5_200M_torch_module

    published = TimesFM_2p5_200M_torch_module.config
    blocks = published.stacked_transformers
    layer = dataclasses.replace(blocks.transformer, model_dims=WIDTH, hidden_dims=WIDTH, num_heads=HEADS)
    narrow = {"hidden_dims": WIDTH}

    class Small(TimesFM_2p5_200M_torch_module):
        config = dataclasses.replace(
            published,
            tokenizer=dataclasses.replace(published.tokenizer, output_dims=WIDTH, **narrow),
            stacked_transformers=dataclasses.replace(blocks, num_layers=LAYERS, transformer=layer),
            output_projection_point=dataclasses.replace(published.output_projection_point, input_dims=WIDTH, **narrow),
            output_projection_quantiles=dataclasses.replace(
                published.output_projection_quantiles, input_dims=WIDTH, **narrow
            ),
        )

    return Small()


def upstream(folder: Path, max_context: int | None = None) -> Reference:
    """The forecasts of `timesfm` on the checkpoint in `folder`, channel by channel, one series at a time.

    `max_context` is what the package pads contexts to; None: each series to its own length in whole patches.
    """
    import timesfm
    import torch
    from safetensors.torch import load_file

    module = network()
    module.load_state_dict(load_file(folder / "model.safetensors"))
    module.device = torch.device("cpu")
    model = timesfm.TimesFM_2p5_200M_torch.__new__(timesfm.TimesFM_2p5_200M_torch)
    model.model = module.eval()

    def quantiles(series: Series) -> npt.NDArray[np.float64]:
        channels = []
        for row in series.target:
            observed = row[int(np.argmax(~np.isnan(row))) :]
            model.compile(
                timesfm.ForecastConfig(
                    max_context=max_context or -(-min(len(observed), CONTEXT) // PATCH) * PATCH,
                    max_horizon=-(-series.horizon // BLOCK) * BLOCK,
                    normalize_inputs=True,
                    use_continuous_quantile_head=True,
                    force_flip_invariance=True,
                    infer_is_positive=True,
                    fix_quantile_crossing=True,
                )
            )
            channels.append(model.forecast(series.horizon, [np.array(row)])[1][0])
        ordered = np.sort(np.stack(channels)[..., 1:].astype(np.float64), axis=-1)  # (channels, horizon, levels)
        places = [round(10 * level) - 1 for level in series.levels]
        return ordered[..., places].transpose(2, 1, 0)

    return quantiles
