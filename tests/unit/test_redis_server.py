"""A redis-server of our own: private, kept alive, shared by gateways of one folder, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from gateway.errors import Code, GatewayError
from gateway.redis_server import RedisServer, find_server
from gateway.store import connect

HANG_LIMIT_S = 30.0


def pid_of(folder: Path) -> int:
    return int((folder / "redis" / "redis.pid").read_text())


async def said(server: RedisServer, key: str) -> bytes | None:
    redis = connect(server.url)
    try:
        found: bytes | None = await redis.get(key)
        return found
    finally:
        await redis.aclose()


async def say(server: RedisServer, key: str, value: str) -> None:
    redis = connect(server.url)
    try:
        await redis.set(key, value)
    finally:
        await redis.aclose()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HANG_LIMIT_S):
        while not await holds():  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.02)


def test_only_this_user_can_reach_it(tmp_path: Path) -> None:
    async def main() -> None:
        server = RedisServer(tmp_path)
        await server.start()
        try:
            assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
            assert stat.S_IMODE((tmp_path / "redis").stat().st_mode) == 0o700
            listening = [c.laddr for c in psutil.Process(pid_of(tmp_path)).net_connections("inet")]
            assert listening == []
            redis = connect(server.url)
            found = await redis.config_get("append*")
            assert (found["appendonly"], found["appendfsync"]) == ("yes", "everysec")
            await redis.aclose()
        finally:
            await server.stop()
        assert not server.socket.exists()

    asyncio.run(main())


def test_what_it_holds_survives_its_end_and_its_death(tmp_path: Path) -> None:
    async def main() -> None:
        server = RedisServer(tmp_path)
        await server.start()
        await say(server, "a", "1")
        await server.stop()
        server = RedisServer(tmp_path)
        await server.start()
        try:
            assert await said(server, "a") == b"1"
            await say(server, "b", "2")
            before = pid_of(tmp_path)
            os.kill(before, signal.SIGKILL)

            async def back() -> bool:
                try:
                    return pid_of(tmp_path) != before and await said(server, "b") == b"2"
                except Exception:
                    return False

            await until(back)
        finally:
            await server.stop()

    asyncio.run(main())


def test_gateways_of_one_folder_share_it_and_inherit_it(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = RedisServer(tmp_path), RedisServer(tmp_path)
        await first.start()
        await second.start()
        try:
            before = pid_of(tmp_path)
            await say(first, "a", "1")
            assert await said(second, "a") == b"1"
            await first.stop()

            async def inherited() -> bool:
                try:
                    return pid_of(tmp_path) != before and await said(second, "a") == b"1"
                except Exception:
                    return False

            await until(inherited)
        finally:
            await second.stop()
        assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]

    asyncio.run(main())


def test_an_orphan_is_adopted(tmp_path: Path) -> None:
    """A server without its gateway, as where the parent-death signal does not exist."""
    binary = find_server()
    assert binary is not None
    folder = tmp_path / "redis"
    folder.mkdir()
    command = [str(binary), "--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder)]
    command += ["--pidfile", str(folder / "redis.pid"), "--appendonly", "yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as orphan:

        async def main() -> None:
            async def there() -> bool:
                return (folder / "redis.pid").exists() and (folder / "redis.sock").exists()

            await until(there)
            server = RedisServer(tmp_path)
            await server.start()
            await say(server, "a", "1")
            assert pid_of(tmp_path) == orphan.pid
            await server.stop()

        asyncio.run(main())
        assert orphan.wait(HANG_LIMIT_S) == 0


def test_it_dies_with_its_gateway(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, pathlib; from gateway.redis_server import RedisServer\n"
        "async def main():\n"
        "    await RedisServer(pathlib.Path(sys.argv[1])).start(); print('up', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == "up\n"
        server = psutil.Process(pid_of(tmp_path))
        gateway.kill()
        server.wait(HANG_LIMIT_S)


def test_a_long_folder_gets_a_short_socket(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / ("long-" * 20)
        folder.mkdir()
        server = RedisServer(folder)
        assert len(os.fsencode(server.socket)) <= 100
        await server.start()
        try:
            assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
            await say(server, "a", "1")
        finally:
            await server.stop()

    asyncio.run(main())


def test_without_a_binary_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("gateway.redis_server.find_spec", lambda name: None)
    with pytest.raises(GatewayError) as refused:
        asyncio.run(RedisServer(tmp_path).start())
    assert refused.value.code is Code.UNAVAILABLE
    assert "redis-server" in refused.value.sentence
    assert "--redis-url" in refused.value.sentence


def test_a_binary_that_fails_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.redis_server.START_S", 1.0)
    began = time.monotonic()
    server = RedisServer(tmp_path, Path("/bin/false"))

    async def main() -> None:
        try:
            await server.start()
        finally:
            await server.stop()

    with pytest.raises(GatewayError, match="does not start"):
        asyncio.run(main())
    assert time.monotonic() - began < HANG_LIMIT_S
