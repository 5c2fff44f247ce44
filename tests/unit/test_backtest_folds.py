"""gateway.ensemble.backtest: where folds begin, and that none sees what came after."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import SeriesInput
from gateway.ensemble.backtest import as_known, cutoffs, rows_needed

few = st.integers(1, 12)


@given(st.integers(1, 60), few, few, few)
def test_folds_end_at_the_end_and_are_a_step_apart(rows: int, horizon: int, windows: int, step: int) -> None:
    found = cutoffs(rows, horizon, windows, step)

    assert len(found) <= windows
    assert all(cutoff >= 1 for cutoff in found)
    assert not found or found[-1] + horizon == rows
    assert all(later - earlier == step for earlier, later in pairwise(found))
    assert (len(found) == windows) == (rows >= rows_needed(horizon, windows, step))
    assert bool(found) == (rows > horizon)


def covered(rows: int, rng: np.random.Generator) -> SeriesInput:
    """A series with a covariate of each kind; "gap" is missing in its last row but one."""
    gap = rng.normal(size=rows)
    gap[-2] = np.nan
    return SeriesInput(
        target=rng.normal(size=(rows, 2)),
        start="2024-01-01",
        past_covariates={
            "known": rng.normal(size=rows),
            "gap": gap,
            "past": rng.normal(size=rows),
            "day": tuple(rng.choice(["a", "b"], rows)),
        },
        future_covariates={
            "known": rng.normal(size=3),
            "gap": rng.normal(size=3),
            "ahead": rng.normal(size=3),
            "day": ("a",) * 3,
        },
        static_covariates={"size": 2.0},
        channels=("x", "y"),
        metadata="mine",
    )


@given(st.integers(0, 1000), st.integers(5, 30), st.integers(1, 3))
def test_a_fold_sees_nothing_of_its_future_but_what_is_known_ahead(seed: int, rows: int, horizon: int) -> None:
    series = covered(rows, np.random.default_rng(seed))
    cutoff = rows - horizon - 1
    known, unknown = as_known(series, cutoff, horizon)

    assert np.array_equal(known.target, series.target[:cutoff])
    assert {name: len(values) for name, values in known.past_covariates.items()} == dict.fromkeys(
        series.past_covariates, cutoff
    )
    # The values sent for after the end are none of the fold's: its own are the later part of the past.
    past = series.past_covariates["known"]
    assert isinstance(past, np.ndarray)
    assert np.array_equal(known.future_covariates["known"], past[cutoff : cutoff + horizon])
    assert known.future_covariates["day"] == series.past_covariates["day"][cutoff : cutoff + horizon]
    assert "ahead" not in known.future_covariates and "ahead" in unknown
    assert "past" not in known.future_covariates
    assert (known.start, known.static_covariates, known.channels) == (
        series.start,
        series.static_covariates,
        series.channels,
    )


def test_a_covariate_with_a_gap_over_the_horizon_is_left_out_there() -> None:
    series = covered(20, np.random.default_rng(1))

    known, unknown = as_known(series, 17, 3)
    assert "gap" not in known.future_covariates and "gap" in known.past_covariates
    assert sorted(unknown) == ["ahead", "gap"]

    known, unknown = as_known(series, 15, 3)
    assert "gap" in known.future_covariates and unknown == ("ahead",)


def test_a_missing_category_is_a_gap() -> None:
    series = SeriesInput(
        target=np.ones((4, 1)), past_covariates={"day": ("a", "b", None, "a")}, future_covariates={"day": ("a",)}
    )
    assert as_known(series, 2, 1)[1] == ("day",)
    assert as_known(series, 3, 1)[1] == ()
