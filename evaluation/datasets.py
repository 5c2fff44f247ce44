"""The real data sets that models are judged on, and the windows that are forecast in each.

Only the evaluation role of the data folder's README is here: series that no shipped weights were trained on.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """One forecast to make: what the model sees and what came then."""

    context: Values  # (time,), NaN where missing
    actual: Values  # (horizon,)
    origin: int = 0  # windows of several series with one number begin at the same time


@dataclass(frozen=True)
class DataSet:
    """Columns of a file with one season and one horizon."""

    name: str
    file: str
    columns: tuple[str, ...]
    season: int
    horizon: int
    windows: int = 10  # a series
    by: str = ""  # column that tells series apart in a long table
    pooled: int = 1  # observations averaged to one step
    begin: float = 0.35  # earliest forecast origin, as a share of the series

    def series(self, folder: Path) -> Iterator[Values]:
        """Every series of the set, without the missing values before its first observation."""
        table = _table(folder / self.file)
        keys = table[self.by] if self.by else [""] * len(next(iter(table.values())))
        for key in dict.fromkeys(keys):
            rows = [i for i, k in enumerate(keys) if k == key]
            for column in self.columns:
                y = np.array([_number(table[column][i]) for i in rows])
                yield _pooled(y[np.isfinite(y).argmax() :], self.pooled)

    def rolling(self, folder: Path, context: int) -> Iterator[Window]:
        """Windows at evenly spread origins; one whose last value or future is not complete is passed over."""
        for y in self.series(folder):
            first = max(int(len(y) * self.begin), 2 * self.season)
            last = len(y) - self.horizon
            for origin in np.unique(np.linspace(first, last, self.windows).astype(int)):
                window = Window(y[max(0, origin - context) : origin], y[origin : origin + self.horizon], int(origin))
                if np.isfinite(window.actual).all() and np.isfinite(window.context[-1]):
                    yield window


@dataclass(frozen=True)
class Competition:
    """One period of M3 with the competition's own training and test parts."""

    name: str
    period: str
    season: int
    horizon: int
    file: str = "m3/m3.csv"

    def rolling(self, folder: Path, context: int) -> Iterator[Window]:
        """One window a series."""
        table = _table(folder / self.file)
        for period, train, test in zip(table["period"], table["train"], table["test"], strict=True):
            if period == self.period:
                history = np.array(train.split(), dtype=np.float64)
                yield Window(history[-context:], np.array(test.split(), dtype=np.float64))


ETT = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
DATA_SETS: tuple[DataSet | Competition, ...] = (
    DataSet("air passengers", "prophet/air_passengers.csv", ("y",), 12, 18),
    DataSet("retail sales", "prophet/retail_sales.csv", ("y",), 12, 18),
    DataSet("page views, daily", "prophet/wp_log_peyton_manning.csv", ("y",), 7, 30, windows=25),
    DataSet("temperature, 5 minutes", "prophet/yosemite_temps_5min.csv", ("y",), 288, 64, windows=40),
    DataSet("temperature, half-hourly", "prophet/yosemite_temps_5min.csv", ("y",), 48, 48, windows=25, pooled=6),
    DataSet("temperature, hourly", "prophet/yosemite_temps_5min.csv", ("y",), 24, 48, windows=25, pooled=12),
    DataSet("pedestrians", "prophet/pedestrians_multivariate.csv", ("location_4", "location_41"), 24, 48),
    DataSet("Seattle temperature", "vega/seattle_weather.csv", ("temp_max", "temp_min"), 7, 28, windows=20),
    DataSet("Seattle rain and wind", "vega/seattle_weather.csv", ("precipitation", "wind"), 7, 28, windows=20),
    DataSet("German load", "opsd/opsd_germany_daily.csv", ("Consumption",), 7, 28, windows=40),
    DataSet("German wind and sun", "opsd/opsd_germany_daily.csv", ("Wind", "Solar"), 7, 28, windows=25),
    DataSet("electricity prices", "nixtla/electricity_price_with_ex_vars.csv", ("y",), 24, 24, 15, by="unique_id"),
    DataSet("shop sales", "nixtla/m5_sales_exog_small.csv", ("y",), 7, 28, by="unique_id"),
    DataSet("transformer (ETTh1)", "etdataset/ETTh1.csv", ETT, 24, 48, windows=12, begin=0.7),
    Competition("M3 yearly", "YEARLY", 1, 6),
    Competition("M3 quarterly", "QUARTERLY", 4, 8),
    Competition("M3 monthly", "MONTHLY", 12, 18),
    Competition("M3 other", "OTHER", 1, 8),
)


def _table(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {name: [row[name] for row in rows] for name in reader.fieldnames or ()}


def _number(text: str) -> float:
    return float(text) if text not in ("", "NaN", "nan") else np.nan


def _pooled(y: Values, steps: int) -> Values:
    if steps == 1:
        return y
    blocks = y[: len(y) // steps * steps].reshape(-1, steps)
    observed = np.isfinite(blocks).sum(axis=1)
    pooled: Values = np.where(observed, np.nansum(blocks, axis=1) / np.maximum(observed, 1), np.nan)
    return pooled
