"""A job on its way in: checked, cut and written as it comes, and made at once when all of it is there."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from dataclasses import replace

from catalog import Catalog, ModelCard
from gateway import tracing
from gateway.domain import Caller, EnsembleRequest, ForecastRequest, Job, JobOrder, SeriesInput, Work
from gateway.errors import Code, Fault, GatewayError
from gateway.jobs import codec
from gateway.jobs.blobs import Blobs
from gateway.jobs.chunks import Bounds, Chunk, Cutter, Member, bounds_of
from gateway.jobs.stored import work_name, write_plan
from gateway.pacing import SLICE_S, paced
from gateway.planning import plan as planned
from gateway.settings import JobSettings
from gateway.store import JobRecord, JobStore, keys


class Upload:
    """A job that is being handed in: its chunks are written as they fill, and the job is made when all are there."""

    def __init__(
        self,
        store: JobStore,
        blobs: Blobs,
        order: JobOrder,
        work: Work,
        caller: Caller,
        card: ModelCard | None,
        catalog: Catalog,
        settings: JobSettings,
        speeds: dict[str, float | None],
    ) -> None:
        self.id = uuid.uuid4().hex
        self._store = store
        self._blobs = blobs
        self._order = order
        self._work = work
        self._caller = caller
        self._card = card
        self._catalog = catalog
        self._settings = settings
        self._speeds = speeds
        self._chunks: list[Chunk] = []
        self._slice = time.perf_counter()  # since when this holds the loop
        self._count = 0
        self._digest = hashlib.sha256(repr((order.type, order.priority, order.deadline_s, order.callback_url)).encode())
        self._cutter = Cutter(work, self._bounds, self._name)

    async def begin(self) -> None:
        """Take what is asked of every member."""
        await self._note(self._work)

    async def add(self, member: Member) -> None:
        """Take a member, and write the chunk that it completes."""
        if isinstance(member, SeriesInput) and self._card is not None:
            await self._check(member)
        await self._note(member)
        self._count += 1
        if time.perf_counter() - self._slice > SLICE_S:  # neighbours get their turn
            await asyncio.sleep(0)
            self._slice = time.perf_counter()
        await self._write(self._cutter.add(member))

    async def finish(self, *, hidden: bool) -> Job:
        """Make the job, or find the one that the same order made before."""
        await self._write(self._cutter.rest())
        if not self._count:
            raise GatewayError.invalid(Fault(("inputs",), "a job needs at least one"))
        await write_plan(self._blobs, self.id, self._work, self._chunks)
        order, now = self._order, time.time()
        job = Job(
            id=self.id,
            type=order.type,
            status="queued",
            owner=self._caller.id,
            done=0,
            total=self._count,
            failed=0,
            created=now,
            priority=max(-10, min(10, order.priority)),
            deadline=None if order.deadline_s is None else now + order.deadline_s,
            model=self._card.id if self._card else "ensemble" if isinstance(self._work, EnsembleRequest) else "",
            callback_url=order.callback_url,
            request_id=order.request_id,
        )
        key = ""
        if order.idempotency_key is not None:
            digest = hashlib.sha256(order.idempotency_key.encode()).hexdigest()
            key = keys.IDEMPOTENCY(self._caller.id, digest)
        record = JobRecord(
            job=job,
            caller=self._caller,
            chunks=len(self._chunks),
            hidden=hidden,
            idempotency=key,
            trace=tracing.carried(),
        )
        body = self._digest.hexdigest()
        claim = await self._store.create(record, body=body)
        if claim is None:
            return job
        await self._blobs.forget(self.id)
        if claim.body != body:
            raise GatewayError(
                Code.CONFLICT, "This idempotency key was used with another body: choose another key, or send the same."
            )
        made = await self._store.record(claim.id)
        if made is None:
            raise GatewayError(Code.CONFLICT, "The job that this idempotency key made is gone: choose another key.")
        return made.job

    async def _check(self, series: SeriesInput) -> None:
        """Refuse a series that the model's card does not promise, at its place in the job."""
        assert self._card is not None
        if not isinstance(self._work, ForecastRequest):
            return  # what holds for a forecast's series need not hold for a backtest's
        request = replace(self._work, series=(series,))
        try:
            await paced(planned(request, self._card))
        except GatewayError as error:
            faults = tuple(
                Fault(("inputs", self._count, *f.loc[2:]), f.msg, f.type) if f.loc[:1] == ("inputs",) else f
                for f in error.faults
            )
            raise (GatewayError.invalid(*faults) if faults else error) from None

    async def _note(self, part: Member | Work) -> None:
        """Have `part` tell this order from others of its idempotency key, however it is cut into chunks."""
        if self._order.idempotency_key is not None:
            self._digest.update(await paced(codec.encode(part)))

    async def _write(self, full: tuple[Chunk, Work] | None) -> None:
        if full is None:
            return
        chunk, work = full
        content = await paced(codec.encode(work))
        await self._blobs.write(self.id, work_name(len(self._chunks)), content)
        self._chunks.append(chunk)

    def _bounds(self, model: str) -> Bounds:
        return bounds_of(self._speeds.get(model), self._settings.chunk_series)

    def _name(self, model: str) -> str | None:
        card = self._catalog.get(model)
        return None if card is None else card.id
