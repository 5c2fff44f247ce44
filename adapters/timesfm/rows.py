"""What the TimesFM adapters share: series to rows of one channel each, the passes rows run in, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from adapters.arrays import channel_rows, filled, without_leading_gap
from adapters.base import Array, Batch, BatchForecast, Series, SeriesFailure, SeriesForecast
from adapters.quantiles import forecast_of
from catalog.card import Batching, ModelCard

# Forecasts rows (time,) without gaps, given the series of each and the horizon: (rows, horizon, outputs), the point
# forecast first and then the quantiles at the trained levels.
Forecast = Callable[[Sequence[Array], Sequence[Series], int], Array]

UNOBSERVED = "A channel has no observed value among the most recent observations that the model can use."


def forecast_rows(batch: Batch, card: ModelCard, forecast: Forecast) -> BatchForecast:
    """Forecast every channel of every series as a row of its own.

    Leading gaps are cut off and others interpolated, as the library does it; a channel that has nothing left fails
    its series.
    """
    contexts = [filled(without_leading_gap(row[-card.max_context :])) for row in channel_rows(batch.series)]
    owners = [series for series in batch.series for _ in series.target]
    found: dict[int, Array] = {}
    usable = [i for i, context in enumerate(contexts) if len(context)]
    for rows in passes(usable, contexts, card.batching):
        horizon = max(owners[i].horizon for i in rows)
        values = forecast([contexts[i] for i in rows], [owners[i] for i in rows], horizon)
        found.update(zip(rows, values, strict=True))
    results: list[SeriesForecast | SeriesFailure] = []
    first = 0
    for series in batch.series:
        channels = [found.get(i) for i in range(first, first + len(series.target))]
        results.append(_result(series, channels, card))
        first += len(channels)
    return BatchForecast(tuple(results))


def passes(usable: Sequence[int], contexts: Sequence[Array], batching: Batching) -> Iterator[list[int]]:
    """Indices of the `usable` contexts that run together, shortest first.

    A pass holds as many rows as its padded tokens stay within the card's budget, and never fewer than one. The
    engine's batches fit as they come; this splits a series of very many channels, and contexts that do not match.
    """
    together: list[int] = []
    for i in sorted(usable, key=lambda i: len(contexts[i])):
        tokens = -(-len(contexts[i]) // batching.patch) + batching.overhead
        if together and (len(together) + 1) * tokens > batching.token_budget:
            yield together
            together = []
        together.append(i)
    if together:
        yield together


def _result(series: Series, channels: Sequence[Array | None], card: ModelCard) -> SeriesForecast | SeriesFailure:
    """One series from its channels' outputs (horizon, outputs)."""
    known = [channel[: series.horizon] for channel in channels if channel is not None]
    if len(known) < len(channels):
        return SeriesFailure(UNOBSERVED)
    values = np.stack(known, axis=-1).swapaxes(0, 1)  # (outputs, horizon, channels)
    return forecast_of(series, values[1:], card.quantile_levels, card.tails, mean=values[0])
