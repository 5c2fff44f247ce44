"""Small checkpoints of every family, built with the real libraries in the hub's layout.

The module `tests.checkpoints.<family>` (with `_` for `-` and `.`) makes the checkpoints of one family:

    def build(card: ModelCard, folder: Path) -> Sample

`card` is the packaged card. The sample's card is that card with the limits of the small checkpoint
(`msgspec.structs.replace`). Weights are random, but lively: two contexts must give two forecasts. Nothing is
registered anywhere: a family with such a module and a card with an `adapter` is in the conformance suite.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adapters.base import Series
from catalog.card import CARDS, ModelCard, load_cards

# What the upstream library says of one series: quantiles (series.levels, horizon, channels), sorted along the
# levels, on the same checkpoint. Levels are trained ones; the series carries no covariates.
Reference = Callable[[Series], npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One model that can be loaded here: its card, its folders, and its upstream library where it has one."""

    card: ModelCard
    folders: Mapping[str, Path]
    reference: Reference | None = None


def build(card: ModelCard, folder: Path) -> Sample:
    """A small checkpoint for the packaged `card`, written below `folder`."""
    sample: Sample = importlib.import_module(_module(card)).build(card, folder)
    return sample


def representatives() -> tuple[ModelCard, ...]:
    """The packaged cards to test: the smallest of each adapter and set of its options that can be built."""
    distinct: dict[str, ModelCard] = {}
    for card in sorted(load_cards(CARDS), key=lambda card: card.parameters or 0):
        if card.adapter and importlib.util.find_spec(_module(card)):
            distinct.setdefault(f"{card.adapter} {card.adapter_options}", card)
    return tuple(distinct.values())


def _module(card: ModelCard) -> str:
    return f"{__name__}.{card.family.replace('-', '_').replace('.', '_')}"
