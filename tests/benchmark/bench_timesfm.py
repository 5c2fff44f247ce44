"""TimesFM 2.5: the lean path beside the `timesfm` package on a checkpoint of true size.

    OMP_NUM_THREADS=1 python -m tests.benchmark.bench_timesfm [--checkpoint FOLDER] [--json FILE] [--rounds N]

Without `--checkpoint` the shared tool makes one of random weights (925 MB in a temporary folder, removed at the end).
Both sides take turns in one process, so that a busy machine slows both; only ratios mean anything. Three settings of
the package: as its documentation sets it up, with the batch size matched, and with the context and horizon matched
too, each call's own. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adapters.base import Batch, Device, Series
from adapters.timesfm import TimesFM25
from catalog.card import CARDS, ModelCard, load_cards

ROOT = Path(__file__).parents[2]
TOOL = ROOT.parent / "shared" / "tools" / "make_checkpoints.py"
MODEL = "google/timesfm-2.5-200m-pytorch"
PATCH, BLOCK = 32, 128
USUAL_CONTEXT, USUAL_HORIZON, USUAL_BATCH = 1024, 256, 32

Rows = Sequence[npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is asked, and how the package is set up for it."""

    length: int
    series: int
    horizon: int
    setup: str
    context: int  # the package pads to this
    steps: int  # and decodes this far
    batch: int  # in batches of this


def cases(full: bool) -> Iterator[Case]:
    """Batches of one and eight, short and long; the package's usual batch only if `full`, since it is slow."""
    for length, horizon in ((200, 24), (200, 200), (1000, 24)):
        own = {"context": -(-length // PATCH) * PATCH, "steps": -(-horizon // BLOCK) * BLOCK}
        usual = {"context": USUAL_CONTEXT, "steps": USUAL_HORIZON}
        for series in (1, 8):
            asked = {"length": length, "series": series, "horizon": horizon, "batch": series}
            yield Case(setup="batch matched", **asked, **usual)
            yield Case(setup="all matched", **asked, **own)
    if full:
        yield Case(setup="as documented", length=200, series=1, horizon=24, context=1024, steps=256, batch=USUAL_BATCH)


class Package:
    """The `timesfm` package on a checkpoint."""

    def __init__(self, folder: Path) -> None:
        import timesfm

        self._timesfm = timesfm
        self._model = timesfm.TimesFM_2p5_200M_torch.from_pretrained(str(folder), torch_compile=False)

    def call(self, case: Case, rows: Rows) -> Callable[[], npt.NDArray[np.float64]]:
        """A forecast of `rows`, set up as `case` says; set up each time, which costs nothing."""
        setup = self._timesfm.ForecastConfig(
            max_context=case.context,
            max_horizon=case.steps,
            per_core_batch_size=case.batch,
            normalize_inputs=True,
            use_continuous_quantile_head=True,
            force_flip_invariance=True,
            infer_is_positive=True,
            fix_quantile_crossing=True,
        )

        def run() -> npt.NDArray[np.float64]:
            self._model.compile(setup)
            quantiles: npt.NDArray[np.float64] = self._model.forecast(case.horizon, list(rows))[1][..., 1:]
            return quantiles

        return run


def adapter_call(adapter: TimesFM25, case: Case, rows: Rows, card: ModelCard) -> Callable[[], npt.NDArray[np.float64]]:
    """The same forecast by the adapter."""
    batch = Batch(tuple(Series(target=row[None], horizon=case.horizon, levels=card.quantile_levels) for row in rows))

    def run() -> npt.NDArray[np.float64]:
        return np.stack([one.quantiles[..., 0].T for one in adapter.predict(batch).series])  # type: ignore[union-attr]

    return run


def seconds(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each call, all taking turns."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, taken, strict=True):
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
    return [float(np.median(times)) for times in taken]


@contextmanager
def checkpoint(folder: Path | None) -> Iterator[Path]:
    """`folder`, or one made for the occasion."""
    if folder is not None:
        yield folder
        return
    if not TOOL.exists():
        sys.exit(f"no --checkpoint, and {TOOL.name} is not beside this repository to make one")
    with tempfile.TemporaryDirectory() as made:
        subprocess.run([sys.executable, TOOL, made, "timesfm-2.5-200m"], check=True)
        yield Path(made) / "timesfm-2.5-200m"


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "timesfm": version("timesfm"),
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="also the package as documented: 20 s a forecast")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    card = next(card for card in load_cards(CARDS) if card.id == MODEL)
    results = []
    with checkpoint(arguments.checkpoint) as folder:
        adapter, package = TimesFM25.load(card, {"model": folder}, Device()), Package(folder)
        print("length series horizon         package       ms adapter ms  ratio      gap")
        for case in cases(arguments.full):
            generator = np.random.default_rng(case.length)
            rows = [generator.standard_normal(case.length).cumsum() for _ in range(case.series)]
            calls = (package.call(case, rows), adapter_call(adapter, case, rows, card))
            theirs, ours = (call() for call in calls)
            gap = float(np.abs(theirs - ours).max() / np.abs(theirs).max())
            slow, fast = seconds(calls, arguments.rounds)
            results.append({**asdict(case), "package_s": slow, "adapter_s": fast, "ratio": slow / fast, "gap": gap})
            asked = f"{case.length:6} {case.series:6} {case.horizon:7} {case.setup:>15}"
            print(f"{asked} {slow * 1e3:8.0f} {fast * 1e3:10.0f} {slow / fast:6.2f} {gap:8.1e}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
