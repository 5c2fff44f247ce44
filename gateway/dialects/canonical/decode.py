"""`POST /v1/forecast`: body to ForecastRequest.

One typed decode is the whole syntax check of a valid body. Only a body that fails it is walked again, untyped, to
list every fault. Both run in steps of about one series.
"""

from __future__ import annotations

import msgspec

from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import diagnose, envelope, malformed, media, parameters, series
from gateway.dialects.canonical.media import Wire
from gateway.domain import ForecastRequest, SeriesInput
from gateway.errors import MAX_FAULTS, GatewayError


def forecast(call: Call) -> Steps[ForecastRequest]:
    """The request of a call, free of every fault that can be seen without the model's card."""
    wire = media.negotiate(call)
    try:
        try:
            return (yield from typed(call.body, wire))
        except (msgspec.DecodeError, UnicodeDecodeError) as failure:
            raise (yield from diagnose.error(call.body, wire, failure)) from None
    except RecursionError:
        raise malformed.TOO_DEEP from None


def typed(body: bytes, wire: Wire) -> Steps[ForecastRequest]:
    """The request of a body.

    Raises GatewayError for faults that types cannot see, and msgspec.DecodeError or UnicodeDecodeError for those
    that `diagnose` can tell in full.
    """
    sent = yield from envelope.read(body, wire.asked)
    faults = list(parameters.faults(sent.parameters))
    metadata = series.echo(sent.metadata, wire, (), faults)
    horizon = parameters.horizon_of(sent.parameters)
    read: list[SeriesInput] = []
    for i, one in enumerate(sent.inputs):
        found, more = series.read(one, wire, horizon, ("inputs", i))
        read.append(found)
        faults += more
        if len(faults) >= MAX_FAULTS:
            break
        yield
    if faults:
        raise GatewayError.invalid(*faults[:MAX_FAULTS])
    return ForecastRequest(
        model=sent.model, series=tuple(read), parameters=parameters.read(sent.parameters), metadata=metadata
    )
