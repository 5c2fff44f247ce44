"""gateway.ensemble.blending: weights and blends, by hand and by their laws."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gateway.dialects.canonical.group_types import EnsembleParametersBody
from gateway.domain import Array, ScoringMetric, Weighting
from gateway.ensemble import scoring
from gateway.ensemble.blending import POWER, blend, greedy, ranking, weigh
from gateway.ensemble.scoring import Held
from gateway.pacing import at_once

Scores = Sequence[float | None]
WEIGHTINGS: tuple[Weighting, ...] = ("inverse_score", "equal", "best")

errors = st.none() | st.floats(0, 1e12, allow_nan=False)
candidates = st.integers(1, 8).flatmap(lambda n: st.tuples(*[st.lists(errors, min_size=n, max_size=n)] * 2))
numbers = st.floats(-1e9, 1e9, allow_nan=False)


# -- weights ---


@given(candidates, st.sampled_from(WEIGHTINGS), st.integers(1, 9))
def test_weights_are_shares_of_at_most_as_many_as_may_take_part(
    scores: tuple[Scores, Scores], weighting: Weighting, most: int
) -> None:
    weights = weigh(*scores, weighting, most)

    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert 1 <= np.count_nonzero(weights) <= (1 if weighting == "best" else most)
    if any(s is not None for s in scores[0]):
        assert not any(weight for weight, score in zip(weights, scores[0], strict=True) if score is None)


@given(candidates, st.permutations(range(8)))
def test_weights_do_not_depend_on_the_order_of_different_candidates(
    scores: tuple[Scores, Scores], order: Sequence[int]
) -> None:
    different = len({s for s in scores[0] if s is not None}) == len(scores[0])
    order = [i for i in order if i < len(scores[0])] if different else range(len(scores[0]))
    moved = weigh([scores[0][i] for i in order], [scores[1][i] for i in order], "best", 3)
    assert moved.tolist() == [weigh(*scores, "best", 3)[i] for i in order]


def test_inverse_scores_weigh_by_the_squares_of_both_errors() -> None:
    assert weigh([1, 2], [1, 1], "inverse_score", 3).tolist() == pytest.approx([4 / 5, 1 / 5])
    assert weigh([1, 2], [3, 1], "inverse_score", 3).tolist() == pytest.approx([4 / 13, 9 / 13])
    assert weigh([1, 2], [None, 1], "inverse_score", 3).tolist() == pytest.approx([4 / 5, 1 / 5])
    assert weigh([10, 20], [10, 10], "inverse_score", 3).tolist() == pytest.approx([4 / 5, 1 / 5])  # no unit


def test_the_documents_say_how_inverse_scores_weigh() -> None:
    told = str(
        msgspec.json.schema(EnsembleParametersBody)["$defs"]["EnsembleParametersBody"]["properties"]["weighting"]
    )
    assert f"(score x CRPS)^-{POWER:.0f}" in told
    assert "largest weights" in told


def test_inverse_scores_take_the_largest_weights() -> None:
    weights = weigh([1, 2, 3], [9, 1, 1], "inverse_score", 2)
    assert weights[0] == 0 and weights[1] > weights[2] > 0


def test_a_perfect_score_takes_nearly_all_and_does_not_divide_by_zero() -> None:
    weights = weigh([0, 1, 2], [0, 1, 2], "inverse_score", 3)
    assert weights[0] > 0.999 and np.isfinite(weights).all()
    assert weigh([0, 0], [0, 0], "inverse_score", 2).tolist() == [0.5, 0.5]


def test_where_nothing_is_scored_the_first_have_equal_weights() -> None:
    for weighting in ("inverse_score", "equal"):
        assert weigh([None] * 3, [None] * 3, weighting, 2).tolist() == [0.5, 0.5, 0]


def test_ranking_puts_what_was_not_scored_last() -> None:
    assert ranking([3.0, None, 0.0, 3.0, 1.0]) == [2, 4, 0, 3, 1]


# -- blends ---


@st.composite
def members(draw: st.DrawFn) -> tuple[list[Array], list[Array], list[float]]:
    """Points, sorted quantiles and weights of some members."""
    count, levels, steps = draw(st.integers(1, 5)), draw(st.integers(0, 6)), draw(st.integers(1, 4))
    points = [draw(arrays(np.float64, (steps, 1), elements=numbers)) for _ in range(count)]
    quantiles = [np.sort(draw(arrays(np.float64, (levels, steps, 1), elements=numbers)), axis=0) for _ in range(count)]
    weights = draw(st.lists(st.floats(0.001, 1), min_size=count, max_size=count))
    return points, quantiles, weights


@given(members())
def test_blended_quantiles_never_cross_and_stay_between_those_of_the_members(
    made: tuple[list[Array], list[Array], list[float]],
) -> None:
    points, quantiles, weights = made
    blended = blend(points, quantiles, weights)

    assert (np.diff(blended.quantiles, axis=0) >= 0).all()
    slack = 1e-6
    assert (blended.quantiles >= np.min(quantiles, axis=0) - slack).all()
    assert (blended.quantiles <= np.max(quantiles, axis=0) + slack).all()
    assert (blended.point >= np.min(points, axis=0) - slack).all()
    assert (blended.point <= np.max(points, axis=0) + slack).all()


def test_a_blend_averages_quantile_functions() -> None:
    wide, narrow = np.array([-3.0, 0, 3]).reshape(3, 1, 1), np.array([9.0, 10, 11]).reshape(3, 1, 1)
    blended = blend([wide[1], narrow[1]], [wide, narrow], [3, 1])
    assert blended.quantiles.ravel().tolist() == [0, 2.5, 5]
    assert blended.point.ravel().tolist() == [2.5]


# -- greedy selection ---


def held(actual: Array, quantiles: Array) -> Held:
    return Held(
        actual=actual,
        point=quantiles[1],
        quantiles=quantiles,
        levels=(0.1, 0.5, 0.9),
        scale=np.ones_like(actual),
    )


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6), st.sampled_from(["smape", "mase", "crps"]))
def test_greedy_selection_is_never_worse_than_the_best_on_what_it_sees(
    seed: int, count: int, most: int, metric: ScoringMetric
) -> None:
    rng = np.random.default_rng(seed)
    actual = rng.normal(5, 2, 12)
    each = [held(actual, np.sort(actual + rng.normal(0, 2, (3, 12)), axis=0)) for _ in range(count)]
    weights = at_once(greedy(each, metric, most))

    def score(one: Held) -> float:
        value = scoring.scores(one, (metric,)).values[metric]
        assert value is not None
        return value

    mixed = blend([m.point for m in each], [m.quantiles for m in each], weights.tolist())
    found = Held(
        actual=actual, point=mixed.point, quantiles=mixed.quantiles, levels=each[0].levels, scale=each[0].scale
    )
    assert score(found) <= min(score(m) for m in each) * (1 + 1e-9)
    assert weights.sum() == pytest.approx(1)
    assert np.count_nonzero(weights) <= most


def test_greedy_selection_finds_errors_that_cancel_out() -> None:
    actual = np.full(6, 10.0)
    over, under, far = (held(actual, np.full((3, 6), v)) for v in (12.0, 8.0, 30.0))
    assert at_once(greedy([over, under, far], "mase", 3)).tolist() == [0.5, 0.5, 0]


def test_greedy_selection_with_nothing_to_score_is_equal() -> None:
    nothing = held(np.full(3, np.nan), np.zeros((3, 3)))
    assert at_once(greedy([nothing] * 3, "mase", 2)).tolist() == [0.5, 0.5, 0]
