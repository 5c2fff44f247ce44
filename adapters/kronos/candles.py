"""Series as Kronos' candles: six features in their order, a calendar, and numbers without level and scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from adapters.arrays import filled
from adapters.base import Array, Series

OPEN, HIGH, LOW, CLOSE, VOLUME, AMOUNT = range(6)
FEATURES = 6
PRICES = (OPEN, HIGH, LOW, CLOSE)
SMALLEST_SCALE = 1e-5  # is added to every deviation
REACH = 5.0  # deviations from the mean at which a feature is cut
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400

Integers = npt.NDArray[np.int64]


def places(series: Series) -> tuple[int, ...]:
    """The feature that each channel of `series` is."""
    return series.channels or tuple(range(len(series.target)))


def candles(series: Series, max_context: int) -> Array:
    """The last `max_context` steps of `series` as features, (time, 6), without leading gap or missing value.

    Without a volume both volume and amount are 0; without an amount it is the volume at the mean of the prices.
    """
    target = series.target[:, -max_context:]
    target = target[:, int((~np.isnan(target)).any(axis=0).argmax()) :]
    features = np.zeros((target.shape[1], FEATURES))
    channels = places(series)
    for place, row in zip(channels, target, strict=True):
        features[:, place] = filled(row)
    if VOLUME not in channels:
        features[:, AMOUNT] = 0.0
    elif AMOUNT not in channels:
        features[:, AMOUNT] = features[:, VOLUME] * features[:, PRICES].mean(axis=1)
    return features


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and deviation of every feature over a history, (6,) each."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, features: Array) -> Self:
        """The scale of (time, 6)."""
        return cls(features.mean(axis=0), features.std(axis=0))

    def normalised(self, features: Array) -> Array:
        """(..., 6) around 0, cut at the model's reach."""
        unit: Array = np.clip((features - self.mean) / (self.deviation + SMALLEST_SCALE), -REACH, REACH)
        return unit

    def restored(self, unit: Array) -> Array:
        """The reverse of `normalised`, without the cut."""
        features: Array = unit * (self.deviation + SMALLEST_SCALE) + self.mean
        return features


def calendar(stamps: Integers) -> Integers:
    """Minute, hour, weekday (Monday is 0), day and month of seconds since 1970, (time,) -> (time, 5)."""
    days = stamps // DAY_S
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    day = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    month = months.astype(np.int64) % 12 + 1
    return np.stack([stamps // MINUTE_S % 60, stamps // HOUR_S % 24, (days + 3) % 7, day, month], axis=-1)
