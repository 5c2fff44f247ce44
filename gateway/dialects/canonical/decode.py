"""`POST /v1/forecast`: body to ForecastRequest.

One typed decode is the whole syntax check of a valid body. Only a body that fails it is walked again, untyped, to
list every fault. Both run in steps of about one series.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import diagnose, envelope, malformed, media, parameters, series
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.media import Format, Wire
from gateway.dialects.canonical.types import ForecastEnvelope, ParametersBody
from gateway.domain import MAX_SERIES, ForecastRequest, SeriesInput
from gateway.errors import MAX_FAULTS, Fault, GatewayError

_DECODERS: Mapping[Format, Callable[[bytes], ForecastEnvelope]] = {
    Format.JSON: msgspec.json.Decoder(ForecastEnvelope).decode,
    Format.MSGPACK: msgspec.msgpack.Decoder(ForecastEnvelope).decode,
}

# The key that every series has. Counting it is quick and no exact number of series (metadata may hold it too); 64 MB of
# tiny series would take gigabytes before they could be counted.
_TARGET: Mapping[Format, bytes] = {Format.JSON: b'"target"', Format.MSGPACK: b"\xa6target"}


def forecast(call: Call) -> Steps[ForecastRequest]:
    """The request of a call, free of every fault that can be seen without the model's card."""
    wire = media.negotiate(call)
    if call.body.count(_TARGET[wire.asked]) > 4 * MAX_SERIES:
        msg = f"More than the {MAX_SERIES} series that one call takes: split them"
        raise GatewayError.invalid(Fault(("inputs",), msg))
    try:
        body = yield from envelope.of(call.body, wire.asked)
        try:
            return (yield from typed(body, wire))
        except msgspec.ValidationError as failure:
            raise (yield from diagnose.error(body, wire, failure)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise (yield from malformed.error(call.body, wire.asked, failure)) from None
    except RecursionError:
        raise malformed.too_deep() from None


def typed(body: Envelope, wire: Wire) -> Steps[ForecastRequest]:
    """The request of a body.

    Raises GatewayError for faults that types cannot see, msgspec.ValidationError for those that `diagnose` tells in
    full, and msgspec.DecodeError where the body is not well formed.
    """
    sent = _DECODERS[wire.asked](body.content)
    controls = wire.asked.decode(body.whole(sent.parameters), ParametersBody)
    faults = list(parameters.faults(controls))
    metadata = series.echo(body.whole(sent.metadata), wire, (), faults)
    horizon = parameters.horizon_of(controls)
    read: list[SeriesInput] = []
    for i, one in enumerate(sent.inputs):
        found, more = yield from series.read(one, body, wire, horizon, ("inputs", i))
        read.append(found)
        faults += more
        if len(faults) >= MAX_FAULTS:
            break
        yield
    if faults:
        raise GatewayError.invalid(*faults[:MAX_FAULTS])
    return ForecastRequest(
        model=sent.model, series=tuple(read), parameters=parameters.read(controls), metadata=metadata
    )
