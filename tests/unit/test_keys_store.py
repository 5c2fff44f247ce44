"""Keys in the database, the pepper beside it, and what a running process remembers of them; on both databases."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access import pepper
from gateway.access.keys import KEYS, LATEST, KeyLimits, Keys, KeyTerms, id_of
from gateway.access.ring import KeyRing
from gateway.access.sessions import Sessions
from gateway.cli.keys import _row as row_of_list
from gateway.database import FILE, Database, open_database, shown, url_of
from gateway.errors import Code, GatewayError
from gateway.http.account import view
from gateway.usage import queries
from gateway.usage.ledger import write
from gateway.usage.queries import Question, Span
from gateway.usage.rollups import Maintenance
from gateway.usage.tables import ACCEPTED, HOUR_MS, Entry
from tests.postgres_servers import postgres
from tests.serving import REPOSITORY

PEPPER = b"p" * 32
NOW = 1_800_000_000.0


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    faults: list[BaseException] = []

    def opening() -> None:
        try:
            open_database(tmp_path, url).close()
        except BaseException as exc:
            faults.append(exc)

    threads = [threading.Thread(target=opening) for _ in range(3)]  # gateways that start together
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    opened = open_database(tmp_path, url)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(database: Database, clock: Clock) -> Keys:
    return Keys(database, PEPPER, clock=clock)


def refusal(ring: KeyRing, text: str) -> str:
    async def ask() -> str:
        try:
            await ring.find(text)
        except GatewayError as error:
            assert error.code is Code.UNAUTHENTICATED
            assert text not in error.sentence
            return error.sentence
        return ""

    return asyncio.run(ask())


def test_a_key_is_kept_as_a_hash_and_found_by_its_id(keys: Keys, database: Database) -> None:
    terms = KeyTerms(name="n", owner="o", models=("a/*", "b"), limits=KeyLimits(tokens_per_day=5), expires=NOW + 60)
    text, key = keys.create(terms)
    assert text.startswith(f"fg_{key.id}_")
    assert id_of(text) == key.id
    found = keys.get(key.id)
    assert found == key
    assert found.terms == terms
    assert keys.matches(found, text)
    assert not keys.matches(found, text[:-2] + "xx")
    assert not Keys(database, b"q" * 32).matches(found, text)  # another pepper
    assert text not in repr(found)
    assert text.split("_", 2)[2] not in repr(keys.all())  # a secret may hold "_"
    assert (found.caller.id, found.caller.may_use("a/x"), found.caller.may_use("c")) == (key.id, True, False)


def test_what_is_no_key_has_no_id() -> None:
    for text in ("", "fg_", "fg_abc_def", "sk-" + "0" * 60, f"fg_{'g' * 12}_{'x' * 43}", f"fg_{'0' * 12}_{'x' * 44}"):
        assert id_of(text) is None


def test_terms_that_cannot_be_are_refused_at_their_place(keys: Keys) -> None:
    wrong = KeyTerms(name=" ", models=(), endpoints=("",), limits=KeyLimits(requests_per_hour=-1), expires=NOW - 1)
    with pytest.raises(GatewayError) as caught:
        keys.create(wrong)
    assert [f.loc for f in caught.value.faults] == [
        ("name",),
        ("models",),
        ("endpoints",),
        ("expires",),
        ("limits", "requests_per_hour"),
    ]


@pytest.mark.parametrize("terms", [KeyTerms(name="a\x1b[2J"), KeyTerms(name="n", owner="a\nb")])
def test_names_hold_nothing_that_a_terminal_obeys(keys: Keys, terms: KeyTerms) -> None:
    with pytest.raises(GatewayError, match="printable"):
        keys.create(terms)


@pytest.mark.parametrize("expires", [LATEST + 1, NOW + 99999999999 * 86400.0, float("inf"), float("nan")])
def test_a_key_expires_while_there_are_dates(keys: Keys, expires: float) -> None:
    with pytest.raises(GatewayError) as caught:
        keys.create(KeyTerms(name="n", expires=expires))
    assert [f.loc for f in caught.value.faults] == [("expires",)]
    assert keys.create(KeyTerms(name="n", expires=LATEST))[1].terms.expires == LATEST


def test_a_row_that_expires_after_all_dates_can_still_be_shown(keys: Keys, database: Database) -> None:
    _, key = keys.create(KeyTerms(name="n", expires=NOW + 1))
    with database.writing() as connection:
        connection.execute(KEYS.update().where(KEYS.c.id == key.id).values(expires=LATEST + 86400.0))
    found = next(k for k in keys.all() if k.id == key.id)
    shown_date = view(found).expires
    assert shown_date is not None
    assert shown_date.year == 9999
    assert row_of_list(found)["expires"] == "9999-12-31T23:59:59Z"
    assert keys.get(key.id) == found


def test_an_expired_key_ends_by_itself_and_a_rotated_one_has_its_overlap(keys: Keys, clock: Clock) -> None:
    ring = KeyRing(keys, clock=clock)
    brief, _ = keys.create(KeyTerms(name="brief", expires=NOW + 60))
    old, key = keys.create(KeyTerms(name="rotated"))
    new, _ = keys.rotate(key.id, overlap_s=30.0)
    assert [refusal(ring, t) for t in (brief, old, new)] == ["", "", ""]
    clock.now += 31
    assert [refusal(ring, t) for t in (brief, old, new)] == ["", "This key is unknown.", ""]
    clock.now += 30
    assert refusal(ring, brief) == "This key is expired."
    keys.revoke(key.id)
    assert refusal(ring, new) == "This key is revoked."
    with pytest.raises(GatewayError, match="revoked"):
        keys.rotate(key.id)
    assert asyncio.run(ring.caller_of(key.id)) is None
    assert asyncio.run(ring.caller_of("anonymous")) is not None


def test_a_ring_asks_the_database_only_when_something_changed(
    keys: Keys, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    get = keys.get
    monkeypatch.setattr(keys, "get", lambda key_id: (asked.append(key_id), get(key_id))[1])

    async def run() -> None:
        ring = KeyRing(keys, poll_s=3600)
        await ring.start()
        text, key = await asyncio.to_thread(keys.create, KeyTerms(name="n"))
        await ring.refresh()
        assert ring.exist
        for _ in range(3):
            await ring.find(text)
        assert asked == [key.id]
        await asyncio.to_thread(Keys(database, PEPPER).revoke, key.id)  # as another process would
        await ring.refresh()  # what is done every second
        with pytest.raises(GatewayError, match="revoked"):
            await ring.find(text)
        assert asked == [key.id, key.id]
        await ring.stop()

    asyncio.run(run())


def test_the_ledger_is_the_same_on_both_databases(database: Database) -> None:
    base = {"request_id": "r", "key_id": "a", "endpoint": "/v1/forecast", "model": "m", "latency_ms": 5.0}
    made = [
        Entry(id=f"x{i}", time=NOW - i * 3000, status=200, code="OK", input_tokens=i, **base)  # type: ignore[arg-type]
        for i in range(50)
    ]
    job = Entry(id="job.1", time=NOW - 7200, status=202, code=ACCEPTED, **base)  # type: ignore[arg-type]
    over = Entry(id="job.1", time=NOW - 3600, status=200, code="OK", input_tokens=9, **base)  # type: ignore[arg-type]
    write(database, made)
    write(database, [*made[:5], job, over, job])  # repeated
    question = Question(
        span=Span(start_ms=int((NOW - 200_000) * 1e3), end_ms=int(NOW * 1e3) + 1),
        interval_ms=HOUR_MS,
        group_by=("key", "status", "cached"),
    )
    before = queries.answer(database, question)
    Maintenance(database, ledger_days=10_000, hourly_days=10_000).run(NOW)
    after = queries.answer(database, question)
    assert before == after
    assert (after.totals.requests, after.totals.input_tokens) == (51, sum(range(50)) + 9)
    assert {row.group for row in after.rows} == {("a", "200", "false")}
    slowest = queries.requests(database, question.span, order="slowest", failed=False, limit=2)
    assert [row["latency_ms"] for row in slowest] == [5.0, 5.0]


# -- beside the database ---


def test_processes_that_ask_together_get_one_pepper(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(pepper.read(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [p.name for p in tmp_path.iterdir()] == [pepper.FILE]
    assert (tmp_path / pepper.FILE).stat().st_mode & 0o777 == 0o600
    assert pepper.read(tmp_path, "a setting") == pepper.read("/nowhere", "a setting") != found[0]
    (tmp_path / pepper.FILE).write_bytes(b"short")
    with pytest.raises(GatewayError, match="restore"):
        pepper.read(tmp_path)


def test_a_session_is_only_what_was_signed(clock: Clock) -> None:
    sessions = Sessions(PEPPER, clock=clock)
    value = sessions.open("k1", "d" * 64, lasts_s=60)
    found = sessions.read(value)
    assert found is not None
    assert found.key_id == "k1"
    middle = len(value) // 2
    for wrong in ("", "AAAA", "é", value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :]):
        assert sessions.read(wrong) is None
    assert Sessions(b"q" * 32, clock=clock).read(value) is None
    clock.now += 61
    assert sessions.read(value) is None


def test_a_new_database_is_no_news(tmp_path: Path) -> None:
    """In a process of its own: alembic speaks when it is first imported."""
    program = (
        "import logging, sys; from gateway.database import open_database; "
        "logging.basicConfig(level=logging.INFO); open_database(sys.argv[1]).close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_file_of_a_database_is_its_owners_alone(tmp_path: Path) -> None:
    def modes() -> set[int]:
        return {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}

    for mode in (None, 0o644):  # a new one, and one that an older gateway made
        if mode is not None:
            (tmp_path / FILE).chmod(mode)
        opened = open_database(tmp_path)
        Keys(opened, PEPPER).create(KeyTerms(name="n"))
        assert {path.name for path in tmp_path.iterdir()} == {FILE, f"{FILE}-wal", f"{FILE}-shm"}
        assert modes() == {0o600}
        opened.close()


def test_a_databases_password_is_not_shown(tmp_path: Path) -> None:
    url = url_of(tmp_path, "postgresql://u:s3cret@db/x")
    assert "s3cret" not in shown(url)
    assert url.drivername == "postgresql+psycopg"
    with pytest.raises(GatewayError) as caught:
        open_database(tmp_path, "postgresql://u:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in caught.value.sentence
    with pytest.raises(GatewayError, match="postgresql://"):
        open_database(tmp_path, "mysql://h/x")
