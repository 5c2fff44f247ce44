"""The ledger's thread, its roll-ups and its answers, on a real database."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from gateway import deployments
from gateway.access import keys
from gateway.database import HEAD, Database, metadata, open_database
from gateway.usage import queries
from gateway.usage.ledger import SPILL, Ledger, write
from gateway.usage.queries import Question, Span
from gateway.usage.rollups import Maintenance
from gateway.usage.tables import ACCEPTED, DAY_MS, HOUR_MS, ROLLUPS, USAGE, Entry, bin_of, ms_of

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DECLARED = (keys.KEYS, deployments.TABLE, USAGE, ROLLUPS)  # imported for `metadata`


def entry(number: int, **fields: object) -> Entry:
    base = Entry(
        id=f"r{number}",
        request_id=f"r{number}",
        time=NOW,
        key_id="a",
        endpoint="/v1/forecast",
        model="m",
        status=200,
        code="OK",
        latency_ms=10.0,
        series=1,
        input_tokens=3,
        output_tokens=4,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path)
    yield opened
    opened.close()


def rows(database: Database) -> list[sa.RowMapping]:
    with database.reading() as connection:
        return list(connection.execute(USAGE.select().order_by(USAGE.c.id)).mappings())


class Told:
    """What became of entries."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def ledger_entries(self, outcome: str, count: int) -> None:
        self.counts[outcome] += count


def test_migrations_make_the_declared_tables(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [d for d in compare_metadata(context, metadata) if "index" not in str(d[0])]
    assert differences == []
    folder = Path(__file__).parents[2] / "gateway" / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


def test_processes_that_open_a_database_together_make_it_once(tmp_path: Path) -> None:
    faults: list[BaseException] = []

    def opening() -> None:
        try:
            open_database(tmp_path).close()
        except BaseException as exc:
            faults.append(exc)

    threads = [threading.Thread(target=opening) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_what_is_recorded_is_written_once(database: Database, tmp_path: Path) -> None:
    told = Told()
    ledger = Ledger(database, tmp_path, observer=told)
    ledger.start()
    for number in range(2500):
        ledger.record(entry(number))
    asyncio.run(ledger.flush())
    assert len(rows(database)) == 2500
    ledger.record(entry(1, output_tokens=99))  # again
    ledger.record(entry(2500))
    ledger.stop()
    found = rows(database)
    assert len(found) == 2501
    assert sum(r["output_tokens"] for r in found) == 2501 * 4
    assert told.counts == {"written": 2502}


def test_a_job_is_one_row_in_whatever_order_its_ends_are_told(database: Database) -> None:
    accepted = entry(1, id="job.1", status=202, code=ACCEPTED, input_tokens=0, output_tokens=0)
    over = entry(1, id="job.1", input_tokens=30, output_tokens=40)
    for order in ([accepted, over], [over, accepted], [accepted, over, over, accepted]):
        with database.writing() as connection:
            connection.execute(USAGE.delete())
        for one in order:
            write(database, [one])
        assert [(r["code"], r["input_tokens"]) for r in rows(database)] == [("OK", 30)]
        write(database, order)
        assert [(r["code"], r["input_tokens"]) for r in rows(database)] == [("OK", 30)]


def test_what_the_database_does_not_take_is_put_aside_and_written_later(database: Database, tmp_path: Path) -> None:
    told = Told()
    ledger = Ledger(database, tmp_path, observer=told)
    with sqlite3.connect(tmp_path / "gateway.sqlite3", isolation_level=None) as other:
        other.execute("ALTER TABLE usage RENAME TO away")
    ledger.start()
    for number in range(5):
        ledger.record(entry(number))
    asyncio.run(ledger.flush())
    assert told.counts == {"spilled": 5}
    assert [p.suffix for p in (tmp_path / SPILL).iterdir()] == [".jsonl"]
    with sqlite3.connect(tmp_path / "gateway.sqlite3", isolation_level=None) as other:
        other.execute("ALTER TABLE away RENAME TO usage")
    ledger.record(entry(5))
    asyncio.run(ledger.flush())
    assert told.counts == {"spilled": 5, "written": 6}
    assert len(rows(database)) == 6
    assert list((tmp_path / SPILL).iterdir()) == []
    ledger.stop()


def test_a_gateway_writes_what_one_before_it_put_aside(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / SPILL
    folder.mkdir()
    (folder / "77.jsonl").write_bytes(msgspec.json.encode(entry(1)) + b"\n")
    # one that died while it read, with a line that a power failure cut off
    (folder / "78.99999999.taken").write_bytes(msgspec.json.encode(entry(2)) + b"\n" + b'{"id": "cut')
    ledger = Ledger(database, tmp_path)
    ledger.start()
    asyncio.run(ledger.flush())
    ledger.stop()
    assert [r["id"] for r in rows(database)] == ["r1", "r2"]
    assert list(folder.iterdir()) == []


def test_recording_waits_for_nobody(database: Database, tmp_path: Path) -> None:
    ledger = Ledger(database, tmp_path)
    with sqlite3.connect(tmp_path / "gateway.sqlite3", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")  # the writer has to wait; whoever records has not
        ledger.start()
        for number in range(1000):
            ledger.record(entry(number))
        other.execute("COMMIT")
    ledger.stop()
    assert len(rows(database)) == 1000


# -- roll-ups and answers ---


@pytest.fixture
def months(database: Database) -> list[Entry]:
    """Requests of two months, written."""
    rng = random.Random(0)
    made = [
        entry(
            number,
            time=NOW - rng.random() * 60 * 86400,
            key_id=rng.choice("ab"),
            model=rng.choice("mn"),
            status=rng.choice((200, 200, 200, 404)),
            cached=rng.random() < 0.1,
            latency_ms=rng.lognormvariate(3, 1),
            queue_ms=None if rng.random() < 0.2 else rng.random(),
            input_tokens=rng.randint(0, 100),
        )
        for number in range(800)
    ]
    write(database, made)
    return made


SPANS = [
    (1, None), (1, 300_000), (10, None), (10, HOUR_MS), (45, DAY_MS), (45, None), (60.37, None), (33.3, 7 * DAY_MS),
]  # fmt: skip


@pytest.mark.parametrize("rolled", [False, True])
def test_answers_are_the_same_from_requests_and_from_roll_ups(
    rolled: bool, database: Database, months: list[Entry]
) -> None:
    if rolled:
        Maintenance(database, ledger_days=10_000, hourly_days=10_000).run(NOW)
        late = entry(9999, time=NOW - 0.5 * 86400, id="late")
        write(database, [late])  # of an hour that is rolled up already
        months = [*months, late]
    for days, interval_ms in SPANS:
        span = Span(start_ms=int((NOW - days * 86400) * 1e3), end_ms=int(NOW * 1e3) + 1)
        found = queries.answer(database, Question(span=span, interval_ms=interval_ms, group_by=("key", "status")))
        assert found.span == span
        compare(found, [e for e in months if span.start_ms <= int(e.time * 1e3) < span.end_ms], interval_ms)


def compare(found: queries.Answer, meant: list[Entry], interval_ms: int | None) -> None:
    """An answer by key and status with what it should be."""
    totals = found.totals
    assert totals.requests == len(meant)
    assert totals.errors == sum(e.status == 404 for e in meant)
    assert totals.cached == sum(e.cached for e in meant)
    assert totals.input_tokens == sum(e.input_tokens for e in meant)
    groups: Counter[tuple[int | None, tuple[str, str]]] = Counter()
    for e in meant:
        start = int(e.time * 1e3) // interval_ms * interval_ms if interval_ms else None
        groups[start, (e.key_id, str(e.status))] += e.input_tokens
    assert {(r.start_ms, r.group): r.totals.input_tokens for r in found.rows} == dict(groups)
    ordered = sorted(e.latency_ms for e in meant)
    for percent, value in ((50, totals.latency_ms.p50), (99, totals.latency_ms.p99)):
        assert value == pytest.approx(ordered[-(-len(ordered) * percent // 100) - 1], rel=0.011)
    assert totals.compute_ms.p50 is None


def test_old_requests_go_and_their_sums_stay(database: Database, months: list[Entry]) -> None:
    maintenance = Maintenance(database, ledger_days=30, hourly_days=40)
    maintenance.run(NOW)
    maintenance.run(NOW)  # nothing is added twice
    kept_since = int((NOW - 30 * 86400) * 1e3)
    assert {r["time_ms"] >= kept_since for r in rows(database)} == {True}
    span = Span(start_ms=int((NOW - 61 * 86400) * 1e3), end_ms=int(NOW * 1e3) + 1)
    found = queries.answer(database, Question(span=span), kept_since_ms=kept_since)
    assert found.totals.requests == len(months)
    assert found.totals.input_tokens == sum(e.input_tokens for e in months)
    with database.reading() as connection:
        first = connection.execute(sa.select(sa.func.min(ROLLUPS.c.start_ms)).where(ROLLUPS.c.period == "hour"))
        assert first.scalar_one() >= int((NOW - 40 * 86400) * 1e3) - HOUR_MS


def test_a_job_that_runs_is_rolled_up_when_it_is_over(database: Database) -> None:
    maintenance = Maintenance(database, ledger_days=1, hourly_days=40)
    write(database, [entry(1, id="job.1", time=NOW - 5 * 86400, code=ACCEPTED, status=202, input_tokens=0)])
    maintenance.run(NOW)
    assert [r["rolled"] for r in rows(database)] == [False]  # and it was not deleted
    write(database, [entry(1, id="job.1", time=NOW - 7200, input_tokens=50)])
    maintenance.run(NOW)
    assert [r["rolled"] for r in rows(database)] == [True]
    whole = Span(start_ms=0, end_ms=int(NOW * 1e3))
    found = queries.answer(database, Question(span=whole), kept_since_ms=int(NOW * 1e3))
    assert (found.totals.requests, found.totals.input_tokens) == (1, 50)


def test_a_bin_is_two_percent_wide() -> None:
    for ms in (0.0, 0.001, 0.5, 1.0, 17.3, 999.0, 6e5):
        assert ms_of(bin_of(ms)) == pytest.approx(max(ms, 0.001), rel=0.0101, abs=5e-4)
