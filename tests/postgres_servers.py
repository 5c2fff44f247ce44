"""A PostgreSQL for tests, where a machine has one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LIMIT_S = 60.0


def _program(name: str) -> str | None:
    """A program of PostgreSQL; Debian keeps most of them off the PATH."""
    if found := shutil.which(name):
        return found
    return next((str(p) for p in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server on a unix socket; the URL of an empty database. Skips where there is no PostgreSQL."""
    server, initdb = _program("postgres"), _program("initdb")
    user = _user()
    if server is None or initdb is None or user is None:
        pytest.skip("PostgreSQL is not on this machine")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        data = str(folder / "data")
        who: dict[str, object] = {"user": user} if os.getuid() == 0 else {}
        quiet: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **who}
        subprocess.run(
            [initdb, "-D", data, "-U", "tests", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"],
            check=True,
            timeout=LIMIT_S,
            **quiet,  # type: ignore[call-overload]
        )
        options = ["-k", name, "-c", "listen_addresses=", "-c", "fsync=off"]
        process = subprocess.Popen([server, "-D", data, *options], **quiet)  # type: ignore[call-overload]
        try:
            url = f"postgresql://tests@/postgres?host={name}"
            _answering(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def _user() -> str | None:
    """Who can run it: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None


def _answering(url: str, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit and process.poll() is None:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("PostgreSQL did not start")
