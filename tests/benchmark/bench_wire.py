"""What the canonical wire costs: `python -m tests.benchmark.bench_wire [OUT.json]`.

Decode and encode of one call, beside the plain ways of doing it, in one process on one thread. The ways take turns, so
that a machine that slows down slows all of them; the least of each is told, in the thread's own time, so that what
others do on the machine counts little. Nothing is asserted.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from gateway.dialects.base import Call
from gateway.dialects.canonical import decode, render
from gateway.dialects.canonical.types import ForecastRequestBody
from gateway.domain import Forecast, SeriesForecast, Usage
from gateway.errors import GatewayError
from gateway.pacing import at_once

ROUNDS = 15
HORIZON, LEVELS = 24, (0.1, 0.5, 0.9)
MSGPACK = {"content-type": "application/msgpack"}
SIZES = {
    "1 x 512": (1, 512, 1),
    "64 x 2048": (64, 2048, 1),
    "64 x 2048 x 3": (64, 2048, 3),
    "1000 x 2048": (1000, 2048, 1),
}


def request_of(series: int, rows: int, channels: int, gaps: float = 0.0) -> dict[str, object]:
    """A request as clients make it: prices of four decimals, `gaps` of them missing."""
    rng = np.random.default_rng(0)

    def target() -> list[list[float | None]]:
        values = np.round(rng.normal(100, 20, (rows, channels)), 4)
        holes = rng.random((rows, channels)) < gaps
        return [[None if h else float(v) for v, h in zip(*row, strict=True)] for row in zip(values, holes, strict=True)]

    inputs = [{"start": "2026-03-01", "target": target(), "metadata": {"item_id": f"s{i}"}} for i in range(series)]
    return {"model": "m", "inputs": inputs, "parameters": {"prediction_length": HORIZON, "frequency": "h"}}


def answer_of(series: int, channels: int) -> Forecast:
    rng = np.random.default_rng(1)
    stamps = tuple(f"2026-03-{d:02}T00:00:00Z" for d in range(1, HORIZON + 1))

    def output() -> SeriesForecast:
        # As models give them: float32, handed on as float64.
        values = rng.normal(100, 20, (len(LEVELS), HORIZON, channels)).astype(np.float32).astype(np.float64)
        return SeriesForecast(mean=values[1], quantiles=values, timestamps=stamps)

    return Forecast(
        id="0",
        created=0,
        model="m",
        model_revision="r",
        provider="p",
        point="median",
        horizon=HORIZON,
        quantile_levels=LEVELS,
        input_points=0,
        outputs=tuple(output() for _ in range(series)),
        usage=Usage(),
        latency_ms=1.0,
    )


def call_of(body: bytes, headers: Mapping[str, str] | None = None) -> Call:
    return Call(method="POST", path="/v1/forecast", body=body, headers=headers or {})


def rendered(call: Call, answer: Forecast) -> bytes:
    body = render.forecast(call, answer).body
    return body if isinstance(body, bytes) else b"".join(body)


def longest_step(call: Call) -> float:
    """Milliseconds of the longest step of a decode, refused or not: how long another request may wait for it."""
    steps, longest = decode.forecast(call), 0.0
    while True:
        began = time.thread_time()
        try:
            next(steps)
        except (StopIteration, GatewayError):
            return max(longest, (time.thread_time() - began) * 1e3)
        longest = max(longest, (time.thread_time() - began) * 1e3)


def plain_types(body: bytes) -> list[np.ndarray]:
    """The documented types decoded at once, then arrays: what is simple to write."""
    request = msgspec.json.decode(body, type=ForecastRequestBody)
    return [np.array(s.target, dtype=np.float64) for s in request.inputs]


def plain_json(body: bytes) -> list[np.ndarray]:
    return [np.array(s["target"], dtype=np.float64) for s in json.loads(body)["inputs"]]


def least(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each way, the least of `rounds` turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.thread_time()
            way()
            best[name] = min(best[name], (time.thread_time() - began) * 1e3)
    return best


def measure(size: tuple[int, int, int]) -> dict[str, float]:
    series, rows, channels = size
    content = request_of(series, rows, channels)
    spaced = json.dumps(content).encode()
    compact = json.dumps(content, separators=(",", ":")).encode()
    gappy = json.dumps(request_of(series, rows, channels, gaps=0.1), separators=(",", ":")).encode()
    packed = msgspec.msgpack.encode(content)
    refused, malformed = compact[:-2] + b',"x":1}}', compact[:-2] + b',"x":NaN}}'
    answer = answer_of(series, channels)
    call, packed_call = call_of(compact), call_of(packed, MSGPACK)
    rounds = max(3, ROUNDS * 64 // max(series, 64))
    found = least(
        {
            "decode": lambda: at_once(decode.forecast(call)),
            "decode, spaced": lambda: at_once(decode.forecast(call_of(spaced))),
            "decode, 10% null": lambda: at_once(decode.forecast(call_of(gappy))),
            "decode, msgpack": lambda: at_once(decode.forecast(packed_call)),
            "  the documented types at once": lambda: plain_types(compact),
            "  json.loads": lambda: plain_json(compact),
            "encode": lambda: rendered(call, answer),
            "encode, msgpack": lambda: rendered(packed_call, answer),
        },
        rounds,
    )
    calls = {
        "JSON": call,
        "spaced": call_of(spaced),
        "msgpack": packed_call,
        "refused": call_of(refused),
        "malformed": call_of(malformed),
    }
    found |= {f"longest step, {name}": min(longest_step(one) for _ in range(3)) for name, one in calls.items()}
    return found | {"body, MB": len(compact) / 1e6, "answer, MB": len(rendered(call, answer)) / 1e6}


def main() -> None:
    table = {name: measure(size) for name, size in SIZES.items()}
    names = list(next(iter(table.values())))
    print(f"{'milliseconds':36}" + "".join(f"{size:>16}" for size in table))
    for name in names:
        print(f"{name:36}" + "".join(f"{row[name]:16.3f}" for row in table.values()))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    versions = {"python": platform.python_version(), "msgspec": msgspec.__version__, "numpy": np.__version__}
    facts = {"machine": platform.processor() or platform.machine(), "commit": commit, "versions": versions}
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_bytes(msgspec.json.format(msgspec.json.encode({**facts, "milliseconds": table})))


if __name__ == "__main__":
    main()
