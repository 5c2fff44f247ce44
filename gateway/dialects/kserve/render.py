"""Forecasts and errors to bodies of the time-series API."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import msgspec
import numpy as np
from msgspec import UNSET, Raw

from gateway.dialects.base import Call, Reply, wire_code
from gateway.dialects.fastapi import PYDANTIC_2, SchemaError
from gateway.dialects.kserve.decode import Asked, Sent
from gateway.dialects.kserve.types import (
    ContentBody,
    DetailBody,
    ErrorBody,
    ErrorObject,
    OutputBody,
    ResponseBody,
    SentenceBody,
    Status,
    UsageBody,
)
from gateway.domain import Array, BatchAnswer, Forecast, ForecastPlan, SeriesError, SeriesForecast, Usage
from gateway.errors import Code, GatewayError

BAD_REQUEST = 400  # for every body that is of the schema
_ID_DIGITS = 48

Result = Forecast | ForecastPlan | GatewayError


# -- answers ---


def forecast(call: Call, answer: BatchAnswer) -> Reply:
    """One output an input. Raises the error that every input met where it is not theirs: unknown model, limits..."""
    asked = answer.metadata
    assert isinstance(asked, Asked), "metadata of this dialect is what its decode made"
    failures = [_failure(result) for result in answer.results]
    first = failures[0]
    if first is not None and all(f is not None and _is_of_all(f) for f in failures):
        raise first if first.code is not Code.NOT_FOUND else _unknown(asked.model)
    return Reply(body=_parts(call, answer, asked, failures))


def _is_of_all(failure: GatewayError) -> bool:
    """Whether an error says nothing of the input that met it, but of the request."""
    if failure.code in (Code.INVALID_ARGUMENT, Code.MODEL_FAILED):
        return bool(failure.faults) and failure.faults[0].loc[:1] == ("parameters",)
    return True


def _failure(result: Result) -> GatewayError | None:
    """Why there is no forecast."""
    if isinstance(result, GatewayError):
        return result
    output = result.outputs[0]
    return GatewayError(output.code, output.sentence) if isinstance(output, SeriesError) else None


def _parts(call: Call, answer: BatchAnswer, asked: Asked, failures: list[GatewayError | None]) -> Iterator[bytes]:
    """Each output is encoded in a step of its own."""
    made = [r for r in answer.results if isinstance(r, Forecast)]
    ids = _digest(call.request_id, *(r.id for r in made))
    failed = [f for f in failures if f is not None]
    status: Status = "completed" if not failed else "error" if len(failed) == len(failures) else "partial"
    usage = sum((r.usage for r in made), Usage())
    body = ResponseBody(
        id=f"resp_{ids}",
        created_at=made[0].created if made else int(time.time()),
        status=status,
        error=_object(failed[0], 0) if status == "error" else None,
        model=asked.model,
        outputs=[],
        usage=UsageBody(
            prompt_tokens=usage.input_tokens, completion_tokens=usage.output_tokens, total_tokens=usage.total_tokens
        ),
    )
    encoded = msgspec.json.encode(body)
    # The only empty array of the body; in a string its quotes would be escaped.
    head, key, tail = encoded.partition(b'"outputs":[')
    for i, (result, failure, sent) in enumerate(zip(answer.results, failures, asked.sent, strict=True)):
        output = _output(f"ts_{_digest(ids, str(i))}", result, failure, sent, asked, i)
        yield (b"," if i else head + key) + msgspec.json.encode(output)
    known = {*ResponseBody.__struct_fields__}
    extras = {name: raw for name, raw in asked.extras.items() if name not in known}
    yield tail if not extras else tail[:-1] + b"," + msgspec.json.encode(extras)[1:]


def _output(name: str, result: Result, failure: GatewayError | None, sent: Sent, asked: Asked, item: int) -> OutputBody:
    if failure is not None or not isinstance(result, Forecast):
        assert failure is not None
        return OutputBody(id=name, status="error", content=[], error=_object(failure, item))
    output = result.outputs[0]
    assert isinstance(output, SeriesForecast)
    found = dict(zip(result.quantile_levels, output.quantiles, strict=True))
    content = ContentBody(
        type=sent.body.type,
        name=sent.body.name,
        mean_forecast=_values(output.mean, sent),
        frequency=sent.body.frequency,
        start_timestamp=sent.start,
        quantiles={str(level): _values(found[level], sent) for level in asked.quantiles} or None,
    )
    notices = [n.sentence for n in output.notices]
    return OutputBody(id=name, status="completed", content=[content], notices=notices or UNSET)


def _values(values: Array, sent: Sent) -> Raw:
    """`(time, channels)` as numbers, or as rows for a multivariate series."""
    if not np.isfinite(values).all():
        raise GatewayError(Code.INTERNAL, f"The forecast of {sent.body.name!r} holds a number that is not finite.")
    return Raw(msgspec.json.encode((values[:, 0] if sent.flat else values).tolist()))


def _digest(*parts: str) -> str:
    """48 hexadecimal digits that only these parts give."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_ID_DIGITS]


# -- errors ---


def error(call: Call, problem: GatewayError, status: int) -> Reply:
    """An error of the time-series API: three shapes, as the reference server has them."""
    if isinstance(problem, SchemaError):
        return _reply(DetailBody(problem.detail(PYDANTIC_2)), status)
    if problem.code is Code.NOT_FOUND:
        return sentence(call, problem, status)
    if problem.code is Code.INVALID_ARGUMENT:
        status = BAD_REQUEST
    return _reply(ErrorBody(_object(problem, 0, str(status))), status)


def sentence(call: Call, problem: GatewayError, status: int) -> Reply:
    """An error of the model routes."""
    if problem.code is Code.NOT_FOUND and "id" in call.path_params:
        problem = _unknown(call.path_params["id"])
    return _reply(SentenceBody(problem.sentence), status)


def _unknown(model: str) -> GatewayError:
    return GatewayError(Code.NOT_FOUND, f"Model with name {model[:256]} does not exist.")


def _reply(body: msgspec.Struct, status: int) -> Reply:
    return Reply(status=status, body=msgspec.json.encode(body))


def _object(problem: GatewayError, item: int, code: str = "") -> ErrorObject:
    """An error as an object, with the reference server's own types where it has one."""
    place = problem.faults[0].loc if problem.faults else ()
    kind, param = _TYPES.get(place[:2], ("", ""))
    if not kind and place[:1] == ("inputs",):
        field = place[2] if len(place) > 2 else ""
        kind, name = _INPUT_TYPES.get(field, ("BadRequestError", "series"))
        param = f"inputs[{item}].{name}" if field else "inputs"
    if not kind:
        kind = "model_error" if problem.code in (Code.MODEL_FAILED, Code.INTERNAL) else _word(problem.code)
    message = problem.faults[0].msg if problem.faults else problem.sentence
    return ErrorObject(code=code or _code(problem.code), message=message, param=param, type=kind)


def _code(code: Code) -> str:
    """The reference server knows bad input and its own failures."""
    return str(BAD_REQUEST) if code in (Code.INVALID_ARGUMENT, Code.MALFORMED) else "500"


def _word(code: Code) -> str:
    return "BadRequestError" if code in (Code.INVALID_ARGUMENT, Code.MALFORMED) else wire_code(code).lower()


# Where the domain finds a fault -> the type of the error, and what the wire calls the place.
_TYPES: dict[tuple[object, ...], tuple[str, str]] = {
    ("parameters", "prediction_length"): ("invalid_horizon", "options.horizon"),
    ("parameters", "quantile_levels"): ("invalid_quantile", "options.quantiles"),
    ("model",): ("model_not_supported", "model"),
}
_INPUT_TYPES: dict[object, tuple[str, str]] = {
    "type": ("unsupported_time_series_type", "type"),
    "target": ("unsupported_time_series_type", "series"),
    "series": ("BadRequestError", "series"),
    "start": ("BadRequestError", "start_timestamp"),
}
