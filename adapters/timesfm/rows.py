"""What the TimesFM adapters share: series to rows of one channel each, the passes rows run in, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adapters.arrays import channel_rows, filled, passes, without_leading_gap
from adapters.base import Array, Batch, BatchForecast, Series, SeriesFailure, SeriesForecast
from adapters.quantiles import forecast_of
from catalog.card import ModelCard

# Forecasts rows (time,) without gaps, given the series of each and the horizon: (rows, horizon, outputs), the point
# forecast first and then the quantiles at the trained levels.
Forecast = Callable[[Sequence[Array], Sequence[Series], int], Array]

PATCH = 32  # observations a token, in every TimesFM so far
# Tokens of one pass: a CPU core multiplies at full speed from about 128 on (and 2.5 reads each row twice).
CPU_TOKENS = 128
# Patches up to which rows of any lengths run together: reading the weights once more costs more than their padding.
SHORTEST_CLASS = 8

UNOBSERVED = "A channel has no observed value among the most recent observations that the model can use."


def tokens_at_once(card: ModelCard, device: str) -> int:
    """Tokens of one pass on "cpu" or "cuda:0"."""
    return CPU_TOKENS if device == "cpu" else card.batching.budget(gpu=True)


def forecast_rows(batch: Batch, card: ModelCard, tokens: int, forecast: Forecast) -> BatchForecast:
    """Forecast every channel of every series as a row of its own, in passes of at most `tokens` tokens.

    Leading gaps are cut off and others interpolated, as the libraries do it; a channel of which nothing is left fails
    its series.
    """
    contexts = [filled(without_leading_gap(row[-card.max_context :])) for row in channel_rows(batch.series)]
    owners = [series for series in batch.series for _ in series.target]
    usable = np.array([i for i, context in enumerate(contexts) if len(context)], dtype=np.intp)
    lengths = np.array([-(-len(contexts[i]) // PATCH) for i in usable], dtype=np.intp)
    found: dict[int, Array] = {}
    for chosen in passes(lengths, tokens, SHORTEST_CLASS):
        rows = usable[chosen].tolist()
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


def _result(series: Series, channels: Sequence[Array | None], card: ModelCard) -> SeriesForecast | SeriesFailure:
    """One series from its channels' outputs (horizon, outputs)."""
    known = [channel[: series.horizon] for channel in channels if channel is not None]
    if len(known) < len(channels):
        return SeriesFailure(UNOBSERVED)
    values = np.stack(known, axis=-1).swapaxes(0, 1)  # (outputs, horizon, channels)
    return forecast_of(series, values[1:], card.quantile_levels, card.tails, mean=values[0])
