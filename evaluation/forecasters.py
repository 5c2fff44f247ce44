"""Catalog models as functions from windows to quantiles, run in this process through their adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from adapters.base import Batch, Device, Series, SeriesFailure
from adapters.loading import load
from catalog.card import CARDS, Catalog, load_cards
from evaluation.accuracy import LEVELS
from evaluation.datasets import Values, Window
from gateway.engine.weights import Missing, locate

BATCH = 64
Forecaster = Callable[[Sequence[Window], int], list[Values]]  # windows, season -> (levels, horizon) for each


def forecaster(name: str, weights_dir: Path) -> Forecaster:
    """A catalog model, or several joined by "+" whose quantiles are averaged.

    Raises SystemExit with a sentence where a model is unknown or its weights are absent.
    """
    members = [_member(part, weights_dir) for part in name.split("+")]

    def blend(windows: Sequence[Window], season: int) -> list[Values]:
        each = [member(windows, season) for member in members]
        return [np.mean(parts, axis=0) for parts in zip(*each, strict=True)]

    return blend


def _member(name: str, weights_dir: Path) -> Forecaster:
    catalog = Catalog(load_cards(CARDS))
    card = catalog.get(name)
    if card is None:
        raise SystemExit(f"No model {name!r}. Near: {', '.join(catalog.nearest(name))}")
    located = locate(card, weights_dir)
    if isinstance(located, Missing):
        raise SystemExit(located.reason)
    adapter = load(card, located.folders, Device())

    def predict(windows: Sequence[Window], season: int) -> list[Values]:
        values: list[Values] = []
        for start in range(0, len(windows), BATCH):
            series = tuple(_series(w, season, card.max_context) for w in windows[start : start + BATCH])
            for answer in adapter.predict(Batch(series)).series:
                if isinstance(answer, SeriesFailure):
                    raise SystemExit(f"{name}: {answer.reason}")
                values.append(answer.quantiles[:, :, 0])
        return values

    return predict


def _series(window: Window, season: int, longest: int) -> Series:
    context = window.context[-longest:]
    return Series(target=context[None], horizon=len(window.actual), levels=LEVELS, season=season)
