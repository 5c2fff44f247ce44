"""uvicorn's HTTP protocol with bounds on what a connection may hold without getting on.

uvicorn bounds neither the head of a request nor how long an answer waits to be read, so that a client could hold
connections by sending one header byte a minute, or memory by not reading. Bodies of requests are bounded elsewhere, by
the request's deadline and the body limit.

It also writes the head of an answer by itself; here it leaves with the beginning of the body, in one packet.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.http.body import DEPARTURE, Departure

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Gathered:
    """The transport of one answer: keeps its head back until the body begins, and sends both as one."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._head = b""
        # Until the body has begun, and no longer: it holds us, too. To HEAD no body comes.
        self._cycle = None if cycle.scope["method"] == "HEAD" else cycle

    def write(self, data: bytes) -> None:
        if self._cycle is None or not self._cycle.response_started:  # before an answer there is the word to continue
            self._transport.write(data)
        elif self._head:
            self._cycle = None
            self._transport.writelines((self._head, data))
        else:
            self._head = data

    def close(self) -> None:
        if self._cycle is not None and self._head:  # it failed right after
            self._transport.write(self._head)
        self._cycle = None
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request head is too slow or too large, or whose answer nobody reads."""

    head_timeout_s = 20.0
    head_bytes = 64 * 1024
    unread_timeout_s = 60.0  # without one byte of an answer being taken

    _arrived = 0  # bytes since the head began
    _in_head = False
    _head_timer: asyncio.TimerHandle | None = None
    _unread = 0  # bytes of an answer that wait to be taken
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._departure = Departure()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        self._reader_is_there()
        super().connection_lost(exc)
        self._departure.happened()

    # -- the head of a request ---

    def data_received(self, data: bytes) -> None:
        if self._head_timer is not None:
            if self._arrived > self.head_bytes:
                self.transport.write(TOO_LARGE)
                self.transport.close()
                return
            self._arrived += len(data)
        super().data_received(data)
        if self._in_head and self._head_timer is None:  # most heads come whole, and need no timer
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._head_is_there()
        self.scope["state"][DEPARTURE] = self._departure
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # else it is to become another protocol
            self.cycle.transport = Gathered(self.transport, self.cycle)  # type: ignore[assignment]

    def _expect_head(self) -> None:
        self._arrived = 0
        self._head_timer = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _head_is_there(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # -- the answer ---

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        self._reader_is_there()
        super().resume_writing()

    def _watch_reader(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(self.unread_timeout_s, self._check_reader)

    def _reader_is_there(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _check_reader(self) -> None:
        if self.transport.get_write_buffer_size() < self._unread:
            self._watch_reader()  # slow, and getting on
        else:
            self.transport.abort()
