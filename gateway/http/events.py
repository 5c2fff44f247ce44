"""The progress of a job as server-sent events.

An event is the job's body: `progress` at each change, `done` the last time. Comments keep the connection alive. The
first event is the job as it stands, so that a client that comes back misses nothing that still matters, whatever
`Last-Event-ID` it sends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec

from gateway.dialects.canonical.jobs import body_of
from gateway.domain import Job

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0  # proxies close connections that say nothing for a minute
LOOK_S = 1.0  # how soon a gateway that stops lets go of those who watch
RETRY_MS = 1000  # after which a client that lost the connection comes back


async def stream(
    first: Job, changes: AsyncIterator[Job], stopping: Callable[[], bool], heartbeat_s: float = HEARTBEAT_S
) -> AsyncIterator[bytes]:
    """The events of a job, of which `first` is there already."""
    yield b"retry: %d\n\n" % RETRY_MS
    yield event(first, 0)
    number, silent = 0, 0.0
    job = first
    pending: asyncio.Task[Job | None] | None = None
    try:
        while not job.over and not stopping():
            pending = pending or asyncio.create_task(_next(changes))
            done, _ = await asyncio.wait({pending}, timeout=min(LOOK_S, heartbeat_s))
            if not done:
                silent += min(LOOK_S, heartbeat_s)
                if silent >= heartbeat_s:
                    yield b": still here\n\n"
                    silent = 0.0
                continue
            changed, pending, silent = pending.result(), None, 0.0
            if changed is None:
                return
            job = changed
            number += 1
            yield event(job, number)
    finally:
        if pending is not None:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pending


async def _next(changes: AsyncIterator[Job]) -> Job | None:
    return await anext(changes, None)


def event(job: Job, number: int) -> bytes:
    """One event; its data is one line, since JSON as we write it holds no line ends."""
    name = b"done" if job.over else b"progress"
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name, msgspec.json.encode(body_of(job)))
