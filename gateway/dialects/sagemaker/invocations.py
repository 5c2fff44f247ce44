"""Bodies of the Chronos models of JumpStart to requests, and forecasts and errors back to bodies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Raw

from gateway.dialects import bodies, notices
from gateway.dialects.base import Call, Reply, Steps, wire_code
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.series import relations
from gateway.dialects.canonical.types import Count, Level
from gateway.domain import (
    MAX_SERIES,
    Array,
    CovariateValues,
    Forecast,
    ForecastRequest,
    GatewayStatus,
    Parameters,
    SeriesError,
    SeriesForecast,
    SeriesInput,
)
from gateway.errors import MAX_FAULTS, Code, Fault, GatewayError, Place

DEFAULT_MODEL = "default"  # the catalog's alias
DEFAULT_LEVELS = (0.1, 0.5, 0.9)

_MATRIX = re.compile(rb"\s*\[\s*\[")
_OFFSET = re.compile(r"[T ].*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$")
_NAMES: dict[Place, Place] = {("parameters", "frequency"): ("parameters", "freq")}

# What the runtime calls an error that is not the model's; all others are a ModelError.
_RUNTIME_ERRORS = {
    Code.UNAUTHENTICATED: "AccessDeniedException",
    Code.PERMISSION_DENIED: "AccessDeniedException",
    Code.METHOD_NOT_ALLOWED: "ValidationError",
    Code.RESOURCE_EXHAUSTED: "ThrottlingException",
    Code.INTERNAL: "InternalFailure",
    Code.UNAVAILABLE: "ServiceUnavailable",
    Code.DEADLINE_EXCEEDED: "ModelNotReadyException",
}
_MODEL_ERROR_STATUS = 424


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One series, as the JumpStart models of Chronos take it."""

    target: Raw  # [time], or [dim][time] for a multivariate series
    item_id: str | int | None = None
    start: str | None = None
    past_covariates: dict[str, Raw] | None = None
    future_covariates: dict[str, Raw] | None = None


class Controls(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a call. Others, such as `batch_size`, are read past."""

    prediction_length: Count | None = None
    quantile_levels: Annotated[tuple[Level, ...], Meta(max_length=99)] | None = None
    freq: str | None = None
    num_samples: Annotated[int, Meta(ge=1, le=1000)] | None = None
    temperature: Annotated[float, Meta(gt=0)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    predict_batches_jointly: bool | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast to make."""

    inputs: Annotated[list[Series], Meta(min_length=1)]
    parameters: Controls | None = None


class ContainerError(msgspec.Struct, frozen=True, kw_only=True):
    """An error inside the container."""

    code: int
    type: str
    message: str


class RuntimeFailure(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """An error of the runtime, with the container's own."""

    message: str
    original_status_code: int
    original_message: str


@dataclass(frozen=True, slots=True)
class _Item:
    """What one answer repeats of its input."""

    item_id: str | int | None
    is_matrix: bool
    has_offset: bool


_DECODER = msgspec.json.Decoder(Request)


# -- bytes to domain ---


def invocation(call: Call) -> Steps[ForecastRequest]:
    """The request of a call to the container or to a named endpoint."""
    bodies.require_json(call)
    model = call.path_params.get("name", DEFAULT_MODEL)
    return (yield from bodies.told(call.body, _request(call.body, model)))


def _request(content: bytes, model: str) -> Steps[ForecastRequest]:
    if content.count(b'"target"') > 4 * MAX_SERIES:  # quick, and before millions of tiny series are made
        raise GatewayError.invalid(Fault(("inputs",), f"at most {MAX_SERIES} series in one call; split them"))
    sent, body = yield from bodies.decoded(content, _DECODER)
    controls = sent.parameters or Controls()
    levels = DEFAULT_LEVELS if controls.quantile_levels is None else controls.quantile_levels
    horizon = controls.prediction_length or 1
    if len(sent.inputs) > MAX_SERIES:
        raise GatewayError.invalid(Fault(("inputs",), f"at most {MAX_SERIES} series in one call; split them"))
    series: list[SeriesInput] = []
    faults: list[Fault] = []
    for i, one in enumerate(sent.inputs):
        found = yield from _series(one, body, ("inputs", i))
        faults += _calendar_faults(one, controls, ("inputs", i))
        faults += relations(found, horizon, ("inputs", i))
        series.append(found)
        if len(faults) >= MAX_FAULTS:
            break
        yield
    if faults:
        raise GatewayError.invalid(*faults[:MAX_FAULTS])
    parameters = Parameters(
        prediction_length=horizon,
        frequency=controls.freq,
        quantile_levels=tuple(sorted(set(levels))),
        clip_levels=True,
        num_samples=controls.num_samples,
        temperature=controls.temperature,
        top_k=controls.top_k,
        top_p=controls.top_p,
        cross_learning=bool(controls.predict_batches_jointly),
    )
    return ForecastRequest(model=model, series=tuple(series), parameters=parameters, metadata=levels)


def _series(sent: Series, body: Envelope, place: Place) -> Steps[SeriesInput]:
    whole = body.whole(sent.target)
    is_matrix = _MATRIX.match(bytes(whole)) is not None
    dimensions = msgspec.json.decode(whole, type=list[Raw]) if is_matrix else [sent.target]
    rows: list[Array] = []
    for d, raw in enumerate(dimensions):
        at = (*place, "target", d) if is_matrix else (*place, "target")
        row = yield from bodies.numbers(raw, body, at)
        if not len(row) or len(row) != len(rows[0] if rows else row):
            msg = "Expected at least one value" if not len(row) else "Expected as many values as in the first dimension"
            raise GatewayError.invalid(Fault(at, msg))
        rows.append(row)
    return SeriesInput(
        target=np.stack(rows, axis=1),
        start=sent.start,
        past_covariates=(yield from _covariates(sent.past_covariates, body, (*place, "past_covariates"))),
        future_covariates=(yield from _covariates(sent.future_covariates, body, (*place, "future_covariates"))),
        metadata=_Item(sent.item_id, is_matrix, sent.start is not None and _OFFSET.search(sent.start) is not None),
    )


def _covariates(sent: dict[str, Raw] | None, body: Envelope, place: Place) -> Steps[dict[str, CovariateValues]]:
    read: dict[str, CovariateValues] = {}
    for name, raw in (sent or {}).items():
        read[name] = yield from bodies.values(raw, body, (*place, name))
        yield
    return read


def _calendar_faults(sent: Series, controls: Controls, place: Place) -> Iterator[Fault]:
    if sent.start is not None and controls.freq is None:
        yield Fault(("parameters", "freq"), "start was sent, so freq is needed too", "missing")
    if sent.start is None and controls.freq is not None:
        yield Fault((*place, "start"), "freq was sent, so start is needed too", "missing")


def ping(call: Call) -> Steps[None]:
    """Nothing is asked but whether the gateway is ready."""
    yield from ()


# -- domain to bytes ---


def predictions(call: Call, answer: Forecast) -> Reply:
    """`{"predictions": [...]}`, one series a part."""
    said = [n for output in answer.outputs for n in output.notices]
    headers = {"x-amzn-requestid": call.request_id, **notices.header(said)}
    if "name" in call.path_params:
        headers["x-amzn-invoked-production-variant"] = "AllTraffic"
    return Reply(body=_parts(answer), headers=headers)


def _parts(answer: Forecast) -> Iterator[bytes]:
    levels = answer.metadata
    assert isinstance(levels, tuple), "metadata of this dialect is what its parse made"
    for i, output in enumerate(answer.outputs):
        if isinstance(output, SeriesError):
            raise GatewayError(output.code, f"inputs[{i}]: {output.sentence}")
        yield (b"," if i else b'{"predictions":[') + msgspec.json.encode(_prediction(output, answer, levels))
    yield b"]}"


def _prediction(
    output: SeriesForecast, answer: Forecast, levels: tuple[float, ...]
) -> dict[str, str | int | list[float] | list[list[float]]]:
    """The fields of one prediction; levels are keys, so that no type can name them."""
    item = output.metadata
    assert isinstance(item, _Item), "metadata of this dialect is what its parse made"
    found: dict[str, str | int | list[float] | list[list[float]]] = {"mean": _rows(output.mean, item)}
    given = np.array(answer.quantile_levels)
    for level in levels:
        nearest = int(np.abs(given - level).argmin())  # itself, or the end it was clipped to
        found[repr(level)] = _rows(output.quantiles[nearest], item)
    if item.item_id is not None:
        found["item_id"] = item.item_id
    if output.timestamps:
        start = output.timestamps[0]
        found["start"] = start if item.has_offset else start.removesuffix("Z")
    return found


def _rows(values: Array, item: _Item) -> list[float] | list[list[float]]:
    """`(time, channels)` as `[dim][time]`, or as `[time]` where it was sent so."""
    if not np.isfinite(values).all():
        raise GatewayError(Code.INTERNAL, "The forecast holds a number that is not finite.")
    rows: list[list[float]] = values.T.tolist()
    return rows if item.is_matrix else rows[0]


def pong(call: Call, answer: GatewayStatus) -> Reply:
    """All is well, or UNAVAILABLE."""
    if not answer.ready:
        raise GatewayError(Code.UNAVAILABLE, answer.reason, retry_after_s=1.0)
    return Reply(body=b'{"status":"Healthy"}')


def container_error(call: Call, problem: GatewayError, status: int) -> Reply:
    """What a model server answers inside the container."""
    problem = bodies.in_words_of(problem, _NAMES)
    body = ContainerError(code=status, type=wire_code(problem.code), message=problem.sentence)
    return Reply(status=status, body=msgspec.json.encode(body))


def runtime_error(call: Call, problem: GatewayError, status: int) -> Reply:
    """What the runtime makes of an error: the model's own are a ModelError, whatever their status was."""
    original = container_error(call, problem, status)
    assert isinstance(original.body, bytes)
    sentence = bodies.in_words_of(problem, _NAMES).sentence
    kind = _RUNTIME_ERRORS.get(problem.code)
    body = RuntimeFailure(
        message=sentence if kind else f"Received client error ({status}) from primary with message: {sentence}",
        original_status_code=status,
        original_message=original.body.decode(),
    )
    return Reply(
        status=status if kind else _MODEL_ERROR_STATUS,
        body=msgspec.json.encode(body),
        headers={"x-amzn-errortype": kind or "ModelError", "x-amzn-requestid": call.request_id},
    )
