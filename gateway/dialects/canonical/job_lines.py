"""Long jobs as lines of JSON (`application/x-ndjson`): a head and one series a line in, one output a line out.

Lines are counted from 1, as editors show them, so that a fault at `["body", "lines", 17, "target", 3]` is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from gateway.dialects.base import Call, Operation, Steps
from gateway.dialects.canonical import envelope, jobs, malformed, series
from gateway.dialects.canonical.jobs import OrderFields
from gateway.dialects.canonical.media import Format, Wire
from gateway.dialects.canonical.types import ABSENT, Name, SeriesEnvelope
from gateway.domain import Answer, ForecastRequest, JobOrder, SeriesInput
from gateway.errors import MAX_FAULTS, Code, Fault, GatewayError, Place

MAX_LINE_BYTES = 16 * 1024 * 1024  # a million observations; a line must be whole before it is read
_WIRE = Wire(Format.JSON, Format.JSON)
_SERIES = msgspec.json.Decoder(SeriesEnvelope).decode
Forecasts = Operation[ForecastRequest, Any]
_SPACE = b" \t\r"
_EMPTY = re.compile(rb"\s*\{\s*\}\s*\Z")


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The request of an upload: a forecast without its series."""

    model: Annotated[Name, Meta(description="Catalog id or alias.", examples=["amazon/chronos-bolt-small"])]
    parameters: Annotated[Raw, Meta(extra_json_schema={"type": "object", "required": ["prediction_length"]})]
    metadata: Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})] = ABSENT


class UploadHead(OrderFields, frozen=True, kw_only=True):
    """The first line of an upload."""

    request: Annotated[Raw, Meta(description="`model`, `parameters` and `metadata` of the forecast.")]


# -- in ---


class Lines:
    """Cuts a stream of bytes into lines, and counts them."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []  # of a line whose end has not come
        self._held = 0
        self._count = 0

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The lines that end in `piece`, numbered; raises PAYLOAD_TOO_LARGE for one that is too long."""
        *ended, rest = piece.split(b"\n")
        for end in ended:
            line = b"".join((*self._pieces, end)) if self._pieces else end
            self._pieces, self._held = [], 0
            self._check(len(line))
            yield from self._line(line)
        if rest:
            self._pieces.append(rest)
            self._held += len(rest)
            self._check(self._held)

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """The last line, where nothing ended it."""
        yield from self._line(b"".join(self._pieces))

    def _line(self, line: bytes) -> Iterator[tuple[int, bytes]]:
        self._count += 1
        stripped = line.strip(_SPACE)
        if stripped:
            yield self._count, stripped

    def _check(self, size: int) -> None:
        if size > self._limit:
            told = f"Line {self._count + 1} takes more than {self._limit} bytes: a line holds one series."
            raise GatewayError(Code.PAYLOAD_TOO_LARGE, told)


def first(number: int, line: bytes, call: Call, operations: jobs.Operations) -> Steps[tuple[JobOrder, ForecastRequest]]:
    """What `head` reads in the first line of an upload; what is no order at all is told by the line's number."""
    try:
        known = msgspec.json.decode(line, type=dict[str, Raw]).keys()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        known = None  # the head's reader says what is wrong
    if known is not None and not known & {"type", "request"}:
        told = (
            'The first line of an upload is its order, {"type": "forecast", "request": {"model": ..., "parameters": '
            "{...}}}, and the series follow: this line has neither type nor request"
        )
        raise GatewayError.invalid(Fault(("lines", number), told))
    try:
        return (yield from head(line, call, operations))
    except GatewayError as error:
        if error.code is Code.MALFORMED:
            raise _broken(error, number, ("lines", number)) from None
        if any(not f.loc for f in error.faults):
            faults = (Fault(f.loc or ("lines", number), f.msg, f.type) for f in error.faults)
            raise GatewayError.invalid(*faults) from None
        raise


def _broken(error: GatewayError, number: int, place: Place) -> GatewayError:
    """The error of a line that is not JSON, which was read as if it were a body."""
    inner = error.faults[0] if error.faults else Fault((), error.sentence)
    body, line = "The body is not JSON: ", f"Line {number} is not JSON: "
    told = error.sentence.replace(body, line) if body in error.sentence else f"Line {number}: {error.sentence}"
    return GatewayError(Code.MALFORMED, told, faults=(Fault((*place, *inner.loc), inner.msg),))


def head(line: bytes, call: Call, operations: jobs.Operations) -> Steps[tuple[JobOrder, ForecastRequest]]:
    """The order and the request without series that a first line holds; raises GatewayError with all its faults."""
    # An order whose request has one series is read as any other, and the series is dropped.
    try:
        sent = msgspec.json.decode(line, type=UploadHead)
        fields = msgspec.json.decode(sent.request, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = line  # what is wrong with it is said by whoever reads it
    else:
        faults = []
        if sent.type != "forecast":
            told = f"An upload is one forecast of many series: send type forecast, not {sent.type}"
            faults.append(Fault(("type",), told))
        if "inputs" in fields:
            told = "The series of an upload stand in the lines after the first"
            faults.append(Fault(("request", "inputs"), told))
        if faults:
            raise GatewayError.invalid(*faults)
        whole = _with_series(line, bytes(sent.request))
    order, work = yield from jobs.order(_as_json(call, whole), operations)
    assert isinstance(work, ForecastRequest)  # of type forecast
    if work.parameters.dry_run:
        raise GatewayError.invalid(Fault(("request", "parameters", "dry_run"), "An upload cannot be a dry run"))
    return order, ForecastRequest(model=work.model, series=(), parameters=work.parameters, metadata=work.metadata)


def _with_series(line: bytes, request: bytes) -> bytes:
    """The line with one series in its request."""
    opened = request.find(b"{") + 1
    comma = b"" if _EMPTY.match(request) else b","
    return line.replace(request, b'{"inputs":[{"target":[[0]]}]' + comma + request[opened:], 1)


def _as_json(call: Call, body: bytes) -> Call:
    headers = {**call.headers, "content-type": Format.JSON.value}
    return Call(
        method=call.method,
        path=call.path,
        headers=headers,
        body=body,
        base_url=call.base_url,
        request_id=call.request_id,
    )


def one_series(line: bytes, number: int, horizon: int, forecast: Forecasts) -> Steps[SeriesInput]:
    """The series of a line; raises GatewayError with its faults, `number` in their places."""
    place = ("lines", number)
    try:
        body = yield from envelope.of(line, Format.JSON)
        try:
            sent = _SERIES(body.content)
        except msgspec.ValidationError:
            raise GatewayError.invalid(*(yield from _faults(line, number, horizon, forecast))) from None
        found, faults = yield from series.read(sent, body, _WIRE, horizon, place)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        told = yield from malformed.error(line, Format.JSON, failure)
        raise _broken(told, number, place) from None
    except RecursionError:
        raise malformed.too_deep() from None
    if faults:
        raise GatewayError.invalid(*faults[:MAX_FAULTS])
    return found


def _faults(line: bytes, number: int, horizon: int, forecast: Forecasts) -> Steps[list[Fault]]:
    """Every fault of a line that is JSON and no series: those of a request that holds it alone."""
    alone = b'{"model":"m","parameters":{"prediction_length":%d},"inputs":[%s]}' % (horizon, line)
    try:
        yield from forecast.parse(Call(method="POST", path=forecast.path, body=alone))
    except GatewayError as error:
        if error.faults:
            return [Fault(("lines", number, *f.loc[2:]), f.msg, f.type) for f in error.faults]
    return [Fault(("lines", number), "A name is there twice, or a value is not of its type", "type_error")]


# -- out ---


class _Result(msgspec.Struct):
    """Where the members of each kind of answer are."""

    outputs: list[Raw] | None = None
    data: list[Raw] | None = None
    ensemble_result: _Result | None = None

    def members(self) -> list[Raw]:
        if self.ensemble_result is not None:
            return self.ensemble_result.members()
        return self.outputs or self.data or []


def members(call: Call, answer: Answer, first: int, operation: Operation[Any, Any], form: Format) -> Steps[list[bytes]]:
    """The members of an answer as they stand in the endpoint's own, each with its `index`; `first` is the first's."""
    asking = Call(method="GET", path=call.path, headers={"accept": form.value}, request_id=call.request_id)
    parts = yield from jobs.whole(asking, answer, operation)
    found = form.decode(b"".join(parts), _Result).members()
    indexed = []
    for index, member in enumerate(found, first):
        indexed.append(_indexed(bytes(member), index, form))
        yield
    return indexed


def _indexed(member: bytes, index: int, form: Format) -> bytes:
    if form is Format.MSGPACK:
        return form.encode({"index": index, **form.decode(member, dict[str, Raw])})
    return b'{"index":%d%s%s' % (index, b"," if member != b"{}" else b"", member[1:])
