"""A POST with a key is done once: what is replayed, what waits, and what stays free."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.canonical.render import error as render_error
from gateway.domain import Caller
from gateway.errors import Code, GatewayError
from gateway.http import exchange as exchanges
from gateway.http import idempotency
from gateway.http.idempotency import REPLAYED, SCOPE, AnswersInMemory, Entry, Promise
from gateway.http.routing import Endpoint
from gateway.settings import ServerSettings

Respond = Callable[[Request], Awaitable[Response]]


class Counting:
    """An endpoint that echoes its body, and counts."""

    def __init__(self, gate: asyncio.Event | None = None, failure: GatewayError | None = None) -> None:
        self.count = 0
        self.began = asyncio.Event()
        self._gate = gate
        self._failure = failure

    async def __call__(self, request: Request) -> Response:
        self.count += 1
        self.began.set()
        body = await request.body()
        if self._gate is not None:
            await self._gate.wait()
        if self._failure is not None:
            raise self._failure
        return Response(b"%d: %s" % (self.count, body), 201, headers={"location": "/there"})


def promised(respond: Respond, answers: AnswersInMemory | None = None) -> Endpoint:
    endpoint = Endpoint(method="POST", path="/x", respond=respond, render_error=render_error)
    kept = answers or AnswersInMemory()
    return Promise(lambda: kept, ServerSettings()).over(endpoint)


async def post(endpoint: Endpoint, body: bytes = b"b", key: str | None = "k", caller: str = "anonymous") -> Response:
    sent = [{"type": "http.request", "body": body[:1], "more_body": True}, {"type": "http.request", "body": body[1:]}]
    headers = [(b"content-type", b"application/json")] + ([(b"idempotency-key", key.encode())] if key else [])
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": headers, "server": ("h", 1),
        "scheme": "http",
    }  # fmt: skip
    exchanges.begin(scope).caller = Caller(id=caller)

    async def receive() -> Any:
        return sent.pop(0)

    return await endpoint.respond(Request(scope, receive))


def test_the_first_answer_is_given_again() -> None:
    async def play() -> None:
        respond = Counting()
        endpoint = promised(respond)
        first, again = await post(endpoint), await post(endpoint)
        assert (first.body, first.status_code) == (again.body, again.status_code) == (b"1: b", 201)
        assert again.headers["location"] == "/there"
        assert REPLAYED not in first.headers and again.headers[REPLAYED] == "true"
        assert first.headers[SCOPE] == again.headers[SCOPE] == "process"
        assert respond.count == 1

    asyncio.run(play())


def test_another_body_is_a_conflict_and_another_caller_is_not() -> None:
    async def play() -> None:
        respond = Counting()
        endpoint = promised(respond)
        await post(endpoint)
        with pytest.raises(GatewayError) as caught:
            await post(endpoint, b"other")
        assert caught.value.code is Code.CONFLICT
        await post(endpoint, b"other", caller="somebody else")
        await post(endpoint, b"other", key=None)
        assert respond.count == 3

    asyncio.run(play())


def test_a_second_in_flight_waits_for_the_first() -> None:
    async def play() -> None:
        gate = asyncio.Event()
        respond = Counting(gate)
        endpoint = promised(respond)
        first, second = asyncio.create_task(post(endpoint)), asyncio.create_task(post(endpoint))
        await respond.began.wait()
        gate.set()
        bodies = [(await first).body, (await second).body]
        assert bodies == [b"1: b", b"1: b"] and respond.count == 1

    asyncio.run(play())


def test_a_failure_leaves_the_key_free() -> None:
    """For whoever waits, too; and a refused body can be mended under its key."""

    async def play() -> None:
        gate = asyncio.Event()
        answers = AnswersInMemory()
        failing = Counting(gate, GatewayError(Code.INVALID_ARGUMENT, "no"))
        first = asyncio.create_task(post(promised(failing, answers)))
        await failing.began.wait()
        respond = Counting()
        second = asyncio.create_task(post(promised(respond, answers)))
        gate.set()
        with pytest.raises(GatewayError):
            await first
        assert (await second).body == b"1: b"

        free = AnswersInMemory()
        with pytest.raises(GatewayError):
            await post(promised(Counting(failure=GatewayError(Code.UNAVAILABLE, "no")), free))
        assert (await post(promised(respond, free), b"mended")).body == b"2: mended"

    asyncio.run(play())


def test_a_key_is_held_for_as_long_as_its_call_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the lease is that a crash would leave behind."""
    monkeypatch.setattr(idempotency, "LEASE_S", 0.05)

    async def play() -> None:
        gate = asyncio.Event()
        respond = Counting(gate)
        endpoint = promised(respond)
        first = asyncio.create_task(post(endpoint))
        await respond.began.wait()
        second = asyncio.create_task(post(endpoint))
        await asyncio.sleep(0.2)  # four leases
        gate.set()
        assert (await first).body == (await second).body == b"1: b"

    asyncio.run(play())


@pytest.mark.parametrize("key", [" ", "x" * 256, "a\x01"])
def test_a_key_that_cannot_be_is_refused(key: str) -> None:
    async def play() -> None:
        respond = Counting()
        with pytest.raises(GatewayError) as caught:
            await post(promised(respond), key=key)
        assert caught.value.code is Code.INVALID_ARGUMENT and respond.count == 0

    asyncio.run(play())


def test_memory_is_bounded() -> None:
    async def play() -> None:
        answers = AnswersInMemory(limit=10_000)
        for i in range(10):
            entry = Entry("f", "h", running=False, answer=b"x" * 3000)
            assert await answers.take(str(i), entry, 60.0) is None
        assert await answers.take("9", entry, 60.0) is not None
        assert await answers.take("0", entry, 60.0) is None

    asyncio.run(play())
