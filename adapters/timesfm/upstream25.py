"""TimesFM 2.5 on the `timesfm` package: the reference that the lean path answers to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from timesfm import ForecastConfig, TimesFM_2p5_200M_torch
from timesfm.timesfm_2p5.timesfm_2p5_base import TimesFM_2p5_200M_Definition
from timesfm.timesfm_2p5.timesfm_2p5_torch import TimesFM_2p5_200M_torch_module
from torch import Tensor

from adapters.base import Array, Device
from adapters.timesfm.network import Sizes


class UpstreamForecaster:
    """The package, called once for each length of context in whole patches, so that none is padded for another."""

    def __init__(self, model: _Forecaster) -> None:
        self._model = model

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], sizes: Sizes | None, device: Device) -> Self:
        """The package's model with `tensors` as weights, in the package's own size where `sizes` is None.

        It computes in float32 whatever `device` asks. Raises ValueError for tensors that are not the model's.
        """
        module = _module(_definition(sizes))
        try:
            module.load_state_dict(tensors, assign=True)
        except RuntimeError as exc:
            raise ValueError(f"the timesfm package does not know this checkpoint: {exc}") from exc
        module.device, module.device_count = torch.device(device.name), 1
        module.to(module.device).eval()
        return cls(_Forecaster(module))

    @torch.inference_mode()
    def forecast(self, rows: Sequence[Array], horizon: int) -> Array:
        """Rows (time,) without gaps -> (rows, horizon, outputs): the median, then the trained levels in order."""
        patch, step = self._model.model.p, self._model.model.o
        counts = np.array([-(-len(row) // patch) for row in rows])
        out = np.empty((len(rows), horizon, self._model.model.q))
        for count in np.unique(counts):
            same = np.flatnonzero(counts == count)
            self._model.compile(
                ForecastConfig(
                    max_context=int(count) * patch,
                    max_horizon=-(-horizon // step) * step,
                    per_core_batch_size=len(same),
                    normalize_inputs=True,
                    use_continuous_quantile_head=True,
                    force_flip_invariance=True,
                    infer_is_positive=True,
                    fix_quantile_crossing=True,
                )
            )
            out[same] = self._model.forecast(horizon, [rows[int(i)] for i in same])[1]
        out[..., 0] = out[..., self._model.model.aridx]
        return out


class _Definition(TimesFM_2p5_200M_Definition):  # type: ignore[misc]  # the package has no types
    # The package refuses contexts and horizons of more than 16384 steps together, though only the steps after the
    # first 128 are ever read; the card promises both in full.
    context_limit = 2 * TimesFM_2p5_200M_Definition.context_limit


class _Forecaster(TimesFM_2p5_200M_torch):  # type: ignore[misc]
    """The package's forecaster over any module: its own constructor builds 231 million weights first."""

    def __init__(self, module: TimesFM_2p5_200M_torch_module) -> None:
        self.model = module


def _definition(sizes: Sizes | None) -> _Definition:
    """The package's description of a checkpoint of `sizes`."""
    published = _Definition()
    if sizes is None:
        return published
    width = sizes.width
    blocks = published.stacked_transformers
    layer = dataclasses.replace(blocks.transformer, model_dims=width, hidden_dims=sizes.inner, num_heads=sizes.heads)
    head = dataclasses.replace(published.output_projection_point, input_dims=width, hidden_dims=width)
    return dataclasses.replace(
        published,
        input_patch_len=sizes.patch,
        output_patch_len=sizes.step,
        output_quantile_len=sizes.reach,
        tokenizer=dataclasses.replace(
            published.tokenizer, input_dims=2 * sizes.patch, hidden_dims=width, output_dims=width
        ),
        stacked_transformers=dataclasses.replace(blocks, num_layers=sizes.layers, transformer=layer),
        output_projection_point=dataclasses.replace(head, output_dims=sizes.step * sizes.outputs),
        output_projection_quantiles=dataclasses.replace(head, output_dims=sizes.reach * sizes.outputs),
    )


def _module(definition: _Definition) -> TimesFM_2p5_200M_torch_module:
    """The package's network of that description, without storage for its weights."""

    class Module(TimesFM_2p5_200M_torch_module):  # type: ignore[misc]
        config = definition  # the package reads sizes from the class

    with torch.device("meta"):
        return Module()
