"""What benchmarks of an adapter beside its library share: a checkpoint of true size, two sides taking turns."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
TOOL = ROOT.parent / "shared" / "tools" / "make_checkpoints.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One side against the other: medians of wall time, and of the ratios of each turn."""

    ours_ms: float
    theirs_ms: float
    ratio: float  # theirs / ours, by the clock on the wall
    cpu_ratio: float  # the same by the thread's own processor time, which a busy machine disturbs less


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], seconds: float, least: int = 5
) -> Comparison:
    """Let both sides take turns for about `seconds`, `least` times or more, after one call each to warm up."""
    _timed(ours)
    wall, _ = _timed(theirs)
    rounds = max(least, int(seconds / (2 * wall)))
    turns = [(_timed(ours), _timed(theirs)) for _ in range(rounds)]
    return Comparison(
        ours_ms=1e3 * median(our_wall for (our_wall, _), _ in turns),
        theirs_ms=1e3 * median(their_wall for _, (their_wall, _) in turns),
        ratio=median(their_wall / our_wall for (our_wall, _), (their_wall, _) in turns),
        cpu_ratio=median(their_cpu / our_cpu for (_, our_cpu), (_, their_cpu) in turns),
    )


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of this thread."""
    wall, cpu = time.perf_counter(), time.thread_time()
    call()
    return time.perf_counter() - wall, time.thread_time() - cpu


@contextmanager
def true_size(name: str, folder: Path | None) -> Iterator[Path]:
    """`folder`, or a checkpoint `name` made for the occasion; without the tool it says so and exits."""
    if folder is not None:
        yield folder
        return
    if not TOOL.exists():
        sys.exit(f"skipped: no --checkpoint, and {TOOL.name} is not beside this repository to make one")
    with tempfile.TemporaryDirectory() as made:
        subprocess.run([sys.executable, TOOL, made, name], check=True)
        yield Path(made) / name


def machine(*packages: str) -> dict[str, str | int]:
    """What the figures were measured on: processor, commit, versions."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        **{package: version(package) for package in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
