"""Cutting work: what a chunk may hold, and that nothing is lost, moved or parted that belongs together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import (
    AnomalyRequest,
    BacktestRequest,
    BatchRequest,
    EnsembleRequest,
    ForecastRequest,
    Parameters,
    SeriesInput,
    Work,
)
from gateway.errors import Code, GatewayError
from gateway.jobs.chunks import Bounds, Chunk, Cutter, Plan, cut, members, weight_of

KNOWN = {"a": "x/a", "x/a": "x/a", "b": "x/b"}
ERROR = GatewayError(Code.INVALID_ARGUMENT, "unreadable")


def request(*lengths: int, model: str = "a", horizon: int = 1, **parameters: object) -> ForecastRequest:
    series = tuple(SeriesInput(target=np.full((n, 1), float(i))) for i, n in enumerate(lengths))
    return ForecastRequest(model=model, series=series, parameters=Parameters(prediction_length=horizon, **parameters))


def chunks(work: Work, bounds: Bounds = Bounds()) -> list[tuple[Chunk, Work]]:  # noqa: B008
    cutter = Cutter(work, lambda model: bounds, KNOWN.get)
    return [c for c in cut(work, cutter) if c is not None]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 9), st.integers(1000, 9000))
def test_chunks_are_the_work_in_order_and_within_bounds(lengths: list[int], most: int, size: int) -> None:
    work, bounds = request(*lengths), Bounds(series=most, bytes=size, tokens=900)
    found = chunks(work, bounds)
    assert [id(m) for _, part in found for m in members(part)] == [id(m) for m in members(work)]
    assert [c.first for c, _ in found] == list(np.cumsum([0, *(c.count for c, _ in found)])[:-1])
    for chunk, part in found:
        inside = members(part)
        assert chunk.count == len(inside)
        weights = [weight_of(m, part) for m in inside]
        within = sum(w.bytes for w in weights) <= size and sum(w.tokens for w in weights) <= 900 and len(inside) <= most
        assert within or len(inside) == 1
    plan = Plan(1, tuple(c for c, _ in found))
    for index, chunk in enumerate(plan.chunks):
        assert {plan.at(m) for m in range(chunk.first, chunk.first + chunk.count)} == {index}


@pytest.mark.parametrize(
    "work",
    [
        replace(request(*[5] * 9), parameters=Parameters(prediction_length=1, cross_learning=True)),
        EnsembleRequest(models=None, series=request(*[5] * 9).series, parameters=Parameters(prediction_length=1)),
    ],
)
def test_what_learns_from_each_other_stays_whole(work: Work) -> None:
    [(chunk, part)] = chunks(work, Bounds(series=2))
    assert (chunk.first, chunk.count, len(members(part))) == (0, 9, 9)


def test_ensembles_are_no_workers_matter() -> None:
    work = EnsembleRequest(models=("a",), series=request(5).series, parameters=Parameters(prediction_length=1))
    assert [c.model for c, _ in chunks(work)] == [""]


@pytest.mark.parametrize("kind", [BacktestRequest, AnomalyRequest])
def test_backtests_and_anomalies_are_cut_by_series(kind: type[BacktestRequest | AnomalyRequest]) -> None:
    found = chunks(kind(forecast=request(*[5] * 5)), Bounds(series=2))
    assert [c.count for c, _ in found] == [2, 2, 1]
    assert all(isinstance(part, kind) for _, part in found)


def test_a_chunk_of_a_batch_has_one_model() -> None:
    unknown = request(5, model="nobody")
    every = (request(5), ERROR, request(5, model="x/a"), request(5, model="b"), unknown, request(5, model="a"))
    found = chunks(BatchRequest(requests=every))
    assert [(c.model, c.count) for c, _ in found] == [("x/a", 3), ("x/b", 2), ("x/a", 1)]
    assert tuple(m for _, part in found for m in members(part)) == every


def test_long_answers_make_small_chunks() -> None:
    levels = tuple(np.linspace(0.01, 0.99, 99))
    found = chunks(request(*[5] * 20, horizon=8760, quantile_levels=levels))
    assert [c.count for c, _ in found] == [1] * 20


def test_windows_and_blocks_count_as_the_runs_they_are() -> None:
    series = request(100).series[0]
    once = weight_of(series, request(100)).tokens
    assert weight_of(series, BacktestRequest(forecast=request(100), windows=5)).tokens == 5 * once
    assert weight_of(series, AnomalyRequest(forecast=request(100))).tokens > 10 * once
