"""What this machine has for the engine: cores, memory and GPUs, within the limits of a container."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
GPUS = Path("/proc/driver/nvidia/gpus")


def cores(cgroup: Path = CGROUP) -> int:
    """Cores this process may use; a container's share of them is rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        allowed = min(allowed, -(-int(quota) // int(period)))
    return max(1, allowed)


class MemoryFile:
    """A file in memory that this user's processes can open by its path for as long as this process holds it."""

    def __init__(self, name: str) -> None:
        """Raises OSError where the system has no such files."""
        if not hasattr(os, "memfd_create"):
            raise OSError("this system has no files in memory")
        self._descriptor = os.memfd_create(name)

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Take the path back; what is mapped of the file stays."""
        os.close(self._descriptor)


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """Memory this process may use."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read(cgroup / "memory.max")
    return min(total, int(limit)) if limit.isdigit() else total


def gpus(root: Path = GPUS) -> int:
    """NVIDIA GPUs that CUDA would show, without loading CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len(list(root.iterdir())) if root.is_dir() else 0
    if visible is None or not present:
        return present
    return len([d for d in visible.split(",") if d.strip() and not d.strip().startswith("-")])


def rss_bytes(pid: int) -> int:
    """Memory of a process that is not on disk; 0 where the system does not tell."""
    pages = _read(Path(f"/proc/{pid}/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
