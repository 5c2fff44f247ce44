"""A redis-server for tests, apart from any gateway."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.redis_server import find_server

START_LIMIT_S = 30.0


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Start a server that keeps nothing; the URL of its unix socket."""
    binary = find_server()
    assert binary is not None
    with tempfile.TemporaryDirectory() as short:  # a socket's path has 107 bytes at most
        path = Path(short) / "redis.sock"
        arguments = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(folder)]
        process = subprocess.Popen([str(binary), *arguments], stdout=subprocess.DEVNULL)
        try:
            _answering(path, process)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait(START_LIMIT_S)


def _answering(path: Path, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    raise RuntimeError("redis-server did not start")
