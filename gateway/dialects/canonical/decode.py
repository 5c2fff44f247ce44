"""Bodies to the domain's requests.

One typed decode is the whole syntax check of a valid body. Only a body that fails it is walked again, untyped, to
list every fault. Both run in steps of about one series. The requests of a batch are read the same way, each alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import diagnose, envelope, malformed, media, parameters, series, shapes, slices, walk
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.group_types import BatchEnvelope
from gateway.dialects.canonical.media import Format, Wire
from gateway.dialects.canonical.shapes import Asked, Controls, Sent, Shape
from gateway.domain import (
    MAX_REQUESTS,
    MAX_SERIES,
    AnomalyRequest,
    BacktestRequest,
    BatchRequest,
    EnsembleRequest,
    ForecastRequest,
    SeriesInput,
)
from gateway.errors import MAX_FAULTS, Fault, GatewayError

Read = TypeVar("Read")

# The key that every series has. Counting it is quick and no exact number of series (metadata may hold it too); 64 MB of
# tiny series would take gigabytes before they could be counted.
_TARGET: Mapping[Format, bytes] = {Format.JSON: b'"target"', Format.MSGPACK: b"\xa6target"}

_COUNTED = 2**20  # bytes that are searched in a step


def forecast(call: Call) -> Steps[ForecastRequest]:
    """The forecast that a call asks for, free of every fault that can be seen without the model's card."""
    return _read(call, lambda body, wire: request(body, wire, shapes.FORECAST))


def backtest(call: Call) -> Steps[BacktestRequest]:
    """The backtest that a call asks for."""
    return _read(call, lambda body, wire: request(body, wire, shapes.BACKTEST))


def anomalies(call: Call) -> Steps[AnomalyRequest]:
    """The search for anomalies that a call asks for."""
    return _read(call, lambda body, wire: request(body, wire, shapes.ANOMALIES))


def ensemble(call: Call) -> Steps[EnsembleRequest]:
    """The ensemble that a call asks for."""
    return _read(call, lambda body, wire: request(body, wire, shapes.ENSEMBLE))


def batch(call: Call, most: int = MAX_REQUESTS) -> Steps[BatchRequest]:
    """The batch that a call asks for; a request of it that cannot be read is the error it would be answered with."""
    return _read(call, lambda body, wire: requests(body, wire, most))


def _read(call: Call, read: Callable[[Envelope, Wire], Steps[Read]]) -> Steps[Read]:
    """What `read` makes of the body of a call."""
    wire = media.negotiate(call)
    if (yield from _count(_TARGET[wire.asked], call.body, 4 * MAX_SERIES)) > 4 * MAX_SERIES:
        msg = f"More than the {MAX_SERIES} series that one call takes: split them"
        raise GatewayError.invalid(Fault(("inputs",), msg))
    try:
        body = yield from envelope.of(call.body, wire.asked)
        return (yield from read(body, wire))
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise (yield from malformed.error(call.body, wire.asked, failure)) from None
    except RecursionError:
        raise malformed.too_deep() from None


def _count(word: bytes, body: bytes, most: int) -> Steps[int]:
    """How often `word` is in `body`; 0 for one too short to hold more than `most`."""
    if len(body) <= most * len(word):
        return 0
    found = body.count(word, 0, _COUNTED + len(word) - 1)
    for start in range(_COUNTED, len(body), _COUNTED):
        yield
        found += body.count(word, start, start + _COUNTED + len(word) - 1)
    return found


def request(body: Envelope, wire: Wire, shape: Shape[Any, Any, Asked]) -> Steps[Asked]:
    """A body of one shape, with all faults told; raises msgspec.DecodeError where it is not well formed."""
    try:
        return (yield from typed(body, wire, shape))
    except msgspec.ValidationError as failure:
        raise (yield from diagnose.error(body, wire, shape, failure)) from None


def typed(body: Envelope, wire: Wire, shape: Shape[Sent, Controls, Asked]) -> Steps[Asked]:
    """A body of one shape.

    Raises GatewayError for faults that types cannot see, msgspec.ValidationError for those that `diagnose` tells in
    full, and msgspec.DecodeError where the body is not well formed.
    """
    sent = wire.asked.decode(body.content, shape.envelope)
    beside = {name: body.whole(getattr(sent, name)) for name in shape.beside}
    gathered = parameters.gathered(body.whole(sent.parameters), beside, wire.asked)
    controls = shape.read(gathered.content, wire.asked)
    faults = gathered.relocated(controls.faults)
    metadata = series.echo(body.whole(sent.metadata), wire, (), faults)
    read: list[SeriesInput] = []
    for i, one in enumerate(sent.inputs):
        found, more = yield from series.read(one, body, wire, controls.horizon, ("inputs", i))
        read.append(found)
        faults += more
        if len(faults) >= MAX_FAULTS:
            break
        yield
    if faults or controls.parameters is None:
        raise GatewayError.invalid(*faults[:MAX_FAULTS])
    return shape.make(sent, tuple(read), controls.sent, controls.parameters, metadata)


def requests(body: Envelope, wire: Wire, most: int) -> Steps[BatchRequest]:
    """A batch of at most `most` requests, each read alone.

    Raises GatewayError for a body that is no batch, and msgspec.DecodeError where any of it is not well formed.
    """
    try:
        sent = wire.asked.decode(body.content, BatchEnvelope)
        members = yield from _members(bytes(sent.requests), wire.asked, most)
    except msgspec.ValidationError:
        raise (yield from diagnose.batch_error(body, wire.asked)) from None
    if not members:
        raise GatewayError.invalid(Fault(("requests",), "Expected at least one request, got none"))
    if len(members) > most:
        hint = "send more of them as a job, to /v1/jobs" if most == MAX_REQUESTS else "split them"
        msg = f"Expected at most {most} requests in one call: {hint}"
        raise GatewayError.invalid(Fault(("requests",), msg))
    read: list[ForecastRequest | GatewayError] = []
    for raw in members:
        one = Envelope(bytes(raw), body.arrays)
        try:
            read.append((yield from request(one, wire, shapes.FORECAST)))
        except GatewayError as error:
            yield from one.check()  # what was not read for its faults may still make the whole body none
            read.append(error)
        yield
    return BatchRequest(requests=tuple(read))


def _members(content: bytes, form: Format, most: int) -> Steps[list[msgspec.Raw]]:
    """The members of an array; no more of them are looked for where there are over `most`.

    Raises msgspec.ValidationError for what is no array.
    """
    if walk.noun_of(content, form) != "an array":
        raise msgspec.ValidationError("Expected an array")
    found: list[msgspec.Raw] = []
    for piece in slices.of_array(content, form):
        if piece:
            found += form.decode(piece, list[msgspec.Raw])
        if len(found) > most:
            break
        yield
    return found
