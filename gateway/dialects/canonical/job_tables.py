"""Uploads as Parquet: a tidy table of observations to series.

One row a series and time. The rows of a series lie together, in the order of time; nothing is mended. The module
imports pyarrow, which takes some ten megabytes: it is imported when the first such table comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from msgspec import Meta

from gateway import timeline
from gateway.dialects.base import Steps
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.metadata import Echo
from gateway.domain import Array, Metadata, SeriesInput
from gateway.errors import MAX_FAULTS, Code, Fault, GatewayError
from gateway.tables import ID_NAMES, TARGET_NAMES, TIME_NAMES

HEAD_KEY = b"forecast_gateway"  # of the file's schema metadata: the first line of an NDJSON upload
BATCH_ROWS = 64 * 1024
MAX_ROWS_A_SERIES = 2_000_000


class TableQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the query says of a table: the order where the file holds none, and its columns where names do not tell."""

    model: Annotated[str, Meta(description="Catalog id or alias.")] | None = None
    prediction_length: Annotated[int, Meta(ge=1, description="Steps to forecast.")] | None = None
    frequency: Annotated[str, Meta(description="A pandas offset alias; else found in the first series.")] | None = None
    quantile_levels: Annotated[str, Meta(description="Comma-separated.", examples=["0.1,0.5,0.9"])] | None = None
    context_length: Annotated[int, Meta(ge=1, description="Cap on the observations used.")] | None = None
    priority: Annotated[int, Meta(ge=-10, le=10)] | None = None
    deadline_s: Annotated[float, Meta(gt=0.0)] | None = None
    callback_url: str | None = None
    id: Annotated[str, Meta(description="Column that tells the series apart.")] | None = None
    time: Annotated[str, Meta(description="Column of times.")] | None = None
    target: Annotated[str, Meta(description="Column to forecast; several, comma-separated, are channels.")] | None = (
        None
    )


def query_of(sent: Sequence[tuple[str, str]]) -> TableQuery:
    """The query of an upload; raises GatewayError INVALID_ARGUMENT."""
    try:
        return msgspec.convert(dict(sent), TableQuery, strict=False)
    except msgspec.ValidationError as exc:
        raise GatewayError(Code.INVALID_ARGUMENT, f"The query cannot be read: {exc}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column is what."""

    id: str | None
    time: str | None
    targets: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return [n for n in (self.id, self.time, *self.targets) if n is not None]


@dataclass(slots=True)
class _Part:
    """Rows of one series that lie in one batch."""

    id: str
    row: int  # of the first, from 1
    target: Array  # (rows, channels)
    stamps: timeline.Stamps | None


@dataclass(slots=True)
class TableReader:
    """A Parquet file as series. `batch` reads and may run in a thread; `series` works in steps."""

    source: Path | IO[bytes]
    query: TableQuery
    _file: pyarrow.parquet.ParquetFile = field(init=False)
    _batches: Iterator[pa.RecordBatch] = field(init=False)
    columns: Columns = field(init=False)
    frequency: str | None = field(init=False, default=None)
    _grid: timeline.Frequency | None = field(init=False, default=None)
    _zone: timeline.Form = field(init=False, default_factory=timeline.Form)
    _row: int = field(init=False, default=1)
    _open: list[_Part] = field(init=False, default_factory=list)  # of the series that may go on in the next batch
    _seen: set[str] = field(init=False, default_factory=set)
    faults: list[Fault] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Raises GatewayError for a file that is no table of series."""
        try:
            self._file = pyarrow.parquet.ParquetFile(self.source)
        except (pa.ArrowInvalid, OSError) as exc:
            raise GatewayError(Code.MALFORMED, f"The body is not Parquet: {_first_line(exc)}") from None
        self.columns = _columns(self._file.schema_arrow, self.query)
        self._batches = self._file.iter_batches(batch_size=BATCH_ROWS, columns=self.columns.names)

    def head(self, frequency: str | None = None) -> bytes:
        """The order as an NDJSON upload's first line would hold it: from the query, or from the file's metadata."""
        told = (self._file.schema_arrow.metadata or {}).get(HEAD_KEY)
        query = self.query
        if query.model is None and told is not None:
            return _with_frequency(bytes(told), frequency)
        levels = query.quantile_levels
        parameters = {
            "prediction_length": query.prediction_length,
            "frequency": query.frequency or frequency,
            "context_length": query.context_length,
            "quantile_levels": None if levels is None else [_number(t) for t in levels.split(",") if t.strip()],
        }
        request = {"model": query.model, "parameters": {k: v for k, v in parameters.items() if v is not None}}
        order = {
            "type": "forecast",
            "request": {k: v for k, v in request.items() if v is not None},
            "priority": query.priority,
            "deadline_s": query.deadline_s,
            "callback_url": query.callback_url,
        }
        return msgspec.json.encode({k: v for k, v in order.items() if v is not None})

    def batch(self) -> pa.RecordBatch | None:
        """The next rows; None: there are no more."""
        try:
            return next(self._batches, None)
        except (pa.ArrowInvalid, OSError) as exc:
            raise GatewayError(Code.MALFORMED, f"The body is not Parquet: {_first_line(exc)}") from None

    def infer(self, batch: pa.RecordBatch) -> str | None:
        """The frequency of the first series of the first rows, where they have times."""
        if self.columns.time is None:
            return None
        first = next(self._parts(batch))
        if first.stamps is None or len(first.stamps) < 2:
            return None
        found = timeline.infer_frequency(first.stamps).frequency
        return None if found is None else found.alias

    def follow(self, frequency: str | None) -> None:
        """Hold every series to this frequency."""
        self._grid = timeline.parse_frequency(frequency) if frequency and self.columns.time else None

    def series(self, batch: pa.RecordBatch | None) -> Steps[list[SeriesInput]]:
        """The series that end in a batch, or at the end of the file (None). Their faults gather in `faults`."""
        found: list[SeriesInput] = []
        for part in self._parts(batch) if batch is not None else iter(()):
            if self._open and self._open[0].id != part.id:
                self._close(found)
                yield
            self._open.append(part)
            if sum(len(p.target) for p in self._open) > MAX_ROWS_A_SERIES:
                raise GatewayError(
                    Code.PAYLOAD_TOO_LARGE, f"Series {part.id!r} has more than {MAX_ROWS_A_SERIES} rows."
                )
        if batch is None and self._open:
            self._close(found)
        elif batch is not None:
            self._row += batch.num_rows
        return found

    def _parts(self, batch: pa.RecordBatch) -> Iterator[_Part]:
        target = np.stack([_floats(batch.column(name)) for name in self.columns.targets], axis=1)
        stamps = self._stamps(batch)
        first = 0
        for id, end in self._runs(batch):
            here = None if stamps is None else timeline.Stamps(stamps.seconds[first:end], stamps.nanos[first:end])
            yield _Part(id, self._row + first, target[first:end], here)
            first = end

    def _runs(self, batch: pa.RecordBatch) -> Iterator[tuple[str, int]]:
        """Each run of one id and where it ends."""
        if self.columns.id is None:
            return iter([("", batch.num_rows)])
        column = batch.column(self.columns.id).cast(pa.string())
        runs = pyarrow.compute.run_end_encode(column)
        ids = [v if v is not None else "" for v in runs.values.to_pylist()]
        return zip(ids, runs.run_ends.to_pylist(), strict=True)

    def _stamps(self, batch: pa.RecordBatch) -> timeline.Stamps | None:
        if self.columns.time is None:
            return None
        column = batch.column(self.columns.time)
        if column.null_count:
            raise GatewayError.invalid(Fault(("rows", self._row, self.columns.time), "A time is missing"))
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            try:
                return timeline.parse_stamps(column.to_pylist())
            except timeline.TimelineError as exc:
                place = ("rows", self._row + (exc.row or 0), self.columns.time)
                raise GatewayError.invalid(Fault(place, exc.sentence)) from None
        zone = getattr(column.type, "tz", None)
        nanos = column.cast(pa.timestamp("ns", zone)) if _fine(column.type) else column.cast(pa.timestamp("us", zone))
        scale = 1_000_000_000 if _fine(column.type) else 1_000_000
        ticks = nanos.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return timeline.Stamps(ticks // scale, ticks % scale * (1_000_000_000 // scale))

    def _close(self, found: list[SeriesInput]) -> None:
        """One whole series, or its faults."""
        parts, self._open = self._open, []
        id, row = parts[0].id, parts[0].row
        target = np.concatenate([p.target for p in parts]) if len(parts) > 1 else parts[0].target
        faults = self._faults(id, row, target)
        stamps = _joined(parts)
        if self._grid is not None and stamps is not None and not faults:
            for departure in timeline.departures(stamps, self._grid)[:MAX_FAULTS]:
                place = ("rows", row + departure.row, self.columns.time or "")
                faults.append(Fault(place, f"Series {id!r}: {departure.sentence}"))
        self._seen.add(id)
        if faults or self.faults:
            self.faults += faults[: MAX_FAULTS - len(self.faults)]
            return
        start = None
        if stamps is not None and self._grid is not None:
            (start,) = timeline.render(timeline.Stamps(stamps.seconds[:1], stamps.nanos[:1]), self._zone)
        found.append(SeriesInput(target=target, start=start, metadata=_item(id) if self.columns.id else None))

    def _faults(self, id: str, row: int, target: Array) -> list[Fault]:
        if id in self._seen:
            return [Fault(("rows", row), f"Rows of series {id!r} lie apart: sort the table by series and time")]
        if self.columns.id is not None and not id:
            return [Fault(("rows", row, self.columns.id), "A series has no id")]
        faults = []
        for channel, name in enumerate(self.columns.targets):
            values = target[:, channel]
            endless = np.flatnonzero(np.isinf(values))
            if endless.size:
                faults.append(Fault(("rows", row + int(endless[0]), name), "must be a finite number"))
            elif np.isnan(values).all():
                faults.append(Fault(("rows", row, name), f"Series {id!r} has no observed value"))
        return faults


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0][:200]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()  # refused in its place by whoever reads the order


def _with_frequency(told: bytes, frequency: str | None) -> bytes:
    """The order of a file's metadata, with the frequency found where it names none."""
    try:
        order = msgspec.json.decode(told, type=dict[str, msgspec.Raw])
        request = msgspec.json.decode(order["request"], type=dict[str, msgspec.Raw])
        parameters = msgspec.json.decode(request["parameters"], type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return told  # what is wrong with it is said by whoever reads it
    if frequency is None or parameters.get("frequency") or parameters.get("freq"):
        return told
    whole: dict[str, object] = {**request, "parameters": {**parameters, "frequency": frequency}}
    return msgspec.json.encode({**order, "request": msgspec.Raw(msgspec.json.encode(whole))})


def _columns(schema: pa.Schema, query: TableQuery) -> Columns:
    """The columns that the query names, and for the others the ones that look it."""
    lowered = {n.lower(): n for n in schema.names}
    targets = tuple(t.strip() for t in query.target.split(",")) if query.target else ()
    for name in (query.id, query.time, *targets):
        if name is not None and name not in schema.names:
            told = f"The table has no column {name!r}; it has {', '.join(schema.names[:20])}."
            raise GatewayError(Code.INVALID_ARGUMENT, told)
    time = query.time or next((lowered[n] for n in TIME_NAMES if n in lowered), None)
    id = query.id or next((lowered[n] for n in ID_NAMES if n in lowered and lowered[n] not in targets), None)
    if not targets:
        rest = [n for n in schema.names if n not in (time, id) and _numeric(schema.field(n).type)]
        named = [lowered[n] for n in TARGET_NAMES if n in lowered and lowered[n] in rest]
        targets = tuple(named[:1] or rest)
        if len(targets) != 1:
            told = "Which column is to be forecast? Name it in the query, as target=..."
            raise GatewayError(Code.INVALID_ARGUMENT, f"{told} The table has {', '.join(schema.names[:20])}.")
    for name in targets:
        if not _numeric(schema.field(name).type):
            raise GatewayError(Code.INVALID_ARGUMENT, f"Column {name!r} does not hold numbers.")
    kind = None if time is None else schema.field(time).type
    if kind is not None and not (
        pa.types.is_temporal(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ):
        raise GatewayError(Code.INVALID_ARGUMENT, f"Column {time!r} holds no times.")
    return Columns(id=id, time=time, targets=targets)


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _fine(kind: pa.DataType) -> bool:
    """Whether times are in nanoseconds; others may lie beyond what nanoseconds reach."""
    return bool(pa.types.is_timestamp(kind) and kind.unit == "ns")


def _floats(column: pa.Array) -> Array:
    found: Array = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _joined(parts: list[_Part]) -> timeline.Stamps | None:
    stamps = [p.stamps for p in parts if p.stamps is not None]
    if len(stamps) <= 1:
        return stamps[0] if stamps else None
    return timeline.Stamps(np.concatenate([s.seconds for s in stamps]), np.concatenate([s.nanos for s in stamps]))


def _item(id: str) -> Metadata:
    return Echo(Format.JSON, msgspec.json.encode({"item_id": id}))
