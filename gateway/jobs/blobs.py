"""Where the work of jobs and its results lie: files of this machine's data directory, or Redis where none is shared.

A blob is written whole or not at all, and read by name. Names: `plan`, `work-<chunk>`, `result-<chunk>-<ticket>`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Protocol, cast

from gateway.errors import Code, GatewayError
from gateway.store import Redis, keys

FOLDER = "jobs"


class Blobs(Protocol):
    """Named bytes of a job."""

    async def write(self, job: str, name: str, content: bytes) -> None:
        """Keep `content`, for good once this returns."""

    async def read(self, job: str, name: str) -> bytes:
        """Raises GatewayError NOT_FOUND where there is none."""

    async def remove(self, job: str, name: str) -> None:
        """Forget one blob, if it is there."""

    async def forget(self, job: str) -> None:
        """Forget all blobs of a job."""

    def jobs(self, *, older_than_s: float) -> AsyncIterator[str]:
        """Jobs that have blobs, none of which was written lately."""


def _missing(job: str) -> GatewayError:
    return GatewayError(
        Code.NOT_FOUND, f"What the job {job} needs here is gone: it was deleted or has passed its time."
    )


class FileBlobs:
    """Blobs in files that only this user can read."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / FOLDER

    async def write(self, job: str, name: str, content: bytes) -> None:
        await asyncio.to_thread(self._write, job, name, content)

    async def read(self, job: str, name: str) -> bytes:
        try:
            return await asyncio.to_thread((self._folder(job) / name).read_bytes)
        except FileNotFoundError:
            raise _missing(job) from None

    async def remove(self, job: str, name: str) -> None:
        await asyncio.to_thread((self._folder(job) / name).unlink, missing_ok=True)

    async def forget(self, job: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder(job), ignore_errors=True)

    async def jobs(self, *, older_than_s: float) -> AsyncIterator[str]:
        for name in await asyncio.to_thread(self._older, time.time() - older_than_s):
            yield name

    def _folder(self, job: str) -> Path:
        return self._root / job[:2] / job

    def _write(self, job: str, name: str, content: bytes) -> None:
        folder = self._folder(job)
        for one in (self._root, folder.parent, folder):
            one.mkdir(mode=0o700, exist_ok=True)
        # mkstemp makes it 0600. The rename shows it whole or not at all; the sync keeps it through a power cut.
        file, path = tempfile.mkstemp(dir=folder, prefix=".new-")
        try:
            with os.fdopen(file, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fdatasync(opened.fileno())
            Path(path).rename(folder / name)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise

    def _older(self, than: float) -> list[str]:
        if not self._root.is_dir():
            return []
        return [f.name for part in self._root.iterdir() for f in part.iterdir() if f.stat().st_mtime < than]


class RedisBlobs:
    """Blobs in Redis, for gateways and workers on several machines."""

    def __init__(self, redis: Redis, *, retention_s: float) -> None:
        self._redis = redis
        self._retention_ms = int(retention_s * 1000)

    async def write(self, job: str, name: str, content: bytes) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.BLOB(job), mapping={name: content})
            pipe.pexpire(keys.BLOB(job), self._retention_ms)
            await pipe.execute()

    async def read(self, job: str, name: str) -> bytes:
        content = await cast(Awaitable[bytes | None], self._redis.hget(keys.BLOB(job), name))
        if content is None:
            raise _missing(job)
        return content

    async def remove(self, job: str, name: str) -> None:
        await cast(Awaitable[int], self._redis.hdel(keys.BLOB(job), name))

    async def forget(self, job: str) -> None:
        await self._redis.delete(keys.BLOB(job))

    async def jobs(self, *, older_than_s: float) -> AsyncIterator[str]:
        return  # they pass with their key
        yield
