"""Bodies to requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec
import numpy as np
from msgspec import Raw

from gateway.dialects import bodies
from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import slices
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.series import MAX_COVARIATES, relations
from gateway.dialects.nixtla import types as wire
from gateway.dialects.nixtla.asked import Asked, Levels, Rows, quantiles_of
from gateway.domain import (
    MAX_SERIES,
    AnomalyRequest,
    BacktestRequest,
    CovariateValues,
    ForecastRequest,
    Parameters,
    SeriesInput,
)
from gateway.errors import MAX_FAULTS, Fault, GatewayError

DEFAULT_MODEL = "default"  # the catalog's alias
OURS = ("timegpt", "azureai")  # beginnings of the names that stand for whatever the gateway's default is
ANOMALY_LEVEL = 99  # the client's default
ROWS_ONE_BY_ONE = 5000  # of one call that are each judged by a forecast of its own: some seconds on one core
LONGEST_BLOCK = 64  # steps; what lies farther ahead says little of a value
MOST_WINDOWS = 100  # of one series, where the whole history is asked for
MOST_LEVELS = 49  # each is two quantiles; with the median as many as the canonical contract takes
MEDIAN = 0.5


_FORECAST = msgspec.json.Decoder(wire.ForecastRequest)
_CROSS_VALIDATION = msgspec.json.Decoder(wire.CrossValidationRequest)
_ANOMALIES = msgspec.json.Decoder(wire.AnomalyRequest)
_ROWS = msgspec.json.Decoder(list[Raw] | None)


def forecast(call: Call) -> Steps[ForecastRequest]:
    """The request of `POST /v2/forecast`."""
    bodies.require_json(call)

    def steps() -> Steps[ForecastRequest]:
        sent, body = yield from bodies.decoded(call.body, _FORECAST)
        series = yield from _series(sent, body, sent.h, ahead=None)
        return _request(sent, series, sent.h, sent.level)

    return (yield from bodies.told(call.body, steps()))


def cross_validation(call: Call) -> Steps[BacktestRequest]:
    """The request of `POST /v2/cross_validation`."""
    bodies.require_json(call)

    def steps() -> Steps[BacktestRequest]:
        sent, body = yield from bodies.decoded(call.body, _CROSS_VALIDATION)
        series = yield from _series(sent, body, sent.h, ahead=sent.hist_exog or [])
        windows, step = sent.n_windows or 1, sent.step_size or sent.h
        if sent.full_history:
            shortest = min(len(s.target) for s in series)
            windows, step = max(windows, min((shortest - sent.h) // sent.h, MOST_WINDOWS)), sent.h
        request = _request(sent, series, sent.h, sent.level)
        return BacktestRequest(forecast=request, windows=windows, step=step, metrics=())

    return (yield from bodies.told(call.body, steps()))


def anomaly_detection(call: Call) -> Steps[AnomalyRequest]:
    """The request of `POST /v2/anomaly_detection`: each value against the forecast one step ahead.

    Where that would be very many forecasts, they are of several steps each; the service itself takes its horizon.
    """
    bodies.require_json(call)

    def steps() -> Steps[AnomalyRequest]:
        sent, body = yield from bodies.decoded(call.body, _ANOMALIES)
        series = yield from _series(sent, body, LONGEST_BLOCK, ahead=[])
        level = ANOMALY_LEVEL if sent.level is None else sent.level
        rows = sum(len(one.target) for one in series)
        block = min(-(-rows // ROWS_ONE_BY_ONE), LONGEST_BLOCK)
        request = _request(sent, series, block, (level,))
        if block > 1:
            said = f"{rows} values are judged in blocks of {block}, each by a forecast from the values before it."
            request = replace(request, metadata=_also(request.metadata, said))
        return AnomalyRequest(forecast=request)

    return (yield from bodies.told(call.body, steps()))


def _also(metadata: object, said: str) -> Asked:
    assert isinstance(metadata, Asked), "made above"
    return replace(metadata, notices=(*metadata.notices, said))


def _request(
    sent: wire.Request, series: tuple[SeriesInput, ...], horizon: int, levels: Levels | None
) -> ForecastRequest:
    if sent.finetuned_model_id is not None:
        raise GatewayError.invalid(Fault(("finetuned_model_id",), "there are no fine-tuned models here"))
    quantiles = {q for level in levels or () for q in quantiles_of(level)}
    if len(quantiles - {MEDIAN}) > 2 * MOST_LEVELS:
        raise GatewayError.invalid(Fault(("level",), f"Expected at most {MOST_LEVELS} different levels beside 0"))
    undone = []
    if sent.finetune_steps:
        undone.append("finetune_steps: the model was used as it is, without fine-tuning.")
    if sent.feature_contributions:
        undone.append("feature_contributions: not computed.")
    parameters = Parameters(
        prediction_length=horizon,
        frequency=sent.freq if isinstance(sent.freq, str) else None,
        quantile_levels=tuple(sorted(quantiles)),
        cross_learning=bool(sent.multivariate),
    )
    asked = Asked(levels, tuple(undone), bool(sent.feature_contributions))
    return ForecastRequest(model=_model(sent.model), series=series, parameters=parameters, metadata=asked)


def _model(name: str | None) -> str:
    """The catalog's name of a model."""
    return DEFAULT_MODEL if not name or name.lower().startswith(OURS) else name


def _series(
    sent: wire.Request, body: Envelope, horizon: int, *, ahead: list[int] | None
) -> Steps[tuple[SeriesInput, ...]]:
    """Every series of a call. `ahead` None: features are known ahead as far as `X_future` goes; else the rows of X
    that are not, and over the later part of the series itself."""
    flat = sent.series
    values = yield from bodies.numbers(flat.y, body, ("series", "y"))
    sizes = yield from _sizes(flat, body, len(values))
    past = yield from _features(flat.X, body, "X", len(values), flat.categorical_exog or ())
    future: list[CovariateValues] = []
    if ahead is None:
        columns = horizon * len(sizes)
        future = yield from _features(flat.X_future, body, "X_future", columns, flat.categorical_exog or ())
    if len(future) > len(past):
        raise GatewayError.invalid(Fault(("series", "X_future"), f"{len(future)} features, and X has {len(past)}"))
    starts = yield from _starts(flat, body, len(sizes))
    known = range(len(future)) if ahead is None else [k for k in range(len(past)) if k not in ahead]
    found: list[SeriesInput] = []
    faults: list[Fault] = []
    first = 0
    for i, size in enumerate(sizes):
        last = first + size
        features = {f"X{k}": row[first:last] for k, row in enumerate(past)}
        if ahead is None:
            later = {f"X{k}": future[k][i * horizon : (i + 1) * horizon] for k in known}
        else:  # what lies behind the end of a series is never looked at
            later = {f"X{k}": _unknown(past[k], horizon) for k in known}
        one = SeriesInput(
            target=values[first:last, None],
            start=starts[i],
            past_covariates=features,
            future_covariates=later,
            metadata=Rows(first),
        )
        faults += relations(one, horizon, ("series", i)) if ahead is None else _empty(one, i)
        found.append(one)
        first = last
        if len(faults) >= MAX_FAULTS:
            break
        yield
    if faults:
        raise GatewayError.invalid(*faults[:MAX_FAULTS])
    return tuple(found)


def _sizes(flat: wire.Series, body: Envelope, rows: int) -> Steps[list[int]]:
    """Observations of each series, all of `y` in sum."""
    place = ("series", "sizes")
    found = yield from bodies.numbers(flat.sizes, body, place)
    if not found.size:
        raise GatewayError.invalid(Fault(place, "Expected at least one series"))
    if found.size > MAX_SERIES:
        raise GatewayError.invalid(Fault(place, f"at most {MAX_SERIES} series in one call: send num_partitions"))
    odd = ~((found >= 1) & (found == np.floor(found)))
    if odd.any():
        raise GatewayError.invalid(Fault((*place, int(odd.argmax())), "Expected at least one observation"))
    if found.sum() != rows:
        raise GatewayError.invalid(Fault(place, f"{found.sum():g} observations in sum, and y has {rows}"))
    return [int(size) for size in found.tolist()]


def _starts(flat: wire.Series, body: Envelope, count: int) -> Steps[list[str | None]]:
    """The first stamp of each series, where they were sent."""
    if not bytes(flat.start_datetime) or bytes(flat.start_datetime) == b"null":
        return [None] * count
    found = yield from bodies.values(flat.start_datetime, body, ("series", "start_datetime"))
    if len(found) != count:
        msg = f"Expected one a series: {count}, got {len(found)}"
        raise GatewayError.invalid(Fault(("series", "start_datetime"), msg))
    if isinstance(found, tuple):
        return list(found)
    if not np.isnan(found).all():
        raise GatewayError.invalid(Fault(("series", "start_datetime"), "Expected dates, got numbers", "type_error"))
    return [None] * count


def _features(
    raw: Raw, body: Envelope, name: str, columns: int, categorical: Sequence[int]
) -> Steps[list[CovariateValues]]:
    """Rows of `X` or `X_future`, each `columns` long."""
    if not bytes(raw):
        return []
    place = ("series", name)
    rows: list[Raw] = []
    for piece in slices.of_array(bytes(body.whole(raw)), Format.JSON):
        if piece:
            try:
                rows += _ROWS.decode(piece) or []
            except msgspec.ValidationError as exc:
                raise GatewayError.invalid(Fault(place, str(exc).replace("`", ""), "type_error")) from None
        if len(rows) > MAX_COVARIATES:
            raise GatewayError.invalid(Fault(place, f"Expected at most {MAX_COVARIATES} features"))
        yield
    found: list[CovariateValues] = []
    for k, row in enumerate(rows):
        values = yield from bodies.values(row, body, (*place, k))
        if len(values) != columns:
            msg = f"Expected a value for every observation: {columns}, got {len(values)}"
            raise GatewayError.invalid(Fault((*place, k), msg))
        found.append(_words(values) if k in categorical else values)
    return found


def _words(values: CovariateValues) -> CovariateValues:
    """Categories that may have been sent as numbers."""
    if isinstance(values, tuple):
        return values
    return tuple(None if np.isnan(v) else f"{v:g}" for v in values.tolist())


def _unknown(past: CovariateValues, horizon: int) -> CovariateValues:
    return (None,) * horizon if isinstance(past, tuple) else np.full(horizon, np.nan)


def _empty(series: SeriesInput, i: int) -> Iterator[Fault]:
    if np.isnan(series.target).all():
        yield Fault(("series", i, "target"), "The target has no observed value")


def nothing(call: Call) -> Steps[None]:
    """Nothing is asked: who calls is known already."""
    yield from ()


def model_params(call: Call) -> Steps[str]:
    """The model whose sizes the client wants."""
    yield from ()
    return _model(dict(call.query).get("model"))
