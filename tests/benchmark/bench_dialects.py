"""What a dialect adds to a request of 512 points over the canonical one.

    python -m tests.benchmark.bench_dialects [OUT.json]

One caller asks one gateway for the same forecast in every format by turns, so that what else the machine does falls on
all of them; told are the median of each and the median of its differences to the canonical call beside it. Asserts
nothing. A further dialect is one line of `CALLS`. The Kronos space's call is two, handing in and listening, with six
columns of candles in and paths out: it is held against the canonical call that draws as many paths of the close.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmark.http_path import Caller
from tests.serving import serving

MODEL = "forecast-gateway/seasonal-naive"
ROUNDS, WARM_UP = 400, 40
POINTS, HORIZON, LEVELS = 512, 24, [0.1, 0.5, 0.9]
VALUES = np.random.default_rng(0).normal(100, 20, POINTS).round(4).tolist()
START = "2025-01-01T00:00:00Z"
KSERVE = {"type": "univariate_time_series", "name": "a", "series": VALUES, "frequency": "H", "start_timestamp": START}

# name -> (path, body); the first is what the others are held against
CALLS: dict[str, tuple[str, object]] = {
    "canonical": (
        "/v1/forecast",
        {
            "model": MODEL,
            "inputs": [{"target": [[v] for v in VALUES], "start": START}],
            "parameters": {"prediction_length": HORIZON, "frequency": "H", "quantile_levels": LEVELS},
        },
    ),
    "kserve": (
        "/v1/timeseries/forecast",
        {"model": MODEL, "inputs": [KSERVE], "options": {"horizon": HORIZON, "quantiles": LEVELS}},
    ),
    "chronos2-server": (
        "/forecast/univariate",
        {"values": VALUES, "prediction_length": HORIZON, "quantile_levels": LEVELS, "freq": "H"},
    ),
    "nixtla": (
        "/v2/forecast",
        {
            "series": {"y": VALUES, "sizes": [POINTS], "X": None, "X_future": None, "start_datetime": [START]},
            "model": "timegpt-2.1",
            "h": HORIZON,
            "freq": "h",
            "level": [80, 0],
        },
    ),
    "sagemaker": (
        "/endpoints/seasonal-naive/invocations",
        {
            "inputs": [{"target": VALUES, "start": START}],
            "parameters": {"prediction_length": HORIZON, "freq": "h", "quantile_levels": LEVELS},
        },
    ),
    "datarobot": (
        "/predApi/v1.0/deployments/bench/predictions",
        [
            {"time": str(np.datetime64(START[:-1]) + np.timedelta64(i, "h")), "sales": value}
            for i, value in enumerate([*VALUES, *[None] * HORIZON])
        ],
    ),
}
PATHS = {"num_samples": 30, "sample_method": "copula", "quantile_levels": []}
CALLS |= {
    "canonical-paths": (
        "/v1/forecast",
        {
            "model": MODEL,
            "inputs": [{"target": [[v] for v in VALUES], "start": START}],
            "parameters": {"prediction_length": HORIZON, "frequency": "H", **PATHS},
        },
    ),
    "kronos-space": (
        "/gradio_api/call/predict_custom",
        {
            "data": [
                {
                    "timestamps": [str(np.datetime64(START[:-1]) + np.timedelta64(i, "h")) for i in range(POINTS)],
                    **dict.fromkeys(("open", "high", "low", "close", "volume", "amount"), VALUES),
                },
                HORIZON,
            ]
        },
    ),
}
AGAINST = {"kronos-space": "canonical-paths"}  # all others against the first


def asked(caller: Caller, path: str, body: bytes) -> bytes:
    """The answer to a call; of an event, what its stream says."""
    answer = caller.send("POST", path, body)
    return caller.stream(f"{path}/{json.loads(answer)['event_id']}") if b'{"event_id"' in answer else answer


def measure() -> dict[str, dict[str, float]]:
    """Milliseconds by dialect."""
    bodies = {name: (path, json.dumps(body).encode()) for name, (path, body) in CALLS.items()}
    taken: dict[str, list[float]] = {name: [] for name in CALLS}
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "engine": {"default_model": MODEL, "workers": 1, "statistical_workers": 1},
            "deployments": {"bench": {"target": "sales", "date": "time"}},
        }
        with serving(Path(folder), config=config) as gateway:
            caller = Caller(gateway)
            for turn in range(WARM_UP + ROUNDS):
                for name, (path, body) in bodies.items():
                    started = time.perf_counter()
                    answer = asked(caller, path, body)
                    if turn >= WARM_UP:
                        taken[name].append((time.perf_counter() - started) * 1e3)
                    elif turn == 0 and b"error" in answer.replace(b'"error":null', b""):
                        raise RuntimeError(f"{name}: {answer[:300]!r}")
    first = next(iter(taken))
    return {
        name: {
            "median_ms": round(float(np.median(times)), 3),
            "added_ms": round(float(np.median(np.array(times) - taken[AGAINST.get(name, first)])), 3),
        }
        for name, times in taken.items()
    }


def main() -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    found = measure()
    for name, figures in found.items():
        print(f"{name:16} {figures['median_ms']:8.3f} ms  {figures['added_ms']:+8.3f} ms")
    if len(sys.argv) > 1:
        told = {"machine": platform.processor() or platform.machine(), "commit": commit, "points": POINTS}
        Path(sys.argv[1]).write_text(json.dumps({**told, "rounds": ROUNDS, "dialects": found}, indent=2))


if __name__ == "__main__":
    main()
