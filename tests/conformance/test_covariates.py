"""What in-context regression has to show: a gain on real covariates, a signal found, and nothing found in noise."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from adapters.base import Adapter, Batch, Device, Series, SeriesForecast
from adapters.loading import load
from catalog.card import CARDS, Catalog, Covariates, load_cards

Array = npt.NDArray[np.float64]
DATA = Path(__file__).parents[3] / "shared" / "data" / "nixtla"
DAY, CONTEXT, ORIGINS = 24, 336, 7
CATALOG = Catalog(load_cards(CARDS))
inner_models = pytest.mark.parametrize("name", ["seasonal-naive", "auto-theta"])
needs_prices = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/nixtla is not on this machine")


def adapter(name: str, covariates: Covariates | None = None) -> Adapter:
    card = CATALOG.get(name)
    assert card is not None
    return load(msgspec.structs.replace(card, covariates=covariates or card.covariates), {}, Device())


@dataclass(frozen=True)
class Case:
    """A series with what came after it, and the covariates over both, (covariates, time + horizon)."""

    target: Array
    actual: Array
    covariates: Array
    season: int

    @property
    def scale(self) -> float:
        return float(np.abs(self.target[self.season :] - self.target[: -self.season]).mean())


def mase(model: Adapter, cases: list[Case]) -> float:
    """Mean over the cases of the error over the horizon, scaled by the seasonal naive one of the context."""
    batch = Batch(
        tuple(
            Series(
                target=case.target[None],
                horizon=len(case.actual),
                season=case.season,
                past=case.covariates[:, : len(case.target)],
                future=case.covariates[:, len(case.target) :],
                known=len(case.covariates),
            )
            for case in cases
        )
    )
    errors = []
    for case, answer in zip(cases, model.predict(batch).series, strict=True):
        assert isinstance(answer, SeriesForecast)
        errors.append(np.abs(answer.point[:, 0] - case.actual).mean() / case.scale)
    return float(np.mean(errors))


def compare(name: str, cases: list[Case]) -> tuple[float, float, float]:
    """MASE without covariates, with them, and with each of them shuffled in time."""
    rng = np.random.default_rng(0)
    shuffled = [Case(case.target, case.actual, rng.permuted(case.covariates, axis=1), case.season) for case in cases]
    without = mase(adapter(name, Covariates(future="ignored")), cases)
    regression = adapter(name)
    return without, mase(regression, cases), mase(regression, shuffled)


def table(path: Path) -> dict[str, Array]:
    """The numeric columns of a Nixtla file by series: (rows, columns)."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            rows[row["unique_id"]].append([float(v) for k, v in row.items() if k not in ("unique_id", "ds")])
    return {name: np.array(values) for name, values in rows.items()}


def electricity() -> list[Case]:
    """Prices of four markets with two load and generation forecasts: a day ahead, at several origins."""
    cases = []
    for values in table(DATA / "electricity_price_with_ex_vars.csv").values():
        for origin in range(ORIGINS):
            end = len(values) - 2 * DAY * origin
            window = values[end - DAY - CONTEXT : end]
            cases.append(Case(window[:CONTEXT, 0], window[CONTEXT:, 0], window[:, 1:3].T, DAY))
    return cases


def constructed() -> list[Case]:
    """A season, a slow walk and five times a known white signal."""
    rng, season, length, horizon = np.random.default_rng(3), 12, 120, 12
    cases = []
    for _ in range(20):
        signal = rng.normal(size=length + horizon)
        walk = np.cumsum(rng.normal(scale=0.1, size=length + horizon))
        wave = 20 + np.sin(2 * np.pi * np.arange(length + horizon) / season)
        values = wave + walk + 5 * signal
        cases.append(Case(values[:length], values[length:], signal[None], season))
    return cases


@needs_prices
@inner_models
def test_real_covariates_lower_the_error_of_electricity_prices(name: str) -> None:
    without, with_them, shuffled = compare(name, electricity())

    print(f"\nelectricity prices, {name}: MASE {without:.3f} without, {with_them:.3f} with, {shuffled:.3f} shuffled")
    assert with_them < 0.9 * without
    assert 0.97 * without < shuffled < 1.03 * without


@inner_models
def test_a_constructed_signal_loses_four_fifths_of_its_error(name: str) -> None:
    without, with_them, shuffled = compare(name, constructed())

    print(f"\nconstructed signal, {name}: MASE {without:.3f} without, {with_them:.3f} with, {shuffled:.3f} shuffled")
    assert with_them < 0.2 * without
    assert 0.97 * without < shuffled < 1.03 * without


@needs_prices
@inner_models
def test_the_published_future_covariates_move_the_forecast(name: str) -> None:
    past, future = (
        table(DATA / "electricity_price_with_ex_vars.csv"),
        table(DATA / "electricity_price_future_ex_vars.csv"),
    )
    cases = [
        Case(past[market][-CONTEXT:, 0], np.zeros(DAY), np.vstack([past[market][-CONTEXT:, 1:], future[market]]).T, DAY)
        for market in past
    ]

    without, with_them, _ = compare(name, cases)

    assert np.isfinite(with_them)
    assert with_them != without
