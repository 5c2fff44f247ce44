"""Statistical models have no weights: each is its packaged card, with limits that keep a fit short."""

from __future__ import annotations

from pathlib import Path

import msgspec

from catalog.card import ModelCard
from tests.checkpoints import Sample

CONTEXT, HORIZON = 28, 32


def build(card: ModelCard, folder: Path) -> Sample:
    """The model itself; `folder` stays empty."""
    return Sample(card=msgspec.structs.replace(card, max_context=CONTEXT, max_horizon=HORIZON), folders={})
