"""Scores that add up, and candidates that are compared on the windows that they share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import METRICS, BacktestWindow, SeriesInput
from gateway.ensemble import scoring
from gateway.ensemble.ranking import Windows, held, score, shared
from gateway.ensemble.scoring import Held
from gateway.pacing import at_once

LEVELS = (0.1, 0.5, 0.9)


def forecast(rng: np.random.Generator, cells: int) -> Held:
    actual = np.round(rng.normal(2, 3, cells))  # zeros among them
    actual[rng.random(cells) < 0.2] = np.nan
    quantiles = np.sort(rng.normal(2, 3, (3, cells)), axis=0)
    return Held(actual=actual, point=quantiles[1], quantiles=quantiles, levels=LEVELS, scale=np.full(cells, 2.0))


def together(parts: list[Held]) -> Held:
    return Held(
        actual=np.concatenate([p.actual for p in parts]),
        point=np.concatenate([p.point for p in parts]),
        quantiles=np.concatenate([p.quantiles for p in parts], axis=1),
        levels=LEVELS,
        scale=np.concatenate([p.scale for p in parts]),
    )


@given(st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_scores_of_parts_add_up_to_those_of_all_cells(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    parts = [forecast(rng, size) for size in sizes]
    whole = scoring.scores(together(parts), METRICS)
    added = scoring.added([scoring.scores(p, METRICS) for p in parts], METRICS)

    assert added.skipped == whole.skipped
    for metric in METRICS:
        assert added.values[metric] == (None if whole.values[metric] is None else pytest.approx(whole.values[metric]))


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_chunks_of_a_job_give_the_figure_of_one_call_to_the_last_bit(seed: int, series: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    each = [scoring.scores(forecast(rng, 4), METRICS) for _ in range(series)]
    chunks = [each[i : i + chunk] for i in range(0, series, chunk)]
    assert scoring.added([s for c in chunks for s in c], METRICS) == scoring.added(each, METRICS)


def test_scores_are_those_of_the_single_metrics() -> None:
    one = forecast(np.random.default_rng(3), 40)
    values = scoring.scores(one, METRICS).values
    assert values == {
        "mae": scoring.mae(one.actual, one.point),
        "rmse": scoring.rmse(one.actual, one.point),
        "mape": scoring.mape(one.actual, one.point).value,
        "smape": scoring.smape(one.actual, one.point).value,
        "mase": scoring.mase(one.actual, one.point, one.scale),
        "crps": scoring.crps(one.actual, one.quantiles, LEVELS),
        "wql": scoring.wql(one.actual, one.quantiles, LEVELS),
        "coverage": scoring.coverage(one.actual, one.quantiles, LEVELS),
    }


def test_what_cannot_be_scored_is_none_and_never_a_number_that_is_not() -> None:
    nothing = Held(
        actual=np.array([np.nan]), point=np.ones(1), quantiles=np.ones((3, 1)), levels=LEVELS, scale=np.ones(1)
    )
    assert set(scoring.scores(nothing, METRICS).values.values()) == {None}
    no_levels = replace(forecast(np.random.default_rng(1), 9), quantiles=np.empty((0, 9)), levels=())
    values = scoring.scores(no_levels, METRICS).values
    assert [m for m in METRICS if values[m] is None] == ["crps", "wql", "coverage"]
    huge = replace(nothing, actual=np.array([1e308]), point=np.array([-1e308]), quantiles=np.full((3, 1), -1e308))
    assert all(v is None or np.isfinite(v) for v in scoring.scores(huge, METRICS).values.values())


# -- comparing candidates ---


def window(error: float) -> BacktestWindow:
    actual, point = np.ones((2, 1)), np.full((2, 1), 1 + error)
    one = Held(actual=actual, point=point, quantiles=np.stack([point] * 3), levels=LEVELS, scale=np.ones(1))
    return BacktestWindow(
        cutoff=8,
        timestamps=None,
        mean=point,
        quantiles=one.quantiles,
        actuals=actual,
        scores=scoring.scores(one, METRICS),
    )


def test_candidates_are_compared_on_the_windows_that_all_have() -> None:
    easy, hard = window(1), window(9)
    both: Windows = {(0, 8): easy, (1, 8): hard}
    one: Windows = {(0, 8): easy}

    compared, keys = shared([both, one])
    assert (compared, keys) == ([True, True], [(0, 8)])
    assert at_once(score(both, keys, "mae")) == at_once(score(one, keys, "mae")) == 1


def test_a_candidate_with_few_windows_does_not_shrink_the_comparison() -> None:
    most: Windows = {(i, 8): window(1) for i in range(5)}
    few: Windows = {(0, 8): window(0), (1, 8): window(0)}
    assert shared([most, few, {}]) == ([True, False, False], sorted(most))
    assert shared([{}, {}]) == ([False, False], [])


def test_the_cells_of_windows_stand_side_by_side() -> None:
    windows: Windows = {(0, 8): window(1), (1, 8): window(2)}
    series = [SeriesInput(target=np.arange(10.0)[:, None]), SeriesInput(target=np.arange(10.0)[:, None] * 3)]
    cells = held(windows, [(0, 8), (1, 8)], series, None, LEVELS)
    assert cells.point.tolist() == [2, 2, 3, 3]
    assert cells.quantiles.shape == (3, 4)
    assert cells.scale.tolist() == [1, 1, 3, 3]
    assert scoring.scores(cells, ("mae",)).values["mae"] == 1.5
