"""Forecasts as the space's functions answer them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import numpy as np

from gateway.dialects.kronos_space import paths, plots
from gateway.dialects.kronos_space.candles import Candles
from gateway.dialects.kronos_space.functions import Question
from gateway.domain import Array, Forecast, SeriesForecast
from gateway.errors import Code, GatewayError

COLUMNS = ("open", "high", "low", "close", "volume")  # of `all_samples`
_NUMBER = re.compile(r"\d+")


class Summary(msgspec.Struct, frozen=True):
    """The close over all paths, hour by hour."""

    mean: list[float]
    min: list[float]
    max: list[float]


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every function answers; the fields from `model` on are this gateway's own."""

    upside_probability: float
    upside_probability_all_hours: list[float]
    predictions: Summary
    all_samples: dict[str, dict[str, list[float]]] | None = None
    model: str  # that drew the paths
    seed: int | None = None  # with which `/v1/forecast` draws the same ones
    last_close: float
    timestamps: list[str]
    notices: list[str]


class Plot(msgspec.Struct, frozen=True):
    """A figure, as Gradio's clients get one."""

    type: str
    plot: str  # JSON


def output(question: Question, candles: Candles, forecast: Forecast, notices: Sequence[str]) -> list[Plot | Result]:
    """The values that a function returns. `notices` are sentences beside those of the forecast.

    Raises GatewayError for a forecast that failed, and for one whose numbers leave the range of a float.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = paths.drawn(candles, forecast)
        answer = _result(question, candles, forecast, found, notices)
    columns = (*found.values(), np.array(answer.predictions.mean))
    if not all(np.isfinite(values).all() for values in columns):
        raise GatewayError(
            Code.INVALID_ARGUMENT, "The prices are too large: their forecast leaves the range of a number."
        )
    if not question.function.plots:
        return [answer]
    figure = plots.figure(candles, answer.timestamps, answer.predictions, title=f"BTC/USDT, {answer.model}")
    return [Plot("plotly", figure), answer]


def _result(
    question: Question, candles: Candles, forecast: Forecast, found: paths.Paths, notices: Sequence[str]
) -> Result:
    close = found["close"]
    upside = upside_probabilities(close, float(candles.close[-1]))
    first = forecast.outputs[0]
    assert isinstance(first, SeriesForecast), "a series that failed has raised"
    said = dict.fromkeys([*notices, *(notice.sentence for o in forecast.outputs for notice in o.notices)])
    return Result(
        upside_probability=upside[question.hour_idx - 1],
        upside_probability_all_hours=upside,
        predictions=Summary(
            mean=close.mean(axis=0).tolist(), min=close.min(axis=0).tolist(), max=close.max(axis=0).tolist()
        ),
        all_samples=_all_samples(found) if question.function.samples else None,
        model=forecast.model,
        seed=_seed(first),
        last_close=float(candles.close[-1]),
        timestamps=list(first.timestamps or ()),
        notices=list(said),
    )


def _seed(output: SeriesForecast) -> int | None:
    """The seed that was drawn for the paths."""
    told = next((notice.sentence for notice in output.notices if notice.code == "seed_used"), "")
    found = _NUMBER.search(told)
    return int(found[0]) if found else None


def upside_probabilities(close: Array, last: float) -> list[float]:
    """The share of paths (paths, steps) that are strictly above `last`, step by step."""
    share: list[float] = np.mean(close > last, axis=0).tolist()
    return share


def _all_samples(found: paths.Paths) -> dict[str, dict[str, list[float]]]:
    return {
        column: {f"pred-{i + 1}": path for i, path in enumerate(found[column].tolist())}
        for column in COLUMNS
        if column in found
    }
