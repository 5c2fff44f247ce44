"""What a wire format is: a list of operations, each a pair of pure functions between bytes and the domain.

A dialect knows no event loop. Its parse is a generator, so that the caller can let others run between two series of a
large body: the JSON parser holds the interpreter's lock, and a thread would not help.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec

from gateway.dialects.guide import Example as Example
from gateway.dialects.guide import Guide
from gateway.domain import Caller, Deployment, JobType
from gateway.errors import Code, GatewayError

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

# Yields after every few hundred microseconds of work and returns what was parsed.
Steps = Generator[None, None, Asked]


class Kind(StrEnum):
    """The call of the service that an operation is."""

    FORECAST = "forecast"
    BATCH = "batch"
    ENSEMBLE = "ensemble"
    BACKTEST = "backtest"
    ANOMALIES = "anomalies"
    MODELS = "models"
    MODEL = "model"
    STATUS = "status"
    USAGE = "usage"
    JOIN = "join"  # an event is handed in, and worked on beside ...
    WATCH = "watch"  # ... what its session hears, rendered message by message ...
    LEAVE = "leave"  # ... and nobody wants it any more
    SESSION = "session"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP call as a dialect sees it; the body is already decompressed and within the limit."""

    method: str
    path: str
    path_params: Mapping[str, str] = msgspec.field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)  # names in lower case
    body: bytes = b""
    base_url: str = ""
    request_id: str = ""
    caller: Caller = msgspec.field(default_factory=Caller)  # to be named in an answer; what it may is judged elsewhere
    deployments: Mapping[str, Deployment] = msgspec.field(default_factory=dict)  # all that are known, by id


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer before compression and the headers that every answer has.

    A body in parts is rendered part by part, with the loop serving others in between: the way for an answer of many
    series. All parts are made before the first is sent, so that a part may still raise.
    """

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Documentation:
    """What the OpenAPI document says of an operation: the msgspec types of its bodies, and examples."""

    summary: str
    description: str = ""
    tag: str = "forecast"
    request: type | None = None
    response: object | None = None  # a type or a union of types
    error: object | None = None  # the same
    codes: tuple[Code, ...] = ()  # errors beside those that any operation with such a body has
    media_types: tuple[str, ...] = ("application/json",)
    streams_in: tuple[str, ...] = ()  # further media types of requests, whose bodies no type tells
    streams_out: tuple[str, ...] = ()  # and of answers
    status: int = 200  # of an answer that is no error
    accepted: object | None = None  # what stands in a 202, where the caller may ask for one
    examples: tuple[Example, ...] = ()
    listed: bool = True  # False: shown on its dialect's page, and not in the OpenAPI document


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[Asked, Answered]):
    """One route of a dialect.

    `parse` raises GatewayError. `render_error` gets the status of the one table in `http/problems.py` and may answer
    with another where its format demands it.
    """

    method: str
    path: str
    kind: Kind
    parse: Callable[[Call], Steps[Asked]]
    render: Callable[[Call, Answered], Reply]
    render_error: Callable[[Call, GatewayError, int], Reply]
    documentation: Documentation | None = None  # None: served, and not in the OpenAPI document
    public: bool = False  # answers callers without a key: probes
    job: JobType | None = None  # what `Prefer: respond-async` makes of it; None: it is answered at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The wire format of another system: one line of the list in `gateway/app.py`.

    `name` is what `disabled_dialects` calls it and where its page is: `/docs/dialects/<name>`. A path that two dialects
    share stands in `gateway/dialects/shared.py` and in neither of them.
    """

    name: str
    operations: tuple[Operation[Any, Any], ...]
    guide: Guide


def wire_code(code: Code) -> str:
    """The code as callers read it: a malformed body is an invalid argument."""
    return Code.INVALID_ARGUMENT.value if code is Code.MALFORMED else code.value
