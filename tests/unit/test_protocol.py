"""Connections that hold something and do not get on are closed; those that are merely slow are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from gateway.http.protocol import BoundedProtocol, Gathered

LARGE = bytes(20_000_000)  # more than the buffers of a socket take
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Impatient(BoundedProtocol):
    head_timeout_s = 0.2
    head_bytes = 2000
    unread_timeout_s = 0.6


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    head = [(b"content-length", str(len(LARGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": LARGE})


@asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    """A connection to a server of its own."""
    config = uvicorn.Config(large, port=0, http=Impatient, ws="none", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    host, port = server.servers[0].sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        server.servers[0].close()


def run(scenario: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30), connected() as connection:
            await scenario(*connection)

    asyncio.run(bounded())


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost: a\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        assert await reader.read() == b""

    run(scenario)


def test_a_head_that_does_not_end_is_too_large() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\n")
        for i in range(3):
            writer.write(b"x-%d: %s\r\n" % (i, bytes([97]) * 1500))
            await asyncio.sleep(0.01)  # so that the parts arrive as parts
        assert (await reader.read()).startswith(b"HTTP/1.1 431")

    run(scenario)


def test_an_answer_that_nobody_reads_is_dropped() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await asyncio.sleep(3 * Impatient.unread_timeout_s)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(LARGE))

    run(scenario)


def test_an_answer_that_is_read_slowly_comes_whole() -> None:
    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(8):
            await reader.readexactly(len(LARGE) // 8)
            await asyncio.sleep(Impatient.unread_timeout_s / 3)

    run(scenario)


class Socket:
    """What is written, by write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.written.append(b"".join(parts))

    def close(self) -> None:
        self.written.append(b"closed")


def gathered(method: str = "GET", *, started: bool = True) -> tuple[Socket, Gathered, Any]:
    socket, cycle = Socket(), SimpleNamespace(scope={"method": method}, response_started=started)
    return socket, Gathered(socket, cycle), cycle  # type: ignore[arg-type]


def test_the_head_of_an_answer_leaves_with_its_body() -> None:
    socket, transport, _ = gathered()
    for part in (b"head ", b"body ", b"more"):
        transport.write(part)
    assert socket.written == [b"head body ", b"more"]


def test_an_answer_without_a_body_is_its_head() -> None:
    socket, transport, _ = gathered("HEAD")
    transport.write(b"head")
    assert socket.written == [b"head"]
    socket, transport, _ = gathered()
    transport.write(b"head")
    transport.close()  # it failed before its body
    assert socket.written == [b"head", b"closed"]


def test_the_word_to_continue_waits_for_nothing() -> None:
    socket, transport, cycle = gathered(started=False)
    transport.write(b"continue ")
    cycle.response_started = True
    transport.write(b"head ")
    transport.write(b"")
    assert socket.written == [b"continue ", b"head "]
