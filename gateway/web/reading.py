"""`POST /playground/read`: a pasted table as series, with what was found and what is doubtful.

The rules are those of `forecast-gateway forecast FILE`. Rows at the end of a series that have no target, but values of
covariates, are what is known ahead.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from gateway.domain import Array
from gateway.errors import Code, Fault, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.body import read_body
from gateway.http.routing import Endpoint, RenderError

if TYPE_CHECKING:
    from gateway.tables import Roles, Table

MAX_BYTES = 4 * 1024 * 1024  # of a table that is pasted; larger ones are the command line's and the jobs'
MAX_SERIES = 200
READ_S = 20.0

# What the command line's sentences say of its flags, in the words of the form: (said, form's words, field)
_WORDS = (
    ("Say --target with one of", "Choose one of", "target"),
    ("say it with --freq", "say it under Frequency", "frequency"),
    (
        "; say its form with --time-format, such as '%d.%m.%Y'",
        "; write times as 2026-03-01 or 2026-03-01T12:00",
        "data",
    ),
)


class ReadSeries(msgspec.Struct, frozen=True, kw_only=True):
    """One series of the table, as the contract's inputs have it."""

    id: str
    timestamps: tuple[str, ...]
    target: list[list[float | None]]
    past_covariates: dict[str, list[float | None]]
    future_covariates: dict[str, list[float]]


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """Something about the data that stops a forecast until it is mended."""

    sentence: str
    repair: str


class ReadTable(msgspec.Struct, frozen=True, kw_only=True):
    """Every series of the table, and which column is what."""

    columns: tuple[str, ...]
    numeric: tuple[str, ...]
    time: str | None
    id: str | None
    targets: tuple[str, ...]
    covariates: tuple[str, ...]
    frequency: str | None
    rows: int
    rows_ahead: int  # of each series: without a target
    series: tuple[ReadSeries, ...]
    problems: tuple[Doubt, ...]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the form says of the columns; None and empty: find it."""

    time: str | None
    id: str | None
    targets: tuple[str, ...]
    covariates: tuple[str, ...]
    frequency: str | None
    horizon: int
    repair: bool


async def _respond(request: Request) -> Response:
    exchange = exchanges.of(request.scope)
    deadline = asyncio.get_running_loop().time() + READ_S
    body = await read_body(exchange.headers, request.receive, limit=MAX_BYTES, deadline=deadline)
    read = await asyncio.to_thread(read_text, body, _asked(request))
    return Response(msgspec.json.encode(read), media_type="application/json")


def _asked(request: Request) -> Asked:
    query = request.query_params
    horizon = query.get("horizon", "1")
    return Asked(
        time=query.get("time") or None,
        id=query.get("id") or None,
        targets=tuple(query.getlist("target")),
        covariates=tuple(query.getlist("covariate")),
        frequency=query.get("frequency") or None,
        horizon=int(horizon) if horizon.isdecimal() and len(horizon) < 7 else 1,
        repair=query.get("repair") == "true",
    )


def read_text(text: bytes, asked: Asked) -> ReadTable:
    """The series of a table; raises GatewayError INVALID_ARGUMENT at the field of the form that can mend it."""
    from gateway import tables, timeline

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("data.tsv" if b"\t" in text.partition(b"\n")[0] else "data.csv")
        path.write_bytes(text)
        try:
            return _read(tables.read_table(path), asked)
        except (tables.TableError, timeline.TimelineError) as exc:
            raise _refusal(str(exc).replace(f"{path}: ", "").replace(str(path), "the data"), asked) from None


def _refusal(sentence: str, asked: Asked) -> GatewayError:
    field = "frequency" if asked.frequency and "frequency" in sentence else "data"
    for said, words, place in _WORDS:
        if said in sentence:
            sentence, field = sentence.replace(said, words), place
    if sentence.startswith("CSV parse error: Empty"):
        sentence = "there is a header and no rows"
    sentence = sentence[:1].upper() + sentence[1:]
    return GatewayError(Code.INVALID_ARGUMENT, sentence, faults=(Fault((field,), sentence),))


def _read(table: Table, asked: Asked) -> ReadTable:
    from gateway import tables

    if len(table) > 1_000_000:
        raise tables.TableError("a table of more than a million rows is for the command line")
    numeric = tuple(n for n in table.columns if tables.is_numeric(table.columns[n]))
    roles = _roles(table, numeric, asked)
    past, ahead, rows_ahead = tables.split_ahead(table, roles)
    covariates = tuple(c for c in asked.covariates if c in table.columns)
    known = rows_ahead > 0 and bool(covariates)
    reading = tables.read_series(
        past,
        roles,
        future=ahead.narrowed([n for n in (roles.time, roles.id, *covariates) if n]) if known else None,
        covariates=covariates,
        frequency=asked.frequency,
        horizon=min(asked.horizon, rows_ahead) if known else 1,
        repair=asked.repair,
    )
    if len(reading.series) > MAX_SERIES:
        raise tables.TableError(f"{len(reading.series)} series are more than the playground shows ({MAX_SERIES})")
    if known and rows_ahead < asked.horizon:
        sentence = f"The covariates are known {rows_ahead} steps ahead, and the horizon is {asked.horizon}."
        raise GatewayError(Code.INVALID_ARGUMENT, sentence, faults=(Fault(("horizon",), sentence),))
    return ReadTable(
        columns=tuple(table.columns),
        numeric=numeric,
        time=roles.time,
        id=roles.id,
        targets=roles.targets,
        covariates=covariates,
        frequency=reading.frequency,
        rows=len(table),
        rows_ahead=rows_ahead,
        series=tuple(
            ReadSeries(
                id=s.id,
                timestamps=s.stamps,
                target=_nullable(s.target),
                past_covariates={n: [r[0] for r in _nullable(v[:, None])] for n, v in s.past.items()},
                future_covariates={n: v.tolist() for n, v in s.future.items()},
            )
            for s in reading.series
        ),
        problems=tuple(Doubt(sentence=_in_form(p.sentence), repair=p.repair) for p in reading.problems),
    )


def _roles(table: Table, numeric: tuple[str, ...], asked: Asked) -> Roles:
    """The columns as `tables` finds them; where several could be the target, the first of them."""
    from gateway import tables

    try:
        return tables.find_roles(table, time=asked.time, targets=asked.targets, id=asked.id)
    except tables.TableError:
        first = [n for n in numeric if n not in (asked.time, asked.id)][:1]
        if asked.targets or not first:
            raise
        return tables.find_roles(table, time=asked.time, targets=first, id=asked.id)


def _in_form(sentence: str) -> str:
    for said, words, _ in _WORDS:
        sentence = sentence.replace(said, words)
    return sentence[:1].upper() + sentence[1:]


def _nullable(values: Array) -> list[list[float | None]]:
    """`(time, channels)` with null where a value is missing."""
    holes = values.astype(object)
    holes[np.isnan(values)] = None
    rows: list[list[float | None]] = holes.tolist()
    return rows


def endpoints(render_error: RenderError) -> Sequence[Endpoint]:
    """The list of this module's endpoints."""
    return [Endpoint(method="POST", path="/playground/read", respond=_respond, render_error=render_error)]
