"""Which series of a request learn from each other."""

from __future__ import annotations

import numpy as np

from catalog.card import Covariates, Licence, ModelCard
from gateway.domain import ForecastRequest, Parameters, SeriesInput
from gateway.pacing import at_once
from gateway.planning import GROUP_ROWS, plan

CARD = ModelCard(
    id="test/model",
    title="Test",
    family="test",
    licence=Licence(id="MIT"),
    max_context=10,
    max_horizon=20,
    cross_learning=True,
    covariates=Covariates(past="native", future="native"),
)
ONE = SeriesInput(target=np.ones((3, 1)))


def groups(*series: SeriesInput, cross_learning: bool = True) -> list[int | None]:
    """The group of every series of one request; None where it cannot run."""
    parameters = Parameters(prediction_length=2, cross_learning=cross_learning)
    found = at_once(plan(ForecastRequest(model=CARD.id, series=series, parameters=parameters), CARD))
    assert all(task.series is None or task.series.cross_learning is cross_learning for task in found.tasks)
    return [task.series.group if task.series else None for task in found.tasks]


def test_the_series_of_a_request_are_one_group() -> None:
    assert groups(*[ONE] * 50) == [0] * 50


def test_a_large_request_is_several_groups_of_the_librarys_size() -> None:
    assert groups(*[ONE] * (GROUP_ROWS + 3)) == [0] * GROUP_ROWS + [1] * 3


def test_channels_and_covariates_count_as_rows() -> None:
    wide = SeriesInput(target=np.ones((3, 100)), past_covariates={f"c{i}": np.ones(3) for i in range(60)})
    assert groups(wide, wide, wide, ONE) == [0, 0, 1, 1]


def test_a_series_that_cannot_run_is_in_no_group() -> None:
    assert groups(ONE, SeriesInput(target=np.full((3, 1), np.nan)), ONE) == [0, None, 0]


def test_nothing_is_grouped_unasked() -> None:
    assert groups(*[ONE] * (GROUP_ROWS + 3), cross_learning=False) == [0] * (GROUP_ROWS + 3)
