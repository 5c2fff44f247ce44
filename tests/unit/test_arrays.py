"""Rows of series: flattened, padded, filled, and put together again."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.arrays import by_series, channel_rows, filled, left_padded, without_leading_gap
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
