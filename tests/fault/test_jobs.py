"""Jobs through cancels, deadlines, poison, kills and restarts: nothing is lost, nothing is done twice over."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from catalog.card import Weights
from gateway.domain import (
    Backtest,
    BacktestRequest,
    BatchAnswer,
    BatchRequest,
    Caller,
    EnsembleForecast,
    EnsembleRequest,
    Forecast,
    Job,
    SeriesError,
    SeriesForecast,
)
from gateway.errors import Code, GatewayError
from gateway.redis_server import find_server
from gateway.settings import EngineSettings
from gateway.store import keys
from tests.engine_adapters import EXIT, RAISE, WAIT, card
from tests.fault.test_engine import make_weights
from tests.jobs import ADMIN, ALICE, BOB, HANG_LIMIT_S, MODEL, ORDER, Running, request, running
from tests.live.gated import Gate
from tests.unit.test_store import undocumented

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _workers_see_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate.make(tmp_path / "gate")


def means(answer: object) -> list[float | None]:
    """The first forecast value of each series; None where it failed."""
    assert isinstance(answer, Forecast)
    return [float(o.mean[0, 0]) if isinstance(o, SeriesForecast) else None for o in answer.outputs]


def files(data_dir: Path) -> list[Path]:
    """What lies in the blobs of all jobs."""
    return sorted(p for p in (data_dir / "jobs").rglob("*") if p.is_file())


async def sliced(run: Running, job: Job, caller: Caller = ALICE) -> list[float | None]:
    """What is there of a result, slice by slice."""
    found: list[float | None] = []
    async for part in run.jobs.slices(job.id, caller):
        assert part.first == len(found)
        found += means(part.answer)
    return found


def test_a_job_answers_every_series_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as run:
            job = await run.end(await run.jobs.submit(ORDER, request(range(10), acts={5: RAISE}), ALICE))
            assert (job.status, job.done, job.total, job.failed) == ("partial", 10, 10, 1)
            answer = await run.jobs.answer(job.id, ALICE)
            expected = [0.0, 1.0, 2.0, 3.0, 4.0, None, 6.0, 7.0, 8.0, 9.0]
            assert means(answer) == expected == await sliced(run, job)
            assert isinstance(answer, Forecast)
            assert answer.usage == job.usage
            assert answer.usage.input_tokens == 9 * 8
            part = [s async for s in run.jobs.slices(job.id, ALICE, first=3, count=2)]
            assert [(s.first, means(s.answer)) for s in part] == [(3, [3.0]), (4, [4.0])]
            await undocumented(run.store)

    asyncio.run(main())


def test_batches_are_cut_by_requests(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as run:
            bad = GatewayError(Code.INVALID_ARGUMENT, "unreadable")
            unknown = replace(request([1.0]), model="nobody")
            every = (*(request([float(i)]) for i in range(5)), bad, unknown, request([9.0], acts={0: RAISE}))
            job = await run.end(
                await run.jobs.submit(replace(ORDER, type="batch"), BatchRequest(requests=every), ALICE)
            )
            assert (job.status, job.done, job.failed) == ("partial", 8, 3)
            answer = await run.jobs.answer(job.id, ALICE)
            assert isinstance(answer, BatchAnswer)
            codes = [r.code if isinstance(r, GatewayError) else means(r) for r in answer.results]
            assert codes == [
                *([float(i)] for i in range(5)),
                Code.INVALID_ARGUMENT,
                Code.NOT_FOUND,
                Code.MODEL_FAILED,
            ]

    asyncio.run(main())


def test_a_stream_becomes_a_job_or_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as run:
            head = replace(request([]), series=())

            async def series(good: int, *, then: bool):  # type: ignore[no-untyped-def]
                for one in request(range(good)).series:
                    yield one
                if then:
                    raise GatewayError(Code.MALFORMED, "cut off")

            job = await run.end(await run.jobs.submit_stream(ORDER, head, series(9, then=False), ALICE))
            assert await sliced(run, job) == [float(i) for i in range(9)]
            before = files(tmp_path)
            with pytest.raises(GatewayError, match="cut off"):
                await run.jobs.submit_stream(ORDER, head, series(9, then=True), ALICE)
            wrong = replace(head, parameters=replace(head.parameters, prediction_length=65))
            with pytest.raises(GatewayError, match="at most 64"):
                await run.jobs.submit_stream(ORDER, wrong, series(9, then=False), ALICE)
            assert sorted(p for p in (tmp_path / "jobs").rglob("*") if p.is_file()) == [
                p for p in before if p.is_file()
            ]
            assert [j.id for j in (await run.jobs.jobs(ALICE)).jobs] == [job.id]

    asyncio.run(main())


def test_a_cancelled_job_stops_and_frees_its_worker(tmp_path: Path, gate: Gate) -> None:
    async def main() -> None:
        async with running(tmp_path, card(gate=gate), job_slots=1) as run:
            work = request(range(12), acts={4: WAIT})
            job = await run.jobs.submit(ORDER, work, ALICE)
            await asyncio.to_thread(gate.wait_until_started)
            began = asyncio.get_running_loop().time()
            assert (await run.jobs.cancel(job.id, ALICE)).status == "cancelled"
            after = await run.end(await run.jobs.submit(ORDER, request([7.0]), ALICE))
            print(f"a worker was free {asyncio.get_running_loop().time() - began:.1f} s after the cancel")
            assert after.status == "completed"
            assert await sliced(run, job) == [0.0, 1.0, 2.0, 3.0, *[None] * 8]
            assert (await run.jobs.cancel(job.id, ALICE)).status == "cancelled"
            assert (await run.jobs.cancel(after.id, ALICE)).status == "completed"
            await run.jobs.delete(job.id, ALICE)
            with pytest.raises(GatewayError, match="no job"):
                await run.jobs.job(job.id, ALICE)
            assert not list((tmp_path / "jobs").glob(f"*/{job.id}"))

    asyncio.run(main())


def test_a_job_ends_at_its_deadline(tmp_path: Path, gate: Gate) -> None:
    async def main() -> None:
        async with running(tmp_path, card(gate=gate), job_slots=1) as run:
            order = replace(ORDER, deadline_s=1.5)
            job = await run.jobs.submit(order, request(range(8), acts={4: WAIT}), ALICE)
            await asyncio.to_thread(gate.wait_until_started)
            job = await run.end(job)
            assert (job.status, job.code) == ("expired", Code.DEADLINE_EXCEEDED)
            assert await sliced(run, job) == [0.0, 1.0, 2.0, 3.0, *[None] * 4]

    asyncio.run(main())


def test_a_poison_chunk_fails_alone(tmp_path: Path, gate: Gate) -> None:
    async def main() -> None:
        async with running(tmp_path, card(gate=gate), job_slots=1) as run:
            job = await run.jobs.submit(ORDER, request(range(12), acts={0: WAIT}), ALICE)
            await asyncio.to_thread(gate.wait_until_started)
            (tmp_path / "jobs" / job.id[:2] / job.id / "work-1").write_bytes(b"\x01 what a disk may do")
            await asyncio.to_thread(gate.open)
            job = await run.end(job)
            assert (job.status, job.done, job.failed) == ("partial", 12, 4)
            answer = await run.jobs.answer(job.id, ALICE)
            assert means(answer) == [0.0, 1.0, 2.0, 3.0, *[None] * 4, 8.0, 9.0, 10.0, 11.0]
            assert isinstance(answer, Forecast)
            error = answer.outputs[4]
            assert isinstance(error, SeriesError)
            assert "3 tries failed" in error.sentence

    asyncio.run(main())


def test_a_chunk_whose_workers_are_lost_fails_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, job_slots=0, chunk_tries=1) as run:
            job = await run.jobs.submit(ORDER, request(range(8)), ALICE)
            async with asyncio.timeout(HANG_LIMIT_S):
                while not await queued(run, job):  # noqa: ASYNC110 - Redis sets no event
                    await asyncio.sleep(0.01)
            _, chunks, _ = await run.store.progress(job.id)
            # A worker that takes a chunk and is never heard of again.
            assert await run.store.take(job.id, 0, chunks[0].ticket, "ghost") == "ours"
            began = asyncio.get_running_loop().time()
            async with asyncio.timeout(HANG_LIMIT_S):
                async for state in run.jobs.events(job.id, ALICE):
                    if state.failed:
                        break
            print(f"the loss was seen after {asyncio.get_running_loop().time() - began:.1f} s")
            async with running(tmp_path, embedded=False):
                job = await run.end(job)
            assert (job.status, job.failed) == ("partial", 4)
            answer = await run.jobs.answer(job.id, ALICE)
            assert means(answer) == [*[None] * 4, 4.0, 5.0, 6.0, 7.0]
            assert isinstance(answer, Forecast)
            error = answer.outputs[0]
            assert isinstance(error, SeriesError)
            assert "was lost" in error.sentence

    asyncio.run(main())


def test_a_series_that_ends_its_process_fails_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as run:
            job = await run.end(await run.jobs.submit(ORDER, request(range(8), acts={6: EXIT}), ALICE))
            assert (job.status, job.failed) == ("partial", 1)
            assert await sliced(run, job) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, None, 7.0]

    asyncio.run(main())


def test_a_refused_chunk_waits_for_room(tmp_path: Path, gate: Gate) -> None:
    async def main() -> None:
        # So little may wait that the second chunk is refused for as long as the first is at the gate.
        engine = EngineSettings(statistical_workers=1, workers=1, load_wait_s=HANG_LIMIT_S, max_queue_s=1e-9)
        async with running(tmp_path, card(gate=gate), engine=engine, job_slots=3, chunk_tries=1) as run:
            job = await run.jobs.submit(ORDER, request(range(12), acts={0: WAIT, 4: WAIT, 8: WAIT}), ALICE)
            for _ in range(3):
                await asyncio.to_thread(gate.wait_until_started)
                await asyncio.to_thread(gate.open)
            job = await run.end(job)
            assert (job.status, job.failed) == ("completed", 0)

    asyncio.run(main())


def test_a_model_that_no_worker_offers_fails_its_chunk(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, models=("other/*",), worker_wait_s=0.5) as run:
            job = await run.end(await run.jobs.submit(ORDER, request(range(2)), ALICE))
            assert (job.status, job.code) == ("failed", Code.UNAVAILABLE)
            with pytest.raises(GatewayError, match="No worker offers"):
                await run.jobs.answer(job.id, ALICE)

    asyncio.run(main())


def test_a_model_whose_weights_are_missing_is_refused_as_at_once(tmp_path: Path) -> None:
    missing = card(weights={"model": Weights(repository="nobody/nothing")})
    engine = EngineSettings(statistical_workers=1, workers=1, weights_dir=str(tmp_path / "weights"))

    async def main() -> None:
        async with running(tmp_path, missing, engine=engine, worker_wait_s=0.5) as run:
            with pytest.raises(GatewayError) as at_once:
                await run.service.forecast(request([1.0]), caller=ALICE, deadline=HANG_LIMIT_S * 1e6)
            with pytest.raises(GatewayError) as refused:
                await run.jobs.submit(ORDER, request([1.0]), ALICE)
            assert (refused.value.code, refused.value.sentence) == (at_once.value.code, at_once.value.sentence)
            assert f"forecast-gateway pull {MODEL}" in refused.value.sentence
            assert (await run.jobs.jobs(ALICE)).jobs == ()
            assert files(tmp_path) == []
            # In a batch each request fails alone, and says the same.
            batch = BatchRequest(requests=(request([1.0]),))
            job = await run.end(await run.jobs.submit(replace(ORDER, type="batch"), batch, ALICE))
            assert f"forecast-gateway pull {MODEL}" in (job.error or "")

    asyncio.run(main())


def test_a_model_that_only_another_worker_has_is_taken(tmp_path: Path) -> None:
    weights = {"model": Weights(repository="nobody/nothing")}
    make_weights(tmp_path / "worker" / "weights" / "nobody/nothing", 8)

    def engine(name: str) -> EngineSettings:
        folder = str(tmp_path / name / "weights")
        return EngineSettings(statistical_workers=1, workers=1, load_wait_s=HANG_LIMIT_S, weights_dir=folder)

    async def main() -> None:
        async with running(tmp_path / "gateway", card(weights=weights), engine=engine("gateway"), job_slots=0) as run:
            url = f"unix://{tmp_path}/gateway/redis/redis.sock"
            worker = running(
                tmp_path / "worker", card(weights=weights), engine=engine("worker"), redis_url=url, embedded=False
            )
            async with worker, asyncio.timeout(HANG_LIMIT_S):
                while not any(MODEL in w.models for w in await run.jobs.workers()):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.05)
                job = await run.end(await run.jobs.submit(ORDER, request([1.0]), ALICE))
                assert job.status == "completed"

    asyncio.run(main())


def test_jobs_belong_to_those_who_made_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as run:
            job = await run.end(await run.jobs.submit(ORDER, request(range(2)), ALICE))
            calls = [
                lambda: run.jobs.job(job.id, BOB),
                lambda: run.jobs.cancel(job.id, BOB),
                lambda: run.jobs.delete(job.id, BOB),
                lambda: run.jobs.answer(job.id, BOB),
                lambda: anext(run.jobs.slices(job.id, BOB)),
                lambda: anext(run.jobs.events(job.id, BOB)),
            ]
            for call in calls:
                with pytest.raises(GatewayError) as refused:
                    await call()
                assert refused.value.code is Code.NOT_FOUND
            assert (await run.jobs.jobs(BOB)).jobs == ()
            assert [j.id for j in (await run.jobs.jobs(ADMIN)).jobs] == [job.id]
            assert means(await run.jobs.answer(job.id, ADMIN)) == [0.0, 1.0]
            restricted = Caller(id="carol", models=("other/*",))
            with pytest.raises(GatewayError) as refused:
                await run.jobs.submit(ORDER, request([1.0]), restricted)
            assert refused.value.code is Code.PERMISSION_DENIED

    asyncio.run(main())


def test_lists_come_in_pages(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, job_slots=0) as run:
            made = [await run.jobs.submit(ORDER, request([1.0]), ALICE) for _ in range(5)]
            await run.jobs.cancel(made[2].id, ALICE)
            pages, cursor = [], None
            while True:
                page = await run.jobs.jobs(ALICE, limit=2, cursor=cursor)
                pages.append([j.id for j in page.jobs])
                if (cursor := page.next) is None:
                    break
            newest = [j.id for j in reversed(made)]
            assert pages == [newest[:2], newest[2:4], newest[4:]]
            cancelled = await run.jobs.jobs(ALICE, status="cancelled")
            assert [j.id for j in cancelled.jobs] == [made[2].id]
            assert (await run.jobs.jobs(ALICE, type="batch")).jobs == ()

    asyncio.run(main())


def test_a_page_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, job_slots=0) as run:
            made = [await run.jobs.submit(ORDER, request([1.0]), ALICE) for _ in range(5)]
            same = max(job.created for job in made)  # the order of rows of one moment is that of their ids
            await run.store.redis.zadd(keys.JOBS_OF("alice"), {job.id: same for job in made})
            for job in made:
                await run.store.redis.hset(keys.JOB(job.id), "created", repr(same))
            seen, cursor = [], None
            while True:
                page = await run.jobs.jobs(ALICE, limit=2, cursor=cursor)
                seen += [job.id for job in page.jobs]
                if (cursor := page.next) is None:
                    break
                await run.jobs.submit(ORDER, request([1.0]), ALICE)
                await run.jobs.delete(seen[-1], ALICE)
            assert seen == sorted((job.id for job in made), reverse=True)
            with pytest.raises(GatewayError) as refused:
                await run.jobs.jobs(ALICE, cursor="2")
            assert refused.value.faults[0].loc == ("cursor",)

    asyncio.run(main())


def test_the_same_key_is_the_same_job(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, job_slots=0) as run:
            order = replace(ORDER, idempotency_key="k")
            both = await asyncio.gather(*(run.jobs.submit(order, request([1.0, 2.0]), ALICE) for _ in range(2)))
            assert both[0].id == both[1].id
            with pytest.raises(GatewayError) as refused:
                await run.jobs.submit(order, request([1.0, 3.0]), ALICE)
            assert refused.value.code is Code.CONFLICT
            assert (await run.jobs.submit(order, request([1.0, 3.0]), BOB)).id != both[0].id
            assert len((await run.jobs.jobs(ALICE)).jobs) == 1
            assert len(list((tmp_path / "jobs").glob("*/*"))) == 2

    asyncio.run(main())


def test_a_worker_finds_the_files_of_a_gateway_by_its_socket(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "gateway", job_slots=0) as run:
            url = f"unix://{tmp_path}/gateway/redis/redis.sock"
            async with running(tmp_path / "worker", redis_url=url, embedded=False):
                job = await run.end(await run.jobs.submit(ORDER, request(range(6)), ALICE))
                assert await sliced(run, job) == [float(i) for i in range(6)]
                assert files(tmp_path / "worker") == []

    asyncio.run(main())


async def queued(run: Running, job: Job) -> bool:
    """Whether a chunk of a job is in the queue."""
    _, chunks, _ = await run.store.progress(job.id)
    return bool(chunks)


def test_an_urgent_job_goes_first(tmp_path: Path, gate: Gate) -> None:
    async def main() -> None:
        async with running(tmp_path, card(gate=gate), job_slots=1, chunk_series=1) as run:
            first = await run.jobs.submit(ORDER, request([0.0, 1.0, 2.0, 3.0], acts={0: WAIT}), ALICE)
            await asyncio.to_thread(gate.wait_until_started)
            late = await run.jobs.submit(replace(ORDER, priority=5), request([9.0]), ALICE)
            async with asyncio.timeout(HANG_LIMIT_S):
                while not await queued(run, late):  # noqa: ASYNC110 - Redis sets no event
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(gate.open)
            late, first = await run.end(late), await run.end(first)
            assert late.started is not None
            assert first.finished is not None
            assert late.started < first.finished

    asyncio.run(main())


def test_a_worker_sees_past_what_many_others_run(tmp_path: Path, gate: Gate) -> None:
    """Twenty chunks that run do not hide the one that waits behind them."""

    async def main() -> None:
        async with running(tmp_path, card(gate=gate), job_slots=20, chunk_series=1) as run:
            busy = await run.jobs.submit(ORDER, request(range(20), acts=dict.fromkeys(range(20), WAIT)), ALICE)
            await asyncio.to_thread(gate.wait_until_started)
            async with asyncio.timeout(HANG_LIMIT_S):
                while sum(w.busy for w in await run.jobs.workers()) < 20:  # noqa: ASYNC110 - Redis sets no event
                    await asyncio.sleep(0.05)
            async with running(tmp_path, card(gate=gate), embedded=False):
                waiting = await run.jobs.submit(ORDER, request([1.0]), ALICE)
                assert (await run.end(waiting)).status == "completed"
            await run.jobs.cancel(busy.id, ALICE)

    asyncio.run(main())


def test_a_request_does_not_wait_for_a_job(tmp_path: Path, gate: Gate) -> None:
    """Beside a job of twelve batches that each stop at the gate, a request is answered after the first few."""

    async def main() -> None:
        async with running(tmp_path, card(gate=gate), job_slots=2) as run:
            job = await run.jobs.submit(ORDER, request(range(48), acts=dict.fromkeys(range(0, 48, 4), WAIT)), ALICE)
            deadline = asyncio.get_running_loop().time() + HANG_LIMIT_S
            asked = asyncio.create_task(run.service.forecast(request([7.0]), caller=BOB, deadline=deadline))
            passed = 0
            while not asked.done():
                await asyncio.to_thread(gate.wait_until_started)
                await asyncio.to_thread(gate.open)
                passed += 1
                await asyncio.wait({asked}, timeout=0.2)
            assert means(await asked) == [7.0]
            assert passed <= 4
            await run.jobs.cancel(job.id, ALICE)

    asyncio.run(main())


def test_a_stopped_gateway_gives_back_and_the_next_goes_on(tmp_path: Path, gate: Gate) -> None:
    async def main() -> None:
        async with running(tmp_path, card(gate=gate), job_slots=1, grace_s=0.1) as run:
            job = await run.jobs.submit(ORDER, request(range(12), acts={4: WAIT}), ALICE)
            await asyncio.to_thread(gate.wait_until_started)
        async with running(tmp_path, card(gate=gate), job_slots=1) as run:
            await asyncio.to_thread(gate.wait_until_started)
            await asyncio.to_thread(gate.open)
            job = await run.end(job)
            assert (job.status, job.done) == ("completed", 12)
            assert await sliced(run, job) == [float(i) for i in range(12)]

    asyncio.run(main())


def test_candidates_of_ensembles_run_here_unless_others_can(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, job_slots=0) as run:
            work = BacktestRequest(forecast=request([5.0, 6.0, 7.0, 8.0, 9.0]))
            deadline = asyncio.get_running_loop().time() + HANG_LIMIT_S
            here = await run.jobs.backtest(work, caller=ALICE, deadline=deadline)
            batches = run.engine.snapshot().batches
            assert batches > 0
            async with running(tmp_path, embedded=False) as others:
                async with asyncio.timeout(HANG_LIMIT_S):
                    while not any(not w.embedded for w in await run.jobs.workers()):  # noqa: ASYNC110 - sets no event
                        await asyncio.sleep(0.05)
                queued = await run.jobs.backtest(work, caller=ALICE, deadline=deadline)
                assert others.engine.snapshot().batches > 0
            assert run.engine.snapshot().batches == batches
            assert len(here.outputs) == len(queued.outputs) == 5
            assert here.scores.values == queued.scores.values
            assert here.usage == queued.usage
            assert (await run.jobs.jobs(ALICE)).jobs == ()
            assert files(tmp_path) == []

    asyncio.run(main())


def test_an_ensemble_is_a_job_that_holds_no_slot(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, card(), card("test/other"), job_slots=0) as run:
            forecast = request([5.0, 6.0])
            work = EnsembleRequest(models=(MODEL, "test/other"), series=forecast.series, parameters=forecast.parameters)
            job = await run.end(await run.jobs.submit(replace(ORDER, type="ensemble"), work, ALICE))
            assert (job.status, job.done, job.model) == ("completed", 2, "ensemble")
            answer = await run.jobs.answer(job.id, ALICE)
            assert isinstance(answer, EnsembleForecast)
            assert means(answer.forecast) == [5.0, 6.0]
            assert {r.model for r in answer.ranked} == {MODEL, "test/other"}
            short = replace(work, series=tuple(replace(s, target=s.target[:2]) for s in work.series))
            job = await run.end(await run.jobs.submit(replace(ORDER, type="ensemble"), short, ALICE))
            assert (job.status, job.code) == ("failed", Code.INVALID_ARGUMENT)

    asyncio.run(main())


def test_a_series_that_is_wrong_fails_alone(tmp_path: Path) -> None:
    """What only the run of a backtest finds out, the neighbours in its chunk do not suffer."""

    async def main() -> None:
        async with running(tmp_path) as run:
            good = request(range(6))
            wrong = replace(good.series[0], start="not a date", metadata=None)
            work = BacktestRequest(forecast=replace(good, series=(*good.series[:2], wrong, *good.series[2:])))
            job = await run.end(await run.jobs.submit(replace(ORDER, type="backtest"), work, ALICE))
            assert (job.status, job.done, job.failed) == ("partial", 7, 1)
            answer = await run.jobs.answer(job.id, ALICE)
            assert isinstance(answer, Backtest)
            assert [isinstance(o, SeriesError) for o in answer.outputs] == [False, False, True, *[False] * 4]

    asyncio.run(main())


def test_machines_that_share_nothing_but_redis(tmp_path: Path) -> None:
    """A server on TCP with a password: chunks and results lie in it, and a worker elsewhere runs them."""

    async def main(url: str) -> None:
        async with (
            running(tmp_path / "gateway", redis_url=url, job_slots=0) as run,
            running(tmp_path / "worker", redis_url=url, embedded=False) as other,
        ):
            job = await run.end(await run.jobs.submit(ORDER, request(range(10)), ALICE))
            assert job.status == "completed"
            assert await sliced(run, job) == [float(i) for i in range(10)]
            assert other.engine.snapshot().batches > 0
            assert files(tmp_path / "gateway") == files(tmp_path / "worker") == []
            await undocumented(run.store)
            await run.jobs.delete(job.id, ALICE)
            assert not [k async for k in run.store.redis.scan_iter(f"*{job.id}*")]

    with shared_redis(tmp_path / "redis") as url:
        asyncio.run(main(url))


@contextmanager
def shared_redis(folder: Path) -> Iterator[str]:
    """A redis-server of nobody's, found through a sentinel, with a password."""
    binary = find_server()
    assert binary is not None
    folder.mkdir()
    port, watch = free_ports(2)
    settings = folder / "sentinel.conf"
    settings.write_text(f"port {watch}\nsentinel monitor main 127.0.0.1 {port} 1\nsentinel auth-pass main s3cret\n")
    common = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--logfile", str(folder / "log")]
    commands = [
        [str(binary), "--port", str(port), "--requirepass", "s3cret", *common],
        [str(binary), str(settings), "--sentinel", *common],
    ]
    processes = [subprocess.Popen(c, stdout=subprocess.DEVNULL) for c in commands]
    try:
        yield f"redis+sentinel://:s3cret@127.0.0.1:{watch}/main/1"
    finally:
        for process in processes:
            process.terminate()
            process.wait(HANG_LIMIT_S)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for one in sockets:
        one.close()
    return ports


def test_without_redis_only_jobs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.redis_server.find_server", lambda: None)

    async def main() -> None:
        async with running(tmp_path, answers=False) as run:
            deadline = asyncio.get_running_loop().time() + HANG_LIMIT_S
            assert means(await run.service.forecast(request([7.0]), caller=ALICE, deadline=deadline)) == [7.0]
            work = BacktestRequest(forecast=request([7.0]))
            assert len((await run.jobs.backtest(work, caller=ALICE, deadline=deadline)).outputs) == 1
            for call in (run.jobs.submit(ORDER, request([1.0]), ALICE), run.jobs.jobs(ALICE)):
                with pytest.raises(GatewayError, match="Install one") as refused:
                    await call
                assert refused.value.code is Code.UNAVAILABLE

    asyncio.run(main())
