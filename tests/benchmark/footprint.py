"""What a gateway takes: memory of its processes, and time from its start to its first answer.

    python -m tests.benchmark.footprint [--checkpoint FOLDER] [--json OUT.json]

Memory is the proportional set size (what several processes share is divided among them), after load has run, without
redis-server. Times are of fresh processes whose files may be in the machine's cache. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx
import psutil  # type: ignore[import-untyped]

from tests.benchmark.http_path import request
from tests.benchmark.one_core import gateway_point, pinned_gateway
from tests.benchmark.side_by_side import machine, true_size
from tests.serving import START_LIMIT_S, serving

STARTS = 3


def pss_mb(process: psutil.Process) -> float:
    """Proportional set size in megabytes of 10^6 bytes."""
    return float(process.memory_full_info().pss) / 1e6


def answered(client: httpx.Client, body: bytes) -> None:
    """Ask for a forecast until the model has loaded."""
    limit = time.monotonic() + START_LIMIT_S
    while not (answer := client.post("/v1/forecast", content=body)).is_success:
        if time.monotonic() > limit:
            raise RuntimeError(answer.text)
        time.sleep(0.02)


def memory(checkpoint: Path) -> dict[str, float]:
    """Megabytes by process; the engine worker holds Chronos-Bolt-tiny, the second gateway shares what it can."""
    with pinned_gateway(checkpoint) as (gateway, key):
        gateway_point(gateway, key, 64, 3)
        process = psutil.Process(gateway.process.pid)
        (engine,) = process.children()
        with gateway.client(authorization=f"Bearer {key}") as client:
            answered(client, request("auto-theta", 1, 48, 6))
        (statistics,) = (p for p in process.children() if p != engine)
        found = {"gateway": process, "engine worker": engine, "statistics worker": statistics}
        with pinned_gateway(checkpoint) as (second, second_key):
            gateway_point(second, second_key, 8, 1)
            found["second gateway"] = psutil.Process(second.process.pid)
            shared = {name: round(pss_mb(p)) for name, p in found.items()}
        alone = {name: round(pss_mb(p)) for name, p in found.items() if name != "second gateway"}
    return {**alone, "second gateway": shared["second gateway"]}


def start() -> dict[str, float]:
    """Seconds from the start to the first answer of /livez, and to a forecast of the model that is shipped: medians."""
    lives, answers = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            with serving(Path(folder), ready=False) as gateway, gateway.client() as client:
                lives.append(time.perf_counter() - begun)
                answered(client, request("bolt-nano", 1, 512, 24))
                answers.append(time.perf_counter() - begun)
    return {"livez_s": round(median(lives), 2), "first_forecast_s": round(median(answers), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with true_size("chronos-bolt-tiny", options.checkpoint) as checkpoint:
        results = {"memory_mb": memory(checkpoint), "start": start()}
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine("torch"), "results": results}, indent=1))


if __name__ == "__main__":
    main()
