"""Whatever the body: a dialect reads it or says what is wrong in a shape of its own, and answers in numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import chronos2_server, kserve
from gateway.dialects.base import Operation
from gateway.domain import BatchAnswer, BatchRequest, Forecast, ForecastRequest
from gateway.errors import GatewayError
from gateway.http.problems import STATUS
from tests.contract.dialects import call_of, content_of, forecast_of, parsed

EXAMPLES = [
    (operation, json.loads(example.request))
    for dialect in (kserve.DIALECT, chronos2_server.DIALECT)
    for operation in dialect.operations
    if operation.documentation
    for example in operation.documentation.examples
    if example.status == 200
]
MAX_STEPS = 1000  # of a horizon whose answer is made here

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [0, 1, 3, -1, 0.5, 1e308, -1e308, 5e-324, "0.5", "D", "M", "nan", "2025-01-31", "2024-02-29T23:59:59Z"]
    )
    | st.text(max_size=12)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, (*path, name))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a value with `new` at one place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@st.composite
def bodies(draw: st.DrawFn) -> tuple[Operation[Any, Any], bytes]:
    """A golden request with some places changed, or some bytes."""
    operation, body = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(0, 3))):
        body = changed(body, draw(st.sampled_from(list(places(body)))), draw(values))
    text = json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(st.binary(max_size=3)) + text[cut + draw(st.integers(0, 3)) :]
    return operation, text


def answer_of(request: ForecastRequest) -> Forecast | None:
    """A forecast of large numbers; None where the horizon is too far to make one."""
    steps, levels = request.parameters.prediction_length, request.parameters.quantile_levels or ()
    if steps > MAX_STEPS or len(request.series) > 1:
        return None
    width = request.series[0].target.shape[1]
    return forecast_of(
        request, np.full((steps, width), 1e308), {q: np.full((steps, width), -1e308 + q) for q in levels}
    )


def all_numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from all_numbers(inner)


@given(case=bodies())
@settings(max_examples=1000, deadline=None)
def test_a_body_is_read_or_refused_and_answered_in_numbers(case: tuple[Operation[Any, Any], bytes]) -> None:
    operation, body = case
    call = call_of(operation.path, body)
    try:
        request = parsed(operation, call)
        if isinstance(request, BatchRequest):
            results = [r if isinstance(r, GatewayError) else answer_of(r) for r in request.requests]
            if None in results:
                return
            made: Any = BatchAnswer(results=tuple(r for r in results if r is not None), metadata=request.metadata)
        else:
            made = answer_of(request)
            if made is None:
                return
        reply = operation.render(call, made)
        content = content_of(reply)
    except GatewayError as error:
        reply = operation.render_error(call, error, STATUS[error.code])
        content = content_of(reply)
        assert reply.status in (400, 422), content
        assert set(json.loads(content)) in ({"detail"}, {"error"})
        return
    assert reply.status == 200
    answer = json.loads(content, parse_constant=lambda name: pytest.fail(name))
    assert all(math.isfinite(number) for number in all_numbers(answer))
