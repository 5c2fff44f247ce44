"""Where a core's time goes at one client and at 64: a flame graph of each, and the share of every part.

    python -m tests.benchmark.profiles [--checkpoint FOLDER] [--out FOLDER]

Needs `py-spy` (the extra `bench`) and the right to look into one's own processes. A share is what the kernel charged
to the process, divided as the sampled stacks are: a sample belongs to the innermost frame of this repository.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.benchmark.one_core import gateway_point, pinned_gateway
from tests.benchmark.side_by_side import true_size
from tests.serving import Gateway

CLIENTS = (1, 64)
WARM_UP_S, SAMPLE_S, RATE = 3, 8, 400
MODEL = "the model"


def spy() -> str | None:
    """The sampler, if it is installed."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def part_of(stack: str) -> str:
    """Whose time a sampled stack is, frames from the outermost to the innermost."""
    for frame in reversed(stack.split(";")):
        place = frame.partition(" (")[2]
        file = place.partition(":")[0]
        if file.startswith("adapters/"):
            return MODEL
        if file.startswith("gateway/"):
            folder = file.split("/")
            return "/".join(folder[:2]) if len(folder) > 2 else file
        if "uvicorn" in file or "starlette" in file:
            return "uvicorn, starlette"
    return "loop and others"


def sampled(process: psutil.Process, out: Path) -> dict[str, float]:
    """Shares of a core by part while load runs, and a flame graph in `out`."""
    sampler = spy()
    assert sampler is not None
    shares: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "stacks"
        before, began = process.cpu_times(), time.perf_counter()
        _record(sampler, process, "raw", raw)
        after, took = process.cpu_times(), time.perf_counter() - began
        for line in raw.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            shares[part_of(stack)] += int(count)
    _record(sampler, process, "flamegraph", out)
    used = (after.user + after.system - before.user - before.system) / took
    total = sum(shares.values())
    return {part: round(used * count / total, 3) for part, count in shares.most_common()}


def _record(sampler: str, process: psutil.Process, form: str, out: Path) -> None:
    command = [sampler, "record", "--pid", str(process.pid), "--duration", str(SAMPLE_S), "--rate", str(RATE)]
    subprocess.run([*command, "--format", form, "--output", str(out)], check=True, capture_output=True, timeout=120)


def measure(checkpoint: Path, out: Path, stem: str) -> dict[str, dict[str, float]]:
    """By number of clients, shares of the serving core; flame graphs `STEM-N-clients-PROCESS.svg` in `out`."""
    found = {}
    with pinned_gateway(checkpoint) as (gateway, key):
        for clients in CLIENTS:
            shares: dict[str, float] = {}
            for name, process in _processes(gateway):
                load = threading.Thread(
                    target=gateway_point, args=(gateway, key, clients, WARM_UP_S + 2 * SAMPLE_S + 2)
                )
                load.start()
                time.sleep(WARM_UP_S)
                found_here = sampled(process, out / f"{stem}-{clients}-clients-{name}.svg")
                shares |= {part if part == MODEL else f"{name}: {part}": share for part, share in found_here.items()}
                load.join()
            found[f"{clients} clients"] = dict(sorted(shares.items(), key=lambda pair: -pair[1]))
    return found


def _processes(gateway: Gateway) -> Iterator[tuple[str, psutil.Process]]:
    process = psutil.Process(gateway.process.pid)
    yield "gateway", process
    (engine,) = process.children()
    yield "worker", engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    options = parser.parse_args()
    if spy() is None:
        sys.exit("skipped: py-spy is not installed (pip install forecast-gateway[bench])")
    options.out.mkdir(exist_ok=True)
    with true_size("chronos-bolt-tiny", options.checkpoint) as checkpoint:
        print(json.dumps(measure(checkpoint, options.out, "profile"), indent=1))


if __name__ == "__main__":
    main()
