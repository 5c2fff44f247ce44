"""A job of 2,000 series while its worker, its Redis and its gateway are killed, each in turn and in the middle of work.

The gateway holds the data directory and runs no chunks itself; workers of one slot each do. A gated series stops the
chunk that holds it, so that whatever is killed is killed in the middle, and the gate tells chunks apart by their size:
a series with much metadata is a chunk of its own, and cuts the one before it short.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import psutil  # type: ignore[import-untyped]
import pytest

from tests.engine_adapters import WAIT, card
from tests.live.gated import Gate
from tests.serving import COMMAND, REPOSITORY, Gateway, Table, serving

SERIES, CHUNK = 2000, 16
MODEL = "test/scripted"
HANG_LIMIT_S = 75.0  # five times what is promised for a killed worker's chunk
LARGE = 8  # the series with much metadata
GATED = (0, LARGE, LARGE + 1 + 40 * CHUNK, LARGE + 1 + 80 * CHUNK)  # series whose chunks wait at the gate
SHORT, SINGLE, USUAL = str(LARGE), "1", str(CHUNK)  # sizes of their chunks


def config(gate: Gate) -> dict[str, Table]:
    one: Table = msgspec.to_builtins(card(MODEL, gate=gate))
    return {
        "engine": {"default_model": "seasonal-naive", "workers": 1, "statistical_workers": 1},
        "jobs": {"job_slots": 0, "chunk_series": CHUNK},
        "models": {MODEL: {k: v for k, v in one.items() if v is not None}},
    }


class Starts:
    """The chunks that came to the gate, by size; the pipe gives what several of them wrote as one text.

    It is held open at both ends: what is written while nobody reads is not lost.
    """

    def __init__(self, gate: Gate) -> None:
        self._pipe = os.open(gate.started, os.O_RDWR)
        self._seen: list[str] = []

    def wait(self, *sizes: str) -> str:
        """Block until a chunk of one of these sizes is at the gate that was not told of before."""
        while not (found := [size for size in self._seen if size in sizes]):
            self._seen += re.findall(f"{USUAL}|{SHORT}|{SINGLE}", os.read(self._pipe, 4096).decode())
        self._seen.remove(found[0])
        return found[0]


@contextlib.contextmanager
def worker(folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A worker process beside the gateway of `folder`."""
    command = [sys.executable, "-c", COMMAND, "worker", "--slots", "1", "--models", "test/*"]
    command += ["--config", str(folder / "gateway.toml"), "--data-dir", str(folder / "data")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FORECAST_GATEWAY_")}
    environment |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("w") as lines:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=lines, stderr=lines, text=True, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what no event tells; what does not answer meanwhile is asked again."""
    limit = time.monotonic() + HANG_LIMIT_S
    while True:
        with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):
            if holds():
                return
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.05)


def lines() -> Iterator[bytes]:
    parameters = {"prediction_length": 2, "quantile_levels": [0.1, 0.9]}
    yield json.dumps({"type": "forecast", "request": {"model": MODEL, "parameters": parameters}}).encode() + b"\n"
    for i in range(SERIES):
        target = [[WAIT if i in GATED else 0.0], *[[0.0]] * 6, [float(i)]]
        metadata = {"number": i, "filler": "x" * (5 << 19 if i == LARGE else 0)}
        yield json.dumps({"target": target, "metadata": metadata}).encode() + b"\n"


def submitted(gateway: Gateway) -> str:
    with gateway.client() as client:
        answer = client.post("/v1/jobs", content=lines(), headers={"content-type": "application/x-ndjson"})
        assert answer.status_code == 202, answer.text
        id: str = answer.json()["id"]
        return id


def job(gateway: Gateway, id: str) -> dict[str, object]:
    with gateway.client() as client:
        answer = client.get(f"/v1/jobs/{id}?result=false")
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found


def done(gateway: Gateway, id: str) -> int:
    progress = job(gateway, id)["progress"]
    assert isinstance(progress, dict)
    return int(progress["done"])


def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    gate = Gate.make(tmp_path / "gate")
    starts = Starts(gate)
    folder = tmp_path / "gateway"
    settings = config(gate)
    with contextlib.ExitStack() as workers:
        with serving(folder, config=settings, ready=False, own_group=True) as gateway:
            until(lambda: httpx.get(f"{gateway.base_url}/v1/jobs").status_code == 200)
            first = workers.enter_context(worker(folder, "first"))
            second = workers.enter_context(worker(folder, "second"))
            id = submitted(gateway)
            # Two workers hold two chunks at once: both are at the gate before it was opened for either.
            starts.wait(SHORT)
            starts.wait(SINGLE)
            assert done(gateway, id) == 0
            others = [workers.enter_context(worker(folder, name)) for name in ("third", "fourth")]

            engine = psutil.Process(first.pid).children(recursive=True)
            os.kill(first.pid, signal.SIGKILL)
            began = time.monotonic()
            _, alive = psutil.wait_procs(engine, timeout=HANG_LIMIT_S)
            assert alive == []  # else it might be them whom the gate lets through
            gate.open()
            starts.wait(SHORT, SINGLE)
            print(f"a killed worker's chunk was taken again after {time.monotonic() - began:.1f} s")
            starts.wait(USUAL)
            starts.wait(USUAL)  # three workers are in the middle of three chunks

            redis = int((folder / "data" / "redis" / "redis.pid").read_text())
            assert "redis-server" in " ".join(psutil.Process(redis).cmdline())
            os.kill(redis, signal.SIGKILL)
            began = time.monotonic()
            until(lambda: done(gateway, id) > 0)
            print(f"Redis was back after {time.monotonic() - began:.1f} s, with {done(gateway, id)} series done")

            os.killpg(gateway.process.pid, signal.SIGKILL)
            gateway.process.wait()
        with serving(folder, config=settings, ready=False) as gateway:
            until(lambda: httpx.get(f"{gateway.base_url}/v1/jobs").status_code == 200)
            with letting_through(gate):
                until(lambda: job(gateway, id)["status"] not in ("queued", "running"))
            state = job(gateway, id)
            print(f"the job is {state['status']}: {state['progress']}")
            assert state["status"] == "completed"
            assert state["progress"] == {"done": SERIES, "total": SERIES, "failed": 0}
            check_result(gateway, id)
            assert [process.poll() for process in (second, *others)] == [None] * 3


@contextlib.contextmanager
def letting_through(gate: Gate) -> Iterator[None]:
    """Let every batch pass: the gate opens again and again."""
    stop = threading.Event()
    opener = threading.Thread(target=_open_for_ever, args=(gate, stop))
    opener.start()
    try:
        yield
    finally:
        stop.set()
        opener.join()


def _open_for_ever(gate: Gate, stop: threading.Event) -> None:
    """Open and close the gate: whoever waits there reads to its end."""
    while not stop.wait(0.05):
        with contextlib.suppress(OSError):  # nobody waits
            pipe = os.open(gate.gate, os.O_WRONLY | os.O_NONBLOCK)
            os.close(pipe)


def check_result(gateway: Gateway, id: str) -> None:
    """Every series is answered once, in order, with its own numbers and words; usage counts it once."""
    with gateway.client(accept="application/x-ndjson") as client:
        text = client.get(f"/v1/jobs/{id}/result").text
    outputs = [json.loads(line) for line in text.splitlines()]
    assert [o["index"] for o in outputs] == list(range(SERIES))
    assert [o["metadata"]["number"] for o in outputs] == list(range(SERIES))
    assert all(o["mean"] == [[float(i)]] * 2 for i, o in enumerate(outputs))
    with gateway.client() as client:
        usage = client.get(f"/v1/jobs/{id}?result=false").json()["usage"]
    assert usage["input_tokens"] == SERIES * 8
    assert usage["output_tokens"] == SERIES * 4


pytestmark = pytest.mark.timeout(240)
