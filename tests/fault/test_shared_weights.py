"""Two workers of one model use one copy of its weights, also after one of them was killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from adapters.base import Array, Series, SeriesForecast
from gateway.engine import Engine, Outcome
from tests.checkpoints import build
from tests.fault.test_engine import HANG_LIMIT_S, REPOSITORY, Bench, bench, check
from tests.serving import packaged

MEMORY = "/memfd:weights"


def wave() -> Series:
    return Series(target=np.sin(np.arange(40.0))[None], horizon=3, levels=(0.1, 0.5, 0.9))


def quantiles(outcome: Outcome) -> Array:
    (answer,) = outcome.results
    assert isinstance(answer, SeriesForecast)
    return answer.quantiles


def copies(engine: Engine) -> list[set[str]]:
    """By neural worker, the inodes of the shared weights that it has mapped."""
    found = []
    for worker in engine.snapshot().workers:
        if worker.pool == "neural" and worker.pid is not None:
            lines = Path(f"/proc/{worker.pid}/maps").read_text().splitlines()
            found.append({line.split()[4] for line in lines if MEMORY in line})
    return found


def workers(engine: Engine) -> list[int]:
    return [w.pid for w in engine.snapshot().workers if w.pool == "neural" and w.pid is not None]


def holding(engine: Engine, model: str) -> int:
    return sum(model in w.models for w in engine.snapshot().workers)


async def both_hold(b: Bench, model: str, but_not: int = 0) -> None:
    """Return when two workers hold the model, none of them the process `but_not`."""
    async with asyncio.timeout(HANG_LIMIT_S):
        # A worker that was replaced tells nobody when it has loaded.
        while holding(b.engine, model) < 2 or but_not in workers(b.engine):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_one_copy_for_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    card = packaged("amazon/chronos-bolt-tiny")
    sample = build(card, tmp_path / card.weights["model"].repository)

    async def steps() -> None:
        model = sample.card
        async with bench(model, workers=2, device="cpu", weights_dir=str(tmp_path)) as b:
            before = await b.ask(model, wave())
            await both_hold(b, model.id)
            first, second = copies(b.engine)
            assert len(first) == 1 and first == second
            shared = b.engine.models.status(model).memory_bytes

            lost, kept = workers(b.engine)
            os.kill(lost, signal.SIGKILL)
            await both_hold(b, model.id, but_not=lost)
            assert kept in workers(b.engine)
            assert copies(b.engine) == [first, first]
            after = await asyncio.gather(*(b.ask(model, wave()) for _ in range(4)))
            for one in after:
                np.testing.assert_allclose(quantiles(one), quantiles(before), atol=1e-4)
            assert shared

            await b.engine.models.unload(model)
            await b.ask(model, wave())
            await both_hold(b, model.id)
            again, other = copies(b.engine)
            assert len(again) == 1 and again == other and again != first  # the first was given back

    check(steps())
