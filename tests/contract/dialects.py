"""What the contract tests of every dialect share: calls, answers made from golden numbers, comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.dialects.base import Call, Dialect, Operation, Reply
from gateway.domain import Forecast, ForecastRequest, Notice, SeriesForecast, Usage
from gateway.pacing import at_once

REQUEST_ID = "4f0c1c6e-3d0c-4b43-9a5e-8a0f6f1b7c2d"
CREATED = 1741476542


def operation_of(dialect: Dialect, path: str) -> Operation[Any, Any]:
    return next(operation for operation in dialect.operations if operation.path == path)


def call_of(path: str, body: bytes, **headers: str) -> Call:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(method="POST", path=path, headers=names, body=body, request_id=REQUEST_ID)


def content_of(reply: Reply) -> bytes:
    return reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)


def parsed(operation: Operation[Any, Any], call: Call) -> Any:
    return at_once(operation.parse(call))


def forecast_of(
    request: ForecastRequest,
    mean: Any,
    quantiles: Mapping[float, Any],
    *,
    item: int = 0,
    notices: Sequence[str] = (),
) -> Forecast:
    """What the service answers of the one series with these numbers: `(time,)` or `(time, channels)` each."""
    levels = request.parameters.quantile_levels or ()
    shape = (request.parameters.prediction_length, -1)
    point = np.array(mean, dtype=float).reshape(shape)
    values = [np.array(quantiles[level], dtype=float).reshape(point.shape) for level in levels]
    output = SeriesForecast(
        mean=point,
        quantiles=np.array(values) if values else np.empty((0, *point.shape)),
        notices=tuple(Notice(code="fallback", sentence=sentence) for sentence in notices),
        metadata=request.series[0].metadata,
    )
    target = request.series[0].target
    return Forecast(
        id=f"00000000-0000-4000-8000-{item:012}",
        created=CREATED,
        model="a-model",
        model_revision="1",
        provider="a provider",
        point="mean",
        horizon=request.parameters.prediction_length,
        quantile_levels=levels,
        input_points=len(target),
        outputs=(output,),
        usage=Usage(input_tokens=target.size, output_tokens=point.size * max(1, len(levels))),
        latency_ms=1.0,
        metadata=request.metadata,
    )


def ordered(value: object) -> str:
    """Text that is equal only for equal values with keys in equal order."""
    return json.dumps(value)


def holds(answer: Any, printed: Any, path: str = "$") -> None:
    """Assert that every printed key is there, in the printed order and with the printed type; lists item by item."""
    if isinstance(printed, dict):
        assert isinstance(answer, dict), path
        known = [name for name in answer if name in printed]
        assert known == list(printed), f"{path}: {known} for {list(printed)}"
        for name, value in printed.items():
            holds(answer[name], value, f"{path}.{name}")
    elif isinstance(printed, list):
        assert isinstance(answer, list), path
        assert len(answer) == len(printed), f"{path}: {len(answer)} for {len(printed)}"
        for i, (mine, value) in enumerate(zip(answer, printed, strict=True)):
            holds(mine, value, f"{path}[{i}]")
    elif isinstance(printed, bool) or printed is None or isinstance(printed, str):
        assert type(answer) is type(printed), f"{path}: {answer!r} for {printed!r}"
    else:
        assert isinstance(answer, (int, float)), f"{path}: {answer!r} for {printed!r}"
        assert not isinstance(answer, bool), path


def contains(answer: Any, pattern: Any, path: str = "$") -> None:
    """Assert that an answer holds every key and value of a pattern; further keys are allowed."""
    if isinstance(pattern, dict):
        assert isinstance(answer, dict), f"{path}: {answer!r}"
        for name, value in pattern.items():
            assert name in answer, f"{path}: no {name} in {answer!r}"
            contains(answer[name], value, f"{path}.{name}")
    elif isinstance(pattern, list):
        assert isinstance(answer, list), f"{path}: {answer!r}"
        assert len(answer) == len(pattern), f"{path}: {answer!r}"
        for i, (mine, value) in enumerate(zip(answer, pattern, strict=True)):
            contains(mine, value, f"{path}[{i}]")
    else:
        assert answer == pattern, f"{path}: {answer!r} for {pattern!r}"
