"""The engine over real worker processes, some of which are killed, hang, lie or never come up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]
import pytest

from adapters.base import Series, SeriesFailure, SeriesForecast
from catalog.card import Batching, Catalog, ModelCard, Weights
from gateway.engine import Engine, Outcome
from gateway.errors import Code, GatewayError
from gateway.settings import EngineSettings
from tests import engine_adapters as models
from tests.engine_adapters import card, series
from tests.live.gated import Gate

REPOSITORY = Path(__file__).parent.parent.parent
HANG_LIMIT_S = 60.0

# One worker, and time enough on a busy machine for everything whose lateness is not the matter of the test.
SETTINGS = EngineSettings(statistical_workers=1, workers=1, load_wait_s=HANG_LIMIT_S)


@pytest.fixture(autouse=True)
def _workers_see_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate.make(tmp_path / "gate")


class Record:
    """What the engine told its observer."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []
        self.loads: list[str] = []
        self.restarts: list[str] = []
        self.queued: dict[str, int] = {}
        self.changed = asyncio.Event()
        self.on_batch: Callable[[str, int], None] = lambda model, rows: None

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when something the engine told makes `holds` true."""
        async with asyncio.timeout(HANG_LIMIT_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    def batch_done(self, model: str, rows: int, tokens: float, padded_tokens: float, compute_s: float) -> None:
        assert padded_tokens >= tokens > 0
        self.batches.append((model, rows))
        self.on_batch(model, rows)

    def model_loaded(self, model: str, seconds: float) -> None:
        self.loads.append(model)
        self.changed.set()

    def worker_restarted(self, pool: str, reason: str) -> None:
        self.restarts.append(reason)

    def queue_changed(self, pool: str, series: int, tokens: float) -> None:
        assert (series == 0) == (tokens == 0)
        self.queued[pool] = series
        self.changed.set()


class Bench:
    """An engine with callers."""

    def __init__(self, engine: Engine, record: Record) -> None:
        self.engine = engine
        self.record = record

    def ask(self, model: ModelCard, *asked: Series, within_s: float = HANG_LIMIT_S) -> asyncio.Task[Outcome]:
        """A call under way."""
        deadline = asyncio.get_running_loop().time() + within_s
        return asyncio.create_task(self.engine.run(model, asked, deadline=deadline))

    async def queued(self, count: int) -> None:
        """Return when `count` series wait: all that was asked has reached the queue."""
        await self.record.until(lambda: sum(self.record.queued.values()) == count)
        assert self.engine.snapshot().queued_series == count

    @property
    def pids(self) -> list[int]:
        return [w.pid for w in self.engine.snapshot().workers if w.pid is not None]


@asynccontextmanager
async def bench(*cards: ModelCard, **settings: object) -> AsyncIterator[Bench]:
    """An engine over `cards` that is stopped in the end, with no process left of it."""
    record = Record()
    chosen = msgspec.structs.replace(SETTINGS, **settings)
    engine = Engine(Catalog(cards), chosen, record)
    await engine.start()
    made = Bench(engine, record)
    pids: list[int] = []
    try:
        yield made
        pids = made.pids
    finally:
        await engine.stop(grace_s=0.0)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def points(outcome: Outcome) -> list[float | None]:
    """The constant that each series was forecast as; None where it failed."""
    return [float(r.point[0, 0]) if isinstance(r, SeriesForecast) else None for r in outcome.results]


def failed(outcome: Outcome) -> list[int]:
    return [i for i, r in enumerate(outcome.results) if isinstance(r, SeriesFailure)]


def check(steps: Coroutine[None, None, None]) -> None:
    """Run a test within the hang limit."""

    async def limited() -> None:
        async with asyncio.timeout(5 * HANG_LIMIT_S):
            await steps

    asyncio.run(limited())


async def opened(gate: Gate) -> str:
    """Let the batch that comes to the gate pass; how many series it holds."""
    held = await asyncio.to_thread(gate.wait_until_started)
    await asyncio.to_thread(gate.open)
    return held


# -- what everybody gets --


def test_every_caller_gets_its_own_rows_in_order() -> None:
    async def steps() -> None:
        model = card()
        async with bench(model) as b:
            asked = [
                [series(100 * c + i, length=8 * (1 + (7 * i + c) % 9), channels=1 + i % 2) for i in range(c)]
                for c in range(1, 12)
            ]
            outcomes = await asyncio.gather(*(b.ask(model, *mine) for mine in asked))
            for mine, outcome in zip(asked, outcomes, strict=True):
                assert points(outcome) == [s.target[0, -1] for s in mine]
                for s, r in zip(mine, outcome.results, strict=True):
                    assert isinstance(r, SeriesForecast)
                    assert r.point.shape == (3, s.target.shape[0])
                    assert r.quantiles.shape == (2, 3, s.target.shape[0])
                assert outcome.queue_ms >= 0
                assert outcome.compute_ms > 0
            assert (await b.ask(model)).results == ()

    check(steps())


def test_callers_that_wait_share_a_batch(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model) as b:
            first = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            others = [b.ask(model, series(i, length=2 + i % 14)) for i in range(1, 33)]
            await b.queued(32)
            await asyncio.to_thread(gate.open)
            assert [points(o) for o in await asyncio.gather(first, *others)] == [[float(i)] for i in range(33)]
            assert b.record.batches == [(model.id, 1), (model.id, 32)]

    check(steps())


def test_a_huge_request_lets_small_ones_in_between(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model, max_queue_s=600.0) as b:
            first = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            huge = b.ask(model, *(series(i, length=500) for i in range(300)))
            await b.queued(300)
            small = b.ask(model, series(7))
            await b.queued(301)
            await asyncio.to_thread(gate.open)
            assert points(await small) == [7.0]
            assert not huge.done()
            assert points(await huge) == [float(i) for i in range(300)]
            await first

    check(steps())


def test_a_huge_request_holds_a_small_one_up_by_the_batch_that_runs_and_no_other(gate: Gate) -> None:
    """Batches of the first hundred long series stop at the gate; a small one comes while one does."""

    async def steps() -> None:
        batching = Batching(pool="statistical", patch=16, overhead=1, token_budget=1024)
        model = msgspec.structs.replace(card(gate=gate, batching=batching), max_context=2048)
        async with bench(model, max_queue_s=600.0) as b:
            await b.ask(model, series(0))
            long = [series(i, length=2048, act=models.WAIT if i < 100 else 0.0) for i in range(1000)]
            huge = b.ask(model, *long)
            for left in range(993, 900, -7):
                assert await asyncio.to_thread(gate.wait_until_started) == "7"
                await b.queued(left)
                small = b.ask(model, series(left))
                await b.queued(left + 1)
                done = len(b.record.batches)
                await asyncio.to_thread(gate.open)
                assert points(await small) == [float(left)], "the next long batch would stop at the gate"
                assert len(b.record.batches) - done == 2, "the batch that ran, and its own"
            assert await opened(gate) == "7"
            assert points(await huge) == [float(i) for i in range(1000)]

    check(steps())


def test_two_workers_share_the_work(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model, statistical_workers=2) as b:
            stuck = b.ask(model, series(1, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            assert points(await b.ask(model, series(2))) == [2.0]
            await asyncio.to_thread(gate.open)
            assert points(await stuck) == [1.0]

    check(steps())


def test_a_statistical_worker_imports_no_neural_library() -> None:
    async def steps() -> None:
        model = card(adapter="Imports")
        async with bench(model) as b:
            assert points(await b.ask(model, series(5))) == [0.0]

    check(steps())


# -- a series that cannot be forecast --


@pytest.mark.parametrize(
    ("act", "restarts"),
    [
        (models.RAISE, False),
        (models.NAN, False),
        (models.INF, False),
        (models.TOO_FEW, False),
        (models.WRONG_SHAPE, False),
        (models.EXIT, True),
        (models.HANG, True),
    ],
)
def test_a_poison_series_fails_alone(act: float, restarts: bool, gate: Gate) -> None:
    """In one batch with series of its own request and of another; later calls are served."""

    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model, batch_timeout_s=1.0 if act == models.HANG else HANG_LIMIT_S) as b:
            before = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            mixed = b.ask(model, series(1), series(2, act=act), series(3))
            neighbour = b.ask(model, series(4), series(5))
            await b.queued(5)
            await asyncio.to_thread(gate.open)
            outcome = await mixed
            assert failed(outcome) == [1]
            assert points(outcome)[::2] == [1.0, 3.0]
            assert points(await neighbour) == [4.0, 5.0]
            assert points(await before) == [0.0]
            assert points(await b.ask(model, series(6))) == [6.0]
            assert bool(b.record.restarts) == restarts
            assert set(b.record.restarts) <= {"hung" if act == models.HANG else "died"}
            reason = next(r.reason for r in outcome.results if isinstance(r, SeriesFailure))
            assert "told to" not in reason, "an exception's text is not shown"

    check(steps())


# -- workers that are lost --


def test_a_worker_killed_in_a_batch_costs_nobody_a_forecast(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model) as b:
            running = b.ask(model, series(1, act=models.WAIT), series(2), series(3))
            await asyncio.to_thread(gate.wait_until_started)
            waiting = b.ask(model, series(4), series(5, length=500))
            await b.queued(2)
            (killed,) = b.pids
            os.kill(killed, signal.SIGKILL)
            assert await opened(gate) == "2", "the batch is tried again in halves"
            assert points(await running) == [1.0, 2.0, 3.0]
            assert points(await waiting) == [4.0, 5.0]
            assert points(await b.ask(model, series(6))) == [6.0]
            assert b.record.restarts == ["died"]
            assert b.pids != [killed]

    check(steps())


def test_workers_killed_at_once_cost_nobody_a_forecast(gate: Gate) -> None:
    """What ran is tried again, and not by another worker that is dead as well: that would look like its fault."""

    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model, statistical_workers=2) as b:
            await b.ask(model, series(1.0))
            call = b.ask(model, series(2.0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            for pid in b.pids:
                os.kill(pid, signal.SIGKILL)
            await opened(gate)
            assert points(await call) == [2.0]

    check(steps())


def test_groups_that_had_not_begun_are_not_suspected(gate: Gate) -> None:
    """A cut of two groups, whose worker dies in the first one twice: the second one runs whole, once."""

    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model) as b:
            first = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            poison = b.ask(model, series(1, act=models.EXIT))
            innocent = b.ask(model, *(series(i, length=100) for i in range(10, 14)))
            await b.queued(5)
            await asyncio.to_thread(gate.open)
            assert points(await innocent) == [10.0, 11.0, 12.0, 13.0]
            assert failed(await poison) == [0]
            assert points(await first) == [0.0]
            assert [rows for _, rows in b.record.batches] == [1, 4]
            assert b.record.restarts == ["died", "died"]

    check(steps())


def test_signals_to_the_whole_group_are_for_the_gateway(gate: Gate) -> None:
    """A service manager and a terminal signal every process at once; accepted work is finished all the same."""

    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model) as b:
            running = b.ask(model, series(1, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            (worker,) = b.pids
            os.kill(worker, signal.SIGTERM)
            os.kill(worker, signal.SIGINT)
            await asyncio.to_thread(gate.open)
            assert points(await running) == [1.0]
            assert b.pids == [worker]

    check(steps())


def test_a_gateway_that_is_killed_leaves_no_worker(tmp_path: Path, gate: Gate) -> None:
    """Killed while its worker computes, so that the worker does not read the end of its input."""
    script = f"""
import asyncio
from pathlib import Path
from tests.engine_adapters import WAIT, card, series
from tests.fault.test_engine import bench
from tests.live.gated import Gate

async def main():
    gate = Gate(Path({str(gate.folder)!r}))
    model = card(gate=gate)
    async with bench(model) as b:
        b.ask(model, series(0, act=WAIT))
        await asyncio.to_thread(gate.wait_until_started)
        print(*b.pids, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    gateway = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert gateway.stdout is not None
    worker = psutil.Process(int(gateway.stdout.readline()))
    gateway.kill()
    gateway.wait()
    gateway.stdout.close()
    _, alive = psutil.wait_procs([worker], timeout=HANG_LIMIT_S)
    assert not alive


@pytest.mark.parametrize("seed", [0, 1])
def test_kills_and_departures_in_any_order_lose_no_answer(seed: int) -> None:
    """Callers of several lengths and sizes, some of whom leave, over two workers that are killed again and again."""

    async def steps() -> None:
        rng = random.Random(seed)
        cards = [card("test/a"), card("test/b")]
        async with bench(*cards, statistical_workers=2) as b:
            kills = 5
            lost: list[SeriesFailure] = []

            def one_more(model: str, rows: int) -> None:
                nonlocal kills
                if kills and b.pids and rng.random() < 0.1:
                    kills -= 1
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rng.choice(b.pids), signal.SIGKILL)

            b.record.on_batch = one_more

            async def caller(number: int) -> None:
                for turn in range(12):
                    values = [1000.0 * number + 10 * turn + i for i in range(rng.choice([1, 1, 2, 7]))]
                    asked = [series(v, length=rng.choice([2, 8, 60, 500])) for v in values]
                    task = b.ask(rng.choice(cards), *asked)
                    if rng.random() < 0.2:
                        for _ in range(rng.randrange(6)):
                            await asyncio.sleep(0)
                        task.cancel()
                        await asyncio.wait([task])
                    else:
                        outcome = await task
                        lost.extend(r for r in outcome.results if isinstance(r, SeriesFailure))
                        assert all(got in (v, None) for got, v in zip(points(outcome), values, strict=True))

            await asyncio.gather(*(caller(n) for n in range(12)))
            # Whom two kills hit alone is taken for their cause; nobody else may lose a forecast.
            assert len(lost) <= b.record.restarts.count("died") // 2
            left = b.engine.snapshot()
            assert (left.queued_series, left.queued_tokens, left.in_flight) == (0, 0, 0)
            assert b.record.restarts.count("died") >= 1
            assert points(await b.ask(cards[0], series(6))) == [6.0]

    check(steps())


# -- callers that leave, and time that passes --


def test_a_caller_that_leaves_the_queue_is_never_computed(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model) as b:
            running = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            leaving = b.ask(model, series(1), series(2, act=models.EXIT))
            staying = b.ask(model, series(3))
            await b.queued(3)
            leaving.cancel()
            await b.queued(1)
            await asyncio.to_thread(gate.open)
            assert points(await staying) == [3.0]
            assert points(await running) == [0.0]
            assert leaving.cancelled()
            assert [rows for _, rows in b.record.batches] == [1, 1]
            assert b.record.restarts == []

    check(steps())


def test_a_caller_that_leaves_a_batch_leaves_its_neighbours_alone(gate: Gate) -> None:
    """The batch that both are in goes on, although a group of the same cut is for the leaving one alone."""

    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model, cancel_grace_s=0.05) as b:
            first = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            staying = b.ask(model, series(1, act=models.WAIT))
            leaving = b.ask(model, series(2), series(3, length=300, act=models.EXIT))
            await b.queued(3)
            await asyncio.to_thread(gate.open)
            await first
            assert await asyncio.to_thread(gate.wait_until_started) == "2"
            leaving.cancel()
            await asyncio.wait([leaving])
            await asyncio.to_thread(gate.open)
            assert points(await staying) == [1.0]
            assert points(await b.ask(model, series(4))) == [4.0]
            assert b.record.restarts == [], "the group of the leaving caller was skipped"

    check(steps())


def test_a_batch_that_nobody_waits_for_ends_with_its_worker(gate: Gate) -> None:
    """The gate is never opened."""

    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model, cancel_grace_s=0.05) as b:
            leaving = [b.ask(model, series(i, act=models.WAIT)) for i in range(2)]
            await asyncio.to_thread(gate.wait_until_started)
            staying = b.ask(model, series(5))
            for task in leaving:
                task.cancel()
            assert points(await staying) == [5.0]
            assert b.record.restarts == ["cancelled"]

    check(steps())


def test_a_batch_that_nobody_waits_for_does_not_hold_up_the_rest_of_its_cut(gate: Gate) -> None:
    """The gate is opened for the first caller only."""

    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model, cancel_grace_s=0.05) as b:
            first = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            leaving = b.ask(model, series(1, act=models.WAIT))
            staying = b.ask(model, series(5, length=300))
            await b.queued(2)
            await asyncio.to_thread(gate.open)
            await first
            assert await asyncio.to_thread(gate.wait_until_started) == "1"
            assert b.record.queued["statistical"] == 0, "both are in one cut"
            leaving.cancel()
            assert points(await staying) == [5.0]
            assert b.record.restarts == ["cancelled"]

    check(steps())


def test_small_work_of_two_models_runs_side_by_side_where_two_workers_wait(tmp_path: Path) -> None:
    async def steps() -> None:
        gates = [Gate.make(tmp_path / name) for name in ("one", "two")]
        cards = [card(f"test/{gate.folder.name}", gate=gate) for gate in gates]
        async with bench(*cards, statistical_workers=2) as b:
            for model in cards:
                await b.ask(model, series(0))  # it is loaded
            asked = [b.ask(model, series(7, act=models.WAIT)) for model in cards]
            for gate in gates:  # both are computed before either may go on
                await asyncio.to_thread(gate.wait_until_started)
            for gate in gates:
                await asyncio.to_thread(gate.open)
            assert [points(await one) for one in asked] == [[7.0], [7.0]]

    check(steps())


def test_a_deadline_passes_in_the_queue(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model) as b:
            running = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            hurried = b.ask(model, series(1), within_s=0.05)
            patient = b.ask(model, series(2))
            with pytest.raises(GatewayError) as told:
                await hurried
            assert told.value.code is Code.DEADLINE_EXCEEDED
            await b.queued(1)
            await asyncio.to_thread(gate.open)
            assert points(await running) == [0.0]
            assert points(await patient) == [2.0]
            assert [rows for _, rows in b.record.batches] == [1, 1]
            with pytest.raises(GatewayError) as told:
                await b.ask(model, series(3), within_s=0.0)
            assert told.value.code is Code.DEADLINE_EXCEEDED

    check(steps())


def test_overload_is_refused_at_once(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model, max_queue_s=0.1) as b:
            running = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            accepted = b.ask(model, *(series(i, length=1000) for i in range(4)))
            await b.queued(4)
            with pytest.raises(GatewayError) as told:
                await b.ask(model, series(9))
            assert told.value.code is Code.UNAVAILABLE
            assert told.value.retry_after_s is not None
            assert told.value.retry_after_s >= 1
            await asyncio.to_thread(gate.open)
            assert points(await accepted) == [0.0, 1.0, 2.0, 3.0]
            assert points(await running) == [0.0]
            assert points(await b.ask(model, series(9))) == [9.0]

    check(steps())


# -- stopping --


def test_stopping_finishes_what_was_accepted(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model) as b:
            running = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            waiting = b.ask(model, series(1), series(2))
            await b.queued(2)
            stop = asyncio.create_task(b.engine.stop(HANG_LIMIT_S))
            await asyncio.sleep(0)
            with pytest.raises(GatewayError) as told:
                await b.ask(model, series(3))
            assert told.value.code is Code.UNAVAILABLE
            await asyncio.to_thread(gate.open)
            assert points(await running) == [0.0]
            assert points(await waiting) == [1.0, 2.0]
            await stop
            assert b.pids == []

    check(steps())


def test_what_is_not_finished_within_the_grace_is_told_so(gate: Gate) -> None:
    async def steps() -> None:
        model, loading = card(gate=gate), card("test/slow", adapter="Slow", gate=gate)
        async with bench(model, loading) as b:
            running = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            asked = [running, b.ask(model, series(1)), b.ask(loading, series(2))]
            await b.queued(1)
            await b.engine.stop(0.0)
            for error in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(error, GatewayError)
                assert error.code is Code.UNAVAILABLE

    check(steps())


# -- models --


def test_a_model_is_loaded_once_for_all_who_ask(gate: Gate) -> None:
    """Those who do not want to wait are told when to come back."""

    async def steps() -> None:
        model = card(adapter="Slow", gate=gate)
        async with bench(model, load_wait_s=0.05) as b:
            hurried = [b.ask(model, series(i)) for i in range(5)]
            for error in await asyncio.gather(*hurried, return_exceptions=True):
                assert isinstance(error, GatewayError)
                assert error.code is Code.UNAVAILABLE
                assert error.retry_after_s is not None
                assert error.retry_after_s >= 1
            assert b.engine.models.status(model).state == "loading"
            assert b.engine.models.status(model).retry_after_s is not None
            patient = [asyncio.create_task(b.engine.models.load(model)) for _ in range(3)]
            await opened(gate)
            await asyncio.gather(*patient)
            assert points(await b.ask(model, series(7))) == [7.0]
            assert b.record.loads == [model.id]
            assert b.engine.models.status(model).state == "ready"

    check(steps())


@pytest.mark.parametrize("adapter", ["Broken", "Fatal", "NotThere"])
def test_a_model_that_cannot_be_loaded_says_so_and_harms_no_other(adapter: str) -> None:
    async def steps() -> None:
        bad, good = card("test/bad", adapter=adapter), card("test/good")
        async with bench(bad, good) as b:
            assert points(await b.ask(good, series(1))) == [1.0]
            for _ in range(2):
                with pytest.raises(GatewayError) as told:
                    await b.ask(bad, series(1))
                assert told.value.code is Code.MODEL_FAILED
                assert told.value.retry_after_s is not None
            if adapter == "Broken":
                assert "the checkpoint is of another model" in told.value.sentence
            status = b.engine.models.status(bad)
            assert status.state == "unavailable"
            assert status.reason == told.value.sentence
            assert b.record.restarts == (["died", "died"] if adapter == "Fatal" else [])
            assert points(await b.ask(good, series(2))) == [2.0]

    check(steps())


def test_a_load_that_takes_too_long_is_given_up(gate: Gate) -> None:
    async def steps() -> None:
        slow, good = card("test/slow", adapter="Slow", gate=gate), card("test/good")
        async with bench(slow, good, load_timeout_s=3.0) as b:
            with pytest.raises(GatewayError) as told:
                await b.engine.models.load(slow)
            assert told.value.code is Code.MODEL_FAILED
            assert b.record.restarts == ["load_timeout"]
            assert points(await b.ask(good, series(2))) == [2.0]

    check(steps())


def test_a_request_never_downloads(tmp_path: Path) -> None:
    async def steps() -> None:
        model = card(weights={"model": Weights(repository="nobody/nothing")})
        async with bench(model, weights_dir=str(tmp_path)) as b:
            with pytest.raises(GatewayError) as told:
                await b.ask(model, series(1))
            assert told.value.code is Code.UNAVAILABLE
            assert f"forecast-gateway pull {model.id}" in told.value.sentence
            assert b.engine.models.status(model).state == "unavailable"
            make_weights(tmp_path / "nobody/nothing", 8)
            assert b.engine.models.status(model).state == "loadable"
            assert points(await b.ask(model, series(1))) == [1.0]

    check(steps())


def make_weights(folder: Path, size: int) -> None:
    """Files of the right names."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)


def heavy(name: str, weights_dir: Path) -> ModelCard:
    """A model of 64 MB."""
    make_weights(weights_dir / name, 64 << 20)
    return card(name, adapter="Heavy", weights={"model": Weights(repository=name)})


def states(b: Bench, cards: Sequence[ModelCard]) -> list[str]:
    return [b.engine.models.status(c).state for c in cards]


def test_models_make_room_for_each_other(tmp_path: Path) -> None:
    async def steps() -> None:
        cards = [heavy(f"test/heavy-{i}", tmp_path) for i in range(3)]
        async with bench(*cards, weights_dir=str(tmp_path), memory_budget_mb=160) as b:
            for model in cards[:2]:
                assert points(await b.ask(model, series(1))) == [1.0]
            assert states(b, cards) == ["ready", "ready", "loadable"]
            assert b.engine.models.status(cards[0]).memory_bytes is not None
            b.engine.models.pin(cards[0], True)
            await b.ask(cards[1], series(1))
            assert points(await b.ask(cards[2], series(3))) == [3.0]
            assert states(b, cards) == ["ready", "loadable", "ready"], "the pinned one stays"
            b.engine.models.pin(cards[2], True)
            with pytest.raises(GatewayError) as told:
                await b.ask(cards[1], series(1))
            assert told.value.code is Code.UNAVAILABLE
            assert "memory_budget_mb" in told.value.sentence
            assert states(b, cards) == ["ready", "loadable", "ready"]

    check(steps())


def test_a_model_is_dropped_after_the_work_in_flight_on_it(gate: Gate) -> None:
    async def steps() -> None:
        model = card(gate=gate)
        async with bench(model) as b:
            running = b.ask(model, series(0, act=models.WAIT))
            await asyncio.to_thread(gate.wait_until_started)
            waiting = b.ask(model, series(1))
            await b.queued(1)
            unload = asyncio.create_task(b.engine.models.unload(model))
            await asyncio.sleep(0)
            later = b.ask(model, series(2))
            await asyncio.to_thread(gate.open)
            assert points(await running) == [0.0]
            assert points(await waiting) == [1.0]
            await unload
            assert points(await later) == [2.0], "it is loaded again for those who come later"
            assert b.record.loads == [model.id, model.id]
            await b.engine.models.unload(model)
            assert b.engine.models.status(model).state == "loadable"

    check(steps())


def test_a_neural_worker_imports_its_library_before_its_first_model() -> None:
    async def steps() -> None:
        batching = msgspec.structs.replace(models.BATCHING, pool="neural")
        model = card(adapter="Imports", batching=batching)
        async with bench(model) as b:
            assert points(await b.ask(model, series(5))) == [1.0]

    check(steps())


def test_the_default_model_and_those_to_preload_are_loaded_at_start() -> None:
    async def steps() -> None:
        cards = [card(f"test/{i}") for i in range(3)]
        async with bench(*cards, default_model="test/0", preload=("test/2", "test/unknown")) as b:
            await b.record.until(lambda: len(b.record.loads) == 2)
            assert b.record.loads == ["test/0", "test/2"]
            assert states(b, cards) == ["ready", "loadable", "ready"]

    check(steps())
