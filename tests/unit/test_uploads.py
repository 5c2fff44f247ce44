"""Bodies of any length, read as they come: bounded, paced, and given up when nobody sends them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from typing import Any

import pytest
import zstandard
from starlette.types import Message

from gateway.errors import Code, GatewayError
from gateway.http import uploads
from gateway.http.body import ClientLeftError
from gateway.http.uploads import Bounds

BOUNDS = Bounds(max_bytes=1_000_000, timeout_s=10.0)


def read(messages: Sequence[Message], bounds: Bounds = BOUNDS, encoding: str = "") -> list[bytes]:
    left = list(messages)

    async def receive() -> Message:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def play() -> list[bytes]:
        return [piece async for piece in uploads.pieces({"content-encoding": encoding}, receive, bounds)]

    return asyncio.run(play())


def sent(*chunks: bytes) -> list[dict[str, Any]]:
    ends = [False] * (len(chunks) - 1) + [True]
    return [{"type": "http.request", "body": c, "more_body": not end} for c, end in zip(chunks, ends, strict=True)]


CONTENT = b"0123456789" * 50_000


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("", CONTENT), ("gzip", gzip.compress(CONTENT)), ("zstd", zstandard.compress(CONTENT))],
)
def test_a_body_is_decoded_as_it_comes(encoding: str, packed: bytes) -> None:
    half = len(packed) // 2
    assert b"".join(read(sent(packed[:half], packed[half:]), encoding=encoding)) == CONTENT


@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_what_it_decodes_to_is_bounded(encoding: str) -> None:
    bomb = bytes(50_000_000)
    packed = {"": bomb, "gzip": gzip.compress(bomb), "zstd": zstandard.compress(bomb)}[encoding]
    with pytest.raises(GatewayError) as caught:
        read(sent(packed), encoding=encoding)
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE


def test_a_body_that_is_cut_off_is_told() -> None:
    with pytest.raises(GatewayError) as caught:
        read(sent(gzip.compress(CONTENT)[:-10]), encoding="gzip")
    assert caught.value.code is Code.MALFORMED


def test_a_sender_that_leaves_or_stops_is_let_go() -> None:
    begun = [{"type": "http.request", "body": b"x", "more_body": True}]
    with pytest.raises(ClientLeftError):
        read([*begun, {"type": "http.disconnect"}])
    with pytest.raises(GatewayError) as caught:
        read(begun, Bounds(max_bytes=10, timeout_s=0.05))
    assert caught.value.code is Code.DEADLINE_EXCEEDED
