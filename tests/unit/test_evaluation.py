"""The evaluation on real series: its measures against figures by hand and published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.accuracy import LEVELS, Accuracy, aggregate, measure
from evaluation.datasets import DATA_SETS, Competition, Window
from evaluation.forecasters import forecaster
from evaluation.report import table

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "m3" / "m3.csv").is_file(), reason="no real series beside the repository")


def test_measures_by_hand() -> None:
    window = Window(np.array([1.0, 2.0, 1.0, 4.0]), np.array([2.0, 6.0]))
    values = np.tile(np.array([[2.0, 3.0]]), (len(LEVELS), 1))  # certain of 2 and 3
    found = measure([window], [values], season=2)
    # Errors 0 and 3; 2 x pinball of an error e above the quantile is 2 q e, its mean over the levels e.
    assert found.wql == pytest.approx(3 / 8)
    assert found.mase == pytest.approx(1.5 / 1.0)  # |1 - 1| and |4 - 2| at lag 2: mean 1
    assert found.coverage == 0.5
    assert found.windows == 1


def test_the_aggregate_is_a_geometric_mean_of_ratios() -> None:
    base = {"a": Accuracy(1, 1, 0.8, 1), "b": Accuracy(2, 2, 0.8, 1)}
    model = {"a": Accuracy(0.5, 2, 0.7, 1), "b": Accuracy(4, 2, 0.9, 1)}
    found = aggregate(model, base)
    assert (found.wql, found.mase) == pytest.approx((1.0, 2**0.5))
    assert found.coverage == pytest.approx(0.8)
    assert "**1.000** | **1.414**" in table({"seasonal-naive": base, "other": model})


@needs_data
@pytest.mark.parametrize(
    ("period", "published"), [("YEARLY", 3.172), ("QUARTERLY", 1.425), ("MONTHLY", 1.146), ("OTHER", 3.089)]
)
def test_seasonal_naive_has_its_published_mase_on_m3(period: str, published: float) -> None:
    competition = next(d for d in DATA_SETS if isinstance(d, Competition) and d.period == period)
    windows = list(competition.rolling(DATA, 2048))
    values = forecaster("seasonal-naive", DATA)(windows, competition.season)
    assert measure(windows, values, competition.season).mase == pytest.approx(published, abs=5e-4)


@needs_data
def test_no_window_sees_its_future() -> None:
    for data_set in DATA_SETS:
        for window in data_set.rolling(DATA, 100):
            assert len(window.context) <= 100
            assert len(window.actual) == data_set.horizon
            assert np.isfinite(window.actual).all()
