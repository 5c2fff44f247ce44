"""Rows of series: flattened, padded, filled, and put together again."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.arrays import by_series, channel_rows, filled, left_padded, observed, passes, without_leading_gap
from adapters.base import Series

NAN = np.nan


def test_channels_become_rows_and_come_back() -> None:
    series = [Series(target=np.ones((c, t)) * c, horizon=1) for c, t in ((1, 4), (3, 2), (2, 5))]
    rows = channel_rows(series)
    assert [len(row) for row in rows] == [4, 2, 2, 2, 5, 5]
    forecasts = np.arange(12.0).reshape(6, 2)
    back = by_series(forecasts, series)
    assert [part.shape for part in back] == [(1, 2), (3, 2), (2, 2)]
    assert np.array_equal(np.concatenate(back), forecasts)
    assert by_series(np.empty((0, 2)), []) == []


def test_a_wrong_count_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="3 rows for series of 2 channels"):
        by_series(np.zeros((3, 1)), [Series(target=np.zeros((2, 4)), horizon=1)])


def test_padding_stands_before_the_values() -> None:
    matrix = left_padded([np.array([1.0, 2.0]), np.array([3.0])])
    assert np.array_equal(matrix, [[1.0, 2.0], [NAN, 3.0]], equal_nan=True)
    wide = left_padded([np.array([1.0, NAN])], width=3)
    assert np.array_equal(wide, [[NAN, 1.0, NAN]], equal_nan=True)
    assert np.array_equal(left_padded([np.array([1.0, 2.0, 3.0])], width=2), [[2.0, 3.0]])
    assert left_padded([]).shape == (0, 0)


def test_a_leading_gap_is_cut_off() -> None:
    assert np.array_equal(without_leading_gap(np.array([NAN, NAN, 1.0, NAN])), [1.0, NAN], equal_nan=True)
    assert without_leading_gap(np.array([NAN, NAN])).size == 0


def test_gaps_are_filled_in_a_copy() -> None:
    row = np.array([NAN, 1.0, NAN, NAN, 4.0, NAN])
    assert filled(row).tolist() == [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    assert np.isnan(row[0])
    assert np.isnan(filled(np.array([NAN, NAN]))).all()


def test_every_channel_has_to_be_observed_in_the_steps_that_count() -> None:
    late = np.array([NAN, NAN, 1.0])
    early = np.array([1.0, NAN, NAN])
    assert observed(Series(target=np.stack([late, early]), horizon=1), 3)
    assert not observed(Series(target=np.stack([late, early]), horizon=1), 2)
    assert not observed(Series(target=np.empty((1, 0)), horizon=1), 3)


def test_passes_hold_every_row_once_within_the_budget_and_with_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, size=300)
    plan = list(passes(lengths, 256, shortest=8))
    assert sorted(np.concatenate(plan).tolist()) == list(range(300))
    for chosen in plan:
        longest, shortest = int(lengths[chosen].max()), int(lengths[chosen].min())
        assert len(chosen) * longest <= 256
        assert longest <= 8 or longest < 2 * shortest
    assert len(plan) < 2 * lengths.sum() / 256  # few: each at least half full


def test_a_row_over_the_budget_runs_alone_and_no_rows_need_no_pass() -> None:
    assert [chosen.tolist() for chosen in passes(np.array([1000, 600]), 256)] == [[1], [0]]
    assert list(passes(np.array([], dtype=np.intp), 256)) == []
