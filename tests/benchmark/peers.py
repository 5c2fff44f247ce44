"""Other servers over the same model on the same core, each in a virtual environment of its own.

    python -m tests.benchmark.peers --install          # makes .peers/NAME, beside what this environment holds
    python -m tests.benchmark.peers [--checkpoint FOLDER] [--only NAME] [--seconds S] [--json OUT.json]

Their servers stand beside this repository, written as their makers' guides would have it, with batches of at most 64
and the usual engine, the `chronos` library. Each serves on core 1, the load comes from core 0, and the library is
called raw on core 1 right before. One that is not installed is named and passed over. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.benchmark.footprint import pss_mb
from tests.benchmark.one_core import SERVES, Point, load, raw_calls
from tests.benchmark.side_by_side import machine, true_size
from tests.serving import REPOSITORY

SERVERS = REPOSITORY.parent / "shared" / "tools" / "bench" / "peers"
HOME = REPOSITORY / ".peers"
CLIENTS = "1,8,32,64"
START_LIMIT_S, STOP_LIMIT_S = 120.0, 30.0


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How one of them is started and asked."""

    name: str
    package: str
    command: tuple[str, ...]  # in the folder of the servers; the first word is in its environment's bin
    port: int
    form: str = "rows"
    path: str = "/v1/forecast"
    folder: str = "."


PEERS = (
    Peer(name="LitServe", package="litserve", command=("python", "litserve_app.py"), port=8101),
    Peer(
        name="MLServer", package="mlserver", command=("mlserver", "start", "."), port=8104, form="v2",
        path="/v2/models/bolt/infer", folder="mls",
    ),
    Peer(
        name="BentoML", package="bentoml", command=("bentoml", "serve", "bento_app:Model", "--host", "127.0.0.1",
        "--port", "8102"), port=8102, form="bento", path="/predict",
    ),
    Peer(name="Ray Serve", package="ray[serve]", command=("python", "ray_app.py"), port=8103),
    Peer(name="bare ASGI", package="uvicorn orjson", command=("python", "ref_uvicorn.py"), port=8105),
)  # fmt: skip


def environment_of(peer: Peer) -> Path:
    """The folder of its virtual environment."""
    return HOME / peer.name.lower().replace(" ", "-")


def installed(peer: Peer) -> bool:
    """Whether its server and its packages are here."""
    return SERVERS.is_dir() and (environment_of(peer) / "bin" / peer.command[0]).exists()


def install(peer: Peer) -> None:
    """Make its environment, over the one that holds torch and chronos: their pins clash with each other's."""
    folder = environment_of(peer)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "zz_torch.pth").write_text(site.getsitepackages()[0] + "\n")
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *peer.package.split()], check=True)


@contextmanager
def served(peer: Peer, checkpoint: Path) -> Iterator[psutil.Process]:
    """The peer on the serving core, ready."""
    binaries = environment_of(peer) / "bin"
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "HOME": home,
            "MODEL": str(checkpoint.absolute()),
            "ENGINE": "upstream",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "BENTOML_DO_NOT_TRACK": "1",
        }
        log = Path(home) / "server.log"
        with log.open("w") as lines:
            process = subprocess.Popen(
                ["taskset", "-c", str(SERVES), str(binaries / peer.command[0]), *peer.command[1:]],
                cwd=SERVERS / peer.folder,
                env=environment,
                stdout=lines,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            family = [psutil.Process(process.pid)]
            try:
                _listening(peer, process, log)
                family += family[0].children(recursive=True)
                yield family[0]
            finally:
                _stop(process, family)


def _listening(peer: Peer, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit and process.poll() is None:
        try:
            answer = load(f"http://127.0.0.1:{peer.port}{peer.path}", "1", 0.5, "--form", peer.form)
        except RuntimeError:
            time.sleep(0.5)
        else:
            if answer:
                return
    raise RuntimeError(f"{peer.name} did not start:\n{log.read_text()[-3000:]}")


def _stop(process: subprocess.Popen[bytes], family: list[psutil.Process]) -> None:
    """End the server and all that it started, by pid."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in psutil.wait_procs(family, timeout=STOP_LIMIT_S)[1]:
        one.kill()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One peer's points, and the raw call of the library right before."""

    points: list[Point]
    library: float  # series a second of the raw call
    best_rps: float
    over_library: float
    p99_ms_at_64: float
    pss_mb: float


def measure(peer: Peer, checkpoint: Path, seconds: float) -> Measured:
    """The raw call of the library, then the peer at every number of clients."""
    raw = raw_calls(checkpoint, mixed=False)["library"]
    with served(peer, checkpoint) as process:
        points = load(f"http://127.0.0.1:{peer.port}{peer.path}", CLIENTS, seconds, "--form", peer.form)
        memory = sum(pss_mb(p) for p in [process, *process.children(recursive=True)])
    best = max(point["rps"] for point in points)
    return Measured(
        points=points,
        library=raw,
        best_rps=best,
        over_library=round(best / raw, 3),
        p99_ms_at_64=points[-1]["p99_ms"],
        pss_mb=round(memory),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    peers = [p for p in PEERS if options.only in (None, p.name)]
    if options.install:
        for peer in peers:
            install(peer)
        return
    results = {}
    with true_size("chronos-bolt-tiny", options.checkpoint) as checkpoint:
        for peer in peers:
            if not installed(peer):
                print(f"{peer.name}: skipped, not installed")
                continue
            results[peer.name] = found = asdict(measure(peer, checkpoint, options.seconds))
            print(peer.name, json.dumps(found), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine("torch"), "results": results}, indent=1))


if __name__ == "__main__":
    main()
