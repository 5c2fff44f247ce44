"""What the engine adds to an adapter's call for one caller, and what it makes of many: batch sizes and throughput.

    python -m tests.benchmark.bench_engine [--checkpoint FOLDER] [--json OUT.json] [--seconds S]

Prints a table and writes JSON with machine, commit and versions; asserts nothing. One worker computes in a process of
its own; the raw figures are of the same adapter in this process, in the batches that suit it best.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import median

import numpy as np
import uvloop

from adapters.base import Batch, Device, Series
from adapters.loading import load
from catalog.card import CARDS, Catalog, ModelCard, load_cards
from gateway.engine import Engine, EngineSnapshot
from gateway.engine.batching import BatchQueue, item_of
from gateway.settings import EngineSettings
from tests.benchmark.side_by_side import machine, true_size

MODEL = "amazon/chronos-bolt-tiny"
HORIZON, LEVELS = 24, (0.1, 0.5, 0.9)
CALLERS = (1, 8, 32, 64)
Figures = dict[str, float]


class Batches:
    """Counts what ran together."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.sizes: list[int] = []
        self.tokens = self.padded = 0.0

    def batch_done(self, model: str, rows: int, tokens: float, padded_tokens: float, compute_s: float) -> None:
        self.sizes.append(rows)
        self.tokens += tokens
        self.padded += padded_tokens

    def model_loaded(self, model: str, seconds: float) -> None: ...

    def worker_restarted(self, pool: str, reason: str) -> None: ...

    def queue_changed(self, pool: str, series: int, tokens: float) -> None: ...


def walks(lengths: Sequence[int], seed: int = 0) -> list[Series]:
    """Random walks."""
    rng = np.random.default_rng(seed)
    return [Series(target=rng.normal(size=(1, n)).cumsum(axis=1), horizon=HORIZON, levels=LEVELS) for n in lengths]


def mixed(count: int) -> list[int]:
    """Lengths from 32 to 2048, log-uniform."""
    return [int(n) for n in np.exp(np.random.default_rng(1).uniform(np.log(32), np.log(2048), count))]


async def one_caller(engine: Engine, card: ModelCard, seconds: float) -> Figures:
    """Milliseconds of a call, of its computation, and what is more than that."""
    totals, added = [], []
    (asked,) = walks([512])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        outcome = await engine.run(card, [asked], deadline=_later())
        totals.append((time.perf_counter() - started) * 1e3)
        added.append(totals[-1] - outcome.compute_ms)
    p99 = sorted(added)[int(len(added) * 0.99)]
    return {"total_ms": median(totals), "added_ms": median(added), "added_p99_ms": p99}


async def many_callers(
    engine: Engine, card: ModelCard, batches: Batches, callers: int, lengths: Sequence[int], seconds: float
) -> Figures:
    """Series a second of callers that each ask again as soon as they are answered."""
    end = time.perf_counter() + seconds
    asked = cycle(walks(lengths))
    took: list[float] = []

    async def caller() -> None:
        while time.perf_counter() < end:
            started = time.perf_counter()
            await engine.run(card, [next(asked)], deadline=_later())
            took.append(time.perf_counter() - started)

    batches.clear()
    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return {
        "series_per_s": len(took) / (time.perf_counter() - started),
        "p50_ms": median(took) * 1e3,
        "mean_batch": float(np.mean(batches.sizes)),
        "padding": 1 - batches.tokens / batches.padded,
    }


def raw(card: ModelCard, folder: Path, lengths: Sequence[int], seconds: float) -> float:
    """Series a second of the adapter in this process, fed whole queues that are cut as the engine cuts them."""
    adapter = load(card, {"model": folder}, Device())
    asked = walks(lengths)
    done, end, started = 0, time.perf_counter() + seconds, time.perf_counter()
    while time.perf_counter() < end:
        queue = BatchQueue()
        queue.push([item_of(card, s, 0, i) for i, s in enumerate(asked)])
        while groups := queue.cut():
            for group in groups:
                done += len(adapter.predict(Batch(tuple(i.series for i in group.items))).series)
    return done / (time.perf_counter() - started)


def _later() -> float:
    return asyncio.get_running_loop().time() + 60


async def measure(card: ModelCard, weights_dir: Path, seconds: float) -> dict[str, object]:
    batches = Batches()
    settings = EngineSettings(weights_dir=str(weights_dir), workers=1, device="cpu")
    engine = Engine(Catalog([card]), settings, batches)
    started = time.perf_counter()
    await engine.start()
    await engine.models.load(card)
    found: dict[str, object] = {"start_and_load_s": time.perf_counter() - started}
    try:
        found["one"] = await one_caller(engine, card, seconds)
        for callers in CALLERS:
            found[f"same_{callers}"] = await many_callers(engine, card, batches, callers, [512], seconds)
        found["mixed_64"] = await many_callers(engine, card, batches, 64, mixed(1000), seconds)
        snapshot: EngineSnapshot = engine.snapshot()
        found["worker_rss_mb"] = snapshot.workers[0].rss_bytes >> 20
    finally:
        await engine.stop(0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each case")
    arguments = parser.parse_args()
    card = next(c for c in load_cards(CARDS) if c.id == MODEL)
    with true_size("chronos-bolt-tiny", arguments.checkpoint) as folder, tempfile.TemporaryDirectory() as weights:
        place = Path(weights) / card.weights["model"].repository
        place.parent.mkdir(parents=True)
        place.symlink_to(folder.resolve())
        found = uvloop.run(measure(card, Path(weights), arguments.seconds))
        found["raw_same_64"] = raw(card, folder, [512] * 64, arguments.seconds)
        found["raw_mixed_64"] = raw(card, folder, mixed(64), arguments.seconds)
    for name, value in found.items():
        print(f"{name:>18}  {_row(value)}")
    if arguments.json:
        about = machine("torch", "numpy", "uvloop", "msgspec")
        arguments.json.write_text(json.dumps({"machine": about, "model": card.id, "results": found}, indent=2) + "\n")


def _row(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{k} {v:.2f}" for k, v in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
