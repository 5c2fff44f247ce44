"""Questions to the ledger: totals, series over time, groups, percentiles, single requests.

Short spans are summed from single requests, long ones from roll-ups and from what is not in them yet; both by SQL, and
in one reading transaction, so that nothing is counted twice or missed. All calls wait for SQL.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import RowMapping

from gateway.database import Database
from gateway.usage.rollups import Bins
from gateway.usage.tables import COUNTS, DAY_MS, HOUR_MS, ROLLUPS, TIMES, USAGE, ms_of

Group = Literal["model", "key", "endpoint", "status", "code", "cached"]
Order = Literal["newest", "slowest"]

COLUMNS: Mapping[Group, str] = {
    "model": "model",
    "key": "key_id",
    "endpoint": "endpoint",
    "status": "status",
    "code": "code",
    "cached": "cached",
}
DETAILED_MS = 2 * DAY_MS  # spans up to this are read from single requests, to the millisecond
LONG_MS = 31 * DAY_MS  # totals of more than this are summed by the day
MAX_POINTS = 2000  # of one answer over time


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From `start_ms` up to before `end_ms`."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the ledger."""

    span: Span
    interval_ms: int | None = None  # None: no series over time
    group_by: tuple[Group, ...] = ()
    only: Mapping[Group, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Of milliseconds, within 1%; None where nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What some requests come to. A failed one has no tokens; an error is a status of 400 or more, or none."""

    requests: int = 0
    errors: int = 0
    cached: int = 0
    series: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    latency_ms: Percentiles = field(default_factory=Percentiles)
    queue_ms: Percentiles = field(default_factory=Percentiles)
    compute_ms: Percentiles = field(default_factory=Percentiles)

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The totals of one group, in one interval where the question has intervals."""

    start_ms: int | None
    group: tuple[str, ...]  # in the order of `group_by`
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Totals of the span, which was widened to whole hours or days where single requests may be deleted."""

    span: Span
    totals: Totals
    rows: tuple[Row, ...]


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    errors: int = 0
    cached: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    bins: dict[str, Bins] = field(default_factory=lambda: {name: Counter() for name in TIMES})

    def add(self, other: _Tally) -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.cached += other.cached
        self.counts.update(other.counts)
        for name in TIMES:
            self.bins[name].update(other.bins[name])

    def totals(self) -> Totals:
        times = {f"{name}_ms": _percentiles(self.bins[name]) for name in TIMES}
        return Totals(
            requests=self.requests,
            errors=self.errors,
            cached=self.cached,
            series=self.counts["series"],
            input_tokens=self.counts["input_tokens"],
            output_tokens=self.counts["output_tokens"],
            **times,
        )


_Tallies = dict[tuple[object, ...], _Tally]


def answer(database: Database, question: Question, *, kept_since_ms: int = 0) -> Answer:
    """The totals that `question` asks for; rows in the order of time, then of requests.

    `kept_since_ms`: single requests before it may be deleted.
    """
    tallies: _Tallies = {}
    asked = question.span
    whole = asked.end_ms - asked.start_ms
    fine = question.interval_ms is not None and question.interval_ms % HOUR_MS != 0
    with database.reading() as connection:
        if (whole <= DETAILED_MS and asked.start_ms >= kept_since_ms) or fine:
            span = asked
            _tally_requests(connection, question, asked, tallies)
        else:
            days = whole > LONG_MS if question.interval_ms is None else question.interval_ms % DAY_MS == 0
            inner = _whole_periods(asked, DAY_MS if days else HOUR_MS, kept_since_ms)
            span = Span(start_ms=min(asked.start_ms, inner.start_ms), end_ms=max(asked.end_ms, inner.end_ms))
            _tally_rollups(connection, question, inner, "day" if days else "hour", tallies)
            _tally_requests(connection, question, inner, tallies, unrolled=True)
            for edge in (
                Span(start_ms=span.start_ms, end_ms=inner.start_ms),
                Span(start_ms=inner.end_ms, end_ms=span.end_ms),
            ):
                _tally_requests(connection, question, edge, tallies)
    every = _Tally()
    for tally in tallies.values():
        every.add(tally)
    rows = [
        Row(
            start_ms=None if question.interval_ms is None else int(str(key[0])),
            group=tuple(_shown(part) for part in key[1:]),
            totals=tally.totals(),
        )
        for key, tally in tallies.items()
        if question.interval_ms is not None or question.group_by
    ]
    rows.sort(key=lambda r: (r.start_ms or 0, -r.totals.requests, r.group))
    return Answer(span=span, totals=every.totals(), rows=tuple(rows))


def requests(
    database: Database,
    span: Span,
    *,
    order: Order = "newest",
    failed: bool = False,
    only: Mapping[Group, tuple[str, ...]] | None = None,
    limit: int = 50,
) -> tuple[RowMapping, ...]:
    """Single requests: the newest or the slowest, all or those that failed."""
    wanted = _where(USAGE, Question(span=span, only=only or {}), USAGE.c.time_ms, span)
    if failed:
        wanted.append(_failed(USAGE))
    by = USAGE.c.latency_ms.desc() if order == "slowest" else USAGE.c.time_ms.desc()
    with database.reading() as connection:
        found = connection.execute(USAGE.select().where(*wanted).order_by(by, USAGE.c.id).limit(limit))
        return tuple(found.mappings())


# -- reading ---


def _tally_requests(
    connection: sa.Connection, question: Question, span: Span, tallies: _Tallies, *, unrolled: bool = False
) -> None:
    """Sum single requests: all of the span, or those that no roll-up has."""
    if span.start_ms >= span.end_ms:
        return
    where = _where(USAGE, question, USAGE.c.time_ms, span)
    if unrolled:
        where.append(USAGE.c.rolled.is_(False))
    keys = _keys(USAGE, question, USAGE.c.time_ms)
    sums = [
        sa.func.count().label("requests"),
        sa.func.sum(sa.case((_failed(USAGE), 1), else_=0)).label("errors"),
        sa.func.sum(sa.case((USAGE.c.cached.is_(True), 1), else_=0)).label("cached"),
        *(sa.func.sum(USAGE.c[name]).label(name) for name in COUNTS),
    ]
    for *key, many, errors, cached, series, read, written in connection.execute(
        sa.select(*keys, *sums).where(*where).group_by(*keys)
    ):
        tally = tallies.setdefault(tuple(key), _Tally())
        tally.requests += int(many)
        tally.errors += int(errors)
        tally.cached += int(cached)
        tally.counts.update(dict(zip(COUNTS, map(int, (series, read, written)), strict=True)))
    for name in TIMES:
        column = USAGE.c[f"{name}_bin"]
        counted = sa.select(*keys, column, sa.func.count()).where(*where, column.is_not(None)).group_by(*keys, column)
        for *key, number, many in connection.execute(counted):
            tallies[tuple(key)].bins[name][number] += int(many)


def _tally_rollups(connection: sa.Connection, question: Question, span: Span, period: str, tallies: _Tallies) -> None:
    """Sum the roll-ups of a span of whole periods."""
    where = [ROLLUPS.c.period == period, *_where(ROLLUPS, question, ROLLUPS.c.start_ms, span)]
    keys = [key.label(f"key{i}") for i, key in enumerate(_keys(ROLLUPS, question, ROLLUPS.c.start_ms))]
    for row in connection.execute(sa.select(*keys, ROLLUPS).where(*where)).mappings():
        tally = tallies.setdefault(tuple(row[f"key{i}"] for i in range(len(keys))), _Tally())
        many: int = row["requests"]
        tally.requests += many
        tally.errors += many if _is_error(row["status"]) else 0
        tally.cached += many if row["cached"] else 0
        tally.counts.update({name: row[name] for name in COUNTS})
        for name in TIMES:
            tally.bins[name].update(msgspec.msgpack.decode(row[f"{name}_bins"], type=dict[int, int]))


def _keys(table: sa.Table, question: Question, time: sa.Column[int]) -> list[sa.ColumnElement[Any]]:
    """What rows are grouped by: the interval's start (or 0), and the columns asked for."""
    start: sa.ColumnElement[int] = time - time  # 0, in a form that can be grouped by
    if question.interval_ms is not None:
        start = time - time % sa.literal_column(str(question.interval_ms), sa.BigInteger)
    return [start, *(table.c[COLUMNS[name]] for name in question.group_by)]


def _where(table: sa.Table, question: Question, time: sa.Column[int], span: Span) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [time >= span.start_ms, time < span.end_ms]
    for name, values in question.only.items():
        column = table.c[COLUMNS[name]]
        typed: Sequence[object] = [int(v) for v in values] if name == "status" else values
        if name == "cached":
            typed = [v == "true" for v in values]
        where.append(column.in_(typed))
    return where


def _failed(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.or_(table.c.status >= 400, table.c.status == 0)


def _is_error(status: int) -> bool:
    return status >= 400 or status == 0


def _whole_periods(span: Span, period_ms: int, kept_since_ms: int) -> Span:
    """The periods that lie within a span; at an end whose single requests may be deleted, the one around it too."""
    start, end = span.start_ms // period_ms * period_ms, span.end_ms // period_ms * period_ms
    if start < span.start_ms and span.start_ms >= kept_since_ms:
        start += period_ms
    if end < span.end_ms and span.end_ms < kept_since_ms:
        end += period_ms
    return Span(start_ms=start, end_ms=end) if start < end else Span(start_ms=span.end_ms, end_ms=span.end_ms)


def _shown(part: object) -> str:
    return str(part).lower() if isinstance(part, bool) else str(part)


def _percentiles(bins: Bins) -> Percentiles:
    """The times below which 50, 95 and 99% lie (nearest rank)."""
    many = sum(bins.values())
    if not many:
        return Percentiles()
    found: dict[str, float] = {}
    ranks = {f"p{p}": math.ceil(many * p / 100) for p in (50, 95, 99)}
    passed = 0
    for number in sorted(bins):
        passed += bins[number]
        for name, rank in ranks.items():
            if name not in found and passed >= rank:
                found[name] = ms_of(number)
    return Percentiles(**found)
