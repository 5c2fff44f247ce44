"""Weights of an ensemble from held-out scores, and the blend of forecasts that they make.

Scores are errors: lower is better. Weights are at least 0 and sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.domain import Array, ScoringMetric, Weighting
from gateway.ensemble import scoring
from gateway.ensemble.scoring import Held

POWER = 2.0
SMALLEST = 1e-3  # a score below this share of the worst counts as this much: a lucky 0 shall not divide
LEAST = 1e-3  # a weight below this would cost a forecast and change nothing: it is 0
ROUNDS = 25  # members that greedy selection draws: weights are multiples of 1/25 or coarser


@dataclass(frozen=True, slots=True)
class Blend:
    """A weighted mean of forecasts."""

    point: Array  # (horizon, channels)
    quantiles: Array  # (levels, horizon, channels), ascending along levels


def blend(points: Sequence[Array], quantiles: Sequence[Array], weights: Sequence[float]) -> Blend:
    """The mean of the quantile functions: at every level the weighted mean of the members' values.

    It keeps the members' spread, where a mean of distributions would add their disagreement, and it cannot cross where
    no member does (Lichtendahl, Grushka-Cockayne and Winkler 2013). `weights` need not sum to 1.
    """
    shares = np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum()
    values = np.tensordot(shares, np.stack(quantiles), axes=1)
    return Blend(
        point=np.tensordot(shares, np.stack(points), axes=1),
        quantiles=np.maximum.accumulate(values, axis=0),  # sums of equal values can differ in their last bit
    )


def ranking(scores: Sequence[float | None]) -> list[int]:
    """Places of `scores` from best to worst; equal ones in the order they come in, None last."""
    return sorted(range(len(scores)), key=lambda i: (scores[i] is None, scores[i] or 0.0))


def weigh(scores: Sequence[float | None], crps: Sequence[float | None], weighting: Weighting, most: int) -> Array:
    """The weight of each candidate, of which `most` take part; equal where nothing was scored.

    `scores` are of the metric that the caller chose. `best` and `equal` take the candidates that score best by it.
    `inverse_score` gives weights proportional to (score x crps)^-POWER and takes the largest: what is blended are
    quantile functions, and a metric of points does not see how well they are spread. With POWER 2 the weights are
    inverse to squared errors, as those of Bates and Granger (1969). Greedy selection needs more: see `greedy`.
    """
    joint: Sequence[float | None] = scores
    if weighting == "inverse_score":
        joint = _joint(scores, crps)
    chosen = ranking(joint)[: 1 if weighting == "best" else most]
    scored = [i for i in chosen if joint[i] is not None] or chosen
    weights = np.zeros(len(scores))
    weights[scored] = 1.0
    if weighting == "inverse_score":
        errors = np.array([joint[i] for i in scored if joint[i] is not None])
        weights[scored] = errors**-POWER if len(errors) else 1.0
    weights[weights < LEAST * weights.sum()] = 0.0
    shares: Array = weights / weights.sum()
    return shares


def _joint(scores: Sequence[float | None], crps: Sequence[float | None]) -> list[float | None]:
    """Score x crps of each candidate, both relative to the worst; without crps where a scored candidate has none."""
    scored = [i for i, s in enumerate(scores) if s is not None]
    joint: list[float | None] = [None] * len(scores)
    errors = _relative([scores[i] for i in scored])
    if all(crps[i] is not None for i in scored):
        errors = errors * _relative([crps[i] for i in scored])
    for i, error in zip(scored, errors.tolist(), strict=True):
        joint[i] = error
    return joint


def _relative(errors: Sequence[float | None]) -> Array:
    """Errors as shares of the worst, none below SMALLEST; 1 where all are 0."""
    values = np.array(errors, dtype=np.float64)
    worst = values.max(initial=0.0)
    return np.maximum(values / worst, SMALLEST) if worst > 0 else np.ones_like(values)


def greedy(members: Sequence[Held], metric: ScoringMetric, most: int) -> Generator[None, None, Array]:
    """Weights by forward selection with replacement; yields after each trial.

    Members are drawn one by one so that the blend of all drawn so far scores best, and the best blend on the way is
    taken: on these cells it is never worse than the best member. (Caruana, Niculescu-Mizil, Crew and Ksikes 2004.)
    `members` are forecasts of the same cells, of which at most `most` take part.
    """
    drawn = np.zeros(len(members))
    best, best_score = (np.arange(len(members)) < most).astype(np.float64), math.inf  # where nothing can be scored
    for _ in range(ROUNDS):
        free = np.count_nonzero(drawn) < most
        trials = [drawn + one for one, there in zip(np.eye(len(members)), drawn > 0, strict=True) if free or there]
        scores = []
        for trial in trials:
            scores.append(_score(members, trial, metric))
            yield
        drawn = trials[scores.index(min(scores))]
        if min(scores) < best_score:
            best, best_score = drawn, min(scores)
    shares: Array = best / best.sum()
    return shares


def _score(members: Sequence[Held], weights: Array, metric: ScoringMetric) -> float:
    used = [(m, w) for m, w in zip(members, weights, strict=True) if w > 0]
    mixed = blend([m.point for m, _ in used], [m.quantiles for m, _ in used], [w for _, w in used])
    value = scoring.scores(replace(members[0], point=mixed.point, quantiles=mixed.quantiles), (metric,)).values[metric]
    return math.inf if value is None else value
