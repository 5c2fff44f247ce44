"""Blobs: private, whole or not there, and found again when nobody needs them."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from gateway.errors import Code, GatewayError
from gateway.jobs.blobs import Blobs, FileBlobs, RedisBlobs
from gateway.redis_server import RedisServer
from gateway.store import connect

JOB = "ab" * 16


async def exercise(blobs: Blobs) -> None:
    await blobs.write(JOB, "work-0", b"first")
    await blobs.write(JOB, "work-0", b"second")
    await blobs.write(JOB, "plan", b"")
    assert await blobs.read(JOB, "work-0") == b"second"
    assert await blobs.read(JOB, "plan") == b""
    await blobs.remove(JOB, "plan")
    await blobs.remove(JOB, "plan")
    await blobs.forget("cd" * 16)
    with pytest.raises(GatewayError) as gone:
        await blobs.read(JOB, "plan")
    assert gone.value.code is Code.NOT_FOUND
    await blobs.forget(JOB)
    with pytest.raises(GatewayError):
        await blobs.read(JOB, "work-0")


def test_files(tmp_path: Path) -> None:
    asyncio.run(exercise(FileBlobs(tmp_path)))


def test_redis(tmp_path: Path) -> None:
    async def main() -> None:
        server = RedisServer(tmp_path)
        await server.start()
        redis = connect(server.url)
        await exercise(RedisBlobs(redis, retention_s=60.0))
        await redis.aclose()
        await server.stop()

    asyncio.run(main())


def test_only_this_user_reads_files(tmp_path: Path) -> None:
    asyncio.run(FileBlobs(tmp_path).write(JOB, "work-0", b"x"))
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "jobs").rglob("*")}
    assert modes == {"ab": 0o700, JOB: 0o700, "work-0": 0o600}
    assert stat.S_IMODE((tmp_path / "jobs").stat().st_mode) == 0o700


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        blobs = FileBlobs(tmp_path)
        await blobs.write(JOB, "work-0", b"before")
        monkeypatch.setattr(os, "fdatasync", _full)
        with pytest.raises(OSError, match="no space"):
            await blobs.write(JOB, "work-0", b"after")
        assert await blobs.read(JOB, "work-0") == b"before"
        assert [p.name for p in (tmp_path / "jobs" / "ab" / JOB).iterdir()] == ["work-0"]

    asyncio.run(main())


def _full(file: int) -> None:
    raise OSError("no space")


def test_old_jobs_are_found(tmp_path: Path) -> None:
    async def main() -> None:
        blobs = FileBlobs(tmp_path)
        assert [job async for job in blobs.jobs(older_than_s=0)] == []
        await blobs.write(JOB, "work-0", b"x")
        await blobs.write("cd" * 16, "work-0", b"x")
        os.utime(tmp_path / "jobs" / "ab" / JOB, (0, 0))
        assert [job async for job in blobs.jobs(older_than_s=60)] == [JOB]

    asyncio.run(main())
