"""The exchanges of the seed, exactly as printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SEEDS = Path(__file__).parents[2] / "shared" / "seeds"
SEED = SEEDS / "canonical-forecast-contract.txt"


def seed_text(name: str) -> str:
    """A seed document; skips where the seeds are not at hand."""
    if not (SEEDS / name).exists():
        pytest.skip(f"needs {SEEDS / name}")
    return (SEEDS / name).read_text()


def json_objects(text: str) -> list[dict[str, Any]]:
    """Every JSON object that is printed in a text, the outermost of each."""
    found, position = [], text.find("{")
    while position >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, position)
        except json.JSONDecodeError:
            end = position + 1
        else:
            found.append(value)
        position = text.find("{", end)
    return found


def seed_body(title: str) -> dict[str, object]:
    """The JSON printed under a file name of the seed; skips where the seed is not at hand."""
    if not SEED.exists():
        pytest.skip(f"needs {SEED}")
    text = SEED.read_text()
    value, _ = json.JSONDecoder().raw_decode(text, text.index("{", text.index(title)))
    assert isinstance(value, dict)
    return value
