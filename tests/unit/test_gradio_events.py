"""The queue of the Kronos space by itself: what is bounded, what expires, and that each event is settled once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest
from msgspec import Raw

from gateway.dialects.kronos_space.functions import FUNCTIONS, Order
from gateway.dialects.kronos_space.messages import CloseStream, Message, Output, ProcessCompleted
from gateway.domain import Caller
from gateway.errors import Code, GatewayError
from gateway.http import gradio_events
from gateway.http.exchange import Exchange
from gateway.http.gradio_events import KEPT_S, Events

DONE = Output(data=[], duration=1.0, average_duration=1.0)


class Desk:
    """A queue whose work waits until it is let go on, and whose time is told by the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.go = asyncio.Event()
        self.settled: list[Exchange] = []
        self.failure: Exception | None = None
        self.events = Events(self._run, self.settled.append, clock=lambda: self.now)

    async def _run(self, order: Order, exchange: Exchange) -> Output:
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return DONE

    def join(self, session: str | None = "a", *, caller: str = "one", size: int = 2) -> str:
        order = Order(function=FUNCTIONS[1], session=session, values={"hour_idx": Raw(b"1" * size)})
        return self.events.join(order, Exchange(request_id="r", headers={}, caller=Caller(id=caller), counted=True))

    async def hear(self, session: str = "a", *, caller: str = "one") -> list[Message]:
        async with aclosing(self.events.listen(caller, session=session)) as incoming:
            return [message async for message in incoming]


def on_a_desk(test: Callable[[Desk], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in a loop of its own."""

    async def run() -> None:
        async with asyncio.timeout(30):
            await test(Desk())

    def wrapped() -> None:
        asyncio.run(run())

    wrapped.__name__ = test.__name__
    wrapped.__doc__ = test.__doc__
    return wrapped


async def turns() -> None:
    """Let what is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


@on_a_desk
async def test_a_session_that_nobody_reads_expires(desk: Desk) -> None:
    desk.join("waiting")
    desk.go.set()
    await turns()
    desk.now = KEPT_S - 1
    desk.events.sweep()
    assert len(desk.events) == 1
    desk.now = KEPT_S
    desk.events.sweep()
    assert len(desk.events) == 0
    assert [type(m).__name__ for m in await desk.hear("waiting")] == ["UnexpectedError"]
    assert [e.code for e in desk.settled] == ["OK"]


@on_a_desk
async def test_work_of_an_expired_session_is_withdrawn(desk: Desk) -> None:
    desk.join("waiting")
    await turns()
    desk.now = KEPT_S
    desk.events.sweep()
    await turns()
    assert [(e.code, e.status) for e in desk.settled] == [("CLIENT_LEFT", 0)]


@on_a_desk
async def test_a_session_that_is_read_does_not_expire(desk: Desk) -> None:
    desk.join()
    reader = asyncio.create_task(desk.hear())
    await turns()
    desk.now = 10 * KEPT_S
    desk.events.sweep()
    desk.go.set()
    heard = await reader
    assert isinstance(heard[-1], CloseStream)
    assert [e.code for e in desk.settled] == ["OK"]


@on_a_desk
async def test_events_of_one_session_are_bounded(desk: Desk) -> None:
    for _ in range(gradio_events.MAX_SESSION_EVENTS):
        desk.join()
    with pytest.raises(GatewayError, match="Queue is full") as caught:
        desk.join()
    assert caught.value.code is Code.UNAVAILABLE
    desk.join("b")  # others are not concerned


@on_a_desk
async def test_events_of_all_sessions_are_bounded_until_they_are_read(desk: Desk) -> None:
    for i in range(gradio_events.MAX_EVENTS):
        desk.join(str(i))
    desk.go.set()
    await turns()
    with pytest.raises(GatewayError, match="Queue is full"):
        desk.join("more")
    await desk.hear("0")
    desk.join("more")


@on_a_desk
async def test_bytes_of_arguments_are_bounded_until_their_work_is_done(desk: Desk) -> None:
    large = gradio_events.MAX_HELD_BYTES // 2
    desk.join("a", size=large)
    desk.join("b", size=large)
    with pytest.raises(GatewayError, match="Queue is full"):
        desk.join("c", size=1)
    desk.go.set()
    await turns()
    desk.join("c", size=large)


@on_a_desk
async def test_an_event_that_is_cancelled_before_it_began_is_settled_too(desk: Desk) -> None:
    id = desk.join()
    desk.events.cancel("one", "a", id)
    heard = await desk.hear()
    assert [e.code for e in desk.settled] == ["CLIENT_LEFT"]
    assert isinstance(heard[-2], ProcessCompleted)
    assert heard[-2].success


@on_a_desk
async def test_a_reader_that_leaves_takes_the_work_of_its_session(desk: Desk) -> None:
    desk.join()
    desk.join("b")
    reader = asyncio.create_task(desk.hear())
    await turns()
    reader.cancel()
    await asyncio.wait({reader})
    await turns()
    assert [e.code for e in desk.settled] == ["CLIENT_LEFT"]
    assert len(desk.events) == 1
    desk.go.set()
    assert isinstance((await desk.hear("b"))[-1], CloseStream)


@on_a_desk
async def test_two_readers_of_a_session_both_come_to_an_end(desk: Desk) -> None:
    desk.join()
    readers = [asyncio.create_task(desk.hear()) for _ in range(2)]
    await turns()
    desk.go.set()
    heard = await asyncio.gather(*readers)
    assert all(isinstance(messages[-1], CloseStream) for messages in heard)
    assert sum(isinstance(m, ProcessCompleted) for messages in heard for m in messages) == 1


@on_a_desk
async def test_a_session_is_its_callers_own(desk: Desk) -> None:
    mine = desk.join("same")
    other = desk.join("same", caller="two")
    desk.go.set()
    assert {m.event_id for m in await desk.hear("same", caller="two")} == {other, None}
    assert {m.event_id for m in await desk.hear("same")} == {mine, None}


@on_a_desk
async def test_a_bug_is_told_by_its_id_only(desk: Desk) -> None:
    desk.failure = RuntimeError("a secret")
    desk.join()
    desk.go.set()
    end = (await desk.hear())[-2]
    assert isinstance(end, ProcessCompleted)
    assert "a secret" not in repr(end)
    assert "under the id r" in repr(end)
    assert [(e.code, e.status) for e in desk.settled] == [("INTERNAL", 500)]


@on_a_desk
async def test_silence_is_broken_by_heartbeats(desk: Desk) -> None:
    """The wait is real, but short: the interval is the module's own."""
    usual, gradio_events.HEARTBEAT_S = gradio_events.HEARTBEAT_S, 0.01
    try:
        assert usual == 15.0
        desk.join()
        async with aclosing(desk.events.listen("one", session="a")) as incoming:
            heard = [type(await anext(incoming)).__name__ for _ in range(4)]
        assert heard == ["Estimation", "ProcessStarts", "Heartbeat", "Heartbeat"]
    finally:
        gradio_events.HEARTBEAT_S = usual


@on_a_desk
async def test_the_order_has_the_grant_of_its_call(desk: Desk) -> None:
    exchange = Exchange(request_id="r", headers={}, caller=Caller(id="one"), counted=True, named=True, deadline=5.0)
    desk.events.join(Order(function=FUNCTIONS[2], session=None, values={}), exchange)
    desk.go.set()
    await turns()
    (settled,) = desk.settled
    assert exchange.queued
    assert (settled.endpoint, settled.counted, settled.named, settled.deadline) == ("/predict_all", True, True, 5.0)
