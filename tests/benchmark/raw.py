"""The model called in its own process, without a server: the library and the adapter at every batch size, in turns.

    taskset -c 1 python -m tests.benchmark.raw CHECKPOINT [--mixed] [--seconds S]

Prints one JSON object: series a second of either side at its best batch, and at each. On one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from chronos import BaseChronosPipeline, ChronosBoltPipeline

from adapters.base import Batch, Device, Series
from adapters.chronos_bolt import ChronosBolt
from catalog.card import CARDS, load_cards
from tests.benchmark.load import HORIZON, LEVELS, MODEL, mixed_lengths

BATCHES = (1, 8, 16, 32, 64)
POINTS, SERIES = 512, 64

Call = Callable[[int, int], object]


def lengths(mixed: bool) -> list[int]:
    """Of the series in the order in which they are asked."""
    return mixed_lengths() if mixed else [POINTS]


def sides(checkpoint: Path, mixed: bool) -> dict[str, Call]:
    """By name, a call of the model on some of the series, the first and the one behind the last."""
    generator = np.random.default_rng(0)
    of = lengths(mixed)
    rows = [generator.normal(size=of[i % len(of)]).cumsum() for i in range(SERIES)]
    card = next(card for card in load_cards(CARDS) if card.id == MODEL)
    adapter = ChronosBolt.load(card, {"model": checkpoint}, Device())
    pipeline = BaseChronosPipeline.from_pretrained(checkpoint, device_map="cpu", dtype=torch.float32)
    assert isinstance(pipeline, ChronosBoltPipeline)
    series = [Series(target=row[None], horizon=HORIZON, levels=tuple(LEVELS)) for row in rows]
    contexts = [torch.tensor(row, dtype=torch.float32) for row in rows]

    def by_adapter(start: int, stop: int) -> object:
        return adapter.predict(Batch(tuple(series[start:stop])))

    def by_library(start: int, stop: int) -> object:
        return pipeline.predict_quantiles(contexts[start:stop], prediction_length=HORIZON, quantile_levels=LEVELS)

    return {"adapter": by_adapter, "library": by_library}


def measure(calls: dict[str, Call], seconds: float) -> dict[str, dict[int, float]]:
    """Series a second by side and batch: medians over turns."""
    found: dict[str, dict[int, float]] = {name: {} for name in calls}
    for batch in BATCHES:
        times: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            call(0, batch)
        until = time.perf_counter() + seconds
        while not all(times.values()) or time.perf_counter() < until:
            for name, call in calls.items():
                started = time.perf_counter()
                for start in range(0, SERIES, batch):
                    call(start, start + batch)
                times[name].append(time.perf_counter() - started)
        for name, took in times.items():
            found[name][batch] = round(SERIES / median(took), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each batch size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(sides(options.checkpoint, options.mixed), options.seconds)
    print(json.dumps({name: {"best": max(by.values()), "by_batch": by} for name, by in found.items()}))


if __name__ == "__main__":
    main()
