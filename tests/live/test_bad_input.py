"""Whatever is sent: an answer in the contract's shape, never a 500, and a connection that goes on."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import zlib
from collections.abc import Iterator

import msgspec
import pytest
import zstandard

from tests.serving import Gateway

JSON = {"content-type": "application/json"}
GOOD = b'{"model":"seasonal-naive","inputs":[{"target":[[1],[2]]}],"parameters":{"prediction_length":1}}'
LIMIT = 64 * 1024 * 1024


def inputs(target: bytes) -> bytes:
    return GOOD.replace(b"[[1],[2]]", target)


def parameters(text: bytes) -> bytes:
    return GOOD.replace(b'{"prediction_length":1}', text)


BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "not json": (b"{model:", 400),
    "cut": (GOOD[:-3], 400),
    "more than one": (GOOD + GOOD, 400),
    "not utf-8": (GOOD.replace(b"seasonal", b"\xff\xfe"), 400),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, 400),
    "NaN": (inputs(b"[[NaN],[2]]"), 400),
    "Infinity": (inputs(b"[[Infinity],[2]]"), 400),
    "deep nesting": (b"[" * 200_000, 400),
    "deep nesting in a target": (inputs(b"[" * 200_000 + b"]" * 200_000), 400),
    "deep nesting in metadata": (GOOD[:-1] + b',"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 400),
    "a number": (b"1", 422),
    "null": (b"null", 422),
    "a list": (b"[]", 422),
    "no fields": (b"{}", 422),
    "no inputs": (GOOD.replace(b'[{"target":[[1],[2]]}]', b"[]"), 422),
    "a 1D target": (inputs(b"[1,2,3]"), 422),
    "a ragged target": (inputs(b"[[1],[2,3]]"), 422),
    "an empty target": (inputs(b"[]"), 422),
    "rows without channels": (inputs(b"[[],[]]"), 422),
    "only nulls": (inputs(b"[[null],[null]]"), 422),
    "strings": (inputs(b'[["a"],["b"]]'), 422),
    "booleans": (inputs(b"[[true],[false]]"), 422),
    "a number beyond float64": (inputs(b"[[1e999],[2]]"), 422),
    "an integer of a thousand digits": (inputs(b"[[" + b"9" * 1000 + b"],[2]]"), 422),
    "a horizon of zero": (parameters(b'{"prediction_length":0}'), 422),
    "a horizon below zero": (parameters(b'{"prediction_length":-1}'), 422),
    "a horizon in parts": (parameters(b'{"prediction_length":1.5}'), 422),
    "a horizon beyond 64 bits": (parameters(b'{"prediction_length":1' + b"0" * 40 + b"}"), 422),
    "levels out of order": (parameters(b'{"prediction_length":1,"quantile_levels":[0.9,0.1]}'), 422),
    "a level of one": (parameters(b'{"prediction_length":1,"quantile_levels":[1.0]}'), 422),
    "an unknown frequency": (parameters(b'{"prediction_length":1,"frequency":"fortnight"}'), 422),
    "an unknown field": (GOOD[:-1] + b',"colour":1}', 422),
    "an unknown model": (GOOD.replace(b"seasonal-naive", b"seasonal/unheard"), 404),
    "a model of a megabyte": (GOOD.replace(b"seasonal-naive", b"m" * (1 << 20)), 404),
    "a model of odd characters": (GOOD.replace(b"seasonal-naive", rb"\u0000\n\ud83d\ude00"), 404),
}


@pytest.fixture
def connection(gateway: Gateway) -> Iterator[http.client.HTTPConnection]:
    """One connection that is kept, so that an answer that breaks it is noticed."""
    kept = http.client.HTTPConnection(*gateway.address, timeout=60)
    kept.connect()
    yield kept
    kept.close()


def post(
    connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, object]]:
    connection.request("POST", "/v1/forecast", body, JSON | (headers or {}))
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert isinstance(answer, dict)
    return response.status, answer


def same_connection_works(connection: http.client.HTTPConnection, port: object) -> bool:
    status, _ = post(connection, GOOD)
    assert connection.sock is not None
    return status == 200 and connection.sock.getsockname() == port


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_answered_and_the_connection_goes_on(connection: http.client.HTTPConnection, name: str) -> None:
    body, expected = BODIES[name]
    port = connection.sock.getsockname()
    status, answer = post(connection, body)
    assert status == expected, answer
    assert set(answer) - {"detail"} == {"error", "code", "endpoint", "request_id"}
    assert len(str(answer["error"])) < 2000
    assert same_connection_works(connection, port)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-encoding": "br"}, 415),
        ({"accept": "image/png"}, 406),
        ({"x-request-timeout-ms": "-1"}, 422),
        ({"content-encoding": "gzip"}, 400),
        ({"content-encoding": "zstd"}, 400),
        ({"content-type": "application/msgpack"}, 400),
    ],
)
def test_a_header_that_does_not_fit_is_answered(
    connection: http.client.HTTPConnection, headers: dict[str, str], expected: int
) -> None:
    connection.request("POST", "/v1/forecast", GOOD, JSON | headers)
    response = connection.getresponse()
    assert response.status == expected, response.read()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_msgpack_cannot_smuggle_what_is_no_number(connection: http.client.HTTPConnection, value: float) -> None:
    request = {"model": "seasonal-naive", "inputs": [{"target": [[value]]}], "parameters": {"prediction_length": 1}}
    headers = {"content-type": "application/msgpack", "accept": "application/json"}
    status, answer = post(connection, msgspec.msgpack.encode(request), headers)
    assert (status, answer["code"]) == (422, "INVALID_ARGUMENT")


def zeros(megabytes: int) -> Iterator[bytes]:
    return (bytes(1 << 20) for _ in range(megabytes))


def gzip_bomb() -> bytes:
    made = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(made.compress(piece) for piece in zeros(100)) + made.flush()


def zstd_bomb() -> bytes:
    made = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return b"".join(made.compress(piece) for piece in zeros(100)) + made.flush()


@pytest.mark.parametrize(("encoding", "bomb"), [("gzip", gzip_bomb), ("zstd", zstd_bomb)])
def test_a_bomb_is_too_large(connection: http.client.HTTPConnection, encoding: str, bomb: object) -> None:
    body = bomb()  # type: ignore[operator]
    assert len(body) < LIMIT / 100
    port = connection.sock.getsockname()
    status, answer = post(connection, body, {"content-encoding": encoding})
    assert (status, answer["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert same_connection_works(connection, port)


def raw(gateway: Gateway, head: str, *parts: bytes) -> tuple[socket.socket, http.client.HTTPResponse]:
    """Send a head and some of a body, then read the answer."""
    sock = socket.create_connection(gateway.address, timeout=60)
    sock.sendall(
        f"POST /v1/forecast HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{head}\r\n".encode()
    )
    for part in parts:
        sock.sendall(part)
    response = http.client.HTTPResponse(sock, method="POST")
    response.begin()
    return sock, response


def test_an_announced_size_over_the_limit_is_refused_before_the_body_comes(gateway: Gateway) -> None:
    sock, response = raw(gateway, f"content-length: {LIMIT + 1}\r\n")
    with sock:
        assert response.status == 413
        assert json.loads(response.read())["code"] == "PAYLOAD_TOO_LARGE"


def test_a_caller_that_asks_first_is_refused_without_sending(gateway: Gateway) -> None:
    sock, response = raw(gateway, f"content-length: {LIMIT + 1}\r\nexpect: 100-continue\r\n")
    with sock:
        assert response.status == 413


def test_chunks_are_counted(gateway: Gateway) -> None:
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
    sock, response = raw(gateway, "transfer-encoding: chunked\r\n", *([chunk] * (LIMIT // (1 << 20) + 1)))
    with sock:
        assert response.status == 413


def test_a_body_that_does_not_come_is_given_up_at_its_deadline(gateway: Gateway) -> None:
    sock, response = raw(gateway, "content-length: 100\r\nx-request-timeout-ms: 100\r\n", b'{"model":')
    with sock:
        assert response.status == 504
        assert json.loads(response.read())["code"] == "DEADLINE_EXCEEDED"


def test_a_head_without_end_is_refused(gateway: Gateway) -> None:
    sock = socket.create_connection(gateway.address, timeout=60)
    with sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n")
        try:
            for i in range(100):
                sock.sendall(b"x-filler-%d: %s\r\n" % (i, b"a" * 8192))
        except OSError:
            return  # closed on us while sending: refused
        assert b"431" in sock.recv(100)


def test_what_is_not_http_is_not_answered_with_an_error_of_ours(gateway: Gateway) -> None:
    with socket.create_connection(gateway.address, timeout=60) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n")
        assert b"400" in sock.recv(100)
    assert gateway.process.poll() is None


def test_nothing_above_was_a_bug(gateway: Gateway) -> None:
    log = gateway.log.read_text()
    assert "request_failed" not in log
    assert "Exception in ASGI application" not in log
    assert gateway.metric("gateway_requests_total", code="INTERNAL") == 0


def test_good_bodies_pass_in_every_disguise(connection: http.client.HTTPConnection) -> None:
    for encoding, body in (("identity", GOOD), ("gzip", gzip.compress(GOOD)), ("zstd", zstandard.compress(GOOD))):
        assert post(connection, body, {"content-encoding": encoding})[0] == 200


def test_a_body_of_countless_tiny_series_is_refused_before_they_are_made(
    connection: http.client.HTTPConnection,
) -> None:
    series = b'{"target":[[1]]}'
    status, answer = post(connection, GOOD.replace(b'{"target":[[1],[2]]}', b",".join([series] * 1_000_000)))
    assert (status, answer["detail"][0]["loc"]) == (422, ["body", "inputs"])  # type: ignore[index]
