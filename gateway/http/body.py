"""A request body, read under a limit that counts what arrives and what it decodes to.

A body whose Content-Length is over the limit is refused before a byte of it is read; one that is sent in chunks, or
that was compressed, as soon as the limit is passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from starlette.types import Receive

from gateway.errors import Code, GatewayError
from gateway.http.compression import Collected, decoder, too_large
from gateway.pacing import paced

THREAD_BYTES = 2 * 1024 * 1024  # from 1 MiB on `join` gives up the lock


class ClientLeftError(Exception):
    """The client closed its connection: there is nobody to answer."""


class Bounds:
    """A block that can be cancelled from outside, and then raises the reason: TimeoutError at `until`, or another.

    `until` is in seconds of the loop's clock. This is `asyncio.timeout_at` at half the cost, and for any reason.
    """

    __slots__ = ("_cancelling", "_reason", "_task", "_timer", "_until")

    def __init__(self, until: float | None = None) -> None:
        self._until = until
        self._timer: asyncio.TimerHandle | None = None
        self._reason: Exception | None = None

    def __enter__(self) -> Bounds:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        if self._until is not None:
            self._timer = loop.call_at(self._until, self.stop, TimeoutError())
        return self

    def extend(self) -> None:
        """Let the rest of the block take as long as it takes."""
        if self._timer is not None:
            self._timer.cancel()

    def stop(self, reason: Exception) -> None:
        """Cancel the block; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self.extend()
        if self._reason is None:
            return
        by_others = self._task.uncancel() > self._cancelling
        if kind is asyncio.CancelledError and not by_others:
            try:
                raise self._reason from None
            finally:
                self._reason = None  # it holds what it passes through, which holds us, and the body too


async def read_body(headers: Mapping[str, str], receive: Receive, *, limit: int, deadline: float) -> bytes:
    """The decoded body.

    Raises PAYLOAD_TOO_LARGE over `limit` bytes, UNSUPPORTED_MEDIA_TYPE for an unknown Content-Encoding, MALFORMED for
    a broken one, DEADLINE_EXCEEDED for a body that is not whole at `deadline` (seconds of the loop's clock), and
    ClientLeftError.
    """
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)
    out = Collected(limit)
    encoding = headers.get("content-encoding")
    decoding = decoder(encoding, out) if encoding else None
    received = 0
    try:
        with Bounds(deadline):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeftError
                chunk: bytes = message.get("body", b"")
                received += len(chunk)
                if received > limit:
                    raise too_large(limit)
                if decoding is None:
                    out.write(chunk)
                else:
                    await paced(decoding.feed(chunk))
                more = message.get("more_body", False)
    except TimeoutError:
        raise GatewayError(
            Code.DEADLINE_EXCEEDED, f"The deadline passed with {received} bytes of the body received."
        ) from None
    if decoding is not None:
        decoding.finish()
    return await joined(out.pieces)


async def joined(pieces: Sequence[bytes]) -> bytes:
    """`pieces` as one; many bytes are copied beside the loop, where `join` gives up the interpreter's lock."""
    if len(pieces) == 1:
        return pieces[0]
    if sum(map(len, pieces)) < THREAD_BYTES:
        return b"".join(pieces)
    return await asyncio.to_thread(b"".join, pieces)


DEPARTURE = "departure"  # where a server that knows it keeps the client's departure in a request's state


class Departure:
    """When the client of a connection leaves, told to whoever waits for it."""

    def __init__(self) -> None:
        self._told: dict[object, Callable[[], None]] = {}
        self._left = False

    def tell(self, who: object, left: Callable[[], None]) -> None:
        """Call `left` when the client leaves, or now where it has."""
        self._told[who] = left
        if self._left:
            left()

    def forget(self, who: object) -> None:
        self._told.pop(who, None)

    def happened(self) -> None:
        self._left = True
        for left in tuple(self._told.values()):
            left()


class client_present:  # noqa: N801 (it reads as the condition of its block)
    """Cancel the block, and raise ClientLeftError, when the client goes. Needs a body that was read whole.

    Starlette does not cancel an endpoint by itself; a forecast that nobody will read must not be computed. With
    `until`, in seconds of the loop's clock, the block is cancelled then too, and raises TimeoutError. Where the server
    tells of the `departure`, no task has to wait for it, which costs as much as parsing the request.
    """

    def __init__(self, receive: Receive, until: float | None = None, departure: Departure | None = None) -> None:
        self._receive = receive
        self._bounds = Bounds(until)
        self._departure = departure
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Bounds:
        self._bounds.__enter__()
        if self._departure is not None:
            self._departure.tell(self, self._left)
        else:
            self._watcher = asyncio.create_task(self._watch())
        return self._bounds

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if self._departure is not None:
            self._departure.forget(self)
        if self._watcher is not None:
            self._watcher.cancel()
        self._bounds.__exit__(kind, exc, trace)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self._bounds.stop(ClientLeftError())
