"""Reading a body: what is over the limit is not read, what is late is given up, who left is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import pytest
from starlette.types import Message

from gateway.errors import Code, GatewayError
from gateway.http.body import Bounds, ClientLeftError, Departure, client_present, read_body

T = TypeVar("T")
LATER = 1e9


class Client:
    """The receiving end of an ASGI connection: the given chunks, then silence until it leaves."""

    def __init__(self, chunks: Iterable[bytes] = (), *, whole: bool = True) -> None:
        self.left = asyncio.Event()
        self.read = 0
        self._chunks = list(chunks)
        self._whole = whole

    async def receive(self) -> Message:
        if self._chunks:
            self.read += 1
            chunk = self._chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks) or not self._whole}
        await self.left.wait()
        return {"type": "http.disconnect"}


def run(scenario: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(10):
            return await scenario()

    return asyncio.run(bounded())


def test_a_body_in_chunks_is_one_body() -> None:
    async def scenario() -> bytes:
        return await read_body({}, Client([b"a", b"", b"bc"]).receive, limit=3, deadline=LATER)

    assert run(scenario) == b"abc"


def test_an_announced_size_over_the_limit_is_refused_before_anything_is_read() -> None:
    async def scenario() -> int:
        client = Client([b"abcd"])
        with pytest.raises(GatewayError) as caught:
            await read_body({"content-length": "4"}, client.receive, limit=3, deadline=LATER)
        assert caught.value.code is Code.PAYLOAD_TOO_LARGE
        return client.read

    assert run(scenario) == 0


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_chunks_over_the_limit_are_refused_where_they_pass_it(encoding: str) -> None:
    async def scenario() -> int:
        client = Client([bytes(2)] * 10)
        with pytest.raises(GatewayError) as caught:
            await read_body({"content-encoding": encoding}, client.receive, limit=3, deadline=LATER)
        assert caught.value.code in (Code.PAYLOAD_TOO_LARGE, Code.MALFORMED)
        return client.read

    assert run(scenario) <= 2


def test_a_small_body_that_grows_over_the_limit_is_refused() -> None:
    async def scenario() -> Code:
        body = gzip.compress(bytes(10_000))
        headers = {"content-encoding": "gzip", "content-length": str(len(body))}
        with pytest.raises(GatewayError) as caught:
            await read_body(headers, Client([body]).receive, limit=9_999, deadline=LATER)
        return caught.value.code

    assert run(scenario) is Code.PAYLOAD_TOO_LARGE


def test_a_body_that_never_ends_is_given_up_at_the_deadline() -> None:
    async def scenario() -> Code:
        deadline = asyncio.get_running_loop().time() + 0.05
        with pytest.raises(GatewayError) as caught:
            await read_body({}, Client([b"a"], whole=False).receive, limit=100, deadline=deadline)
        return caught.value.code

    assert run(scenario) is Code.DEADLINE_EXCEEDED


def test_a_client_that_leaves_within_its_body_is_noticed() -> None:
    async def scenario() -> None:
        client = Client([b"a"], whole=False)
        client.left.set()
        with pytest.raises(ClientLeftError):
            await read_body({}, client.receive, limit=100, deadline=LATER)

    run(scenario)


def test_work_is_cancelled_when_the_client_leaves() -> None:
    async def scenario() -> bool:
        client = Client()
        cancelled = False
        with pytest.raises(ClientLeftError):
            async with client_present(client.receive):
                client.left.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled = True
                    raise
        await asyncio.sleep(0)  # a cancellation that was left over would strike here
        return cancelled

    assert run(scenario)


def test_another_cancellation_stays_one() -> None:
    async def scenario() -> bool:
        client = Client()
        inside = asyncio.Event()

        async def work() -> None:
            async with client_present(client.receive):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert run(scenario)


def test_work_that_ends_leaves_nothing_behind() -> None:
    async def scenario() -> int:
        async with client_present(Client().receive):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks()) - 1  # this one

    assert run(scenario) == 0


def test_a_block_ends_at_its_time_unless_it_is_extended() -> None:
    async def scenario() -> str:
        now = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with client_present(Client().receive, until=now + 0.01):
                await asyncio.Event().wait()
        async with client_present(Client().receive, until=now - 1) as bounds:
            bounds.extend()
            await asyncio.sleep(0.01)
        return "done"

    assert run(scenario) == "done"


def test_the_inner_of_two_bounds_is_the_one_that_raises() -> None:
    async def scenario() -> str:
        now = asyncio.get_running_loop().time()
        with Bounds(now + 1e6):
            try:
                with Bounds(now - 1):
                    await asyncio.Event().wait()
            except TimeoutError:
                await asyncio.sleep(0)
                return "inner"
        return "none"

    assert run(scenario) == "inner"


@pytest.mark.parametrize("early", [True, False])
def test_a_server_that_tells_of_the_departure_is_not_asked(early: bool) -> None:
    async def scenario() -> int:
        client, departure = Client([b"next request"]), Departure()
        if early:
            departure.happened()
        else:
            asyncio.get_running_loop().call_soon(departure.happened)
        with pytest.raises(ClientLeftError):
            async with client_present(client.receive, departure=departure):
                await asyncio.Event().wait()
        departure.happened()  # nobody is told any more
        await asyncio.sleep(0)
        return client.read

    assert run(scenario) == 0


def test_a_block_that_was_ended_leaves_no_circle_with_its_body() -> None:
    class Body:
        pass

    async def work(seen: list[weakref.ref[Body]]) -> None:
        body = Body()
        seen.append(weakref.ref(body))
        async with client_present(Client().receive, until=asyncio.get_running_loop().time()):
            await asyncio.Event().wait()

    async def scenario() -> bool:
        seen: list[weakref.ref[Body]] = []
        gc.disable()
        try:
            with contextlib.suppress(TimeoutError):
                await work(seen)
            await asyncio.sleep(0)
            return seen[0]() is None
        finally:
            gc.enable()

    assert run(scenario)
