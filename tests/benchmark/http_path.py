"""What the gateway adds to an adapter's call for one caller, and how long a huge body holds up small ones.

    python -m tests.benchmark.http_path [OUT.json]

Prints a table and writes JSON with machine, commit and versions; asserts nothing. The adapter's own time is what the
gateway's worker reports (`timings_ms.compute`) of the same call, so that both are measured under the same load.
"""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]

from tests.serving import Gateway, serving, small_models

MODEL = "amazon/chronos-bolt-small"
CALLS = 400
PACKAGES = ("numpy", "msgspec", "starlette", "uvicorn", "uvloop", "httptools", "torch")

Percentiles = dict[str, float]


class Caller:
    """One kept connection that costs the caller as little as can be."""

    def __init__(self, gateway: Gateway, headers: str = "") -> None:
        """`headers`: lines beside the usual ones, each with its line end."""
        self._headers = headers
        self._socket = socket.create_connection(gateway.address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of the answer."""
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{self._headers}"
        self._socket.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(1 << 16)
        headers, _, rest = received.partition(b"\r\n\r\n")
        length = int(headers.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        parts, size = [rest], len(rest)
        while size < length:
            parts.append(self._socket.recv(1 << 20))
            size += len(parts[-1])
        return b"".join(parts)

    def stream(self, path: str) -> bytes:
        """All that a stream says until it ends, in its chunks."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{self._headers}\r\n".encode())
        received = bytearray()
        while not received.endswith(b"0\r\n\r\n"):
            received += self._socket.recv(1 << 20)
        return bytes(received)


def request(model: str, series: int, points: int, horizon: int) -> bytes:
    """A body of random walks."""
    values = np.random.default_rng(0).normal(size=(series, points)).cumsum(axis=1).round(3).tolist()
    inputs = [{"target": [[v] for v in row]} for row in values]
    parameters = {"prediction_length": horizon}
    return json.dumps({"model": model, "inputs": inputs, "parameters": parameters}, separators=(",", ":")).encode()


def percentiles(seconds: list[float]) -> Percentiles:
    """In milliseconds."""
    found = np.percentile(np.array(seconds) * 1e3, [50, 90, 99, 100])
    return dict(zip(("p50", "p90", "p99", "max"), found.round(3).tolist(), strict=True))


def one_client(gateway: Gateway, model: str, points: int, horizon: int, headers: str = "") -> dict[str, Percentiles]:
    """Milliseconds a call takes, computes in the adapter, and is more than that. No two bodies are the same work."""
    caller, body = Caller(gateway, headers), request(model, 1, points, horizon)
    totals, computed, added = [], [], []
    for i in range(CALLS + 50):
        started = time.perf_counter()
        answer = caller.send("POST", "/v1/forecast", body)
        total = time.perf_counter() - started
        compute = json.loads(answer)["timings_ms"]["compute"] / 1e3
        if i >= 50:
            totals.append(total)
            computed.append(compute)
            added.append(total - compute)
    return {"total": percentiles(totals), "compute": percentiles(computed), "added": percentiles(added)}


def beside_a_huge_body(gateway: Gateway, series: int = 1000, points: int = 2048) -> dict[str, object]:
    """How small calls fare while a huge one is parsed, forecast and rendered."""
    body = request("seasonal-naive", series, points, 64)
    small = request("seasonal-naive", 1, 10, 3)
    probe, asker, large = Caller(gateway), Caller(gateway), Caller(gateway)
    took: list[float] = []
    answer: list[bytes] = []

    def ask() -> None:
        started = time.perf_counter()
        answer.append(large.send("POST", "/v1/forecast", body))
        took.append(time.perf_counter() - started)

    thread = threading.Thread(target=ask)
    lives: list[float] = []
    smalls: list[float] = []
    thread.start()
    while thread.is_alive():
        for caller, into, call in (
            (probe, lives, ("GET", "/livez", b"")),
            (asker, smalls, ("POST", "/v1/forecast", small)),
        ):
            started = time.perf_counter()
            caller.send(*call)
            into.append(time.perf_counter() - started)
    return {
        "megabytes_in": round(len(body) / 1e6, 1),
        "megabytes_out": round(len(answer[0]) / 1e6, 1),
        "seconds": round(took[0], 3),
        "timings_ms": json.loads(answer[0]).get("timings_ms"),
        "livez": percentiles(lives),
        "small_forecast": percentiles(smalls),
        "calls_beside": len(lives),
    }


def main(out: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        models = small_models([MODEL], weights)
        config: dict[str, Mapping[str, object]] = {"engine": {"weights_dir": str(weights)}, "models": models}
        started = time.perf_counter()
        with serving(Path(folder) / "gateway", config=config, ready=False) as gateway:
            alive_s = time.perf_counter() - started
            Caller(gateway).send("POST", f"/api/models/{MODEL}/load")
            process = psutil.Process(gateway.process.pid)
            found = {
                "start_to_livez_s": round(alive_s, 2),
                "gateway_rss_mb": round(process.memory_info().rss / 1e6, 1),
                "one_client_bolt_512": one_client(gateway, MODEL, 512, 24),
                "one_client_naive_512": one_client(gateway, "seasonal-naive", 512, 24),
                "beside_a_huge_body": beside_a_huge_body(gateway),
                "gateway_rss_after_mb": round(process.memory_info().rss / 1e6, 1),
            }
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    report = {
        "machine": {"processor": platform.machine(), "cores": psutil.cpu_count()},
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "results": found,
    }
    print(json.dumps(found, indent=1))
    if out is not None:
        out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
