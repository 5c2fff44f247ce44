"""Kronos: cache and shared prefix beside every window computed anew, on checkpoints of true size.

    OMP_NUM_THREADS=1 python -m tests.benchmark.bench_kronos [--size mini] [--paths 30] [--horizon 24] [--json FILE]

Random weights of the published sizes. Both sides draw the same paths with the same numbers in one process on one
thread, and take turns; only the ratio means anything. Asserts nothing.
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

from adapters.base import Array, Device, Sampling
from adapters.kronos import Kronos
from adapters.kronos.candles import calendar
from catalog.card import CARDS, load_cards
from tests.benchmark.side_by_side import machine, true_size
from tests.checkpoints.kronos import Plain

TOKENIZERS = {"mini": "2k", "small": "base", "base": "base"}


def candles(steps: int) -> Array:
    """A random walk of prices with volumes, (steps, 6)."""
    generator = np.random.default_rng(steps)
    close = 100 + generator.normal(size=steps).cumsum()
    reach = generator.random((2, steps))
    volume = generator.random(steps) * 1000
    return np.stack([close - reach[0] / 2, close + reach[0], close - reach[1], close, volume, volume * close], axis=-1)


def seconds(call: Callable[[], Array]) -> tuple[float, Array]:
    """Wall time of one call, and what it found."""
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=tuple(TOKENIZERS), default="mini")
    parser.add_argument("--candles", type=int, default=512)
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--paths", type=int, default=30)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    card = next(card for card in load_cards(CARDS) if card.id == f"NeoQuasar/Kronos-{asked.size}")
    features, sampling = candles(asked.candles), Sampling(count=asked.paths, seed=1)
    times = calendar(300 * np.arange(asked.candles + asked.horizon, dtype=np.int64))
    with (
        true_size(f"kronos-{asked.size}", None) as model,
        true_size(f"kronos-tokenizer-{TOKENIZERS[asked.size]}", None) as tokenizer,
    ):
        folders = {"model": model, "tokenizer": tokenizer}
        adapter = Kronos.load(card, folders, Device())
        plain = Plain(folders, card.max_context)
        adapter.paths(features, times, sampling, 2)  # warm
        turns = []
        for _ in range(asked.turns):
            ours, found = seconds(lambda: adapter.paths(features, times, sampling, asked.horizon))
            theirs, expected = seconds(lambda: plain.paths(features, times, sampling, asked.horizon))
            same = float(np.isclose(found, expected, rtol=1e-4, atol=1e-4 * features.std()).all(axis=(1, 2)).mean())
            turns.append({"ours_s": ours, "plain_s": theirs, "ratio": theirs / ours, "same_paths": same})
            print(
                f"{card.id}, {asked.paths} paths x {asked.horizon} steps from {asked.candles} candles: "
                f"{ours:.2f} s, plain {theirs:.2f} s, ratio {theirs / ours:.1f}, same paths {same:.0%}",
                flush=True,
            )
    if asked.json:
        about = {"machine": machine("torch", "numpy"), "model": card.id, "turns": turns}
        asked.json.write_text(json.dumps({**about, "ratio": median(one["ratio"] for one in turns)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
