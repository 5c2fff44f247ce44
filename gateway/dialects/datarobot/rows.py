"""The table of a body: CSV, a file of a form, or a JSON list of rows; read in steps."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from itertools import chain

import msgspec
import numpy as np
from msgspec import Raw

from gateway.dialects import bodies
from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import slices
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.slices import LONGEST
from gateway.dialects.datarobot.errors import bad_rows
from gateway.domain import Array
from gateway.errors import Code, GatewayError

Cell = str | int | float | bool | None
Row = dict[str, Cell]

ROWS_A_STEP = 256
MAX_ROWS = 2_000_000  # a body of the largest size holds fewer that say anything
MAX_COLUMNS = 10_000
SHOWN_COLUMNS = 20  # in a sentence
EMPTY = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"})
_ENCODINGS = {"utf-8": "utf-8-sig", "utf8": "utf-8-sig", "us-ascii": "utf-8-sig", "iso-8859-1": "latin-1"}
_ENCODINGS |= {"latin-1": "latin-1", "latin1": "latin-1", "windows-1252": "cp1252", "cp1252": "cp1252"}

_JSON_ROWS = msgspec.json.Decoder(list[Row])


class _Wrapped(msgspec.Struct):
    data: Raw


_WRAPPED = msgspec.json.Decoder(_Wrapped)


class Table(msgspec.Struct, frozen=True):
    """Columns by name, all of one length; a cell is what was sent, None where it is empty."""

    columns: Mapping[str, list[Cell]]
    rows: int
    sent: tuple[str, ...] = ()  # names of columns, those of a header or of the first rows, also of those not read

    def require(self, *names: str) -> None:
        """Raise a 422 for a column that is not there."""
        for name in names:
            if name not in self.columns:
                there = [*dict.fromkeys((*self.sent, *self.columns))]
                shown = ", ".join(repr(n[:64]) for n in there[:SHOWN_COLUMNS])
                more = f" and {len(there) - SHOWN_COLUMNS} more" if len(there) > SHOWN_COLUMNS else ""
                told = f"The column {name!r} is missing. The data has the columns {shown}{more}."
                raise GatewayError(Code.INVALID_ARGUMENT, told)

    def numbers(self, name: str) -> Steps[Array]:
        """A column as numbers, NaN where it is empty. Raises a 400 naming the first row that is no number."""
        column, found = self.columns[name], np.empty(self.rows)
        for first in range(0, self.rows, 8 * ROWS_A_STEP):
            found[first : first + 8 * ROWS_A_STEP] = _numbers(name, column[first : first + 8 * ROWS_A_STEP])
            yield
        return found


def _numbers(name: str, cells: Sequence[Cell]) -> Array:
    """Cells as numbers, all at once where all are."""
    try:
        found = np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
        if np.isfinite(found).sum() + cells.count(None) == len(cells):
            return found
    except (ValueError, OverflowError):
        pass
    for cell in cells:
        if number_of(cell) is None:
            raise bad_rows(f'The "{name}" feature contains the value {str(cell)[:64]!r}, which is not a number.')
    return np.array([number_of(cell) for cell in cells], dtype=np.float64)


def number_of(cell: Cell) -> float | None:
    """A cell as a number, NaN for an empty one, None for text."""
    if cell is None:
        return np.nan
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def text_of(cell: Cell) -> str:
    """A cell as it would stand in a CSV file."""
    return "" if cell is None else str(cell)


def table(call: Call, wanted: Sequence[str] | None) -> Steps[Table]:
    """The table of a body, of its columns those `wanted` (None: all). Raises GatewayError."""
    sent = call.headers.get("content-type", "")
    if not call.body.strip():
        raise bad_rows("The body is empty: send the rows as CSV, as a JSON list, or as a file of a form.")
    return (yield from _of_type(call.body, sent, wanted))


def _of_type(content: bytes, content_type: str, wanted: Sequence[str] | None) -> Steps[Table]:
    header = Message()
    header["content-type"] = content_type or "text/plain"
    match header.get_content_type():
        case "multipart/form-data":
            inner, its_type = _file(content, str(header.get_param("boundary", "")))
            if its_type.startswith("multipart/"):
                raise bad_rows("The part 'file' of the form is a form itself: send the rows as CSV or JSON.")
            return (yield from _of_type(inner, its_type, wanted))
        case "text/csv" | "application/csv" | "application/vnd.ms-excel":
            return (yield from _of_csv(_decoded(content, header), wanted))
        case "application/json" | "text/json":
            return (yield from bodies.told(content, _of_json(content, wanted)))
        case "text/plain" | "application/octet-stream" | "application/x-www-form-urlencoded":
            if content.lstrip()[:1] in (b"[", b"{"):
                return (yield from bodies.told(content, _of_json(content, wanted)))
            return (yield from _of_csv(_decoded(content, header), wanted))
        case _:
            raise GatewayError(
                Code.UNSUPPORTED_MEDIA_TYPE,
                f"The content-type {content_type[:80]!r} is not read here: send text/csv, application/json or "
                "multipart/form-data.",
            )


# -- CSV ---


def _decoded(content: bytes, header: Message) -> str:
    name = str(header.get_param("charset") or header.get_param("encoding") or "utf-8").lower()
    if name not in _ENCODINGS:
        raise GatewayError(Code.UNSUPPORTED_MEDIA_TYPE, f"The charset {name[:32]!r} is not read here: send UTF-8.")
    try:
        return content.decode(_ENCODINGS[name])
    except UnicodeDecodeError as exc:
        raise bad_rows(f"The body is not {name} text: see byte {exc.start}.") from None


def _of_csv(text: str, wanted: Sequence[str] | None) -> Steps[Table]:
    lines = csv.reader(_lines(text), strict=True)
    try:
        names = [name.strip() for name in next(lines, [])]
        if len(set(names)) != len(names):
            raise bad_rows("The CSV header names a column twice.")
        kept = [i for i, name in enumerate(names) if wanted is None or name in wanted]
        columns: list[list[Cell]] = [[] for _ in kept]
        rows = 0
        for line in lines:
            if not line:
                continue  # a blank line, as files often end with
            if len(line) != len(names):
                raise bad_rows(f"Line {lines.line_num} of the CSV has {len(line)} values, and the header {len(names)}.")
            for column, i in zip(columns, kept, strict=True):
                column.append(None if line[i].strip() in EMPTY else line[i])
            rows += 1
            if rows > MAX_ROWS:
                break
            if rows % ROWS_A_STEP == 0:
                yield
    except csv.Error as exc:
        raise bad_rows(f"The body is not CSV: {exc} in line {lines.line_num}.") from None
    return _checked(dict(zip((names[i] for i in kept), columns, strict=True)), rows, names)


def _lines(text: str) -> Iterator[str]:
    """The lines of a text; one that would make millions of cells is not looked into."""
    for line in io.StringIO(text, newline=""):
        if len(line) > LONGEST:
            raise bad_rows(f"A line of the CSV is longer than {LONGEST} characters.")
        yield line


# -- JSON ---


def _of_json(content: bytes, wanted: Sequence[str] | None) -> Steps[Table]:
    if content.lstrip()[:1] == b"{":
        content = bytes(_WRAPPED.decode(content).data)
        yield
    columns: dict[str, list[Cell]] = {}
    sent: Sequence[str] = ()
    rows = 0
    for piece in slices.of_array(content, Format.JSON):
        if len(piece) > LONGEST:
            raise bad_rows(f"A row is longer than {LONGEST} bytes.")
        part = _JSON_ROWS.decode(piece) if piece else []
        sent = sent or [*dict.fromkeys(chain.from_iterable(part))]
        names = dict.fromkeys(chain.from_iterable(part)) if wanted is None else wanted
        for name in names:
            if name in columns or any(name in row for row in part):
                column = columns.setdefault(name, [None] * rows)
                column += _cells([row.get(name) for row in part])
        rows += len(part)
        if rows > MAX_ROWS or len(columns) > MAX_COLUMNS:
            break
        for column in columns.values():
            column += [None] * (rows - len(column))
        yield
    return _checked(columns, rows, sent)


def _cells(values: list[Cell]) -> list[Cell]:
    """Values with None for text that says that there is none."""
    if not any(isinstance(value, str) for value in values):
        return values
    return [None if isinstance(v, str) and (v.isspace() or (len(v) < 8 and v.strip() in EMPTY)) else v for v in values]


# -- forms ---


def _file(content: bytes, boundary: str) -> tuple[bytes, str]:
    """The part `file` of a form, else its first with a file name: content and content type."""
    if not boundary:
        raise bad_rows("The multipart body names no boundary.")
    found: tuple[bytes, str] | None = None
    for head, body in _parts(content, boundary.encode("latin-1", "replace")):
        name, file = head.get_param("name", "", "content-disposition"), head.get_filename("")
        if name == "file" or (file and found is None):
            kind = head.get_content_type() if head["content-type"] else "text/plain"
            if kind in ("text/plain", "application/octet-stream"):
                kind = "application/json" if file.lower().endswith(".json") else kind
            found = body, kind
            if name == "file":
                break
    if found is None:
        raise bad_rows("The multipart body has no part named 'file'.")
    return found


def _parts(content: bytes, boundary: bytes) -> Iterator[tuple[Message, bytes]]:
    """Headers and content of each part."""
    mark = b"--" + boundary
    start = content.find(mark)
    while start >= 0:
        start += len(mark)
        end = content.find(b"\r\n" + mark, start)
        if content[start : start + 2] == b"--" or end < 0:
            return
        blank = content.find(b"\r\n\r\n", start, end)
        if blank >= 0:
            head = Message()
            for line in re.split(rb"\r\n(?![ \t])", content[start + 2 : blank]):
                name, _, value = line.decode("utf-8", "replace").partition(":")
                if re.fullmatch(r"[A-Za-z-]+", name):
                    head[name] = re.sub(r"[\r\n]+", " ", value.strip())
            yield head, content[blank + 4 : end]
        start = end + 2


def _checked(columns: dict[str, list[Cell]], rows: int, sent: Sequence[str]) -> Table:
    if len(columns) > MAX_COLUMNS:
        raise bad_rows(f"More than the {MAX_COLUMNS} columns that one call takes.")
    if rows > MAX_ROWS:
        raise bad_rows(f"More than the {MAX_ROWS} rows that one call takes: split them.")
    if not rows:
        raise bad_rows("The data has no rows.")
    return Table(columns, rows, tuple(sent))
