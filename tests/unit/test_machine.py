"""What the engine sees of the machine within a container, and the workers that come of it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.base import Device
from gateway.engine import machine
from gateway.engine.crew import devices, environment
from gateway.settings import EngineSettings

ALLOWED = machine.cores(Path("/nowhere"))


def test_a_containers_share_of_the_cores_counts(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert machine.cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cores(tmp_path) == ALLOWED


def test_a_containers_memory_counts(tmp_path: Path) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine.memory_bytes(tmp_path) == 1 << 20
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_bytes(tmp_path) == whole


def test_only_visible_gpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.gpus(tmp_path) == 2
    for visible, count in (("1", 1), ("0,1", 2), ("", 0), ("-1", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.gpus(tmp_path) == count
    assert machine.gpus(tmp_path / "none") == 0


def test_workers_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(machine, "gpus", lambda: 0)
    assert [d.name for d in devices("neural", EngineSettings())] == ["cpu"] * 4
    assert [d.name for d in devices("statistical", EngineSettings())] == ["cpu"] * 4
    monkeypatch.setattr(machine, "gpus", lambda: 2)
    assert [d.name for d in devices("neural", EngineSettings())] == ["cuda:0", "cuda:1"]
    assert [d.name for d in devices("statistical", EngineSettings())] == ["cpu"] * 4


def test_workers_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: 2)
    several = EngineSettings(workers=3, statistical_workers=1, threads=2)
    assert [d.name for d in devices("neural", several)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [d.threads for d in devices("statistical", several)] == [2]
    assert [d.name for d in devices("neural", EngineSettings(device="cpu", workers=2))] == ["cpu", "cpu"]
    assert [d.name for d in devices("neural", EngineSettings(device="cuda:1"))] == ["cuda:1"]


FAULTS = """
import resource, numpy as np
for counted in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        first, second = np.ones(1 << 20), np.ones(1 << 20)
        del first, second
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_a_worker_keeps_the_memory_that_a_forward_pass_frees() -> None:
    env = {**os.environ, **environment(Device())}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000, "pages of 160 MB were asked for again"


def test_a_workers_device_says_how_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: 1)
    assert [d.label for d in devices("neural", EngineSettings(tf32=True))] == ["cuda:0 in TF32"]
    assert [d.label for d in devices("neural", EngineSettings(dtype="bfloat16"))] == ["cuda:0 in bfloat16"]
