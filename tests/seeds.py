"""The exchanges of the seed, exactly as printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SEED = Path(__file__).parents[2] / "shared" / "seeds" / "canonical-forecast-contract.txt"


def seed_body(title: str) -> dict[str, object]:
    """The JSON printed under a file name of the seed; skips where the seed is not at hand."""
    if not SEED.exists():
        pytest.skip(f"needs {SEED}")
    text = SEED.read_text()
    value, _ = json.JSONDecoder().raw_decode(text, text.index("{", text.index(title)))
    assert isinstance(value, dict)
    return value
