"""The lean paths on a GPU: kernels launched one by one, CUDA graphs, and graphs in TF32 and bfloat16.

    python -m tests.benchmark.bench_cuda [--seconds S] [--json FILE] [--checkpoints FOLDER]

Series of 512 points, horizon 24, from 1 to 1024 at once, on checkpoints of true size and random weights (made by the
shared tool where `--checkpoints` holds none). The time is that of the adapter's whole call, from arrays to quantiles
on the host; "gap" is the largest difference from float32 without graphs, over the largest number. Without a GPU it
says so and measures nothing. Asserts nothing. It has not been run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch

from adapters.base import Adapter, Batch, Device, Series, SeriesForecast
from adapters.loading import load
from catalog.card import CARDS, load_cards
from tests.benchmark.side_by_side import machine, true_size

MODELS = {
    "amazon/chronos-bolt-tiny": "chronos-bolt-tiny",
    "amazon/chronos-bolt-base": "chronos-bolt-base",
    "google/timesfm-2.5-200m-pytorch": "timesfm-2.5-200m",
}
GPU = "cuda:0"
SETTINGS = {
    "one by one": Device(name=GPU, graphs=False),
    "graphs": Device(name=GPU),
    "TF32": Device(name=GPU, tf32=True),
    "bfloat16": Device(name=GPU, dtype="bfloat16"),
}
CONTEXT, HORIZON = 512, 24
BATCHES = (1, 4, 16, 64, 256, 1024)

Figures = dict[str, float | int | str]


def batch_of(count: int) -> Batch:
    """Random walks."""
    rows = np.random.default_rng(count).standard_normal((count, 1, CONTEXT)).cumsum(-1)
    return Batch(tuple(Series(target=row, horizon=HORIZON, levels=(0.1, 0.5, 0.9)) for row in rows))


def quantiles(adapter: Adapter, batch: Batch) -> npt.NDArray[np.float64]:
    """(series, levels, horizon, 1)"""
    return np.stack([one.quantiles for one in adapter.predict(batch).series if isinstance(one, SeriesForecast)])


def milliseconds(call: Callable[[], object], seconds: float) -> float:
    """The median of calls for about `seconds`, at least five, after three that capture and warm up."""
    for _ in range(3):
        call()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        call()  # returns with its numbers on the host, so that nothing is left to wait for
        taken.append(time.perf_counter() - begun)
    return 1e3 * median(taken)


def measured(model: str, folder: Path, seconds: float) -> Iterator[Figures]:
    """Each batch under each setting; precision is the process's, so that settings come one after the other."""
    card = next(card for card in load_cards(CARDS) if card.id == model)
    plain: dict[int, npt.NDArray[np.float64]] = {}
    for setting, device in SETTINGS.items():
        adapter = load(card, {"model": folder}, device)
        for count in BATCHES:
            batch = batch_of(count)
            taken = milliseconds(lambda adapter=adapter, batch=batch: adapter.predict(batch), seconds)  # type: ignore[misc]
            found = quantiles(adapter, batch)
            expected = plain.setdefault(count, found)
            gap = float(np.abs(found - expected).max() / np.abs(expected).max())
            yield {"model": model, "setting": setting, "batch": count, "ms": taken, "gap": gap}
        adapter.close()


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", type=Path, help="a folder of folders, named as the shared tool names them")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each figure")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return
    results: list[Figures] = []
    print("   ms  series/s     gap  batch  setting     model")
    for model, name in MODELS.items():
        with true_size(name, arguments.checkpoints and arguments.checkpoints / name) as folder:
            for one in measured(model, folder, arguments.seconds):
                results.append(one)
                rate = 1e3 * float(one["batch"]) / float(one["ms"])
                figures = f"{one['ms']:5.1f} {rate:9.0f} {one['gap']:7.1e} {one['batch']:6}"
                print(f"{figures}  {one['setting']:10}  {model}", flush=True)
    if arguments.json:
        about = {**machine("torch", "numpy"), "gpu": torch.cuda.get_device_name(0), "cuda": torch.version.cuda}
        arguments.json.write_text(json.dumps({"machine": about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
