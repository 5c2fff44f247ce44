"""One worker process as the event loop sees it: frames in and out, its log lines, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import cast

from gateway.engine.frames import FrameReader, FromWorker, Message, decode_from_worker, encode

log = logging.getLogger(__name__)

LAST_LINE_S = 1.0  # how long the last lines of a dead worker are waited for


class WorkerProcess(asyncio.Protocol):
    """A child that reads frames from one end of a socket pair. It never outlives this process."""

    def __init__(self, name: str, receive: Callable[[FromWorker], None]) -> None:
        self._name = name
        self._receive = receive
        self._reader = FrameReader()
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.Transport | None = None
        self._lines: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()

    @classmethod
    async def spawn(
        cls, name: str, environment: Mapping[str, str], receive: Callable[[FromWorker], None]
    ) -> WorkerProcess:
        """Start a worker; `receive` is called with every message it sends. Raises OSError."""
        worker = cls(name, receive)
        ours, theirs = socket.socketpair()
        # -P: a file in the current folder must not stand for a library.
        command = [sys.executable, "-P", "-m", "gateway.engine.worker", str(theirs.fileno()), str(os.getpid())]
        try:
            with theirs:
                worker._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, **environment},
                )
            await asyncio.get_running_loop().create_unix_connection(lambda: worker, sock=ours)
        except BaseException:
            ours.close()  # which ends the child, if there is one
            raise
        worker._lines = asyncio.create_task(worker._log_lines())
        return worker

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs. The loop hears of its end later, and work that is given to it meanwhile is lost."""
        if not hasattr(os, "waitid"):  # macOS
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # asyncio has taken note of it
            return False

    def send(self, message: Message) -> None:
        """Send one message; nothing happens if the worker is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    def kill(self) -> None:
        """End the worker at once."""
        # Not Process.kill(): it may reap the child, whose end asyncio's own watcher would then miss.
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait until the worker is gone and its last message and line are read; returns its exit status."""
        assert self._process is not None
        assert self._lines is not None
        status = await self._process.wait()
        await self._gone.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lines, LAST_LINE_S)  # a child of the worker's may still hold the pipe
        return status

    async def close(self) -> None:
        """End the worker; returns when it is gone. It holds nothing that would need a farewell."""
        self.kill()
        await self.ended()

    async def _log_lines(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                log.warning("%s (%d): %s", self._name, self.pid, line.decode(errors="replace"))

    # -- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        for body in self._reader.feed(data):
            self._receive(decode_from_worker(body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self.kill()
