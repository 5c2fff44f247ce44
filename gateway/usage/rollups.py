"""Roll-ups: sums of the ledger by hour and by day, which stay when single requests are deleted.

A row is in the roll-ups when its `rolled` says so, and both happen in one transaction: a row that comes late is added
by the next pass, and none is added twice. Rows of jobs that still run wait until these are over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa
from sqlalchemy import RowMapping

from gateway.database import Database
from gateway.usage.tables import ACCEPTED, COUNTS, DAY_MS, DIMENSIONS, HOUR_MS, ROLLUPS, TIMES, USAGE

SETTLED_MS = 60_000  # an hour is rolled up this long after its end
ROWS = 2000  # of one transaction, so that requests' rows need not wait long
ROLLUP_LOCK = 0x726F6C6C  # of PostgreSQL's advisory locks
PERIODS = {"hour": HOUR_MS, "day": DAY_MS}

Bins = Counter[int]


@dataclass(slots=True)
class Sums:
    """What a group of rows comes to."""

    requests: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    bins: dict[str, Bins] = field(default_factory=lambda: {name: Counter() for name in TIMES})

    def add_row(self, row: RowMapping) -> None:
        """Add one request."""
        self.requests += 1
        for name in COUNTS:
            self.counts[name] += row[name]
        for name in TIMES:
            if row[f"{name}_bin"] is not None:
                self.bins[name][row[f"{name}_bin"]] += 1

    def add_rollup(self, row: RowMapping) -> None:
        """Add a row of the roll-ups."""
        self.requests += row["requests"]
        for name in COUNTS:
            self.counts[name] += row[name]
        for name in TIMES:
            self.bins[name].update(msgspec.msgpack.decode(row[f"{name}_bins"], type=dict[int, int]))


class Maintenance:
    """Rolls up, and deletes what has been kept long enough."""

    def __init__(self, database: Database, *, ledger_days: int, hourly_days: int) -> None:
        self._database = database
        self._ledger_days = ledger_days
        self._hourly_days = hourly_days

    def run(self, now: float) -> None:
        """Do all that is due at `now`, in unix seconds."""
        while self._roll_up(int(now * 1e3)) == ROWS:
            pass
        self._delete(int(now * 1e3))

    def _roll_up(self, now_ms: int) -> int:
        """Add up to `ROWS` rows of hours that are over; how many there were."""
        over_ms = (now_ms - SETTLED_MS) // HOUR_MS * HOUR_MS
        due = (
            sa.select(USAGE)
            .where(USAGE.c.rolled.is_(False), USAGE.c.time_ms < over_ms, USAGE.c.code != ACCEPTED)
            .order_by(USAGE.c.time_ms)
            .limit(ROWS)
        )
        with self._database.writing() as connection:
            if not self._database.sqlite:  # one process at a time; SQLite has one writer as it is
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({ROLLUP_LOCK})"))
            rows = connection.execute(due).mappings().all()
            if rows:
                for (period, *whom), sums in _groups(rows).items():
                    self._add(connection, period, whom, sums)
                mark = USAGE.update().where(USAGE.c.id == sa.bindparam("row_id")).values(rolled=True)
                connection.execute(mark, [{"row_id": row["id"]} for row in rows])
        return len(rows)

    def _add(self, connection: sa.Connection, period: object, whom: Sequence[object], sums: Sums) -> None:
        """Add sums to the roll-up of a group, which may be there."""
        keys = dict(zip(("start_ms", *DIMENSIONS), whom, strict=True)) | {"period": period}
        there = sa.and_(*(ROLLUPS.c[name] == value for name, value in keys.items()))
        before = connection.execute(ROLLUPS.select().where(there)).mappings().one_or_none()
        if before is not None:
            sums.add_rollup(before)
        values: dict[str, object] = {"requests": sums.requests, **sums.counts}
        values |= {f"{name}_bins": msgspec.msgpack.encode(dict(sums.bins[name])) for name in TIMES}
        if before is not None:
            connection.execute(ROLLUPS.update().where(there).values(values))
        else:
            connection.execute(ROLLUPS.insert().values(keys | values))

    def _delete(self, now_ms: int) -> None:
        with self._database.writing() as connection:
            connection.execute(
                USAGE.delete().where(USAGE.c.rolled.is_(True), USAGE.c.time_ms < now_ms - self._ledger_days * DAY_MS)
            )
            connection.execute(
                ROLLUPS.delete().where(
                    ROLLUPS.c.period == "hour", ROLLUPS.c.start_ms < now_ms - self._hourly_days * DAY_MS
                )
            )


def _groups(rows: Iterable[RowMapping]) -> dict[tuple[object, ...], Sums]:
    """The sums of rows by period, its start and all dimensions."""
    groups: dict[tuple[object, ...], Sums] = {}
    for row in rows:
        whom = tuple(row[name] for name in DIMENSIONS)
        for period, span_ms in PERIODS.items():
            key = (period, row["time_ms"] // span_ms * span_ms, *whom)
            groups.setdefault(key, Sums()).add_row(row)
    return groups
