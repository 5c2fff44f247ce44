"""The evaluation of the search for anomalies: how alarms are held against labels, and the rival it is held against."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.anomalies import (
    DEFAULT,
    Found,
    Labelled,
    compared,
    found,
    highest,
    labelled,
    seasonal_z,
    table,
    with_one_threshold,
    z_scores,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "nab").is_dir(), reason="no real series beside the repository")


def file(values: np.ndarray, *windows: slice) -> Labelled:
    marks = []
    for window in windows:
        mark = np.zeros(len(values), dtype=bool)
        mark[window] = True
        marks.append(mark)
    return Labelled("test", values, "2024-01-01", "h", tuple(marks))


def test_alarms_against_labels_by_hand() -> None:
    one = file(np.zeros(20), slice(0, 3), slice(8, 12), slice(15, 18))
    scores = np.full(20, 0.0)
    scores[:5] = np.nan  # the first window lies before the scored rows
    alarms = np.zeros(20, dtype=bool)
    alarms[[9, 10, 13, 19]] = True
    got = found(one, scores, alarms)
    assert got == Found(points=15, quiet=8, windows=2, hit=1, alarms=4, false=2)
    assert got.false_per_1000 == 250
    assert got + got == Found(points=30, quiet=16, windows=4, hit=2, alarms=8, false=4)


def test_the_rival_gets_exactly_as_many_alarms() -> None:
    scores = np.array([np.nan, 1.0, 3.0, 3.0, 3.0, 2.0])
    assert np.flatnonzero(highest(scores, 2)).tolist() == [2, 3]
    assert not highest(scores, 0).any()
    values = np.random.default_rng(0).normal(size=300)
    ours = np.abs(values)
    ours[:100] = np.nan
    mine, theirs = compared(file(values, slice(200, 210)), ours, 1.0)
    assert mine.alarms == theirs.alarms > 0
    assert mine.points == theirs.points == 200
    files = [file(values, slice(200, 210)), replace(file(3 * values), name="other")]
    shared = with_one_threshold(files, {"test": ours, "other": ours}, 7)
    assert (shared.alarms, shared.points, shared.windows) == (7, 400, 1)


def test_the_rival_by_hand_and_without_a_look_ahead() -> None:
    values = np.tile(np.arange(4.0), 30) + np.random.default_rng(1).normal(size=120)
    scores = seasonal_z(values, 4, 40)
    assert np.isnan(scores[:40]).all()
    differences = values[4:60] - values[:56]
    assert scores[60] == pytest.approx(abs(values[60] - values[56] - differences.mean()) / differences.std())
    changed = values.copy()
    changed[60:] += 9.0
    assert seasonal_z(changed, 4, 40)[:60] == pytest.approx(scores[:60], nan_ok=True)


@needs_data
def test_every_file_has_its_windows_and_a_row_in_the_table() -> None:
    files = list(labelled(DATA))
    assert len(files) == 10
    assert sum(len(one.windows) for one in files) == 18
    assert all(window.any() for one in files for window in one.windows)
    scores = {one.name: np.where(np.arange(len(one.values)) < len(one.values) // 3, np.nan, 0.0) for one in files}
    text = table(files, scores)
    assert all(f"| {one.name} |" in text for one in files)
    assert f"| {DEFAULT:g} | 37340 | 0 | 0/14 |" in text


@pytest.mark.slow
@needs_data
def test_the_bundled_model_finds_more_windows_than_its_rival_with_as_many_alarms(tmp_path: Path) -> None:
    files = list(labelled(DATA))
    scores = asyncio.run(z_scores(files, "bolt-nano", tmp_path, None))
    results = {one.name: compared(one, scores[one.name], DEFAULT) for one in files}
    assert results["art_daily_small_noise"][0].false_per_1000 <= 2
    ours = sum(mine.hit for mine, _ in results.values())
    assert ours > sum(theirs.hit for _, theirs in results.values())
    by_sensitivity = [
        sum((compared(one, scores[one.name], s)[0] for one in files), Found(0, 0, 0, 0, 0, 0)) for s in (6, 4, 2)
    ]
    assert by_sensitivity[0].hit < by_sensitivity[1].hit < by_sensitivity[2].hit
    assert by_sensitivity[0].alarms < by_sensitivity[1].alarms < by_sensitivity[2].alarms
