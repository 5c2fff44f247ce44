"""Chronos-2 on the `chronos` library: which series run together, and in which groups.

A series' channels and covariates are one group: they attend to each other and to nothing else. Series that asked for
cross-learning are one group with the others of their `group`. The library's pipeline takes inputs of one schema, but
prepared inputs of any: so series with different covariates run in one pass.

The steps of a forecast attend to each other, so that the first ones depend on how many are asked, in whole patches of
16: only series of as many patches share a pass, and a forecast is what the library says of that horizon.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from safetensors import SafetensorError

from adapters.arrays import UNOBSERVED, observed
from adapters.base import Array, Batch, BatchForecast, Device, Remark, Series, SeriesFailure, SeriesForecast
from adapters.chronos2.variates import Variates
from adapters.quantiles import forecast_of
from catalog.card import ModelCard

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

# Tokens of one pass: a CPU is at full speed from about 500 on. A GPU's are on the card.
CPU_TOKENS = 1024
# Rows of one pass: each attends over the rows of the whole pass, those of other groups behind a mask.
MOST_ROWS = 256


class Chronos2:
    """The family's adapter; the point forecast is the median, as the library's is."""

    def __init__(self, card: ModelCard, pipeline: Chronos2Pipeline, tokens: int) -> None:
        """`tokens` bounds one pass, padding included, but for a group that is larger by itself."""
        self._card = card
        self._pipeline = pipeline
        self._tokens = tokens
        self._levels = tuple(pipeline.quantiles)
        self._longest = int(pipeline.model_context_length)
        self._patch = int(pipeline.model_output_patch_size)

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Read config.json and model.safetensors; raises ValueError where the library does not know them."""
        from chronos import Chronos2Pipeline
        from chronos.chronos2 import Chronos2Model
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = folders["model"]
        try:
            model, report = Chronos2Model.from_pretrained(
                folder, dtype=getattr(torch, device.dtype), local_files_only=True, output_loading_info=True
            )
        except (AssertionError, OSError, RuntimeError, TypeError, ValueError, KeyError, SafetensorError) as exc:
            raise ValueError(f"{card.id}: {folder} holds no Chronos-2 checkpoint ({exc})") from exc
        # The library fills what it does not find with random numbers and a warning.
        if report["missing_keys"] or report["mismatched_keys"]:
            missing = sorted(str(key) for key in {*report["missing_keys"], *report["mismatched_keys"]})
            raise ValueError(f"{card.id}: {folder} lacks {len(missing)} weights, {missing[0]} first")
        pipeline = Chronos2Pipeline(model.to(device.name).eval())
        if tuple(pipeline.quantiles) != card.quantile_levels:
            raise ValueError(f"{card.id}: the checkpoint's levels are {pipeline.quantiles}, not the card's")
        return cls(card, pipeline, CPU_TOKENS if device.name == "cpu" else card.batching.budget(gpu=True))

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series; one with a channel that nothing was observed of is a failure of its own."""
        answers: list[SeriesForecast | SeriesFailure] = [UNOBSERVED] * len(batch.series)
        for places in self._passes(batch.series):
            series = [batch.series[place] for place in places]
            for place, one, values in zip(places, series, self._quantiles(series), strict=True):
                forecast = forecast_of(one, values, self._levels, self._card.tails)
                answers[place] = replace(forecast, remarks=_remarks(one))
        return BatchForecast(tuple(answers))

    def close(self) -> None:
        """Drop the weights."""
        del self._pipeline

    def _passes(self, series: Sequence[Series]) -> Iterator[list[int]]:
        """Places of the series that run together: of as many steps and about one length, within the bounds of a pass.

        Series that learn from each other are a pass of their own.
        """
        sound = [place for place, one in enumerate(series) if observed(one, self._longest)]
        together: dict[tuple[int, int], list[int]] = {}
        for place in sound:
            if series[place].cross_learning:
                together.setdefault((series[place].group, self._steps(series[place])), []).append(place)
        yield from together.values()
        alone = [place for place in sound if not series[place].cross_learning]
        alone.sort(key=lambda place: (self._steps(series[place]), series[place].target.shape[1]))
        run: list[int] = []
        rows = 0
        for place in alone:
            own = len(series[place].target) + len(series[place].past)
            full = rows + own > MOST_ROWS or (rows + own) * self._row_tokens(series[place]) > self._tokens
            if run and (full or self._steps(series[place]) != self._steps(series[run[0]])):
                yield run
                run, rows = [], 0
            run.append(place)
            rows += own
        if run:
            yield run

    def _quantiles(self, series: Sequence[Series]) -> list[Array]:
        """Trained quantiles (levels, steps, channels) of every one of `series`, in one pass."""
        steps = self._steps(series[0])
        variates = [Variates.of(one, self._longest, steps) for one in series]
        inputs = [
            {
                "context": torch.from_numpy(one.context),
                "future_covariates": torch.from_numpy(one.future),
                "n_targets": one.channels,
                "n_covariates": len(one.context) - one.channels,
                "n_future_covariates": one.known,
            }
            for one in variates
        ]
        with warnings.catch_warnings():
            # The library advises against horizons over one pass; the card's max_horizon has decided that.
            warnings.simplefilter("ignore")
            found = self._pipeline.predict(
                inputs,
                prediction_length=steps,
                batch_size=sum(len(one.context) for one in variates),
                cross_learning=series[0].cross_learning,
            )
        return [one.back(values.numpy()) for one, values in zip(variates, found, strict=True)]

    def _row_tokens(self, series: Series) -> int:
        """Patches of the context and of the horizon, and the one between them."""
        length = min(int(series.target.shape[1]), self._longest)
        return -(-length // self._patch) + 1 + self._steps(series) // self._patch

    def _steps(self, series: Series) -> int:
        """The horizon in whole patches."""
        return -(-series.horizon // self._patch) * self._patch


def _remarks(series: Series) -> tuple[Remark, ...]:
    """Covariates without a past are not used."""
    unpaired = tuple(range(len(series.past), len(series.past) + len(series.future) - series.known))
    return (Remark("covariates_ignored", unpaired),) if unpaired else ()
