"""The events of a job: one a change, a last one, comments in between, and an end when the gateway stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

from gateway.domain import Job
from gateway.http import events

QUEUED = Job(id="j", type="forecast", status="queued", owner="a", done=0, total=2, failed=0, created=1.0)
RUNNING = replace(QUEUED, status="running", done=1)
OVER = replace(RUNNING, status="completed", done=2)


async def told(*jobs: Job) -> AsyncIterator[Job]:
    for job in jobs:
        yield job


def test_each_change_is_an_event_and_the_last_one_is_done() -> None:
    async def play() -> bytes:
        stream = events.stream(QUEUED, told(RUNNING, OVER), lambda: False)
        return b"".join([piece async for piece in stream])

    retry, *found = asyncio.run(play()).decode().strip().split("\n\n")
    assert retry.startswith("retry: ")
    read = [dict(line.split(": ", 1) for line in event.splitlines()) for event in found]
    assert [(e["id"], e["event"]) for e in read] == [("0", "progress"), ("1", "progress"), ("2", "done")]
    assert [json.loads(e["data"])["progress"]["done"] for e in read] == [0, 1, 2]


def test_a_job_that_is_over_has_one_event() -> None:
    async def play() -> list[bytes]:
        return [piece async for piece in events.stream(OVER, told(), lambda: False)]

    pieces = asyncio.run(play())
    assert len(pieces) == 2 and b"event: done" in pieces[1]


def test_silence_is_broken_and_ends_when_the_gateway_stops() -> None:
    async def play() -> None:
        left = asyncio.Event()

        async def nothing() -> AsyncIterator[Job]:
            try:
                await asyncio.Event().wait()
                yield QUEUED
            finally:
                left.set()

        stopping = False
        stream = events.stream(QUEUED, nothing(), lambda: stopping, heartbeat_s=0.01)
        assert [await anext(stream), await anext(stream)][1].startswith(b"id: 0\nevent: progress")
        assert (await anext(stream)).startswith(b":")
        stopping = True
        assert await anext(stream, None) is None
        assert left.is_set()

    asyncio.run(play())
