"""A request body, read under a limit that counts what arrives and what it decodes to.

A body whose Content-Length is over the limit is refused before a byte of it is read; one that is sent in chunks, or
that was compressed, as soon as the limit is passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.types import Receive

from gateway.errors import Code, GatewayError
from gateway.http.compression import Collected, decoder, too_large
from gateway.pacing import paced

THREAD_BYTES = 2 * 1024 * 1024  # from 1 MiB on `join` gives up the lock


class ClientLeftError(Exception):
    """The client closed its connection: there is nobody to answer."""


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
    decoding = decoder(headers.get("content-encoding", ""), out)
    received = 0
    try:
        async with asyncio.timeout_at(deadline):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeftError
                chunk: bytes = message.get("body", b"")
                received += len(chunk)
                if received > limit:
                    raise too_large(limit)
                await paced(decoding.feed(chunk))
                more = message.get("more_body", False)
    except TimeoutError:
        raise GatewayError(
            Code.DEADLINE_EXCEEDED, f"The deadline passed with {received} bytes of the body received."
        ) from None
    decoding.finish()
    return await joined(out.pieces)


async def joined(pieces: Sequence[bytes]) -> bytes:
    """`pieces` as one; many bytes are copied beside the loop, where `join` gives up the interpreter's lock."""
    if len(pieces) == 1:
        return pieces[0]
    if sum(map(len, pieces)) < THREAD_BYTES:
        return b"".join(pieces)
    return await asyncio.to_thread(b"".join, pieces)


@asynccontextmanager
async def client_present(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block, and raise ClientLeftError, when the client goes. Needs a body that was read whole.

    Starlette does not cancel an endpoint by itself; a forecast that nobody will read must not be computed.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise ClientLeftError from None
        raise
    finally:
        watcher.cancel()
