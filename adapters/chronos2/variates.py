"""A series as the rows that Chronos-2 attends over together: its channels, then its covariates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adapters.base import Array, Series

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variates:
    """Rows of one series, each in units of its own range: channels, past-only covariates, known ones."""

    context: Float32  # (rows, time), NaN where missing
    future: Float32  # (rows, steps), NaN where it has to be forecast
    channels: int
    known: int
    centre: Array  # (channels, 1)
    reach: Array  # (channels, 1)

    @classmethod
    def of(cls, series: Series, longest: int, steps: int) -> Variates:
        """Rows of `series` over its last `longest` observations and over `steps` >= its horizon.

        The network sees no level and no scale, so its float32 is given rows between -1 and 1: a small variation on a
        high level loses no digits. Covariates that are known over the horizon only have no scale and are left out.
        """
        target, past = series.target[:, -longest:], series.past[:, -longest:]
        future = np.full((len(target) + len(past), steps), np.nan)
        rows = [*target]
        order = [*range(series.known, len(past)), *range(series.known)]
        for place, covariate in enumerate(order, start=len(target)):
            ahead = series.future[covariate] if covariate < series.known else np.empty(0)
            before = past[covariate]
            if covariate in series.categorical:
                before, ahead = encoded(before, ahead, target)
            rows.append(before)
            future[place, : len(ahead)] = ahead
        context = np.stack(rows)
        low, high = np.fmin.reduce(context, axis=1), np.fmax.reduce(context, axis=1)
        centre = np.nan_to_num(low / 2 + high / 2)[:, None]
        reach = np.nan_to_num(high / 2 - low / 2)[:, None]
        reach[reach == 0] = 1.0
        return cls(
            context=((context - centre) / reach).astype(np.float32),
            future=((future - centre) / reach).astype(np.float32),
            channels=len(target),
            known=series.known,
            centre=centre[: len(target)],
            reach=reach[: len(target)],
        )

    def back(self, values: npt.NDArray[np.float32]) -> Array:
        """(channels, levels, steps) in units of the rows -> (levels, steps, channels)."""
        forecast: Array = values.astype(np.float64) * self.reach[..., None] + self.centre[..., None]
        return forecast.transpose(1, 2, 0)


def encoded(past: Array, future: Array, target: Array) -> tuple[Array, Array]:
    """Category codes of one covariate, past (time,) and future (steps,), as the numbers the library makes of them.

    With one channel a category is the mean of the target under it, smoothed by one observation of the target's mean,
    and a category that the past has not seen is that mean. With several, it is its rank among the past's categories,
    and an unseen one is missing. A missing category is one of its own. The library takes the categories of a whole
    batch, so that ranks depend on the neighbours; these are of the series alone.
    """
    categories = np.unique(past[~np.isnan(past)])
    missing = len(categories)
    before, ahead = (np.searchsorted(categories, codes) for codes in (past, future))  # NaN sorts behind all
    unseen = ~np.isin(future, categories) & ~np.isnan(future)
    if len(target) > 1:
        return before.astype(np.float64), np.where(unseen, np.nan, ahead)
    known = ~np.isnan(target[0])
    values = np.where(known, target[0], 0.0)
    mean = values.sum() / known.sum()
    slots = missing + 2  # the last one is never seen
    counts = np.bincount(before, known, slots)
    means = (mean + np.bincount(before, values, slots)) / (1 + counts)
    return means[before], means[np.where(unseen, slots - 1, ahead)]
