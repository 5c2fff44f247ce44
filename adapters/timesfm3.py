"""TimesFM 3.0 on the `timesfm3` package: joint channels, covariates of past and future, one pass for any horizon.

The package's `predict_batch` collects garbage after every call, and a series' forecast in it depends on its
neighbours: a series without covariates gets zeros as covariates, and padding in front of a series moves its
positions, which the network sees absolutely (it scales queries and keys by dimension after it rotates them), and is
not masked where known values stand behind it. Here the package's `decode` is called for series of one form and of as
many patches, and then nothing leaks.

What the package does to a series is done here likewise: leading gaps, where no channel was observed, are cut off;
others are interpolated, in a known covariate over past and horizon; without known covariates the horizon is rounded
up to whole output patches. Patches overlap by half, so that the first steps depend on how many patches are asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from adapters.arrays import UNOBSERVED, filled, observed
from adapters.base import Array, Batch, BatchForecast, Device, Remark, Series, SeriesFailure, SeriesForecast
from adapters.quantiles import forecast_of
from catalog.card import ModelCard

if TYPE_CHECKING:
    from timesfm3 import TimesFM3Torch  # type: ignore[import-untyped]

# Tokens of one pass: a CPU core multiplies at full speed from about 128 on. A GPU's are on the card.
CPU_TOKENS = 128

Float32 = npt.NDArray[np.float32]


class TimesFM3:
    """The adapter; the point forecast is the median, as the package's is. It computes in float32 whatever is asked."""

    def __init__(self, card: ModelCard, model: TimesFM3Torch, tokens: int) -> None:
        """`tokens` bounds one pass, padding included, but for a series that is larger by itself."""
        self._card = card
        self._model = model
        self._tokens = tokens

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Read config.json and model.safetensors; raises ValueError where the package does not know them."""
        from timesfm3 import TimesFM3Torch

        folder = folders["model"]
        if not (folder / "config.json").is_file():
            raise ValueError(f"{card.id}: {folder} has no config.json")  # the package would guess sizes
        try:
            with safe_open(folder / "model.safetensors", framework="pt") as file:
                names = set(file.keys())
            model = TimesFM3Torch.from_pretrained(folder, local_files_only=True)
        except (OSError, RuntimeError, TypeError, ValueError, KeyError, SafetensorError) as exc:
            raise ValueError(f"{card.id}: {folder} holds no TimesFM 3.0 checkpoint ({exc})") from exc
        # The package leaves what it does not find as it was drawn.
        if missing := sorted(set(model.state_dict()) - names):
            raise ValueError(f"{card.id}: {folder} lacks {len(missing)} weights, {missing[0]} first")
        if tuple(model.quantiles) != card.quantile_levels:
            raise ValueError(f"{card.id}: the checkpoint's levels are {model.quantiles}, not the card's")
        return cls(
            card, model.to(device.name).eval(), CPU_TOKENS if device.name == "cpu" else card.batching.budget(gpu=True)
        )

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series; one with a channel that nothing was observed of is a failure of its own."""
        answers: list[SeriesForecast | SeriesFailure] = [UNOBSERVED] * len(batch.series)
        sound = [place for place, one in enumerate(batch.series) if observed(one, self._card.max_context)]
        ready = {place: Prepared.of(batch.series[place], self._card.max_context) for place in sound}
        for places in self._passes(ready):
            for place, values in zip(places, self._decode([ready[place] for place in places]), strict=True):
                one = batch.series[place]
                forecast = forecast_of(one, values, self._card.quantile_levels, self._card.tails)
                answers[place] = replace(forecast, remarks=_remarks(one))
        return BatchForecast(tuple(answers))

    def close(self) -> None:
        """Drop the weights."""
        del self._model

    def _passes(self, ready: Mapping[int, Prepared]) -> Iterator[list[int]]:
        """Places of the series that run together: of one form and length, and as many as a pass has tokens for."""
        forms: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, one in ready.items():
            forms[len(one.target), len(one.past), len(one.known), self._patches(one), self._steps(one)].append(place)
        for (*variates, patches, steps), places in forms.items():
            tokens = sum(variates) * (patches + -(-steps // self._model.input_patch_len))
            at_once = max(1, self._tokens // tokens)
            for start in range(0, len(places), at_once):
                yield places[start : start + at_once]

    def _decode(self, series: Sequence[Prepared]) -> Iterator[Array]:
        """Quantiles (levels, >= horizon, channels) of series of one form, in one pass."""
        first = series[0]
        width = self._patches(first) * self._model.input_patch_len
        masks = np.ones((len(series), width), dtype=np.bool_)
        for mask, one in zip(masks, series, strict=True):
            mask[width - one.target.shape[1] :] = False
        output = self._model.decode(
            target=self._stacked([one.target for one in series], width),
            horizon=self._steps(first),
            past_only_covariates=self._stacked([one.past for one in series], width) if len(first.past) else None,
            past_future_covariates=(
                self._stacked([one.known for one in series], width + first.horizon) if len(first.known) else None
            ),
            mask=torch.from_numpy(masks).to(self._model.output_head.weight.device),
        )
        values = output[:, : len(first.target)].double().cpu().numpy()  # (series, channels, steps, levels)
        for one, found in zip(series, values, strict=True):
            yield (found + one.centre[..., None]).transpose(2, 1, 0)

    def _stacked(self, rows: Sequence[Float32], width: int) -> torch.Tensor:
        """Rows (variates, time) as one (series, variates, width), zeros before them."""
        padded = [np.pad(one, ((0, 0), (width - one.shape[1], 0))) for one in rows]
        return torch.from_numpy(np.stack(padded)).to(self._model.output_head.weight.device)

    def _patches(self, one: Prepared) -> int:
        return int(-(-one.target.shape[1] // self._model.input_patch_len))

    def _steps(self, one: Prepared) -> int:
        """Steps to decode: the package takes them from known covariates, else whole output patches."""
        block = int(self._model.output_patch_len)
        return one.horizon if len(one.known) else -(-one.horizon // block) * block


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A series without gaps, each row around zero: the network sees no level, and float32 keeps the movement.

    Scales stay: a deviation under 1e-6 counts as none in the package, which then takes 1 for it.
    """

    target: Float32  # (channels, time)
    past: Float32  # (past-only covariates, time)
    known: Float32  # (known covariates, time + horizon)
    centre: Array  # (channels, 1)
    horizon: int

    @classmethod
    def of(cls, series: Series, longest: int) -> Prepared:
        """The last `longest` observations of `series`, from the first that any channel has."""
        target = series.target[:, -longest:]
        seen = ~np.isnan(target).all(axis=0)
        length = target.shape[1] - int(seen.argmax())
        past = series.past[:, series.past.shape[1] - length :]
        known = np.concatenate([past[: series.known], series.future[: series.known]], axis=1)
        rows, centre = _around_zero(target[:, -length:])
        return cls(
            target=rows,
            past=_around_zero(past[series.known :])[0],
            known=_around_zero(known)[0],
            centre=centre,
            horizon=series.horizon,
        )


def _around_zero(rows: Array) -> tuple[Float32, Array]:
    """Rows (variates, time) with gaps interpolated, less the middle of their range; those (variates, 1).

    A row of nothing but gaps is zeros.
    """
    if not len(rows):
        return np.empty((0, 0), dtype=np.float32), np.empty((0, 1))
    whole = np.stack([np.nan_to_num(filled(row)) for row in rows])
    centre = whole.min(axis=1, keepdims=True) / 2 + whole.max(axis=1, keepdims=True) / 2
    return (whole - centre).astype(np.float32), centre


def _remarks(series: Series) -> tuple[Remark, ...]:
    """Covariates without a past are not used."""
    unpaired = tuple(range(len(series.past), len(series.past) + len(series.future) - series.known))
    return (Remark("covariates_ignored", unpaired),) if unpaired else ()
