"""The one door to jobs: hand in, look, cancel, fetch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.domain import (
    Answer,
    Backtest,
    BacktestRequest,
    Caller,
    ForecastRequest,
    Job,
    JobOrder,
    JobStatus,
    JobType,
    SeriesInput,
    Work,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Some jobs, the newest first."""

    jobs: tuple[Job, ...]
    next: str | None  # where the next page begins; None: there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Neighbouring members of a long result: the answer to one chunk of the job, in the order of the inputs.

    An answer's `outputs` (a batch's `results`) are the members; its totals are those of the chunk alone.
    """

    first: int  # index of the first member within the job
    answer: Answer


class Jobs:
    """Jobs of every type. A job belongs to the caller that made it; others get NOT_FOUND, admins see all.

    Every method raises GatewayError UNAVAILABLE where there is no Redis, saying what to install or to start.
    """

    async def submit(self, order: JobOrder, work: Work, caller: Caller) -> Job:
        """Hand in a job. With an idempotency key the same order returns the same job, another one raises CONFLICT.

        Work that cannot be right is refused here (unknown model, faults against the card), before it is queued.
        """
        raise NotImplementedError

    async def submit_stream(
        self, order: JobOrder, head: ForecastRequest, series: AsyncIterator[SeriesInput], caller: Caller
    ) -> Job:
        """Hand in a forecast job of any length: `head` has no series, they are cut into chunks as they come.

        A stream that raises, or ends early by cancellation, leaves no job behind.
        """
        raise NotImplementedError

    async def job(self, id: str, caller: Caller) -> Job:
        """One job as it stands."""
        raise NotImplementedError

    async def jobs(
        self,
        caller: Caller,
        *,
        status: JobStatus | None = None,
        type: JobType | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """The caller's jobs (an admin's: all), the newest first."""
        raise NotImplementedError

    async def cancel(self, id: str, caller: Caller) -> Job:
        """Stop a job within 2 s; what is done stays readable. A job that is over stays as it is."""
        raise NotImplementedError

    async def delete(self, id: str, caller: Caller) -> None:
        """Cancel a job if it still runs, and forget it with its results."""
        raise NotImplementedError

    def events(self, id: str, caller: Caller) -> AsyncIterator[Job]:
        """The job as it stands, then at each change (at most some a second), the last time when it is over."""
        raise NotImplementedError

    async def answer(self, id: str, caller: Caller) -> Answer:
        """The whole result, totals included. CONFLICT while the job is not over, its own error where it failed."""
        raise NotImplementedError

    def slices(self, id: str, caller: Caller, *, first: int = 0, count: int | None = None) -> AsyncIterator[Slice]:
        """Members `first` to `first + count` of a result, chunk by chunk and in order, so far as they are there.

        Of a job that still runs only what is done from `first` on without a gap; members of failed chunks are there
        as errors. The memory of one chunk is all that it takes.
        """
        raise NotImplementedError

    async def backtest(self, request: BacktestRequest, *, caller: Caller, deadline: float) -> Backtest:
        """Run one candidate of an ensemble as a job of its own and wait for it; cancelling the call cancels it."""
        raise NotImplementedError
