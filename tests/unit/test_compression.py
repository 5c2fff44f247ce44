"""Content encodings: what is decoded stays under its limit, and what is chosen is what the caller wants most."""

from __future__ import annotations

import gzip
import zlib

import pytest
import zstandard

from gateway.errors import Code, GatewayError
from gateway.http.compression import PIECE_BYTES, Collected, choose, decoder
from gateway.pacing import at_once

TEXT = b'{"target": [[1.5], [2.25], [null]]}' * 20_000


def decode(encoding: str, body: bytes, *, limit: int = 1 << 30, chunk: int = 1000) -> bytes:
    out = Collected(limit)
    decoding = decoder(encoding, out)
    for first in range(0, len(body), chunk):
        at_once(decoding.feed(body[first : first + chunk]))
    decoding.finish()
    return b"".join(out.pieces)


@pytest.mark.parametrize("chunk", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", b"abc" * 5000),
        ("identity", b"abc" * 5000),
        ("gzip", gzip.compress(b"abc" * 5000)),
        ("X-GZIP", gzip.compress(b"abc" * 5000)),
        ("gzip", gzip.compress(b"abc" * 2500) + gzip.compress(b"abc" * 2500)),
        ("zstd", zstandard.compress(b"abc" * 5000)),
        ("zstd", zstandard.compress(b"abc" * 2500) + zstandard.compress(b"abc" * 2500)),
    ],
)
def test_bodies_come_back_whole_however_they_arrive(encoding: str, body: bytes, chunk: int) -> None:
    assert decode(encoding, body, chunk=chunk) == b"abc" * 5000


def test_a_body_larger_than_a_piece_comes_back_whole() -> None:
    assert len(TEXT) > 2 * PIECE_BYTES
    assert decode("gzip", gzip.compress(TEXT), chunk=1 << 20) == TEXT
    assert decode("zstd", zstandard.compress(TEXT), chunk=1 << 20) == TEXT


def _gzip_bomb(megabytes: int) -> bytes:
    made = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(made.compress(bytes(1 << 20)) for _ in range(megabytes)) + made.flush()


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", _gzip_bomb(64)), ("zstd", zstandard.compress(bytes(64 << 20)))],
)
def test_a_bomb_is_refused_at_the_limit(encoding: str, bomb: bytes) -> None:
    out = Collected(1 << 20)
    decoding = decoder(encoding, out)
    with pytest.raises(GatewayError) as caught:
        at_once(decoding.feed(bomb))
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE
    assert sum(map(len, out.pieces)) <= 1 << 20


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"not gzip at all"),
        ("gzip", gzip.compress(TEXT)[:-20]),
        ("gzip", gzip.compress(b"abc")[:5]),
        ("gzip", gzip.compress(b"abc") + b"rubbish"),
        ("zstd", b"not zstd at all"),
        ("zstd", zstandard.compress(b"abc") + b"rubbish"),
    ],
)
def test_a_broken_body_is_malformed(encoding: str, body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        decode(encoding, body)
    assert caught.value.code is Code.MALFORMED


def test_a_zstd_window_that_would_cost_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=27)
    body = zstandard.ZstdCompressor(compression_params=parameters).compress(TEXT * 30)
    with pytest.raises(GatewayError) as caught:
        decode("zstd", body)
    assert caught.value.code is Code.MALFORMED


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip, zstd"])
def test_an_encoding_that_is_not_offered_is_named(encoding: str) -> None:
    with pytest.raises(GatewayError) as caught:
        decoder(encoding, Collected(10))
    assert caught.value.code is Code.UNSUPPORTED_MEDIA_TYPE
    assert encoding in caught.value.sentence


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=0.8, zstd;q=0.5", "gzip"),
        ("gzip;q=0, zstd;q=0", None),
        ("zstd;q=0, *", "gzip"),
        ("*;q=0.1", "zstd"),
        ("br", None),
        ("identity;q=0.9, gzip;q=0.5", None),
        ("GZIP ; Q=1.0", "gzip"),
        ("gzip;q=nonsense", None),
    ],
)
def test_the_callers_most_wanted_encoding_is_chosen(accept: str, chosen: str | None) -> None:
    assert choose(accept) == chosen
