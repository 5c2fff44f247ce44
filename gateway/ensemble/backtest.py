"""Folds of a backtest with a rolling origin: where each begins, and what was known then.

Nothing after a fold's cutoff is in its series, except what the caller said is known ahead: a covariate that is sent
over past and future has its own later values over the fold's horizon.
"""

from __future__ import annotations

import numpy as np

from gateway.domain import CovariateValues, SeriesInput


def rows_needed(horizon: int, windows: int, step: int) -> int:
    """Rows of the shortest series that all windows fit into: the first has one row of context."""
    return horizon + (windows - 1) * step + 1


def cutoffs(rows: int, horizon: int, windows: int, step: int) -> tuple[int, ...]:
    """First forecast rows, ascending, of the windows that fit; the last window ends where the series ends."""
    last = rows - horizon
    return tuple(c for c in range(last - (windows - 1) * step, last + 1, step) if c >= 1)


def as_known(series: SeriesInput, cutoff: int, horizon: int) -> tuple[SeriesInput, tuple[str, ...]]:
    """`series` as it was known at `cutoff`, and the covariates whose values over the horizon are not known.

    These are the ones sent over the future only, which is a later one, and those with a gap over this horizon. The
    latter stay covariates of the past.
    """
    past = {name: values[:cutoff] for name, values in series.past_covariates.items()}
    future: dict[str, CovariateValues] = {}
    unknown = []
    for name in series.future_covariates:
        values = series.past_covariates.get(name)
        if values is None or _missing(ahead := values[cutoff : cutoff + horizon]):
            unknown.append(name)
        else:
            future[name] = ahead
    known = SeriesInput(
        target=series.target[:cutoff],
        start=series.start,
        past_covariates=past,
        future_covariates=future,
        static_covariates=series.static_covariates,
        channels=series.channels,
    )
    return known, tuple(unknown)


def _missing(values: CovariateValues) -> bool:
    if isinstance(values, tuple):
        return None in values
    return bool(np.isnan(values).any())
