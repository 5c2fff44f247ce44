"""`Idempotency-Key`: a POST that is sent again with the same key and body gets the first one's answer.

Answers are kept for a day. Only those that did something are: a call that was refused, or failed, leaves its key free,
so that it can be mended and sent again. `/v1/jobs` keeps its own promise, in the queue itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive

from gateway.errors import Code, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.body import ClientLeftError, joined
from gateway.http.compression import too_large
from gateway.http.exchange import Exchange
from gateway.http.routing import Endpoint, Parameter
from gateway.settings import ServerSettings

HEADER = "idempotency-key"
REPLAYED = "idempotency-replayed"
SCOPE = "idempotency-scope"
KEPT_S = 24 * 3600.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # of an answer that is kept; a larger one is computed again
MAX_KEY_LENGTH = 255
LONGEST_POLL_S = 0.25
LEASE_S = 10.0  # of a call that runs, renewed: after a crash a retry waits no longer

PARAMETER = Parameter(
    name="Idempotency-Key",
    place="header",
    description="A text of the caller's choice. The same key with the same body gets the first answer again, marked "
    f"`{REPLAYED}: true`; with another body it is a CONFLICT. Kept for 24 hours.",
    codes=(Code.CONFLICT,),
)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a key."""

    fingerprint: str  # of the call it came with
    holder: str  # who computes the answer
    running: bool
    answer: bytes | None = None  # None beside `running = False`: it was too large to be kept


class Answers(Protocol):
    """Where answers are kept."""

    shared: bool  # by all gateways of a Redis; else by this process, as long as it runs

    async def take(self, name: str, entry: Entry, lease_s: float) -> Entry | None:
        """Put down `entry` where there is none; else the one that is there."""
        ...

    async def keep(self, name: str, entry: Entry, kept_s: float) -> None:
        """Replace the entry of the same holder."""
        ...

    async def free(self, name: str, holder: str) -> None:
        """Forget the entry of this holder."""
        ...


class AnswersInMemory:
    """Answers of this process, the oldest dropped over `limit` bytes: all there is without Redis."""

    shared = False

    def __init__(self, limit: int = 64 * 1024 * 1024) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[str, tuple[float, Entry]] = OrderedDict()

    async def take(self, name: str, entry: Entry, lease_s: float) -> Entry | None:
        until, there = self._entries.get(name, (0.0, entry))
        if until > time.monotonic():
            return there
        self._put(name, entry, lease_s)
        return None

    async def keep(self, name: str, entry: Entry, kept_s: float) -> None:
        _, there = self._entries.get(name, (0.0, None))
        if there is not None and there.holder == entry.holder:
            self._put(name, entry, kept_s)

    async def free(self, name: str, holder: str) -> None:
        _, there = self._entries.get(name, (0.0, None))
        if there is not None and there.holder == holder:
            self._drop(name)

    def _put(self, name: str, entry: Entry, seconds: float) -> None:
        self._drop(name)
        self._entries[name] = (time.monotonic() + seconds, entry)
        self._size += _size(entry)
        while self._size > self._limit:
            self._drop(next(iter(self._entries)))

    def _drop(self, name: str) -> None:
        _, entry = self._entries.pop(name, (0.0, None))
        self._size -= 0 if entry is None else _size(entry)


def _size(entry: Entry) -> int:
    return 512 + len(entry.answer or b"")  # 512: what an entry costs by itself


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer, as it is sent again."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Promise:
    """The promise to answer each key once, over the store of answers that there is at the time of a call."""

    store: Callable[[], Answers]
    server: ServerSettings

    def over(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the promise kept; one that takes no POST stays as it is."""
        if endpoint.method != "POST":
            return endpoint

        def respond(request: Request) -> Awaitable[Response]:
            exchange = exchanges.of(request.scope)
            key = exchange.headers.get(HEADER)
            if key is None:
                return endpoint.respond(request)
            return self._once(endpoint, request, exchange, checked(key))

        docs = endpoint.documentation
        told = docs and replace(docs, codes=(*docs.codes, Code.CONFLICT))
        return replace(endpoint, respond=respond, parameters=(*endpoint.parameters, PARAMETER), documentation=told)

    async def _once(self, endpoint: Endpoint, request: Request, exchange: Exchange, key: str) -> Response:
        limit_s = self.server.max_request_timeout_s
        body = await _sent(request.receive, self.server.max_body_bytes, self.server.request_timeout_s)
        name = hashlib.sha256(f"{exchange.caller.id}\n{key}".encode()).hexdigest()
        mine = Entry(await asyncio.to_thread(_fingerprint, request, body), uuid.uuid4().hex, running=True)
        answers = self.store()
        there = await _taken(answers, name, mine, limit_s)
        if there is not None and there.answer is not None:
            return _marked(_replay(there.answer), answers)
        lease = asyncio.create_task(_renewed(answers, name, mine)) if there is None else None
        done = False
        try:
            response = await endpoint.respond(Request(request.scope, _again(body, request.receive)))
            done = response.status_code < 300 and not isinstance(response, StreamingResponse)
        finally:
            if lease is not None:
                lease.cancel()
                await asyncio.gather(lease, return_exceptions=True)
            with contextlib.suppress(GatewayError):  # Redis went: the answer is right all the same
                if done:
                    await answers.keep(name, _answered(mine, _record(response)), KEPT_S)
                elif lease is not None:
                    await asyncio.shield(answers.free(name, mine.holder))
        return _marked(response, answers) if done else response


async def _renewed(answers: Answers, name: str, mine: Entry) -> None:
    """Hold a key for as long as its call runs."""
    while True:
        await asyncio.sleep(LEASE_S / 3)
        with contextlib.suppress(GatewayError):
            await answers.keep(name, mine, LEASE_S)


async def _taken(answers: Answers, name: str, mine: Entry, limit_s: float) -> Entry | None:
    """The answer that is there, None where it is ours to make; waits while another makes it."""
    wait_s = 0.01
    until = asyncio.get_running_loop().time() + limit_s
    while True:
        there = await answers.take(name, mine, LEASE_S)
        if there is None:
            return None
        if there.fingerprint != mine.fingerprint:
            raise GatewayError(Code.CONFLICT, "This idempotency key came with another request before; use a new one.")
        if not there.running:
            return there
        if asyncio.get_running_loop().time() > until:
            told = "The first call with this idempotency key is still at work."
            raise GatewayError(Code.UNAVAILABLE, told, retry_after_s=1.0)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_POLL_S)


def _marked(response: Response, answers: Answers) -> Response:
    """The answer, with the word that its key is known to this process only, where that is so."""
    if not answers.shared:
        response.headers[SCOPE] = "process"
    return response


def checked(key: str) -> str:
    """A key as sent; raises INVALID_ARGUMENT for one that cannot be."""
    if not 0 < len(key.strip()) <= MAX_KEY_LENGTH or not key.isprintable():
        told = f"The header Idempotency-Key holds 1 to {MAX_KEY_LENGTH} printable characters."
        raise GatewayError(Code.INVALID_ARGUMENT, told)
    return key


def _answered(entry: Entry, answer: bytes) -> Entry:
    """The entry once its answer is there."""
    kept = answer if len(answer) <= MAX_ANSWER_BYTES else None
    return Entry(entry.fingerprint, entry.holder, running=False, answer=kept)


def _fingerprint(request: Request, body: bytes) -> str:
    """What must be the same for a call to be the same."""
    told = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    for name in ("content-type", "content-encoding", "prefer"):
        told.update(f"{name}: {request.headers.get(name, '')}\n".encode())
    told.update(body)
    return told.hexdigest()


def _record(response: Response) -> bytes:
    headers = [(n, v) for n, v in response.headers.items() if n not in ("content-length", SCOPE)]
    return msgspec.msgpack.encode(_Kept(response.status_code, headers, bytes(response.body)))


def _replay(answer: bytes) -> Response:
    kept = msgspec.msgpack.decode(answer, type=_Kept)
    return Response(kept.body, kept.status, headers={**dict(kept.headers), REPLAYED: "true"})


async def _sent(receive: Receive, limit: int, timeout_s: float) -> bytes:
    """The body as it came, still encoded."""
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeftError
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > limit:
                    raise too_large(limit)
                more = message.get("more_body", False)
    except TimeoutError:
        told = f"The deadline passed with {size} bytes of the body received."
        raise GatewayError(Code.DEADLINE_EXCEEDED, told) from None
    return await joined(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body once more, and then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
