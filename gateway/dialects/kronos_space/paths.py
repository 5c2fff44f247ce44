"""Candles to the request of a forecast, and its sample paths back to candles.

A model of candles (its card names the channels open, high, low and close) forecasts them as they are. Any other model
knows one series at a time. It is asked for the close, and where whole candles are wanted for three small series beside
it, which hold no trend of the price:

    gap    open - the close before          upper  high - the higher of open and close
    lower  the lower of open and close - low

and for the volume. Each path puts its candles together again, step by step from its own closes: a candle's open is the
close before it and its gap, its high lies `upper` over the higher of open and close, its low `lower` under the lower.
Draws of upper, lower and volume below 0 count as 0, so that every candle is one. The close is a series of its own and
the first: its paths are those that `/v1/forecast` draws of it with the same seed, whatever else is asked.
"""

from __future__ import annotations

import numpy as np

from catalog import ModelCard
from gateway.dialects.kronos_space.candles import PRICES, Candles
from gateway.dialects.kronos_space.functions import Question
from gateway.domain import Array, Forecast, ForecastRequest, Parameters, SeriesError, SeriesForecast, SeriesInput
from gateway.errors import Code, GatewayError

Paths = dict[str, Array]  # column -> (paths, steps)


def of_candles(card: ModelCard) -> bool:
    """Whether a model forecasts candles as such."""
    return set(PRICES) <= set(card.channel_names)


def request(question: Question, candles: Candles, card: ModelCard) -> ForecastRequest:
    """The forecast to ask of a model."""
    native = card.sampling.native
    parameters = Parameters(
        prediction_length=question.pred_len,
        frequency=candles.frequency,
        quantile_levels=(),
        num_samples=question.sample_count,
        temperature=question.temperature if card.sampling.temperature else None,
        top_p=question.top_p if card.sampling.top_p else None,
        sample_method="native" if native else "copula",
    )
    return ForecastRequest(model=card.id, series=_series(question, candles, card), parameters=parameters)


def _series(question: Question, candles: Candles, card: ModelCard) -> tuple[SeriesInput, ...]:
    if of_candles(card):
        names = tuple(name for name in candles.columns if name in card.channel_names)
        target = np.stack([candles.columns[name] for name in names], axis=1)
        return (SeriesInput(target=target, start=candles.start, channels=names),)
    columns = [candles.close, *(_parts(candles) if question.function.samples else ())]
    return tuple(SeriesInput(target=column.reshape(-1, 1), start=candles.start) for column in columns)


def _parts(candles: Candles) -> list[Array]:
    """Gap, upper, lower and volume."""
    gap = np.concatenate([[0.0], candles.open[1:] - candles.close[:-1]])
    upper = candles.high - np.maximum(candles.open, candles.close)
    lower = np.minimum(candles.open, candles.close) - candles.low
    return [gap, upper, lower, *([] if candles.volume is None else [candles.volume])]


def drawn(candles: Candles, forecast: Forecast) -> Paths:
    """The paths of every column that was forecast; the close is always among them. Raises what failed."""
    outputs = [_samples(output) for output in forecast.outputs]
    if outputs[0].shape[2] > 1:
        return {name: outputs[0][..., i] for i, name in enumerate(candles.columns)}
    close, *parts = (output[..., 0] for output in outputs)
    return _assembled(candles, close, parts) if parts else {"close": close}


def _samples(output: SeriesForecast | SeriesError) -> Array:
    if isinstance(output, SeriesError):
        raise GatewayError(output.code, output.sentence)
    if output.samples is None or not np.isfinite(output.samples).all():
        raise GatewayError(Code.MODEL_FAILED, "The model drew no paths of finite numbers.")
    return output.samples


def _assembled(candles: Candles, close: Array, parts: list[Array]) -> Paths:
    """Candles of closes and parts, each (paths, steps)."""
    gap, upper, lower = parts[:3]
    before = np.concatenate([np.full((len(close), 1), candles.close[-1]), close[:, :-1]], axis=1)
    opened = before + gap
    found = {
        "open": opened,
        "high": np.maximum(opened, close) + np.maximum(upper, 0.0),
        "low": np.minimum(opened, close) - np.maximum(lower, 0.0),
        "close": close,
    }
    return found if candles.volume is None else {**found, "volume": np.maximum(parts[3], 0.0)}
