"""TimesFM 2.0 on transformers: nine quantiles and a mean, 128 steps a pass, a frequency class beside the context.

The adapter calls the library's decoder and head itself rather than `TimesFmModelForPrediction.forward`, which pads
every context to 2048 observations and, past 128 steps, masks its recursion wrongly for shorter contexts: after the
first step its padding mask no longer moves with the values, so that the observations themselves count as padding
(seen in transformers 5.23). Here a context is padded to whole patches of the longest in its pass, which changes no
number, since padding is masked everywhere; and each further step reads the context with the mean of the steps before
it appended, which is what the library does where the context fills its window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from adapters.arrays import left_padded
from adapters.base import Array, Batch, BatchForecast, Device, Series
from adapters.timesfm.rows import forecast_rows, tokens_at_once
from catalog.card import ModelCard

if TYPE_CHECKING:
    from transformers import TimesFmModelForPrediction

WEEK_S = 7 * 86400.0
QUARTER_S = 90 * 86400.0


def frequency_class(step_s: float | None) -> int:
    """The library's class of a frequency: 0 up to a day, 1 weeks and months, 2 quarters and years.

    Unknown steps are 0, the library's default.
    """
    if step_s is None or step_s < WEEK_S:
        return 0
    return 1 if step_s < QUARTER_S else 2


class TimesFM20:
    """The adapter: channels one by one; the point forecast is the mean, as the library's is."""

    def __init__(self, card: ModelCard, model: TimesFmModelForPrediction, tokens: int) -> None:
        """`tokens` bounds one pass, padding included."""
        self._card = card
        self._model = model
        self._tokens = tokens

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Read config.json and model.safetensors; raises ValueError where the library does not know them."""
        from transformers import TimesFmModelForPrediction
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model, report = TimesFmModelForPrediction.from_pretrained(
                folders["model"],
                dtype=getattr(torch, device.dtype),
                local_files_only=True,
                output_loading_info=True,
            )
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as exc:
            raise ValueError(f"{card.id}: {folders['model']} holds no TimesFM 2.0 checkpoint ({exc})") from exc
        # The library fills what it does not find with random numbers and a warning.
        if report["missing_keys"] or report["mismatched_keys"]:
            missing = sorted(str(key) for key in {*report["missing_keys"], *report["mismatched_keys"]})
            raise ValueError(f"{card.id}: {folders['model']} lacks {len(missing)} weights, {missing[0]} first")
        if tuple(model.config.quantiles) != card.quantile_levels:
            raise ValueError(f"{card.id}: the checkpoint's levels are {model.config.quantiles}, not the card's")
        return cls(card, model.to(device.name).eval(), tokens_at_once(card, device.name))

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series of `batch`."""
        return forecast_rows(batch, self._card, self._tokens, self._forecast)

    def close(self) -> None:
        """Drop the weights."""
        del self._model

    @torch.inference_mode()
    def _forecast(self, rows: Sequence[Array], series: Sequence[Series], horizon: int) -> Array:
        """Rows (time,) without gaps -> (rows, horizon, outputs): the mean, then the trained levels in order."""
        classes = torch.tensor([[frequency_class(one.step_s)] for one in series], device=self._model.device)
        contexts = list(rows)
        parts: list[Array] = []
        while sum(part.shape[1] for part in parts) < horizon:
            parts.append(self._step(contexts, classes))
            contexts = [
                np.concatenate([context, steps[:, 0]])[-self._card.max_context :]
                for context, steps in zip(contexts, parts[-1], strict=True)
            ]
        return np.concatenate(parts, axis=1)[:, :horizon]

    def _step(self, contexts: Sequence[Array], classes: Tensor) -> Array:
        """One pass: contexts (time,) -> (rows, native horizon, outputs)."""
        model, config = self._model, self._model.config
        patches = -(-max(len(context) for context in contexts) // config.patch_length)
        values = left_padded(contexts, patches * config.patch_length)
        padding = np.isnan(values)
        # The network shifts a row by its first patch's mean, so a shift before it changes nothing: it keeps in float32
        # the movement of a series at a high level.
        level = np.nanmean(values, axis=1, keepdims=True)
        state = model.decoder(
            past_values=torch.from_numpy(np.where(padding, 0.0, values - level)).to(model.device, model.dtype),
            past_values_padding=torch.from_numpy(padding).to(model.device, model.dtype),
            freq=classes,
        )
        outputs = model.horizon_ff_layer(state.last_hidden_state[:, -1])
        outputs = outputs.view(len(contexts), config.horizon_length, 1 + len(config.quantiles))
        outputs = outputs * state.scale[:, None, None] + state.loc[:, None, None]
        forecast: Array = outputs.double().cpu().numpy() + level[..., None]
        return forecast
