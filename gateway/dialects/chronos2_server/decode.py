"""Bodies to requests of the configured default model: this server names none."""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from gateway.dialects import fastapi, numbers
from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.chronos2_server import stamps
from gateway.dialects.chronos2_server.stamps import Calendar
from gateway.dialects.chronos2_server.types import (
    DEFAULT_LEVELS,
    AnomaliesBody,
    BacktestBody,
    MultiSeriesBody,
    UnivariateBody,
)
from gateway.dialects.fastapi import Problem, SchemaError
from gateway.domain import MAX_SERIES, Array, BatchRequest, ForecastRequest, Parameters, SeriesInput
from gateway.errors import Fault, GatewayError, Place

MODEL = "default"  # the alias that every catalog has
LEAST = 3  # observations
MEDIAN = 0.5
Levels = tuple[tuple[str, float], ...]  # as written, and as numbers
MAX_LEVELS = 98  # different ones, as in the canonical contract, with the median beside them
MOST_SENT = 1000  # with those that repeat


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How the forecast of one series is answered."""

    item: int  # its place among the results
    levels: Levels
    calendar: Calendar


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What a forecast is held against."""

    actuals: Array  # (time,)
    low: float = MEDIAN
    high: float = MEDIAN


def univariate(call: Call) -> Steps[ForecastRequest]:
    """One series."""
    body, found = yield from fastapi.read(call, UnivariateBody)
    levels = _levels(_sent(found, body.quantile_levels))
    times = _sent(found, body.timestamps)
    series, frequency = yield from _series(found.whole(body.values), times, body.freq, levels, 0, ())
    return _request((series,), frequency, body.prediction_length, _numbers(levels))


def multi_series(call: Call) -> Steps[BatchRequest]:
    """Several series, each with stamps of its own or none: one request for all that share a frequency."""
    body, found = yield from fastapi.read(call, MultiSeriesBody)
    if not body.series_list:
        raise _refused("series_list cannot be empty")
    if len(body.series_list) > MAX_SERIES:
        raise _refused(f"series_list holds more than the {MAX_SERIES} series that one call takes")
    levels = _levels(_sent(found, body.quantile_levels))
    groups: dict[str, list[SeriesInput]] = {}
    for i, one in enumerate(body.series_list):
        times = _sent(found, one.timestamps)
        times = times if _is_there(times) else _sent(found, body.timestamps)
        place = ("series_list", i)
        series, frequency = yield from _series(found.whole(one.values), times, body.freq, levels, i, place)
        groups.setdefault(frequency, []).append(series)
        yield
    asked = _numbers(levels)
    return BatchRequest(
        requests=tuple(
            _request(tuple(group), frequency, body.prediction_length, asked) for frequency, group in groups.items()
        )
    )


def anomalies(call: Call) -> Steps[ForecastRequest]:
    """A forecast of what was observed, from the values before it."""
    body, found = yield from fastapi.read(call, AnomaliesBody)
    low = 0.05 if body.quantile_low is None else body.quantile_low
    high = 0.95 if body.quantile_high is None else body.quantile_high
    problems = [*_outside(low, ("quantile_low",)), *_outside(high, ("quantile_high",))]
    if problems:
        raise SchemaError(tuple(problems))
    if low >= high:
        raise _refused("quantile_low must be less than quantile_high")
    context, recent = yield from _held_out(found, body, body.recent_observed, "recent_observed")
    compared = Compared(actuals=recent, low=low, high=high)
    calendar = stamps.of_rows(body.freq, len(context))
    series = _input(context, calendar, compared)
    return _request((series,), calendar.frequency, body.prediction_length, {low, MEDIAN, high})


def backtest(call: Call) -> Steps[ForecastRequest]:
    """A forecast of what is known, from the values before it."""
    body, found = yield from fastapi.read(call, BacktestBody)
    _levels(_sent(found, body.quantile_levels))
    context, actuals = yield from _held_out(found, body, body.actual_values, "actual_values")
    calendar = stamps.of_rows(body.freq, len(context))
    series = _input(context, calendar, Compared(actuals=actuals))
    return _request((series,), calendar.frequency, body.prediction_length, {MEDIAN})


# -- parts ---


def _series(
    values: Raw, times: Raw, freq: str | None, levels: Levels, item: int, place: Place
) -> Steps[tuple[SeriesInput, str]]:
    """One series and its frequency."""
    target = yield from _values(values, "values", place)
    _enough(target, "values")
    if _is_there(times):
        calendar = yield from stamps.of_stamps(times, freq, len(target), (*place, "timestamps"))
    else:
        calendar = stamps.of_rows(freq, len(target))
    return _input(target, calendar, Asked(item=item, levels=levels, calendar=calendar)), calendar.frequency


def _input(target: Array, calendar: Calendar, metadata: Asked | Compared) -> SeriesInput:
    return SeriesInput(target=target.reshape(-1, 1), start=calendar.start, metadata=metadata)


def _request(series: tuple[SeriesInput, ...], frequency: str, horizon: int, levels: set[float]) -> ForecastRequest:
    return ForecastRequest(
        model=MODEL,
        series=series,
        parameters=Parameters(prediction_length=horizon, frequency=frequency, quantile_levels=tuple(sorted(levels))),
    )


def _numbers(levels: Levels) -> set[float]:
    return {MEDIAN, *(level for _, level in levels)}


def _held_out(found: Envelope, body: AnomaliesBody | BacktestBody, held: Raw, name: str) -> Steps[tuple[Array, Array]]:
    """The context and what came after it; raises where their lengths are not what they must be."""
    context = yield from _values(found.whole(body.context_values), "context_values", ())
    actuals = yield from _values(found.whole(held), name, ())
    _enough(context, "context_values")
    if not actuals.size:
        raise _refused(f"{name} cannot be empty")
    if len(actuals) != body.prediction_length:
        raise _refused(
            f"prediction_length must equal the length of {name}, got {body.prediction_length} and {len(actuals)}"
        )
    return context, actuals


def _values(raw: Raw, name: str, place: Place) -> Steps[Array]:
    return (yield from numbers.flat(raw, (*place, name)))


def _enough(values: Array, name: str) -> None:
    if not values.size:
        raise _refused(f"{name} cannot be empty")
    if len(values) < LEAST:
        raise _refused(f"{name} needs at least {LEAST} data points, got {len(values)}")


def _levels(raw: Raw) -> Levels:
    """Levels as they were written and as numbers; raises SchemaError for what no model has."""
    if not _is_there(raw):
        parts: list[Raw] = [Raw(level) for level in DEFAULT_LEVELS]
    else:
        try:
            parts = msgspec.json.decode(raw, type=list[Raw])
        except msgspec.ValidationError:
            raise SchemaError((Problem(("quantile_levels",), "list"),)) from None
    levels: list[tuple[str, float]] = []
    problems: list[Problem] = []
    different = {MEDIAN}
    for i, part in enumerate(parts):
        place = ("quantile_levels", i)
        try:
            level = msgspec.json.decode(part, type=float, strict=False)
        except msgspec.ValidationError:
            problems.append(Problem(place, "null" if bytes(part) == b"null" else "number"))
            continue
        problems += _outside(level, place)
        different.add(level)
        if len(different) > MAX_LEVELS + 1:
            raise _refused(f"quantile_levels holds more than {MAX_LEVELS} levels beside {MEDIAN}")
        if len(levels) == MOST_SENT:
            raise _refused(f"quantile_levels has more than {MOST_SENT} entries")
        levels.append((bytes(part).decode().strip('"'), level))
    if problems:
        raise SchemaError(tuple(problems))
    return tuple(levels)


def _outside(level: float, place: Place) -> list[Problem]:
    if not np.isfinite(level):
        return [Problem(place, "finite")]
    if level <= 0:
        return [Problem(place, "above", "0")]
    return [Problem(place, "below", "1")] if level >= 1 else []


def _sent(found: Envelope, raw: Raw | UnsetType) -> Raw:
    return Raw(b"") if raw is UNSET else found.whole(raw)


def _is_there(raw: Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


def _refused(sentence: str) -> GatewayError:
    return GatewayError.invalid(Fault((), sentence))
