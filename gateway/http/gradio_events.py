"""Events and their sessions, as Gradio's queue has them: handed in, worked on beside, told of in a stream.

An event is a request of its caller from the moment it is handed in: its exchange has the caller's grant and deadline
and ends, with its row in the ledger, when its work does. What a session hears is for the caller who opened it.

Work that nobody listens for any more is withdrawn: when the last stream of its session breaks, and when a session goes
unread for `KEPT_S`. Sessions live in the memory of this process.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import structlog

from gateway.dialects.base import wire_code
from gateway.dialects.kronos_space import calls, messages
from gateway.dialects.kronos_space.functions import Order
from gateway.dialects.kronos_space.messages import Message, Output, ProcessCompleted
from gateway.errors import Code, GatewayError
from gateway.http.exchange import Exchange
from gateway.http.problems import STATUS, internal

log = structlog.get_logger(__name__)

HEARTBEAT_S = 15.0
KEPT_S = 300.0  # unread, after which a session is forgotten
MAX_EVENTS = 500  # of all sessions, until their end has been read
MAX_SESSION_EVENTS = 100
MAX_HELD_BYTES = 64 * 1024 * 1024  # of arguments that wait for their forecast
CLIENT_LEFT = "CLIENT_LEFT"

FULL = "Queue is full! Please try again."

Run = Callable[[Order, Exchange], Awaitable[Output]]
Key = tuple[str, str]  # caller's id, and the session's name


@dataclass(slots=True, kw_only=True, eq=False)
class Event:
    """One call of a function."""

    id: str
    exchange: Exchange
    size: int  # bytes of its arguments
    task: asyncio.Task[Output] | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """What one client hears: the messages of its events, in the order in which they came."""

    key: Key
    messages: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    unread: dict[str, Event] = field(default_factory=dict)  # whose end has not been read
    readers: int = 0
    touched: float = 0.0


class Events:
    """The queue. `run` does the work of an event, `over` settles with its caller when it has ended."""

    def __init__(
        self, run: Run, over: Callable[[Exchange], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run = run
        self._over = over
        self._clock = clock
        self._sessions: dict[Key, Session] = {}
        self._keys: dict[str, Session] = {}  # by event, until its end has been read
        self._held = 0  # bytes
        self._working = 0
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._keys)

    # -- handing in ---

    def join(self, order: Order, exchange: Exchange) -> str:
        """Begin to work on an order; its id. The order takes the grant of the exchange. Raises UNAVAILABLE."""
        self.sweep()
        id = uuid.uuid4().hex
        key = (exchange.caller.id, order.session or id)
        session = self._sessions.get(key) or Session(key=key)
        size = sum(len(value) for value in order.values.values())
        crowded = len(self._keys) >= MAX_EVENTS or len(session.unread) >= MAX_SESSION_EVENTS
        if crowded or self._held + size > MAX_HELD_BYTES:
            raise GatewayError(Code.UNAVAILABLE, FULL, retry_after_s=1.0)
        event = Event(id=id, exchange=_exchange_of(order, exchange), size=size)
        exchange.queued = True
        self._held += size
        self._working += 1
        self._sessions[key] = self._keys[id] = session
        session.unread[id] = event
        session.touched = self._clock()
        session.messages.put_nowait(messages.Estimation(event_id=id, rank=0, queue_size=self._working))
        session.messages.put_nowait(messages.ProcessStarts(event_id=id))
        event.task = asyncio.create_task(self._answered(order, event.exchange))
        event.task.add_done_callback(partial(self._ended, event, session))
        self._arm()
        return id

    async def _answered(self, order: Order, exchange: Exchange) -> Output:
        return await self._run(order, exchange)

    def _ended(self, event: Event, session: Session, task: asyncio.Task[Output]) -> None:
        """Tell the session, and settle with the caller. Runs whatever became of the task, even before it began."""
        exchange = event.exchange
        self._held -= event.size
        self._working -= 1
        end = _end(event, task)
        session.touched = self._clock()
        session.messages.put_nowait(end)
        if exchange.code == CLIENT_LEFT:
            exchange.status = 0
        self._over(exchange)
        log.info(
            "event",
            request_id=exchange.request_id,
            endpoint=exchange.endpoint,
            code=exchange.code,
            model=exchange.model or None,
            ms=round(exchange.elapsed_s * 1e3, 2),
            tokens=exchange.usage.total_tokens or None,
        )

    # -- listening ---

    async def listen(
        self, caller: str, *, session: str | None = None, event: str | None = None
    ) -> AsyncGenerator[Message, None]:
        """The messages of a session, or of the session of an event, until all its events are over.

        One that is another caller's is not found. Close the iterator when its reader goes.
        """
        found = self._sessions.get((caller, session)) if session is not None else self._keys.get(event or "")
        if found is None or found.key[0] != caller:
            yield messages.NOT_FOUND
            return
        found.readers += 1
        try:
            while True:
                message = await _next(found)
                yield message
                if isinstance(message, ProcessCompleted):
                    self._read(found, message.event_id or "")
                    if not found.unread:
                        self._forget(found)  # others who listen to it are let go, too
                        yield messages.CloseStream()
                        return
                elif isinstance(message, messages.CloseStream):
                    return
        finally:
            found.readers -= 1
            if not found.readers:
                self._forget(found)

    def _read(self, session: Session, event: str) -> None:
        session.unread.pop(event, None)
        self._keys.pop(event, None)

    # -- leaving ---

    def cancel(self, caller: str, session: str, event: str) -> None:
        """Withdraw an event; its session hears that it is over. Nothing where there is no such event of this caller."""
        found = self._sessions.get((caller, session))
        waiting = found.unread.get(event) if found is not None else None
        if waiting is not None and waiting.task is not None:
            waiting.task.cancel()

    def _forget(self, session: Session) -> None:
        """Withdraw what a session still waits for, and let all who listen to it go."""
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        for id, event in session.unread.items():
            self._keys.pop(id, None)
            if event.task is not None:
                event.task.cancel()
        session.unread.clear()
        for _ in range(session.readers):
            session.messages.put_nowait(messages.CloseStream())

    def sweep(self) -> None:
        """Forget the sessions that nobody has read for too long."""
        last = self._clock() - KEPT_S
        for session in [s for s in self._sessions.values() if not s.readers and s.touched <= last]:
            self._forget(session)

    def _arm(self) -> None:
        """Look again later, for as long as there are sessions: what nobody reads is freed without another call."""
        if self._sweeping is None and self._sessions:
            self._sweeping = asyncio.get_running_loop().call_later(KEPT_S, self._swept)

    def _swept(self) -> None:
        self._sweeping = None
        self.sweep()
        self._arm()


async def _next(session: Session) -> Message:
    """The next message, or a heartbeat where there is none for a while."""
    try:
        async with asyncio.timeout(HEARTBEAT_S):  # `wait_for` loses a cancellation that comes with a message
            return await session.messages.get()
    except TimeoutError:
        return messages.Heartbeat()


def _exchange_of(order: Order, exchange: Exchange) -> Exchange:
    """The exchange of an event: its caller's, deadline and grant included, under the function's own name."""
    return Exchange(
        request_id=exchange.request_id,
        headers={},
        deadline=exchange.deadline,
        caller=exchange.caller,
        endpoint=f"/{order.function.name}",
        counted=exchange.counted,
        grant=exchange.grant,
        named=exchange.named,
    )


def _end(event: Event, task: asyncio.Task[Output]) -> ProcessCompleted:
    """The last message of an event; its exchange learns how it ended."""
    exchange = event.exchange
    if task.cancelled():
        exchange.code = CLIENT_LEFT
        return ProcessCompleted(event_id=event.id, output=messages.Nothing(), success=True)
    failure = task.exception()
    if failure is None:
        exchange.status = 200
        return ProcessCompleted(event_id=event.id, output=task.result(), success=True)
    if not isinstance(failure, GatewayError):
        # The caller gets an id, the log what happened: an exception's text may hold anything.
        log.error("request_failed", request_id=exchange.request_id, endpoint=exchange.endpoint, exc_info=failure)
        failure = internal(exchange.request_id)
    exchange.code, exchange.status = wire_code(failure.code), STATUS[failure.code]
    return messages.failed(event.id, calls.sentence(failure))
