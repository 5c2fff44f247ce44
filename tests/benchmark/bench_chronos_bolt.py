"""Chronos-Bolt: the lean path beside the `chronos` library on a checkpoint of true size.

    OMP_NUM_THREADS=1 python -m tests.benchmark.bench_chronos_bolt [--size tiny] [--checkpoint FOLDER] [--json FILE]

Without `--checkpoint` the shared tool makes one of random weights. Both sides take turns in one process on one thread,
so that a busy machine slows both; only ratios mean anything. The adapter's time is that of the whole call, from series
to quantiles at the levels asked. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from chronos import BaseChronosPipeline, ChronosBoltPipeline

from adapters.base import Batch, Device, Series, SeriesForecast
from adapters.chronos_bolt import ChronosBolt
from catalog.card import CARDS, load_cards
from tests.benchmark.side_by_side import machine, side_by_side, true_size

LEVELS = (0.1, 0.5, 0.9)
MIXED = "32..2048"

Rows = list[npt.NDArray[np.float64]]
Forecast = Callable[[], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is asked."""

    context: int | str
    batch: int
    horizon: int = 24

    def rows(self) -> Rows:
        """Random walks, of log-uniform lengths where they are mixed."""
        generator = np.random.default_rng(self.batch)
        lengths = np.full(self.batch, self.context)
        if self.context == MIXED:
            lengths = np.exp(generator.uniform(np.log(32), np.log(2048), self.batch)).astype(int)
        return [generator.normal(size=int(length)).cumsum() for length in lengths]


def cases() -> Iterator[Case]:
    """Short to full contexts, alone to 64 at once; then mixed lengths, and a horizon of two blocks."""
    for context in (64, 512, 2048):
        for batch in (1, 8, 64):
            yield Case(context=context, batch=batch)
    yield Case(context=MIXED, batch=64)
    yield Case(context=512, batch=1, horizon=128)
    yield Case(context=512, batch=8, horizon=128)


def by_adapter(adapter: ChronosBolt, case: Case, rows: Rows) -> Forecast:
    """The adapter's forecast, (batch, horizon, levels)."""
    batch = Batch(tuple(Series(target=row[None], horizon=case.horizon, levels=LEVELS) for row in rows))

    def run() -> npt.NDArray[np.float64]:
        answers = adapter.predict(batch).series
        return np.stack([one.quantiles[..., 0].T for one in answers if isinstance(one, SeriesForecast)])

    return run


def by_library(pipeline: ChronosBoltPipeline, case: Case, rows: Rows) -> Forecast:
    """The library's forecast, (batch, horizon, levels)."""
    contexts = [torch.tensor(row, dtype=torch.float32) for row in rows]

    def run() -> npt.NDArray[np.float64]:
        quantiles, _ = pipeline.predict_quantiles(
            contexts, prediction_length=case.horizon, quantile_levels=list(LEVELS)
        )
        values: npt.NDArray[np.float64] = quantiles.numpy().astype(np.float64)
        return values

    return run


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=("tiny", "mini", "small", "base"), default="tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    card = next(card for card in load_cards(CARDS) if card.id == f"amazon/chronos-bolt-{arguments.size}")
    results = []
    with true_size(f"chronos-bolt-{arguments.size}", arguments.checkpoint) as folder:
        adapter = ChronosBolt.load(card, {"model": folder}, Device())
        pipeline = BaseChronosPipeline.from_pretrained(folder, device_map="cpu", dtype=torch.float32)
        print(" context batch horizon    lean ms library ms   ratio by cpu")
        for case in cases():
            rows = case.rows()
            result = side_by_side(by_adapter(adapter, case, rows), by_library(pipeline, case, rows), arguments.seconds)
            results.append({**asdict(case), **asdict(result)})
            asked = f"{case.context:>8} {case.batch:5} {case.horizon:7}"
            times = f"{result.ours_ms:10.1f} {result.theirs_ms:10.1f}"
            print(f"{asked} {times} {result.ratio:7.2f} {result.cpu_ratio:6.2f}", flush=True)
    if arguments.json:
        about = machine("torch", "numpy", "chronos-forecasting", "transformers")
        arguments.json.write_text(json.dumps({"machine": about, "model": card.id, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
