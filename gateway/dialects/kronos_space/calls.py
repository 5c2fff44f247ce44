"""Calls of the queue: handing an event in, cancelling it, listening; and errors in FastAPI's shape."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from gateway.dialects import bodies, fastapi
from gateway.dialects.base import Call, Reply, Steps
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.fastapi import PYDANTIC_2, Problem, SchemaError
from gateway.dialects.kronos_space import functions
from gateway.dialects.kronos_space.functions import FUNCTIONS, Order
from gateway.errors import Code, GatewayError, Place

MAX_BODY_BYTES = 4 * 1024 * 1024  # some 40,000 candles; a body is held until its event is over
LONGEST_SESSION = 128  # characters of a session's name

# What the domain calls the parameters of a forecast, in the words of the functions.
NAMES: dict[Place, Place] = {
    ("parameters", "prediction_length"): ("pred_len",),
    ("parameters", "num_samples"): ("sample_count",),
    ("parameters", "temperature"): ("temperature",),
    ("parameters", "top_p"): ("top_p",),
    ("inputs", 0): (functions.OHLCV,),
    ("inputs",): (functions.OHLCV,),
}


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Whose messages are wanted: a session's, or those of the session of an event."""

    session: str | None = None
    event_id: str | None = None


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is not wanted any more."""

    session: str
    event_id: str


class JoinBody(msgspec.Struct, frozen=True, kw_only=True):
    """An event, as Gradio's clients hand it in."""

    data: list[Raw]
    fn_index: int | None = None
    session_hash: str | None = None


class CallBody(msgspec.Struct, frozen=True, kw_only=True):
    """An event, as curl hands it in."""

    data: list[Raw]
    session_hash: str | None = None


class CancelBody(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is not wanted any more."""

    session_hash: str
    event_id: str


class _JoinShape(msgspec.Struct):
    data: list[Any]
    fn_index: int | None = None
    session_hash: str | None = None


class EventBody(msgspec.Struct, frozen=True):
    """The event that was handed in."""

    event_id: str


class SuccessBody(msgspec.Struct, frozen=True):
    """Done."""

    success: bool = True


class SentenceBody(msgspec.Struct, frozen=True):
    """An error in one sentence."""

    detail: str


class DetailBody(msgspec.Struct, frozen=True):
    """A body that is not of its schema."""

    detail: list[fastapi.Detail]


# -- handing in ---


def join(call: Call) -> Steps[Order]:
    """`POST /gradio_api/queue/join`."""
    body, envelope = yield from _read(call, JoinBody)
    if body.fn_index is None:
        raise _refused("No function index provided.")
    if not body.session_hash:
        raise _refused("Session hash not found.")
    if not 0 <= body.fn_index < len(FUNCTIONS):
        raise GatewayError(Code.NOT_FOUND, f"There is no function with the fn_index {body.fn_index}.")
    function = FUNCTIONS[body.fn_index]
    values = functions.positional(function, [envelope.whole(value) for value in body.data])
    return Order(function=function, session=_session(body.session_hash), values=values)


def call(call: Call) -> Steps[Order]:
    """`POST /gradio_api/call/{name}`: arguments by position; those that are left out have their defaults."""
    function = functions.named(call.path_params["name"])
    body, envelope = yield from _read(call, CallBody)
    values = functions.positional(function, [envelope.whole(value) for value in body.data])
    return Order(function=function, session=_session(body.session_hash), values=values)


def call_by_name(call: Call) -> Steps[Order]:
    """`POST /gradio_api/call/v2/{name}`: arguments by name."""
    function = functions.named(call.path_params["name"])
    _check_size(call)
    body, envelope = yield from fastapi.read(call, _Anything)
    sent = msgspec.json.decode(envelope.content, type=dict[str, Raw])
    del body
    return Order(function=function, session=None, values={name: envelope.whole(raw) for name, raw in sent.items()})


class _Anything(msgspec.Struct):
    """An object."""


def _read(call: Call, kind: type[fastapi.Body]) -> Steps[tuple[fastapi.Body, Envelope]]:
    _check_size(call)
    return (yield from fastapi.read(call, kind, _JoinShape))


def _check_size(call: Call) -> None:
    if len(call.body) > MAX_BODY_BYTES:
        told = f"The body has {len(call.body)} bytes; the queue takes at most {MAX_BODY_BYTES}. Send fewer candles."
        raise GatewayError(Code.PAYLOAD_TOO_LARGE, told)


def _session(name: str | None) -> str | None:
    if name is not None and len(name) > LONGEST_SESSION:
        raise _refused(f"A session_hash has at most {LONGEST_SESSION} characters.")
    return name or None


def _refused(sentence: str) -> GatewayError:
    return GatewayError(Code.MALFORMED, sentence)


def joined(call: Call, event_id: str) -> Reply:
    """The event's id, by which its messages are known."""
    return Reply(body=msgspec.json.encode(EventBody(event_id)))


# -- cancelling ---


def cancel(call: Call) -> Steps[Cancelled]:
    """`POST /gradio_api/cancel`."""
    body, _ = yield from fastapi.read(call, CancelBody)
    return Cancelled(session=body.session_hash, event_id=body.event_id)


def nothing(call: Call) -> Steps[None]:
    """A call whose body is of no interest."""
    yield from ()


def done(call: Call, answer: object) -> Reply:
    """It is done, whether there was something to do or not."""
    return Reply(body=msgspec.json.encode(SuccessBody()))


# -- listening ---


def listen(call: Call) -> Steps[Listening]:
    """`GET /gradio_api/queue/data?session_hash=`."""
    yield from ()
    session = dict(call.query).get("session_hash")
    if session is None:
        raise SchemaError((Problem(("session_hash",), "missing"),))
    return Listening(session=session)


def listen_to_event(call: Call) -> Steps[Listening]:
    """`GET /gradio_api/call/{name}/{event_id}`."""
    yield from ()
    functions.named(call.path_params["name"])
    return Listening(event_id=call.path_params["event_id"])


# -- errors ---


def sentence(error: GatewayError) -> str:
    """An error as an event tells it, with the parameters' own names."""
    return bodies.in_words_of(error, NAMES).sentence


def error(call: Call, problem: GatewayError, status: int) -> Reply:
    """An error over HTTP: a list of places for what is not of the schema, else a sentence.

    A 422 always has a list, since Gradio's Python client looks into it; what else would be one is a 400.
    """
    if isinstance(problem, SchemaError):
        found = problem.detail(PYDANTIC_2)
        if call.method == "GET":
            found = [msgspec.structs.replace(d, loc=["query", *d.loc[1:]]) for d in found]
        return Reply(status=422, body=msgspec.json.encode(DetailBody(found)))
    if problem.code is Code.INVALID_ARGUMENT:
        status = 400
    return Reply(status=status, body=msgspec.json.encode(SentenceBody(sentence(problem))))
