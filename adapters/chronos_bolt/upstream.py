"""Chronos-Bolt by the `chronos` library: for configurations that the lean path does not know."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from chronos import BaseChronosPipeline, ChronosBoltPipeline

from adapters.checkpoint import Checkpoint

# Stored once, as shared.weight.
TIED = frozenset({"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"})


class UpstreamBolt:
    """The library's pipeline with the face of `LeanBolt`."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Raises ValueError where `folder` is not a Chronos-Bolt checkpoint."""
        try:
            pipeline = BaseChronosPipeline.from_pretrained(folder, device_map=device, dtype=getattr(torch, dtype))
        except Exception as exc:  # whatever the library raises, this checkpoint is the cause
            raise ValueError(f"chronos cannot load {folder} ({exc})") from exc
        if not isinstance(pipeline, ChronosBoltPipeline):
            raise ValueError(f"{folder} holds a {type(pipeline).__name__}, not a Chronos-Bolt model")
        if missing := sorted(set(pipeline.model.state_dict()) - Checkpoint(folder).names - TIED):
            # The library would forecast with random numbers in their place.
            raise ValueError(f"the checkpoint lacks {len(missing)} tensors, {missing[0]} among them")
        self._pipeline = pipeline
        self.levels = tuple(pipeline.quantiles)
        self.context_length = pipeline.model_context_length
        self.block = pipeline.model_prediction_length
        self.patch = pipeline.model.chronos_config.input_patch_size

    def predict(self, context: torch.Tensor, horizon: int) -> torch.Tensor:
        """(rows, time) float32, NaN where missing -> (rows, levels, horizon) float32, as trained"""
        with warnings.catch_warnings():
            # The library advises against horizons over one block; the card's max_horizon has decided that.
            warnings.simplefilter("ignore")
            values: torch.Tensor = self._pipeline.predict(context, horizon)
        return values
