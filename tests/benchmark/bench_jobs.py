"""What jobs cost: a large one through the naive model, and what a second worker gains where the model makes one wait.

    python -m tests.benchmark.bench_jobs [--series N] [--points N] [--json OUT.json]

Prints a table and writes JSON with machine, commit and versions; asserts nothing. Everything runs as an operator runs
it: a gateway with a redis-server of its own, an NDJSON upload, workers in processes of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import httpx
import msgspec
import numpy as np
import psutil

from adapters.base import Batch, BatchForecast, Device
from adapters.seasonal_naive import SeasonalNaive
from catalog.card import ModelCard
from tests.benchmark.side_by_side import machine
from tests.engine_adapters import card
from tests.serving import COMMAND, REPOSITORY, Gateway, serving

NAIVE, WAITING = "seasonal-naive", "test/waiting"
WAIT_S, WAITS, CHUNK = 0.5, 24, 16
HORIZON = 12


class Waiting:
    """Seasonal naive behind a wait for each batch, as of a model on another machine."""

    def __init__(self, inner: SeasonalNaive) -> None:
        self._inner = inner

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        return cls(SeasonalNaive.load(card, folders, device))

    def predict(self, batch: Batch) -> BatchForecast:
        time.sleep(WAIT_S)
        return self._inner.predict(batch)

    def close(self) -> None:
        self._inner.close()


def lines(model: str, series: int, points: int) -> Iterator[bytes]:
    """An upload: the order, then one series a line."""
    parameters = {"prediction_length": HORIZON, "frequency": "h"}
    yield json.dumps({"type": "forecast", "request": {"model": model, "parameters": parameters}}).encode() + b"\n"
    rng = np.random.default_rng(0)
    for i in range(series):
        values = np.round(rng.normal(100.0, 10.0, points), 2).reshape(-1, 1).tolist()
        one = {"target": values, "start": "2026-01-01T00:00:00Z", "metadata": {"item_id": f"series-{i}"}}
        yield json.dumps(one).encode() + b"\n"


def submit(client: httpx.Client, upload: Path) -> str:
    with upload.open("rb") as content:
        answer = client.post("/v1/jobs", content=content, headers={"content-type": "application/x-ndjson"})
    answer.raise_for_status()
    id: str = answer.json()["id"]
    return id


def finished(client: httpx.Client, id: str) -> dict[str, object]:
    while True:
        job: dict[str, object] = client.get(f"/v1/jobs/{id}?result=false").json()
        if job["status"] not in ("queued", "running"):
            return job
        time.sleep(0.05)


def peaks_mb(gateway: Gateway) -> dict[str, float]:
    """The most memory that each process of a gateway ever held."""
    found: dict[str, float] = {}
    root = psutil.Process(gateway.process.pid)
    for process in [root, *root.children(recursive=True)]:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        command = " ".join(process.cmdline())
        name = "gateway" if process == root else "redis-server" if "redis-server" in command else "engine worker"
        found[name] = round(max(found.get(name, 0.0), peak), 1)
    return found


def jobs_ready(gateway: Gateway) -> None:
    while httpx.get(f"{gateway.base_url}/v1/jobs").status_code != 200:
        time.sleep(0.05)


# -- a large job ---


def large(folder: Path, series: int, points: int) -> dict[str, object]:
    folder.mkdir()
    upload = folder / "upload.ndjson"
    with upload.open("wb") as file:
        file.writelines(lines(NAIVE, series, points))
    config = {"engine": {"default_model": NAIVE, "workers": 1, "statistical_workers": 1}}
    with serving(folder, config=config) as gateway, httpx.Client(base_url=gateway.base_url, timeout=600.0) as client:
        jobs_ready(gateway)
        began = time.perf_counter()
        id = submit(client, upload)
        uploaded = time.perf_counter()
        job = finished(client, id)
        done = time.perf_counter()
        count = 0
        with client.stream("GET", f"/v1/jobs/{id}/result", headers={"accept": "application/x-ndjson"}) as answer:
            for line in answer.iter_lines():
                assert json.loads(line)["index"] == count
                count += 1
        fetched = time.perf_counter()
        assert count == series, job
        return {
            "status": job["status"],
            "series": series,
            "points": points,
            "upload_s": round(uploaded - began, 1),
            "run_s": round(done - uploaded, 1),
            "fetch_s": round(fetched - done, 1),
            "series_per_s": round(series / (done - began)),
            "peak_mb": peaks_mb(gateway),
        }


# -- two workers ---


@contextlib.contextmanager
def worker(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-c", COMMAND, "worker", "--slots", "1", "--models", WAITING]
    command += ["--config", str(folder / "gateway.toml"), "--data-dir", str(folder / "data")]
    quiet = subprocess.DEVNULL
    environment = {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=quiet, stderr=quiet, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def with_workers(folder: Path, workers: int) -> float:
    """Seconds of a job of `WAITS` chunks with so many workers, that have the model loaded."""
    one = msgspec.to_builtins(card(WAITING))
    one |= {"adapter": "tests.benchmark.bench_jobs:Waiting"}
    config = {
        "engine": {"default_model": NAIVE, "workers": 1, "statistical_workers": 1},
        "jobs": {"job_slots": 0, "chunk_series": CHUNK},
        "models": {WAITING: {k: v for k, v in one.items() if v is not None}},
    }
    upload = folder / "upload.ndjson"
    with serving(folder, config=config) as gateway, contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=gateway.base_url, timeout=600.0))
        jobs_ready(gateway)
        for _ in range(workers):
            stack.enter_context(worker(folder))
        with upload.open("wb") as file:
            file.writelines(lines(WAITING, WAITS * CHUNK, 50))
        finished(client, submit(client, upload))  # every worker has the model now
        began = time.perf_counter()
        finished(client, submit(client, upload))
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = large(Path(folder) / "large", args.series, args.points) if args.series else {}
        for name, value in found.items():
            print(f"{name:<14} {value}")
        times = [with_workers(Path(folder) / f"workers-{n}", n) for n in (1, 2)]
    print(f"{WAITS} chunks that wait {WAIT_S} s each: one worker {times[0]:.1f} s, two workers {times[1]:.1f} s")
    print(f"two workers take {times[1] / times[0]:.2f} of the time of one")
    if args.json:
        result = {"machine": machine(), "large": found, "one_worker_s": times[0], "two_workers_s": times[1]}
        args.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
