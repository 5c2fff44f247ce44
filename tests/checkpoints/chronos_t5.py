"""Small Chronos-T5 checkpoints, written and read again by the `chronos` and `transformers` libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from adapters.base import Sampling, Series
from catalog.card import ModelCard
from tests.checkpoints import Sample

CONTEXT, BLOCK, TOKENS, SAMPLES = 64, 12, 256, 20


def build(card: ModelCard, folder: Path) -> Sample:
    """A checkpoint of two layers each; horizons up to two and a half blocks."""
    write(folder)
    horizon = 2 * BLOCK + BLOCK // 2
    small = msgspec.structs.replace(card, max_context=CONTEXT, max_horizon=horizon, native_horizon=BLOCK)
    return Sample(card=small, folders={"model": folder}, reference=upstream(folder))


def write(folder: Path, context: int = CONTEXT, activation: str = "relu", tied: bool = True, seed: int = 0) -> None:
    """Write config.json and model.safetensors of a small random model to `folder`."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        architectures=["T5ForConditionalGeneration"],
        chronos_config={
            "tokenizer_class": "MeanScaleUniformBins",
            "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
            "context_length": context,
            "prediction_length": BLOCK,
            "n_tokens": TOKENS,
            "n_special_tokens": 2,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "use_eos_token": True,
            "model_type": "seq2seq",
            "num_samples": SAMPLES,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
        d_model=32,
        d_kv=12,
        d_ff=64,
        num_heads=4,
        num_layers=2,
        vocab_size=TOKENS,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        feed_forward_proj=activation,
        **({} if tied else {"tie_word_embeddings": False}),
    )
    model = T5ForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "layer_norm" in name:
                weight.copy_(1.0 + 0.2 * noise)
            elif "shared" in name or "relative_attention_bias" in name:
                weight.copy_(noise)
            else:
                weight.copy_(noise * noise.shape[1] ** -0.5)
    model.save_pretrained(folder)


def upstream(folder: Path) -> Callable[[Series], npt.NDArray[np.float64]]:
    """The forecasts of `chronos` on the checkpoint in `folder`, one channel at a time.

    Its draws come from torch's own generator, so that only a draw without a choice, of `top_k` 1, is the same.
    """
    draws = paths(folder)

    def quantiles(series: Series) -> npt.NDArray[np.float64]:
        assert series.sampling is not None and series.sampling.top_k == 1
        found: npt.NDArray[np.float64] = np.quantile(draws(series), series.levels, axis=0)
        return found

    return quantiles


def paths(folder: Path) -> Callable[[Series], npt.NDArray[np.float64]]:
    """Paths of `chronos` as `series.sampling` says, (paths, horizon, channels)."""
    import torch
    from chronos import BaseChronosPipeline

    pipeline = BaseChronosPipeline.from_pretrained(folder, device_map="cpu", dtype=torch.float32)

    def drawn(series: Series) -> npt.NDArray[np.float64]:
        sampling = series.sampling
        assert isinstance(sampling, Sampling)
        torch.manual_seed(sampling.seed)
        channels = [
            pipeline.predict(
                torch.tensor(row[None], dtype=torch.float32),
                series.horizon,
                num_samples=sampling.count,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
            )[0]
            for row in series.target
        ]
        return np.stack([one.numpy().astype(np.float64) for one in channels], axis=-1)

    return drawn
