"""Candidates of an ensemble compared on the windows that they share."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence

import numpy as np

from gateway import timeline
from gateway.domain import Array, Backtest, BacktestWindow, Metric, SeriesBacktest, SeriesInput
from gateway.ensemble import scoring
from gateway.ensemble.scoring import Held

FEWEST = 0.5  # of the windows of the candidate that scored most: with fewer, a candidate is not compared

Key = tuple[int, int]  # series and cutoff
Windows = Mapping[Key, BacktestWindow]


def windows_of(backtest: Backtest) -> Windows:
    """Every window that was scored."""
    return {
        (item, window.cutoff): window
        for item, output in enumerate(backtest.outputs)
        if isinstance(output, SeriesBacktest)
        for window in output.windows
    }


def shared(candidates: Sequence[Windows]) -> tuple[list[bool], list[Key]]:
    """Which candidates can be compared, and the windows that all of those have.

    A candidate that failed on a series would gain from it if each were scored on what it has.
    """
    most = max((len(c) for c in candidates), default=0)
    compared = [len(c) >= max(1, FEWEST * most) for c in candidates]
    kept = [c for c, chosen in zip(candidates, compared, strict=True) if chosen]
    keys = set(kept[0]).intersection(*kept[1:]) if kept else set()
    return compared, sorted(keys)


def score(windows: Windows, keys: Iterable[Key], metric: Metric) -> Generator[None, None, float | None]:
    """`metric` over the cells of the windows at `keys`; yields after each window."""
    pooled = yield from scoring.adding((windows[key].scores for key in keys), (metric,))
    return pooled.values[metric]


def held(
    windows: Windows,
    keys: Sequence[Key],
    series: Sequence[SeriesInput],
    frequency: str | None,
    levels: tuple[float, ...],
) -> Held:
    """The cells of the windows at `keys`, whose forecasts must be there, side by side."""
    chosen = [windows[key] for key in keys]
    contexts = [series[item].target[:cutoff] for item, cutoff in keys]
    scales = [scoring.seasonal_scale(c, timeline.season(frequency, len(c))) for c in contexts]
    actuals = [_there(w.actuals) for w in chosen]
    return Held(
        actual=np.concatenate([a.ravel() for a in actuals]),
        point=np.concatenate([_there(w.mean).ravel() for w in chosen]),
        quantiles=np.concatenate([_there(w.quantiles).reshape(len(levels), -1) for w in chosen], axis=1),
        levels=levels,
        scale=np.concatenate([np.broadcast_to(s, a.shape).ravel() for s, a in zip(scales, actuals, strict=True)]),
    )


def _there(array: Array | None) -> Array:
    assert array is not None, "the backtest was asked for its forecasts"
    return array
