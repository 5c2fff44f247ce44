"""More models than memory holds, all asked at once: every call is answered, and models do not chase each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from catalog.card import ModelCard
from gateway.engine import Outcome
from gateway.errors import Code, GatewayError
from tests.engine_adapters import series
from tests.fault.test_engine import REPOSITORY, Bench, bench, check, heavy, points

MODELS, ROUNDS, CALLERS = 8, 3, 4


async def with_one_retry(b: Bench, model: ModelCard, value: float) -> Outcome:
    """What a caller does that honours Retry-After once."""
    try:
        return await b.ask(model, series(value))
    except GatewayError as told:
        assert told.code is Code.UNAVAILABLE and told.retry_after_s is not None, told.sentence
        await asyncio.sleep(told.retry_after_s)
    return await b.ask(model, series(value))


def test_eight_models_in_the_memory_of_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))

    async def steps() -> None:
        cards = [heavy(f"test/heavy-{i}", tmp_path) for i in range(MODELS)]
        async with bench(*cards, weights_dir=str(tmp_path), memory_budget_mb=240) as b:
            for _ in range(ROUNDS):
                asked = [(card, float(n)) for n in range(CALLERS) for card in cards]
                answers = await asyncio.gather(*(with_one_retry(b, card, value) for card, value in asked))
                assert [points(a) for a in answers] == [[value] for _, value in asked]
                ready = [c for c in cards if b.engine.models.status(c).state == "ready"]
                assert 1 <= len(ready) <= 3
            loads = Counter(b.record.loads)
            calls = MODELS * CALLERS * ROUNDS
            assert set(loads) == {c.id for c in cards}
            # A model that is loaded answers all who wait for it: at most one load a model and round, and one to spare.
            assert sum(loads.values()) <= MODELS * (ROUNDS + 1) < calls / 2, loads

    check(steps())
