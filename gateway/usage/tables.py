"""The ledger's tables, and the bins that percentiles are read from.

A time is kept twice: in milliseconds, and as the number of its bin on a scale on which a bin is 2% wide. Percentiles
are counted from bins, in SQL: within 1%, the same from single requests and from roll-ups, and without reading rows.
"""

from __future__ import annotations

import math

import msgspec
import sqlalchemy as sa

from gateway.database import metadata

WIDTH = math.log(1.02)
SMALLEST_MS = 0.001  # bin 0: this and everything shorter

USAGE = sa.Table(
    "usage",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("request_id", sa.String(128), nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),  # unix time at which it was over
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("endpoint", sa.String(200), nullable=False),
    sa.Column("model", sa.String(300), nullable=False),
    sa.Column("code", sa.String(40), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("cached", sa.Boolean, nullable=False),
    sa.Column("series", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("latency_ms", sa.Double, nullable=False),
    sa.Column("queue_ms", sa.Double),
    sa.Column("compute_ms", sa.Double),
    sa.Column("latency_bin", sa.Integer, nullable=False),
    sa.Column("queue_bin", sa.Integer),
    sa.Column("compute_bin", sa.Integer),
    sa.Column("rolled", sa.Boolean, nullable=False),  # whether it is in the roll-ups
)
ROLLUPS = sa.Table(
    "usage_rollups",
    metadata,
    sa.Column("period", sa.String(8), primary_key=True),  # "hour" or "day", of UTC
    sa.Column("start_ms", sa.BigInteger, primary_key=True),
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("endpoint", sa.String(200), primary_key=True),
    sa.Column("model", sa.String(300), primary_key=True),
    sa.Column("code", sa.String(40), primary_key=True),
    sa.Column("status", sa.Integer, primary_key=True),
    sa.Column("cached", sa.Boolean, primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("series", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("latency_bins", sa.LargeBinary, nullable=False),  # msgpack: bin -> requests
    sa.Column("queue_bins", sa.LargeBinary, nullable=False),
    sa.Column("compute_bins", sa.LargeBinary, nullable=False),
)
DIMENSIONS = ("key_id", "endpoint", "model", "code", "status", "cached")
COUNTS = ("series", "input_tokens", "output_tokens")
TIMES = ("latency", "queue", "compute")
HOUR_MS, DAY_MS = 3_600_000, 86_400_000

ACCEPTED = "ACCEPTED"  # the code of a job that is not over: its row is written once more when it is


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the ledger keeps it. It holds no payload and no key, only the key's id."""

    id: str  # never twice: what is written again under it is the same request
    request_id: str  # what the caller calls it
    time: float  # unix seconds at which it was over
    key_id: str
    endpoint: str  # the route's template
    model: str  # a catalog id, or "" where there is none or are several
    status: int
    code: str
    latency_ms: float
    queue_ms: float | None = None
    compute_ms: float | None = None
    series: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached: bool = False


def bin_of(ms: float) -> int:
    """The number of the bin that a time falls in."""
    return max(0, round(math.log(max(ms, SMALLEST_MS) / SMALLEST_MS) / WIDTH))


def ms_of(number: int) -> float:
    """The time in the middle of a bin, to three digits."""
    ms = SMALLEST_MS * math.exp(number * WIDTH)
    return round(ms, 3) if ms < 100 else round(ms, 1)


def row_of(entry: Entry) -> dict[str, object]:
    """The entry as a row."""
    return {
        "id": entry.id,
        "request_id": entry.request_id,
        "time_ms": int(entry.time * 1e3),
        "key_id": entry.key_id,
        "endpoint": entry.endpoint,
        "model": entry.model,
        "code": entry.code,
        "status": entry.status,
        "cached": entry.cached,
        "series": entry.series,
        "input_tokens": entry.input_tokens,
        "output_tokens": entry.output_tokens,
        "latency_ms": entry.latency_ms,
        "queue_ms": entry.queue_ms,
        "compute_ms": entry.compute_ms,
        "latency_bin": bin_of(entry.latency_ms),
        "queue_bin": None if entry.queue_ms is None else bin_of(entry.queue_ms),
        "compute_bin": None if entry.compute_ms is None else bin_of(entry.compute_ms),
        "rolled": False,
    }
