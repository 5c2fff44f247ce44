"""What one forecast of the shipped model costs through its adapter: `python -m tests.benchmark.bench_bundled`.

512 points, horizon 24, one thread; milliseconds of processor time and of the clock, medians. Asserts nothing.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import torch

from adapters.base import Batch, Device, Series
from adapters.loading import load
from catalog.card import BUNDLED, CARDS, load_cards

CALLS = 300


def main() -> None:
    torch.set_num_threads(1)
    card = next(c for c in load_cards(CARDS) if c.id == "forecast-gateway/bolt-nano")
    adapter = load(card, {"model": BUNDLED / "bolt-nano"}, Device())
    target = np.random.default_rng(0).normal(size=(1, 512)).cumsum(axis=1)
    for size in (1, 64):
        batch = Batch(tuple(Series(target=target, horizon=24, levels=(0.1, 0.5, 0.9)) for _ in range(size)))
        clock, processor = [], []
        for _ in range(CALLS // size + 20):
            started, used = time.perf_counter(), time.process_time()
            adapter.predict(batch)
            clock.append((time.perf_counter() - started) * 1e3)
            processor.append((time.process_time() - used) * 1e3)
        print(f"batch {size:>2}: {median(processor):.2f} ms of processor, {median(clock):.2f} ms of clock a call")


if __name__ == "__main__":
    main()
