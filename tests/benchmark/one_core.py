"""Requests a second on one core: the gateway with its defaults, and the raw call of the model right before.

    python -m tests.benchmark.one_core [--checkpoint FOLDER] [--rounds N] [--seconds S] [--json OUT.json]

Gateway and engine worker run on core 1; Redis and the load on core 0. Keys, limits, ledger and metrics are on: every
call is made with a key that has limits. Prints ratios and writes JSON with machine, commit and versions; asserts
nothing. A machine's speed drifts, so each round measures the raw call, then the gateway, and ratios are of one round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil  # type: ignore[import-untyped]

from tests.benchmark.load import MODEL
from tests.benchmark.side_by_side import machine, true_size
from tests.redis_servers import redis_server
from tests.serving import REPOSITORY, Gateway, serving

SERVES, LOADS = 1, 0  # cores
MANY, SHARED = 10**9, 99_999  # requests; as many a minute are counted in Redis for all gateways together

Point = dict[str, float]


def on_core(core: int, command: list[str], **environment: str) -> str:
    """What `command` prints, run on one core with one thread."""
    done = subprocess.run(
        ["taskset", "-c", str(core), *command],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return done.stdout


def raw_calls(checkpoint: Path, mixed: bool, seconds: float = 1.5) -> dict[str, float]:
    """Series a second of the library and of the adapter, each at its best batch."""
    command = [sys.executable, "-m", "tests.benchmark.raw", str(checkpoint), "--seconds", str(seconds)]
    found = json.loads(on_core(SERVES, command + ["--mixed"] * mixed))
    return {name: by["best"] for name, by in found.items()}


def load(url: str, clients: str, seconds: float, *arguments: str) -> list[Point]:
    """Requests a second and latencies at each number of clients that ask and wait."""
    command = [sys.executable, "-m", "tests.benchmark.load", url, "--clients", clients, "--seconds", str(seconds)]
    points = [json.loads(line) for line in on_core(LOADS, [*command, *arguments]).splitlines()]
    if faults := [p["faults"] for p in points if p["faults"]]:
        raise RuntimeError(f"the load met faults: {faults}")
    return points


@contextmanager
def pinned_gateway(checkpoint: Path, **engine: object) -> Iterator[tuple[Gateway, str]]:
    """A gateway and its workers on the serving core, its Redis on the other; and a key with limits."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url:
        folder = Path(name)
        weights = folder / "weights"
        (weights / MODEL).parent.mkdir(parents=True)
        (weights / MODEL).symlink_to(checkpoint.absolute())
        config: dict[str, Mapping[str, object]] = {
            "engine": {"weights_dir": str(weights), "workers": 1, "default_model": MODEL, **engine},
            "redis": {"redis_url": url},
        }
        with serving(folder / "gateway", config=config) as gateway:
            key = _key(gateway)
            for process in _tree(gateway.process.pid):
                process.cpu_affinity([SERVES])
            for process in psutil.Process().children(recursive=True):
                if process.name().startswith("redis-server"):
                    process.cpu_affinity([LOADS])
            yield gateway, key


def gateway_point(gateway: Gateway, key: str, clients: int, seconds: float, mixed: bool = False) -> Point:
    """One number of clients, with the mean batch that formed."""
    series, count = _batches(gateway)
    arguments = ["--header", f"authorization: Bearer {key}", *(["--mixed"] if mixed else [])]
    (point,) = load(f"{gateway.base_url}/v1/forecast", str(clients), seconds, *arguments)
    more_series, more = _batches(gateway)
    return {**point, "mean_batch": round((more_series - series) / (more - count), 2)}


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _key(gateway: Gateway) -> str:
    limits = {"requests_per_minute": SHARED, "requests_per_hour": MANY}
    with gateway.client() as client:
        admin = client.post("/api/account/keys", json={"name": "admin", "admin": True}).json()["key"]
        headers = {"authorization": f"Bearer {admin}"}
        made = client.post("/api/account/keys", json={"name": "load", "limits": limits}, headers=headers)
    key: str = made.json()["key"]
    return key


def _batches(gateway: Gateway) -> tuple[float, float]:
    """Series that ran and batches they ran in, so far."""
    return gateway.metric("gateway_batch_series_sum"), gateway.metric("gateway_batch_series_count")


def rounds(checkpoint: Path, count: int, seconds: float, mixed: bool) -> list[dict[str, float]]:
    """Raw call, then the gateway under 64 clients, so many times."""
    found = []
    with pinned_gateway(checkpoint) as (gateway, key):
        for _ in range(count):
            before = raw_calls(checkpoint, mixed)
            point = gateway_point(gateway, key, 64, seconds, mixed)
            found.append(
                {
                    **point,
                    "library": before["library"],
                    "adapter": before["adapter"],
                    "over_library": round(point["rps"] / before["library"], 3),
                    "over_adapter": round(point["rps"] / before["adapter"], 3),
                }
            )
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    with true_size("chronos-bolt-tiny", options.checkpoint) as checkpoint:
        results = {}
        for name, mixed in (("512 points", False), ("32 to 2,048 points", True)):
            found = rounds(checkpoint, options.rounds, options.seconds, mixed)
            results[name] = found
            for ratio in ("over_library", "over_adapter"):
                print(f"{name:<20} {ratio:<14} {median(f[ratio] for f in found):6.2f}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine("torch", "numpy"), "results": results}, indent=1))


if __name__ == "__main__":
    main()
