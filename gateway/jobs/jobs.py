"""The one door to jobs: hand in, look, cancel, fetch."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

from redis.exceptions import RedisError

from catalog import Catalog
from gateway.domain import (
    Answer,
    Backtest,
    BacktestRequest,
    BatchRequest,
    Caller,
    EnsembleRequest,
    ForecastRequest,
    Job,
    JobOrder,
    JobStatus,
    JobType,
    SeriesInput,
    Work,
)
from gateway.errors import Code, Fault, GatewayError
from gateway.jobs import answers
from gateway.jobs.blobs import Blobs
from gateway.jobs.chunks import forecast_of, members
from gateway.jobs.coordinator import Workers
from gateway.jobs.stored import answer_of, read_plan, result_name, work_or_blanks
from gateway.jobs.upload import Upload
from gateway.jobs.worker import Heartbeat
from gateway.service import ForecastService, backtests
from gateway.settings import JobSettings
from gateway.store import JobRecord, JobStore, News, keys
from gateway.store.answers import AnswerStore, Entry
from gateway.store.jobs import Row
from gateway.store.news import news_or

LOOK_S = 1.0  # between looks at a job where no news comes
SHORTEST_LOOK_S = 0.1  # between two events of a job
MAX_PAGE = 200
_CURSOR = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)-([0-9A-Za-z-]{1,64})", re.ASCII)
WEBHOOK_TRY_S = 60.0  # within which whoever tries a callback says what became of it


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """What the door opens to, once Redis answers."""

    store: JobStore
    news: News
    blobs: Blobs
    workers: Workers


class Jobs:
    """Jobs of every type. A job belongs to the caller that made it; others get NOT_FOUND, admins see all.

    Every method raises GatewayError UNAVAILABLE where there is no Redis, saying what to install or to start.
    """

    def __init__(self, service: ForecastService, catalog: Catalog, settings: JobSettings) -> None:
        self._service = service
        self._catalog = catalog
        self._settings = settings
        self.before_forgetting: Callable[[Job], Awaitable[None]] | None = None  # the ledger's last chance
        self._parts: Open | None = None
        self._closed = GatewayError(Code.UNAVAILABLE, "Jobs are being started: try again.", retry_after_s=1.0)

    def open(self, parts: Open) -> None:
        """Redis answers."""
        self._parts = parts

    def close(self, reason: GatewayError) -> None:
        """Answer every call with `reason`, until `open`."""
        self._parts, self._closed = None, reason

    # -- handing in ---

    async def submit(self, order: JobOrder, work: Work, caller: Caller) -> Job:
        """Hand in a job. With an idempotency key the same order returns the same job, another one raises CONFLICT.

        Work that cannot be right is refused here (unknown model, faults against the card), before it is queued, and so
        is a model that neither this process nor any worker can run.
        """
        return await self._submit(order, work, caller, hidden=False)

    async def submit_stream(
        self, order: JobOrder, head: ForecastRequest, series: AsyncIterator[SeriesInput], caller: Caller
    ) -> Job:
        """Hand in a forecast job of any length: `head` has no series, they are cut into chunks as they come.

        A stream that raises, or ends early by cancellation, leaves no job behind.
        """
        parts = self._open()
        with _redis_away():
            upload = await self._upload(parts, order, head, caller)
            try:
                async for one in series:
                    await upload.add(one)
                return await upload.finish(hidden=False)
            except BaseException:
                await parts.blobs.forget(upload.id)
                raise

    async def _submit(self, order: JobOrder, work: Work, caller: Caller, *, hidden: bool) -> Job:
        parts = self._open()
        with _redis_away():
            upload = await self._upload(parts, order, work, caller)
            try:
                for member in members(work):
                    await upload.add(member)
                return await upload.finish(hidden=hidden)
            except BaseException:
                await parts.blobs.forget(upload.id)
                raise

    async def _upload(self, parts: Open, order: JobOrder, work: Work, caller: Caller) -> Upload:
        card = None
        if isinstance(work, EnsembleRequest):
            for name in work.models or ():
                if self._catalog.get(name) is not None:
                    self._service.card(name, caller)
        elif not isinstance(work, BatchRequest):
            request = forecast_of(work)
            card = self._service.card(request.model, caller)
            if request.parameters.dry_run:
                raise GatewayError.invalid(Fault(("parameters", "dry_run"), "a job has no dry run"))
            status = self._service.model(card.id, caller).status
            if (
                status.state == "unavailable"
                and status.retry_after_s is None
                and not await parts.workers.slots(card.id)
            ):
                raise GatewayError(Code.UNAVAILABLE, status.reason)
        speeds = {}
        for model in self._models_of(work):
            speeds[model] = await parts.store.speed(model)
        upload = Upload(parts.store, parts.blobs, order, work, caller, card, self._catalog, self._settings, speeds)
        await upload.begin()
        return upload

    def _models_of(self, work: Work) -> set[str]:
        """Catalog ids of the models that work names."""
        if isinstance(work, EnsembleRequest):
            return set()
        if isinstance(work, BatchRequest):
            names = {r.model for r in work.requests if isinstance(r, ForecastRequest)}
        else:
            names = {forecast_of(work).model}
        cards = (self._catalog.get(name) for name in names)
        return {card.id for card in cards if card is not None}

    # -- looking ---

    async def job(self, id: str, caller: Caller) -> Job:
        """One job as it stands."""
        with _redis_away():
            return (await self._record(id, caller)).job

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
        parts = self._open()
        after = _row(cursor)
        limit = max(1, min(limit, MAX_PAGE))
        found: list[Job] = []
        with _redis_away():
            while True:
                rows, records = await parts.store.page(None if caller.admin else caller.id, after, MAX_PAGE)
                if not rows:
                    return JobPage(jobs=tuple(found), next=None)
                by_id = {record.job.id: record.job for record in records}
                for row in rows:
                    job = by_id.get(row.id)
                    if job is None or status not in (None, job.status) or type not in (None, job.type):
                        continue
                    if len(found) == limit:
                        return JobPage(jobs=tuple(found), next=f"{found[-1].created!r}-{found[-1].id}")
                    found.append(job)
                after = rows[-1]

    async def workers(self) -> tuple[Heartbeat, ...]:
        """The workers that live, embedded ones included."""
        with _redis_away():
            return await self._open().workers.now()

    async def events(self, id: str, caller: Caller) -> AsyncIterator[Job]:
        """The job as it stands, then at each change (at most some a second), the last time when it is over."""
        parts = self._open()
        seen: Job | None = None
        with parts.news.about(keys.JOB_CHANGED(id)) as changed:
            while True:
                changed.clear()
                try:
                    with _redis_away():
                        job = (await self._record(id, caller)).job
                except GatewayError as error:
                    if seen is not None and error.code is Code.NOT_FOUND:
                        return  # deleted while it was watched
                    raise
                if job != seen:
                    yield job
                if job.over:
                    return
                seen = job
                await asyncio.sleep(SHORTEST_LOOK_S)
                await news_or(changed, LOOK_S)

    # -- ending ---

    async def cancel(self, id: str, caller: Caller) -> Job:
        """Stop a job within 2 s; what is done stays readable. A job that is over stays as it is."""
        parts = self._open()
        with _redis_away():
            await self._record(id, caller)
            await parts.store.finish(id, "cancelled")
            return (await self._record(id, caller)).job

    async def delete(self, id: str, caller: Caller) -> None:
        """Cancel a job if it still runs, and forget it with its results."""
        parts = self._open()
        with _redis_away():
            record = await self._record(id, caller)
            await parts.store.finish(id, "cancelled")
            if self.before_forgetting is not None:
                await self.before_forgetting((await self._record(id, caller)).job)
            await parts.store.forget(record)
            await parts.blobs.forget(id)

    # -- results ---

    async def answer(self, id: str, caller: Caller) -> Answer:
        """The whole result, totals included. CONFLICT while the job is not over, its own error where it failed."""
        with _redis_away():
            job = (await self._record(id, caller)).job
            if not job.over:
                raise GatewayError(
                    Code.CONFLICT, f"The job is {job.status}: {job.done} of {job.total} are done.", retry_after_s=1.0
                )
            if job.status == "failed":
                raise GatewayError(job.code or Code.INTERNAL, job.error or "The job failed.")
            if not job.done:
                raise answers.cancelled(job.status)
            parts = [s.answer async for s in self._slices(id, caller, 0, None, shift=job.type == "forecast")]
            took_s = (job.finished or job.created) - (job.started or job.created)
            return answers.dated(answers.merged(parts), id, job.created, took_s)

    async def slices(
        self, id: str, caller: Caller, *, first: int = 0, count: int | None = None
    ) -> AsyncIterator[Slice]:
        """Members `first` to `first + count` of a result, chunk by chunk and in order, so far as they are there.

        Of a job that still runs only what is done from `first` on without a gap; members of failed chunks are there
        as errors. The memory of one chunk is all that it takes.
        """
        found = self._slices(id, caller, first, count, shift=True)
        while True:
            with _redis_away():
                try:
                    one = await anext(found)
                except StopAsyncIteration:
                    return
            yield one

    async def _slices(
        self, id: str, caller: Caller, first: int, count: int | None, *, shift: bool
    ) -> AsyncIterator[Slice]:
        parts = self._open()
        job = (await self._record(id, caller)).job
        end = job.total if count is None else min(job.total, first + count)
        if first >= end:
            return
        plan = await read_plan(parts.blobs, id)
        chunks, begin = plan.chunks, plan.at(first)
        for index in range(begin, len(chunks)):
            chunk = chunks[index]
            if chunk.first >= end:
                return
            answer = await self._chunk(parts, job, index, chunk.count)
            if answer is None:
                return
            low, high = max(0, first - chunk.first), min(chunk.count, end - chunk.first)
            if shift:
                answer = answers.shifted(answer, chunk.first)
            if (low, high) != (0, chunk.count):
                answer = answers.trimmed(answer, low, high)
            yield Slice(first=chunk.first + low, answer=answer)

    async def _chunk(self, parts: Open, job: Job, index: int, count: int) -> Answer | None:
        """The answer to one chunk; None if it is not there yet."""
        ticket = await parts.store.settled(job.id, index)
        if ticket is not None:
            return await answer_of(await parts.blobs.read(job.id, result_name(index, ticket)))
        if not job.over:
            return None
        error = GatewayError(job.code, job.error or "") if job.status == "failed" and job.code else None
        error = error or answers.cancelled(job.status)
        work = await work_or_blanks(parts.blobs, job.id, index, count, error)
        card = None
        if not isinstance(work, (BatchRequest, EnsembleRequest)):
            card = self._catalog.get(forecast_of(work).model)
        return answers.failed(work, error, card, int(job.created))

    # -- ensembles ---

    async def backtest(self, request: BacktestRequest, *, caller: Caller, deadline: float) -> Backtest:
        """Run one candidate of an ensemble as a job of its own and wait for it; cancelling the call cancels it.

        Only where workers other than this process offer the model; else the engine here runs it, which is the same
        work without the way through the queue.
        """
        if not await self._elsewhere(request.forecast.model, caller):
            return await backtests.backtest(self._service, request, caller=caller, deadline=deadline)
        left = deadline - asyncio.get_running_loop().time()
        order = JobOrder(type="backtest", priority=10, deadline_s=max(0.0, left))
        job = await self._submit(order, request, caller, hidden=True)
        try:
            async for state in self.events(job.id, caller):
                job = state
            if job.status == "expired":
                raise GatewayError(Code.DEADLINE_EXCEEDED, "The deadline passed before the backtest was done.")
            answer = await self.answer(job.id, caller)
            assert isinstance(answer, Backtest)
            return answer
        finally:
            with contextlib.suppress(GatewayError):
                await asyncio.shield(self.delete(job.id, caller))

    async def _elsewhere(self, name: str, caller: Caller) -> bool:
        if self._parts is None:
            return False
        model = self._service.card(name, caller).id
        try:
            return any(not w.embedded and model in w.models for w in await self._parts.workers.now())
        except (RedisError, OSError):
            return False

    # -- answers kept for idempotency keys ---

    def kept(self, kind: type[Entry]) -> AnswerStore[Entry] | None:
        """Where answers to calls with an idempotency key are kept for all gateways; None where there is no Redis."""
        return None if self._parts is None else AnswerStore(self._parts.store.redis, kind)

    # -- callbacks ---

    async def claim_callback(self) -> Job | None:
        """A job that is over and whose callback is due; it is nobody else's for a minute. None: there is none.

        Whoever claims it says what became of it by `postpone_callback` or `drop_callback`.
        """
        parts = self._open()
        now = time.time()
        with _redis_away():
            id = await parts.store.claim_webhook(now, now + WEBHOOK_TRY_S)
            if id is None:
                return None
            record = await parts.store.record(id)
            if record is None:
                await parts.store.drop_webhook(id)
            return record.job if record else None

    async def postpone_callback(self, id: str, delay_s: float) -> None:
        """Have a callback tried again after `delay_s`."""
        with _redis_away():
            await self._open().store.postpone_webhook(id, time.time() + delay_s)

    async def drop_callback(self, id: str) -> None:
        """A callback was delivered, or is given up."""
        with _redis_away():
            await self._open().store.drop_webhook(id)

    # -- who may ---

    def _open(self) -> Open:
        if self._parts is None:
            raise GatewayError(self._closed.code, self._closed.sentence, retry_after_s=self._closed.retry_after_s)
        return self._parts

    async def _record(self, id: str, caller: Caller) -> JobRecord:
        record = await self._open().store.record(id)
        if record is None or not (caller.admin or record.job.owner == caller.id):
            raise GatewayError(Code.NOT_FOUND, f"There is no job {id[:64]!r}.")
        return record


@contextlib.contextmanager
def _redis_away() -> Iterator[None]:
    """Say it in our own words when Redis does not answer."""
    try:
        yield
    except RedisError:
        sentence = "Redis, which jobs need, does not answer: try again."
        raise GatewayError(Code.UNAVAILABLE, sentence, retry_after_s=1.0) from None


def _row(cursor: str | None) -> Row | None:
    """The last row of the page before."""
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise GatewayError.invalid(
            Fault(("cursor",), "the next page begins at the `next` of the page before; this is none")
        )
    return Row(float(found[1]), found[2])
