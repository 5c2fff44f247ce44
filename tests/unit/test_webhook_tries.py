"""How often a callback is tried, over a real connection and a door of jobs that says what is due."""

from __future__ import annotations

import asyncio
from queue import Empty
from typing import cast

import pytest

from gateway.domain import Job
from gateway.jobs import Jobs
from gateway.jobs.webhooks import TRIES_S, Webhooks
from tests.receiver import Receiver, receiving


class Owing:
    """One callback that is due, and what was said of it."""

    def __init__(self, job: Job) -> None:
        self._due: Job | None = job
        self.said: asyncio.Queue[float | None] = asyncio.Queue()  # seconds until the next try; None: dropped

    async def claim_callback(self) -> Job | None:
        job, self._due = self._due, None
        return job

    async def postpone_callback(self, id: str, delay_s: float) -> None:
        await self.said.put(delay_s)

    async def drop_callback(self, id: str) -> None:
        await self.said.put(None)


def said(receiver: Receiver, *, age_s: float = 0.0, allow_private: bool = True, url: str = "") -> float | None:
    """What is said of a callback after one try, `age_s` after the end of its job."""
    job = Job(
        id="j",
        type="forecast",
        status="completed",
        owner="a",
        done=1,
        total=1,
        failed=0,
        created=0.0,
        finished=1000.0,
        callback_url=url or receiver.url,
    )

    async def one_try() -> float | None:
        owing = Owing(job)
        jobs = cast(Jobs, owing)
        webhooks = Webhooks(jobs, lambda: b"p" * 32, allow_private=allow_private, clock=lambda: 1000.0 + age_s)
        running = asyncio.create_task(webhooks.run())
        try:
            return await asyncio.wait_for(owing.said.get(), 30.0)
        finally:
            running.cancel()

    return asyncio.run(one_try())


@pytest.mark.parametrize("status", [200, 204, 410])
def test_one_that_is_taken_or_gone_is_not_sent_again(status: int) -> None:
    with receiving([status]) as receiver:
        assert said(receiver) is None


@pytest.mark.parametrize("status", [302, 400, 429, 500, 503])
def test_one_that_is_refused_is_tried_later(status: int) -> None:
    """And a redirect is not followed."""
    with receiving([status]) as receiver:
        delay_s = said(receiver)
        assert delay_s is not None and TRIES_S[1] <= delay_s <= 1.2 * TRIES_S[1]
        assert receiver.callbacks.get(timeout=1.0).path == "/"
        with pytest.raises(Empty):
            receiver.callbacks.get_nowait()


def test_tries_are_further_and_further_apart_and_end() -> None:
    with receiving([500]) as receiver:
        waits = []
        for age_s in TRIES_S:
            delay_s = said(receiver, age_s=age_s)
            waits.append(delay_s)
    assert waits[-1] is None
    known = [w for w in waits if w is not None]
    assert len(known) == 4 and known == sorted(known)


def test_nobody_there_is_tried_later() -> None:
    with receiving() as receiver:
        pass
    assert said(receiver) is not None


def test_an_address_that_is_no_longer_allowed_is_not_called() -> None:
    """What is checked when a job is handed in is checked again when it is over."""
    with receiving() as receiver:
        assert said(receiver, allow_private=False) is not None
        assert receiver.callbacks.empty()


def test_the_name_is_in_the_request_though_the_connection_goes_to_the_address() -> None:
    with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        assert said(receiver, url=url) is None
        assert receiver.callbacks.get(timeout=1.0).headers["host"] == url.removeprefix("http://")
