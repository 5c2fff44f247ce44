"""Content encodings, gzip and zstd: decoded from requests under a limit, chosen for answers by Accept-Encoding.

A decoder never makes more output than it was allowed, however well a body was compressed, and gives way between
pieces. Windows are bounded to 8 MiB, which is what RFC 9659 asks of zstd on the web.
"""

from __future__ import annotations

import asyncio
import functools
import zlib
from typing import Protocol

import zstandard
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.dialects.base import Steps
from gateway.errors import Code, GatewayError

PIECE_BYTES = 256 * 1024  # output of one step of a decoder
ZSTD_INPUT_BYTES = 4 * 1024  # input of one step: a bomb meets the limit within a few milliseconds
MAX_WINDOW_BYTES = 8 * 1024 * 1024
GZIP = 16 + zlib.MAX_WBITS  # zlib's way to ask for the gzip container

SMALLEST_BYTES = 1024  # below this an encoding costs more than it saves
GZIP_LEVEL = 1  # for speed: JSON of floats shrinks by half at level 1, and little more at 6 for thrice the time
ZSTD_LEVEL = 1
THREAD_BYTES = 256 * 1024  # above this, compress beside the loop: both libraries release the interpreter's lock

VARY = (b"vary", b"Accept-Encoding")

REQUEST_ENCODINGS = "gzip, zstd, identity"


class Collected:
    """Decoded pieces, at most `limit` bytes of them."""

    def __init__(self, limit: int) -> None:
        self.pieces: list[bytes] = []
        self._limit = limit
        self._size = 0

    def write(self, piece: bytes) -> int:
        """Keep `piece`; raises PAYLOAD_TOO_LARGE over the limit."""
        self._size += len(piece)
        if self._size > self._limit:
            raise too_large(self._limit)
        self.pieces.append(piece)
        return len(piece)


def too_large(limit: int) -> GatewayError:
    return GatewayError(
        Code.PAYLOAD_TOO_LARGE, f"The body exceeds {limit} bytes; send fewer series in one call, or a job."
    )


class Decoder(Protocol):
    """Takes a body chunk by chunk, as it arrives, and writes what it holds to a `Collected`."""

    def feed(self, chunk: bytes) -> Steps[None]: ...

    def finish(self) -> None:
        """Check that the body was whole."""
        ...


class _Identity:
    def __init__(self, out: Collected) -> None:
        self._out = out

    def feed(self, chunk: bytes) -> Steps[None]:
        self._out.write(chunk)
        yield

    def finish(self) -> None:
        pass


class _Gzip:
    """Any number of gzip members, one after the other."""

    def __init__(self, out: Collected) -> None:
        self._out = out
        self._member = zlib.decompressobj(GZIP)

    def feed(self, chunk: bytes) -> Steps[None]:
        while chunk:
            if self._member.eof:
                self._member = zlib.decompressobj(GZIP)
            try:
                self._out.write(self._member.decompress(chunk, PIECE_BYTES))
            except zlib.error:
                raise _broken("gzip") from None
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            yield

    def finish(self) -> None:
        self._out.write(self._member.flush())
        if not self._member.eof:
            raise GatewayError(Code.MALFORMED, "The gzip body ends before its end.")


class _Zstd:
    """Any number of zstd frames. The library writes into `out` piece by piece, and stops where `out` raises."""

    def __init__(self, out: Collected) -> None:
        self._writer = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_writer(out)  # type: ignore[arg-type]

    def feed(self, chunk: bytes) -> Steps[None]:
        for first in range(0, len(chunk), ZSTD_INPUT_BYTES):
            try:
                self._writer.write(chunk[first : first + ZSTD_INPUT_BYTES])
            except zstandard.ZstdError:
                raise _broken("zstd") from None
            yield

    def finish(self) -> None:
        pass  # the library does not tell a cut frame from a whole one; the parser of the body will


def _broken(encoding: str) -> GatewayError:
    return GatewayError(Code.MALFORMED, f"The body is not valid {encoding}, which its Content-Encoding promises.")


def decoder(content_encoding: str, out: Collected) -> Decoder:
    """The decoder of a Content-Encoding header; UNSUPPORTED_MEDIA_TYPE for one that is not offered."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return _Identity(out)
        case "gzip" | "x-gzip":
            return _Gzip(out)
        case "zstd":
            return _Zstd(out)
        case other:
            raise GatewayError(
                Code.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Encoding {other[:64]!r} is not offered; these are: {REQUEST_ENCODINGS}.",
            )


# -- answers ---


@functools.lru_cache(maxsize=64)  # callers are of a few kinds
def choose(accept_encoding: str) -> str | None:
    """The encoding of an answer: the caller's most wanted of zstd and gzip, zstd where both are wanted alike."""
    wanted: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, _, parameters = part.partition(";")
        wanted[name.strip()] = _quality(parameters)
    others = wanted.get("*", 0.0)
    offers = {"zstd": wanted.get("zstd", others), "gzip": wanted.get("gzip", wanted.get("x-gzip", others))}
    best = max(offers, key=offers.__getitem__)
    return best if offers[best] > 0 and offers[best] >= wanted.get("identity", 0.0) else None


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _compress(body: bytes, encoding: str) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)
    return zlib.compress(body, GZIP_LEVEL, GZIP)


class CompressionMiddleware:
    """Compresses answers that were sent whole and are worth it; streams pass through."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                head, start = start, None
                body: bytes = message.get("body", b"")
                whole = not message.get("more_body", False)
                if whole and len(body) >= SMALLEST_BYTES and b"content-encoding" not in (sent := dict(head["headers"])):
                    encoding = choose(Headers(scope=scope).get("accept-encoding", ""))
                    headers = MutableHeaders(raw=list(head["headers"]))
                    if b"vary" in sent:
                        headers.add_vary_header("Accept-Encoding")
                    else:
                        headers.raw.append(VARY)
                    if encoding is not None:
                        body = await _off_loop(body, encoding)
                        headers["content-encoding"] = encoding
                        headers["content-length"] = str(len(body))
                        message = {**message, "body": body}
                    head = {**head, "headers": headers.raw}
                await send(head)
            await send(message)

        await self._app(scope, receive, compressed)


async def _off_loop(body: bytes, encoding: str) -> bytes:
    if len(body) < THREAD_BYTES:
        return _compress(body, encoding)
    return await asyncio.to_thread(_compress, body, encoding)
