"""Series from a CSV, TSV or Parquet file: columns found, times read, and every doubt reported with its rows.

Nothing is repaired unless asked. Rows are counted as an editor shows them: the header of a CSV is line 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from gateway import timeline
from gateway.domain import Array

TIME_NAMES = ("ds", "date", "datetime", "timestamp", "time", "month", "day", "week", "quarter", "year", "period")
TARGET_NAMES = ("y", "target", "value", "values", "sales", "demand", "count")
ID_NAMES = ("unique_id", "item_id", "series_id", "id", "series", "sku", "store", "ticker")
SHOWN = 5  # rows named in one sentence

Cell = str | float | None


class TableError(ValueError):
    """A file that cannot be read as series; the sentence says where and what to do."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of a file. `first` is the number of the first data row."""

    path: Path
    columns: Mapping[str, list[Cell]]
    first: int
    rows: tuple[int, ...] | None = None  # of the file's data rows, those that are here; None: all

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def number(self, row: int) -> int:
        """The number under which the file's editor shows a row."""
        return self.first + (row if self.rows is None else self.rows[row])

    def part(self, rows: Sequence[int]) -> Table:
        """Some of the rows, under the numbers they have."""
        columns = {name: [cells[i] for i in rows] for name, cells in self.columns.items()}
        return replace(self, columns=columns, rows=tuple(i if self.rows is None else self.rows[i] for i in rows))

    def narrowed(self, names: Sequence[str]) -> Table:
        """Some of the columns."""
        return replace(self, columns={name: self.columns[name] for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Which column is what."""

    time: str | None
    targets: tuple[str, ...]
    id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A doubt about the data that stops a forecast unless repair was asked for."""

    series: str
    rows: tuple[int, ...]
    sentence: str
    repair: str  # what --repair does about it


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSeries:
    """One series of a file, in the order of time."""

    id: str
    target: Array  # (time, channels), NaN where empty
    stamps: tuple[str, ...]  # ISO 8601 as the file writes it, one a row; empty without a time column
    past: Mapping[str, Array] = field(default_factory=dict)  # (time,)
    future: Mapping[str, Array] = field(default_factory=dict)  # (horizon,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All series of a file, their common frequency and what is doubtful."""

    series: tuple[TableSeries, ...]
    frequency: str | None
    problems: tuple[Problem, ...]
    roles: Roles
    unused: tuple[str, ...]  # numeric columns that no role took


def read_table(path: Path) -> Table:
    """Read a file by its ending: .parquet, .tsv, else CSV."""
    if not path.is_file():
        raise TableError(f"there is no file {path}")
    try:
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
            return Table(path, {n: [_cell(v) for v in table[n].to_pylist()] for n in table.column_names}, 1)
        return Table(path, _text_columns(path), 2)
    except pa.ArrowInvalid as exc:
        raise TableError(f"{path}: {exc}") from None
    except UnicodeDecodeError as exc:
        sentence = f"{path} is not UTF-8 text (byte {exc.start}); save it as UTF-8, or as Parquet"
        raise TableError(sentence) from None


def _text_columns(path: Path) -> dict[str, list[Cell]]:
    """Columns of a delimited file as the text that stands there; empty cells are None."""
    delimiter = "\t" if path.suffix in {".tsv", ".tab"} else ","
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline().strip()
    if not header:
        raise TableError(f"{path} is empty")
    if delimiter == "," and "," not in header and ";" in header:
        delimiter = ";"
    names = pyarrow.csv.open_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter)).schema.names
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise TableError(f"{path}: the header names {_list(twice)} more than once")
    table = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
            null_values=["", "NA", "NaN", "nan", "null", "NULL", "None"],
        ),
    )
    return {n: table[n].to_pylist() for n in names}


def _cell(value: object) -> Cell:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bool | int | float):
        return float(value)
    return str(value)


# --- columns ---


def find_roles(table: Table, *, time: str | None, targets: Sequence[str], id: str | None) -> Roles:
    """The columns named, and for the others the ones that look it."""
    lowered = {n.lower(): n for n in table.columns}
    for name in (time, id, *targets):
        if name is not None and name not in table.columns:
            raise TableError(f"{table.path} has no column {name!r}; it has {_list(table.columns)}")
    time = time or next((lowered[n] for n in TIME_NAMES if n in lowered), None) or _first_time_column(table)
    id = id or next((lowered[n] for n in ID_NAMES if n in lowered and lowered[n] not in targets), None)
    if not targets:
        named = [lowered[n] for n in TARGET_NAMES if n in lowered and lowered[n] not in (time, id)]
        rest = [n for n in table.columns if n not in (time, id) and is_numeric(table.columns[n])]
        if not named and len(rest) != 1:
            held = _list(rest or table.columns)
            raise TableError(f"which column of {table.path} is to be forecast? Say --target with one of {held}")
        targets = named[:1] or rest
    return Roles(time=time, targets=tuple(targets), id=id)


def _list(names: Sequence[str] | Mapping[str, list[Cell]]) -> str:
    return ", ".join(repr(n) for n in names)


def is_numeric(column: list[Cell]) -> bool:
    """Whether a column holds numbers, so far as its first 100 cells tell."""
    seen = [v for v in column if v is not None]
    return bool(seen) and all(isinstance(v, float) or _float(v) is not None for v in seen[:100])


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _first_time_column(table: Table) -> str | None:
    for name, column in table.columns.items():
        seen = [v for v in column if v is not None][:3]
        if seen and all(isinstance(v, str) and _float(v) is None and _iso(v, None) is not None for v in seen):
            return name
    return None


def _iso(text: str, time_format: str | None) -> str | None:
    """A time as ISO 8601, or None: ISO itself, a quarter such as 2026Q3, and slashes with the year first."""
    text = text.strip()
    try:
        if time_format is not None:
            stamp = datetime.strptime(text, time_format)
            return (
                stamp.date().isoformat() if stamp == datetime(stamp.year, stamp.month, stamp.day) else stamp.isoformat()
            )
        if len(text) == 6 and text[4] in "Qq" and text[:4].isdigit() and text[5] in "1234":
            return f"{text[:4]}-{3 * int(text[5]) - 2:02d}-01"
        candidate = text.replace("/", "-") if len(text) > 4 and text[4] == "/" else text
        timeline.parse_start(candidate)
        return candidate
    except ValueError:
        return None


# --- series ---


def read_series(
    table: Table,
    roles: Roles,
    *,
    future: Table | None = None,
    covariates: Sequence[str] = (),
    frequency: str | None = None,
    time_format: str | None = None,
    horizon: int = 1,
    repair: bool = False,
) -> Reading:
    """Group a table into series; doubts are listed, and mended where `repair` is set.

    Columns that `future` holds beside time and id are covariates, known over past and horizon; without it,
    `covariates` are known over the past. Raises TableError for what no repair can mend.
    """
    covariates = _covariate_names(table, roles, future) or tuple(covariates)
    groups = _groups(table, roles)
    ahead = _groups(future, roles) if future is not None else {}
    problems: list[Problem] = []
    times = {name: _times(table, roles.time, rows, time_format) for name, rows in groups.items()} if roles.time else {}
    step = timeline.parse_frequency(frequency) if frequency is not None else _common_frequency(list(times.values()))
    if times and step is None:
        sentence = "the times have no frequency in common: say it with --freq"
        problems.append(Problem(series="", rows=(), sentence=sentence, repair=""))
    series = []
    for name, rows in groups.items():
        order: Sequence[int | None] = rows
        stamps: tuple[str, ...] = ()
        if name in times and step is not None:
            found = timeline.departures(times[name].stamps, step)
            problems += _problems(name, [table.number(r) for r in rows], found)
            if repair and found:
                order, times[name] = _mended(rows, times[name], step)
            stamps = times[name].texts
        known: Mapping[str, Array] = {}
        if future is not None:
            rows_ahead = ahead.get(name, [])
            if stamps and step is not None and roles.time is not None and roles.time in future.columns:
                times_ahead = _times(future, roles.time, rows_ahead, time_format)
                due = timeline.Grid(timeline.parse_start(stamps[0]), step)
                rows_ahead = _on_time(future, name, rows_ahead, times_ahead, due.at(len(order), horizon))
            known = _horizon(future, name, rows_ahead, covariates, horizon)
        values = np.stack([_numbers(table, t, order) for t in roles.targets], axis=1)
        if np.isnan(values).all(axis=0).any():
            raise TableError(f"{table.path}: {_of(name)}a target column holds no value")
        series.append(
            TableSeries(
                id=name,
                target=values,
                stamps=stamps,
                past={c: _numbers(table, c, order) for c in covariates},
                future=known,
            )
        )
    taken = {roles.time, roles.id, *roles.targets, *covariates}
    unused = tuple(n for n in table.columns if n not in taken and is_numeric(table.columns[n]))
    alias = step.alias if step is not None else None
    return Reading(series=tuple(series), frequency=alias, problems=tuple(problems), roles=roles, unused=unused)


@dataclass(frozen=True, slots=True)
class _Times:
    """The times of one series: as ISO 8601 text and read, row by row."""

    texts: tuple[str, ...]
    stamps: timeline.Stamps


def _of(name: str) -> str:
    return f"series {name!r}: " if name else ""


def split_ahead(table: Table, roles: Roles) -> tuple[Table, Table, int]:
    """The rows up to the last target of each series, those ahead of it, and how many of the latter every series has."""
    observed: list[int] = []
    ahead: list[int] = []
    fewest = len(table)
    for rows in _groups(table, roles).values():
        empty = 0
        while empty < len(rows) and all(table.columns[t][rows[-1 - empty]] is None for t in roles.targets):
            empty += 1
        observed += rows[: len(rows) - empty]
        ahead += rows[len(rows) - empty :]
        fewest = min(fewest, empty)
    return table.part(sorted(observed)), table.part(sorted(ahead)), fewest


def _covariate_names(table: Table, roles: Roles, future: Table | None) -> tuple[str, ...]:
    """Columns of `future` beside time, id and target, all of which the table must hold too."""
    if future is None:
        return ()
    names = [n for n in future.columns if n not in (roles.time, roles.id, *roles.targets)]
    absent = [n for n in names if n not in table.columns]
    if absent:
        raise TableError(f"{future.path} has the columns {_list(absent)}, whose past {table.path} does not hold")
    if roles.id is not None and roles.id not in future.columns:
        raise TableError(f"{future.path} has no column {roles.id!r} to tell its series apart")
    return tuple(names)


def _groups(table: Table, roles: Roles) -> dict[str, list[int]]:
    """Row indices of each series, in the order of first appearance."""
    if roles.id is None:
        return {"": list(range(len(table)))}
    groups: dict[str, list[int]] = {}
    for i, value in enumerate(table.columns[roles.id]):
        if value is None:
            raise TableError(f"{table.path}: row {table.number(i)} has no {roles.id}")
        groups.setdefault(f"{value:g}" if isinstance(value, float) else value, []).append(i)
    return groups


def _numbers(table: Table, name: str, rows: Sequence[int | None]) -> Array:
    """Cells of a column; NaN where empty and where `rows` holds None, a row that a repair put in."""
    column = table.columns[name]
    out = np.empty(len(rows))
    for k, i in enumerate(rows):
        cell = column[i] if i is not None else None
        value = np.nan if cell is None else cell if isinstance(cell, float) else _float(cell)
        if value is None:
            place = f"row {table.number(i or 0)}, column {name!r}"
            raise TableError(f"{table.path}: {place}: {cell!r} is not a finite number")
        out[k] = value
    return out


def _on_time(future: Table, name: str, rows: list[int], times: _Times, due: timeline.Stamps) -> list[int]:
    """The rows of the steps `due`, in their order, whatever the order of the file."""
    seen = zip(times.stamps.seconds.tolist(), times.stamps.nanos.tolist(), strict=True)
    by_time = dict(zip(seen, rows, strict=True))
    steps = list(zip(due.seconds.tolist(), due.nanos.tolist(), strict=True))
    for i, step in enumerate(steps):
        if step not in by_time:
            (text,) = timeline.render(timeline.Stamps(due.seconds[i : i + 1], due.nanos[i : i + 1]), timeline.Form(""))
            raise TableError(f"{future.path}: {_of(name)}no row for {text}, step {i + 1} of the horizon")
    return [by_time[step] for step in steps]


def _horizon(future: Table, name: str, rows: list[int], covariates: Sequence[str], horizon: int) -> Mapping[str, Array]:
    """Covariates of one series over the horizon; none may be empty."""
    if len(rows) < horizon:
        raise TableError(f"{future.path}: {_of(name)}{len(rows)} rows for a horizon of {horizon}")
    known = {c: _numbers(future, c, rows[:horizon]) for c in covariates}
    for c, values in known.items():
        if np.isnan(values).any():
            row = future.number(rows[int(np.isnan(values).argmax())])
            raise TableError(f"{future.path}: row {row}, column {c!r} is empty")
    return known


# --- times ---


def _times(table: Table, column: str, rows: Sequence[int], time_format: str | None) -> _Times:
    texts = []
    for i in rows:
        cell = table.columns[column][i]
        text = f"{cell:g}" if isinstance(cell, float) else cell or ""
        iso = _iso(text, time_format)
        if iso is None:
            raise TableError(
                f"{table.path}: row {table.number(i)}, column {column!r}: {text!r} is no ISO 8601 time; "
                "say its form with --time-format, such as '%d.%m.%Y'"
            )
        texts.append(iso)
    return _Times(tuple(texts), timeline.parse_stamps(texts))


def _common_frequency(times: Sequence[_Times]) -> timeline.Frequency | None:
    """The frequency that most series have, whatever the order of their rows."""
    found = Counter(timeline.infer_frequency(_sorted(t.stamps)).frequency for t in times if len(t.texts) > 1)
    found.pop(None, None)
    return found.most_common(1)[0][0] if found else None


def _sorted(stamps: timeline.Stamps) -> timeline.Stamps:
    order = np.lexsort((stamps.nanos, stamps.seconds))
    return timeline.Stamps(stamps.seconds[order], stamps.nanos[order])


_WHAT = {
    # kind of departure: (sentence, what --repair does)
    "gap": ("{missing} times are missing before {rows}", "fills them with missing values"),
    "duplicate": ("times stand more than once at {rows}", "keeps the last of each"),
    "backwards": ("times run backwards at {rows}", "sorts by time"),
    "off_grid": ("times do not follow the frequency at {rows}", ""),
}


def _problems(name: str, numbers: Sequence[int], found: Sequence[timeline.Departure]) -> list[Problem]:
    """One problem a kind of departure; `numbers` are the rows of the series as the file counts them."""
    problems = []
    for kind, (sentence, repair) in _WHAT.items():
        of_kind = [d for d in found if d.kind == kind]
        if of_kind:
            rows = tuple(numbers[d.row] for d in of_kind)
            told = sentence.format(rows=_rows(rows), missing=sum(d.missing for d in of_kind))
            problems.append(Problem(series=name, rows=rows, sentence=_of(name) + told, repair=repair))
    return problems


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(str(r) for r in rows[:SHOWN])
    return ("row " if len(rows) == 1 else "rows ") + shown + (f" and {len(rows) - SHOWN} more" if rows[SHOWN:] else "")


def _mended(rows: Sequence[int], times: _Times, step: timeline.Frequency) -> tuple[list[int | None], _Times]:
    """Rows in order of time, the last of equal times kept, None where a gap was filled."""
    order = np.lexsort((times.stamps.nanos, times.stamps.seconds)).tolist()
    same = {(int(times.stamps.seconds[k]), int(times.stamps.nanos[k])): k for k in order}
    kept = list(same.values())
    texts = [times.texts[k] for k in kept]
    gaps = {d.row: d.missing for d in timeline.departures(timeline.parse_stamps(texts), step) if d.kind == "gap"}
    filled: list[int | None] = []
    for position, k in enumerate(kept):
        filled += [None] * gaps.get(position, 0)
        filled.append(rows[k])
    grid = timeline.Grid(timeline.parse_start(texts[0]), step)
    stamps = grid.stamps(0, len(filled), timeline.parse_start(texts[0]).form)
    return filled, _Times(stamps, grid.at(0, len(filled)))
