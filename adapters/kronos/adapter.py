"""Series to Kronos' candles, and its paths back to forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch

from adapters.arrays import UNOBSERVED, observed
from adapters.base import Array, Batch, BatchForecast, Device, Sampling, Series, SeriesFailure, SeriesForecast
from adapters.checkpoint import Checkpoint
from adapters.kronos.candles import AMOUNT, FEATURES, PRICES, VOLUME, Integers, Scale, calendar, candles, places
from adapters.kronos.config import ModelConfig, TokenizerConfig, read_config
from adapters.kronos.model import KronosModel
from adapters.kronos.sampling import chances, grown
from adapters.kronos.tokenizer import Tokenizer
from catalog.card import ModelCard

UNASKED = Sampling(count=100, seed=0)  # how paths are drawn for a series that does not say
# Scores of one head's attention that are held at once: more paths take turns. 64 MB in float32.
SCORES = 1 << 24

NO_PRICES = SeriesFailure("Candles need the channels open, high, low and close.")
NO_VOLUME = SeriesFailure("Candles with the channel amount need the channel volume too.")
NO_STAMPS = SeriesFailure("Candles need a time stamp for every step of context and horizon.")


class Kronos:
    """The family's adapter. Each series runs by itself: its paths are the rows of a pass."""

    def __init__(self, tokenizer: Tokenizer, model: KronosModel, max_context: int, device: torch.device) -> None:
        """`max_context` is the number of tokens that the model was trained to see."""
        self._tokenizer = tokenizer
        self._model = model
        self._max_context = max_context
        self._device = device

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Read `folders["model"]` and `folders["tokenizer"]`; raises ValueError where they are no pair."""
        sizes, bits = read_config(folders["model"], ModelConfig), read_config(folders["tokenizer"], TokenizerConfig)
        if (sizes.s1_bits, sizes.s2_bits) != (bits.s1_bits, bits.s2_bits) or bits.d_in != FEATURES:
            raise ValueError(f"{folders['tokenizer']} is no tokenizer of candles for the model {folders['model']}")
        place = torch.device(device.name)
        tokenizer = Tokenizer(bits, Checkpoint(folders["tokenizer"]), place)
        model = KronosModel(sizes, Checkpoint(folders["model"]), place, _floating(device.dtype))
        return cls(tokenizer, model, card.max_context, place)

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series; one that is no series of candles is a failure of its own."""
        return BatchForecast(tuple(map(self._forecast, batch.series)))

    def close(self) -> None:
        """Drop the weights."""
        del self._tokenizer, self._model

    def _forecast(self, series: Series) -> SeriesForecast | SeriesFailure:
        if not set(PRICES) <= set(places(series)):
            return NO_PRICES
        if AMOUNT in places(series) and VOLUME not in places(series):
            return NO_VOLUME
        if not observed(series, self._max_context):
            return UNOBSERVED
        if series.stamps is None:
            return NO_STAMPS
        sampling = series.sampling or UNASKED
        features = candles(series, self._max_context)
        times = calendar(series.stamps[-len(features) - series.horizon :])
        paths = self.paths(features, times, sampling, series.horizon)[..., places(series)]
        return SeriesForecast(
            point=paths.mean(axis=0),
            quantiles=np.sort(np.quantile(paths, series.levels, axis=0), axis=0),
            samples=paths,
        )

    @torch.inference_mode()
    def paths(self, features: Array, times: Integers, sampling: Sampling, horizon: int) -> Array:
        """Sampled candles, features (time, 6) and times (time + horizon, 5) -> (paths, horizon, 6)."""
        scale = Scale.of(features)
        unit = torch.from_numpy(scale.normalised(features).astype(np.float32)).to(self._device)
        history = self._tokenizer.encode(unit)
        moments = torch.from_numpy(times).to(self._device)
        chance = chances(sampling, horizon, features).to(self._device)
        # What is left of the history once the last step stands in the window.
        kept = history[max(0, len(history) + horizon - self._max_context) :]
        at_once = max(1, SCORES // (horizon * (len(kept) + horizon)))
        decoded = []
        for first in range(0, sampling.count, at_once):
            share = chance[..., first : first + at_once]
            tokens = grown(self._model, history, moments, sampling, share, self._max_context)
            decoded.append(self._tokenizer.decode(kept, tokens))
        return scale.restored(torch.cat(decoded).cpu().numpy().astype(np.float64))


def _floating(name: str) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise ValueError(f"Kronos computes in {', '.join(dtypes)}, not in {name}")
    return dtypes[name]
