"""evaluation.ensembles: its requests, its figures, and that forecasts are made once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from adapters.base import Series
from catalog.card import Catalog
from evaluation.accuracy import Accuracy
from evaluation.ensembles import Judged, Standing, spaced, table, tasks, true_ranks
from evaluation.remembered import RememberingEngine
from gateway.settings import EngineSettings
from tests.candidates import HANG_LIMIT_S, REPOSITORY, biased

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "m3" / "m3.csv").is_file(), reason="no real series beside the repository")


def judged(**figures: float) -> Judged:
    """Of models whose MASE and WQL are the same figure."""
    accuracy = {name.replace("_", "-"): Accuracy(wql=f, mase=f, coverage=0.8, windows=4) for name, f in figures.items()}
    return Judged(accuracy, {name: Standing([1, 2], [0.5, 0.7]) for name in accuracy})


def test_the_table_compares_with_the_best_candidate_in_hindsight() -> None:
    found = {
        "a": judged(seasonal_naive=2, other=1, ensemble=1),
        "b": judged(seasonal_naive=2, other=4, ensemble=2),
    }
    text = table(found, ["seasonal-naive", "other"])

    assert "| a | 4 | 1.000 | 1.000 | 0.500 | 0.500 | 0.500 | 0.500 |" in text
    assert "| **geometric mean** | 8 | **1.000** | **1.000** | **1.000** | **1.000** | **0.707** | **0.707** |" in text
    assert "| b | 1.5 / 0.60 | 1.5 / 0.60 |" in text
    assert "both together 0.707 times" in text
    ranks = true_ranks(found, ["seasonal-naive", "other", "ensemble"])
    assert [places["mase"] for places in ranks.values()] == [2.25, 2.25, 1.5]  # ties share


def test_windows_are_evenly_spaced() -> None:
    assert spaced(range(10), 4) == [0, 2, 5, 7]
    assert spaced(range(3), 4) == spaced(range(3), None) == [0, 1, 2]


@needs_data
def test_a_request_holds_the_series_that_begin_at_one_time() -> None:
    found = {task.data_set.name: task for task in tasks(DATA, 100, 16)}

    assert [len(request) for request in found["shop sales"].requests] == [8, 8]
    assert [len(request) for request in found["M3 yearly"].requests] == [16]
    for task in found.values():
        assert all(len({window.origin for window in request}) == 1 for request in task.requests)
        assert all(len(window.actual) == task.data_set.horizon for window in task.windows)


def test_a_forecast_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    card = biased("test/off-by-1", bias=1)
    series = [Series(target=np.full((1, 8), value), horizon=2, levels=(0.1, 0.9)) for value in (3.0, 4.0, 3.0)]

    async def run() -> tuple[list[float], int]:
        engine = RememberingEngine(Catalog([card]), EngineSettings(statistical_workers=1, load_wait_s=HANG_LIMIT_S))
        engine.keep_in(tmp_path / "forecasts.sqlite")
        try:
            outcome = await engine.run(card, series, deadline=asyncio.get_running_loop().time() + HANG_LIMIT_S)
            return [float(result.quantiles[1, 1, 0]) for result in outcome.results], engine.snapshot().batches
        finally:
            await engine.stop(0.0)

    first, batches = asyncio.run(run())
    assert first == pytest.approx([4.4, 5.4, 4.4]) and batches > 0
    assert asyncio.run(run()) == (first, 0)
