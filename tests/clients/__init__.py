"""Real clients of other systems, each in an environment of its own: their pins clash with ours and with each other.

To add a client called `name`:

- `tests/clients/name.txt` lists every package it needs, each with its exact version, as `pip freeze` prints them. They
  are installed without their dependencies, so that a heavy package that the client never imports can be left out: try
  with `pip freeze` of a full installation first, then drop what its imports do without.
- A client of npm has a folder `tests/clients/name/` with `package.json` and `package-lock.json`.
- `python_of("name")` or `packages_of("name")` makes the environment on first use, in `.clients/` of this repository,
  and gives it again in every later run until the list changes. `run([python, script, ...])` runs a script in it.

A machine that cannot install a client skips its tests, and says why. One installation at a time: sessions that run side
by side wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LISTS = Path(__file__).parent
CACHE = REPOSITORY / ".clients"
INSTALL_LIMIT_S = 240.0  # hang limits, not promises
RUN_LIMIT_S = 120.0
_failed: dict[str, str] = {}  # client -> why; not tried again for every test of it
DONE = ".installed"  # written last: a folder without it is the rest of an installation that broke off


@cache
def python_of(name: str) -> Path:
    """The Python that has the packages of `tests/clients/<name>.txt`; skips where they cannot be installed."""
    requirements = LISTS / f"{name}.txt"

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", "--no-deps", "--no-compile", "--requirement", str(requirements)])

    key = requirements.read_bytes() + sys.version.encode()
    return _installed(name, key, install) / "bin" / "python"


@cache
def packages_of(name: str) -> Path:
    """The folder whose `node_modules` has the packages of `tests/clients/<name>/`; skips without node, npm or them."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip(f"the client {name} needs node and npm, which are not on this machine")
    listed = LISTS / name

    def install(folder: Path) -> None:
        folder.mkdir(parents=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(listed / file, folder)
        _run(["npm", "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"])

    key = (listed / "package.json").read_bytes() + (listed / "package-lock.json").read_bytes()
    return _installed(name, key, install)


def run(
    command: Sequence[str | Path], *, stdin: str = "", limit_s: float = RUN_LIMIT_S, cwd: Path | None = None
) -> str:
    """What a command of a client prints; fails the test with all that it said where it does not end well."""
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=limit_s,
        cwd=cwd,
        env=_environment(),
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(
            f"{Path(command[1]).name} ended with {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False
        )
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours without what would lead another Python to our packages, or a client to a proxy."""
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"}
    return {k: v for k, v in os.environ.items() if k not in ours and not k.lower().endswith("_proxy")}


def _installed(name: str, key: bytes, install: Callable[[Path], None]) -> Path:
    """The environment `name` for `key`, made where it is not there yet; skips where it cannot be made."""
    folder = CACHE / f"{name}-{hashlib.sha256(key).hexdigest()[:12]}"
    with _alone(CACHE / f"{name}.lock"):
        if not (folder / DONE).exists():
            for old in CACHE.glob(f"{name}-{'[0-9a-f]' * 12}"):
                shutil.rmtree(old)
            if name in _failed:
                pytest.skip(_failed[name])
            started = time.monotonic()
            try:
                install(folder)
            except subprocess.SubprocessError as exc:
                said = (getattr(exc, "stderr", None) or str(exc)).strip().splitlines()
                _failed[name] = f"the client {name} cannot be installed here: {said[-1] if said else exc}"
                pytest.skip(_failed[name])
            (folder / DONE).write_text(f"{time.monotonic() - started:.1f} s\n")
    return folder


def _run(command: Sequence[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=True, env=environment)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Until the end, no other session on this machine is here."""
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
