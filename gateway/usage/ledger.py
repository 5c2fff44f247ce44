"""The usage ledger: one row a request, written by a thread of its own.

Whoever records an entry only appends it to a list. The thread writes what came, twice a second and at the end. What
the database does not take is appended to a file beside it, in order that neither memory nor callers pay for its
absence, and is written from there when the database is back. Every row has an id of its own, and writing one twice is
writing it once; so a write that may or may not have arrived is simply repeated.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.sql.compiler import SQLCompiler

from gateway.database import Database, reason
from gateway.usage.rollups import Maintenance
from gateway.usage.tables import ACCEPTED, USAGE, Entry, row_of

FLUSH_S = 0.5  # the promise is one second
BATCH = 1000  # rows of one transaction: others that write wait no longer than some ms
MAINTENANCE_S = 60.0
STOP_S = 15.0  # what the last flush may take: more than a busy database lets a writer wait
SPILL = "ledger-spill"  # files of what the database did not take: <data_dir>/ledger-spill/<process>.jsonl

Outcome = Literal["written", "spilled", "lost"]

log = structlog.get_logger(__name__)


class Observer(Protocol):
    """Told what became of entries."""

    def ledger_entries(self, outcome: Outcome, count: int) -> None:
        """`count` entries were written, put aside in a file, or lost because the file did not take them either."""


class Ledger:
    """Records entries. `start` begins to write, `stop` writes what is left."""

    def __init__(
        self,
        database: Database,
        data_dir: str | Path,
        *,
        observer: Observer | None = None,
        maintenance: Maintenance | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._folder = Path(data_dir).expanduser() / SPILL
        self._observer = observer
        self._maintenance = maintenance
        self._clock = clock
        self._entries: deque[Entry] = deque()  # append and popleft are atomic
        self._wake = threading.Event()
        self._stopping = False
        self._asked = 0  # flushes asked for, and how far they are: guarded by `_flushed`
        self._done = 0
        self._flushed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._failing = False
        self._maintained = 0.0

    # -- for everyone ---

    def record(self, entry: Entry) -> None:
        """Take down a request that is over; returns at once."""
        self._entries.append(entry)

    async def flush(self) -> None:
        """Wait until what was recorded so far can be read, or the database does not take it."""
        with self._flushed:
            self._asked += 1
            mine = self._asked
        self._wake.set()
        await asyncio.to_thread(self._wait_for, mine)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left; call it in a thread, and when nothing more is recorded."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    @property
    def waiting(self) -> int:
        """Entries that are in memory only."""
        return len(self._entries)

    # -- the thread ---

    def _run(self) -> None:
        self._recover()
        while True:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            stopping = self._stopping
            with self._flushed:
                asked = self._asked
            try:
                self._write_all()
            except Exception:
                log.exception("ledger_failed")  # a bug; the thread lives on
            with self._flushed:
                self._done = asked
                self._flushed.notify_all()
            if stopping:
                return
            self._maintain()

    def _wait_for(self, mine: int) -> None:
        with self._flushed:
            self._flushed.wait_for(lambda: self._done >= mine or not self._thread.is_alive(), STOP_S)

    def _write_all(self) -> None:
        while self._entries:
            batch: list[Entry] = []
            while self._entries and len(batch) < BATCH:
                batch.append(self._entries.popleft())
            if self._written(batch):
                self._tell("written", len(batch))
                if self._failing:
                    self._failing = False
                    self._recover()
            else:
                self._spill(batch)

    def _written(self, batch: Sequence[Entry]) -> bool:
        try:
            write(self._database, batch)
        except sa.exc.SQLAlchemyError as exc:
            if not self._failing:
                log.error("ledger_unwritable", reason=reason(exc), aside=str(self._folder))
            self._failing = True
            return False
        except Exception:  # a bug, which shall lose nothing either
            log.exception("ledger_failed", aside=str(self._folder))
            self._failing = True
            return False
        return True

    def _spill(self, batch: Sequence[Entry]) -> None:
        """Put a batch aside in this process's file."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"{os.getpid()}.jsonl").open("ab") as file:
                file.write(b"".join(msgspec.json.encode(e) + b"\n" for e in batch))
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            log.error("ledger_lost", entries=len(batch), reason=exc.strerror, ids=[e.id for e in batch])
            self._tell("lost", len(batch))
        else:
            self._tell("spilled", len(batch))

    def _recover(self) -> None:
        """Write what was put aside, by this process or one before it; a file that is all written goes."""
        for path in sorted(self._folder.glob("*.jsonl")):
            try:
                taken = path.with_suffix(f".{os.getpid()}.taken")
                path.rename(taken)  # only one process reads it
            except OSError:
                continue
            self._recover_file(taken)
        for path in self._folder.glob("*.taken"):
            if not _alive(path.suffixes):
                self._recover_file(path)

    def _recover_file(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                entries = _entries(file)
                while batch := list(islice(entries, BATCH)):
                    write(self._database, batch)
                    self._tell("written", len(batch))
            path.unlink()
        except (OSError, sa.exc.SQLAlchemyError) as exc:
            said = reason(exc)
            log.error("ledger_unwritable", reason=said, aside=str(path))
            self._failing = True
            if path.exists():
                path.rename(path.parent / f"{path.name.partition('.')[0]}.jsonl")

    def _maintain(self) -> None:
        if self._maintenance is None or self._clock() - self._maintained < MAINTENANCE_S:
            return
        self._maintained = self._clock()
        try:
            self._maintenance.run(self._clock())
        except sa.exc.SQLAlchemyError as exc:
            log.error("ledger_not_maintained", reason=reason(exc))

    def _tell(self, outcome: Outcome, count: int) -> None:
        if self._observer is not None:
            self._observer.ledger_entries(outcome, count)


def write(database: Database, batch: Sequence[Entry]) -> None:
    """Write entries in one transaction. One that is there stays as it is, unless it says of a job that it runs."""
    # The last of one id counts within a batch: PostgreSQL takes no row twice in one statement.
    rows = {e.id: row_of(e) for e in sorted(batch, key=lambda e: e.code != ACCEPTED)}
    with database.writing() as connection:
        # In the driver's own words: SQLAlchemy's way through its types, which change nothing here, costs more than SQL.
        statement, parameters_of = _upsert(database, connection.dialect)
        connection.exec_driver_sql(statement, [parameters_of(row) for row in rows.values()])


@functools.lru_cache(maxsize=4)
def _upsert(database: Database, dialect: sa.Dialect) -> tuple[str, Callable[[dict[str, object]], Any]]:
    """The statement that writes a row, and what makes of a row the parameters that the driver wants."""
    accepted: sa.ColumnElement[str] = sa.literal_column(f"'{ACCEPTED}'")
    insert = database.insert(USAGE)
    new = {c.name: insert.excluded[c.name] for c in USAGE.columns if c.name != "id"}
    statement = insert.on_conflict_do_update(
        index_elements=["id"],
        set_=new,
        where=sa.and_(USAGE.c.code == accepted, insert.excluded.code != accepted),
    )
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    return str(compiled), itemgetter(*compiled.positiontup) if compiled.positiontup else dict


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of a file; a last line that was cut off by a power failure ends it."""
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            log.error("ledger_line_unreadable", bytes=len(line))


def _alive(suffixes: Sequence[str]) -> bool:
    """Whether the process that took a file still runs."""
    try:
        os.kill(int(suffixes[0].removeprefix(".")), 0)
    except (ValueError, IndexError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
