"""TimesFM 2.5: the lean path beside the `timesfm` package on a checkpoint of true size.

    OMP_NUM_THREADS=1 python -m tests.benchmark.bench_timesfm [--checkpoint FOLDER] [--json FILE] [--seconds S]

Without `--checkpoint` the shared tool makes one of random weights (925 MB in a temporary folder, removed at the end).
Both sides take turns in one process on one thread, so that a busy machine slows both; only ratios mean anything.
The package always stands at a context of 1024 and a horizon of 256, as its documentation sets it up, and flips; it
runs batches of its usual 32, which it fills with rows of nothing, or of as many series as there are ("matched").
A setting of the package to each call's own length and horizon, which none of its users makes, is measured beside it.
Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adapters.base import Batch, Device, Series, SeriesForecast
from adapters.timesfm import TimesFM25
from catalog.card import CARDS, ModelCard, load_cards
from tests.benchmark.side_by_side import Comparison, machine, side_by_side, true_size

MODEL = "google/timesfm-2.5-200m-pytorch"
CHECKPOINT = "timesfm-2.5-200m"
PATCH, BLOCK = 32, 128
USUAL_CONTEXT, USUAL_HORIZON, USUAL_BATCH = 1024, 256, 32

Rows = Sequence[npt.NDArray[np.float64]]
Forecast = Callable[[], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is asked, and how the package is set up for it."""

    length: int
    series: int
    horizon: int = 24
    batch: int  # the package runs batches of this
    context: int = USUAL_CONTEXT  # it pads to this
    steps: int = USUAL_HORIZON  # and decodes this far

    def rows(self) -> Rows:
        """Random walks."""
        generator = np.random.default_rng(self.length)
        return [generator.standard_normal(self.length).cumsum() for _ in range(self.series)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One case, measured."""

    name: str
    case: Case
    times: Comparison
    gap: float  # the largest difference of the two forecasts, over the largest number of the package's


# Of 200 points each where nothing else is said: what the targets are set for.
TARGETS = {
    "batch 1": Case(length=200, series=1, batch=1),
    "batch 8": Case(length=200, series=8, batch=8),
    "usual": Case(length=200, series=1, batch=USUAL_BATCH),
    "1000 points, batch 1": Case(length=1000, series=1, batch=1),
    "1000 points, batch 8": Case(length=1000, series=8, batch=8),
}


def further() -> Iterator[tuple[str, Case]]:
    """Beside the table of targets: two blocks of steps, and the package set up anew for each call."""
    for series in (1, 8):
        yield f"batch {series}, horizon 200", Case(length=200, series=series, horizon=200, batch=series)
        for length in (200, 1000):
            context = -(-length // PATCH) * PATCH
            own = Case(length=length, series=series, batch=series, context=context, steps=BLOCK)
            yield f"{length} points, batch {series}, all settings the call's own", own


class Package:
    """The `timesfm` package on a checkpoint."""

    def __init__(self, folder: Path) -> None:
        import timesfm

        self._timesfm = timesfm
        self._model = timesfm.TimesFM_2p5_200M_torch.from_pretrained(str(folder), torch_compile=False)

    def call(self, case: Case) -> Forecast:
        """Its forecast (series, horizon, levels), set up as `case` says; set up each time, which costs nothing."""
        rows = case.rows()
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


def by_adapter(adapter: TimesFM25, case: Case, card: ModelCard) -> Forecast:
    """The same forecast by the adapter."""
    levels = card.quantile_levels
    batch = Batch(tuple(Series(target=row[None], horizon=case.horizon, levels=levels) for row in case.rows()))

    def run() -> npt.NDArray[np.float64]:
        answers = adapter.predict(batch).series
        return np.stack([one.quantiles[..., 0].T for one in answers if isinstance(one, SeriesForecast)])

    return run


def ratios(seconds: float = 5.0, folder: Path | None = None) -> dict[str, float]:
    """The package's time over the adapter's in each case of `TARGETS`; takes three minutes on one core.

    `folder`: of a checkpoint, None: one that is made for the occasion.
    """
    with true_size(CHECKPOINT, folder) as found:
        return {result.name: result.times.ratio for result in measured(found, TARGETS.items(), seconds)}


def measured(folder: Path, cases: Iterable[tuple[str, Case]], seconds: float) -> Iterator[Result]:
    """Each of `cases` on the checkpoint in `folder`, about `seconds` each."""
    torch.set_num_threads(1)
    card = next(card for card in load_cards(CARDS) if card.id == MODEL)
    adapter, package = TimesFM25.load(card, {"model": folder}, Device()), Package(folder)
    for name, case in cases:
        ours, theirs = by_adapter(adapter, case, card), package.call(case)
        expected = theirs()
        # A forecast of the usual batch takes the package half a minute.
        times = side_by_side(ours, theirs, seconds, least=1 if case.batch == USUAL_BATCH else 5)
        gap = float(np.abs(ours() - expected).max() / np.abs(expected).max())
        yield Result(name=name, case=case, times=times, gap=gap)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each case")
    arguments = parser.parse_args()
    results = []
    with true_size(CHECKPOINT, arguments.checkpoint) as folder:
        print("adapter ms package ms  ratio by cpu     gap")
        for result in measured(folder, (*TARGETS.items(), *further()), arguments.seconds):
            times = result.times
            results.append({"name": result.name, **asdict(result.case), **asdict(times), "gap": result.gap})
            figures = f"{times.ours_ms:10.0f} {times.theirs_ms:10.0f} {times.ratio:6.2f} {times.cpu_ratio:6.2f}"
            print(f"{figures} {result.gap:7.1e}  {result.name}", flush=True)
    if arguments.json:
        about = machine("torch", "numpy", "timesfm")
        arguments.json.write_text(json.dumps({"machine": about, "model": MODEL, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
