"""Usage over HTTP: a caller's own, an operator's view of all, single requests; as JSON or CSV."""

from __future__ import annotations

import asyncio
import csv
import difflib
import io
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta
from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.keys import Keys
from gateway.database import Database
from gateway.dialects.base import Documentation
from gateway.errors import Code, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.access import Role
from gateway.http.routing import Endpoint, Parameter, RenderError
from gateway.usage import queries
from gateway.usage.ledger import Ledger
from gateway.usage.queries import COLUMNS, MAX_POINTS, Group, Percentiles, Question, Span, Totals
from gateway.usage.tables import DAY_MS, HOUR_MS

JSON, CSV = "application/json", "text/csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet computes
MAX_REQUESTS = 500  # of one list
WORDS_MS = {"minute": 60_000, "hour": HOUR_MS, "day": DAY_MS}
UNITS_MS = {"s": 1000, "m": 60_000, "h": HOUR_MS, "d": DAY_MS}
_DURATION = re.compile(r"(-?)(\d{1,6})([smhd])")


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of milliseconds, within 1%; null where nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None


class UsageTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What some requests come to; failed ones have no tokens."""

    requests: int
    errors: int
    cached: int
    series: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    latency_ms: Latency
    queue_ms: Latency
    compute_ms: Latency


class UsageRow(UsageTotals, frozen=True, kw_only=True, omit_defaults=True):
    """The totals of one group, in one interval."""

    start: datetime | None = None
    model: str | None = None
    key: str | None = None
    key_name: str | None = None
    endpoint: str | None = None
    status: int | None = None
    code: str | None = None
    from_cache: bool | None = None


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of a span and, where asked for, of intervals and groups."""

    object: Literal["usage"] = "usage"
    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")
    interval_s: int | None
    group_by: tuple[str, ...]
    totals: UsageTotals
    data: tuple[UsageRow, ...]


class LedgerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the ledger."""

    request_id: str
    time: datetime
    key: str
    key_name: str
    endpoint: str
    model: str
    status: int
    code: str
    series: int
    input_tokens: int
    output_tokens: int
    latency_ms: float
    queue_ms: float | None
    compute_ms: float | None
    cached: bool


class LedgerRequests(msgspec.Struct, frozen=True, kw_only=True):
    """Single requests, the newest or the slowest first."""

    object: Literal["list"] = "list"
    data: tuple[LedgerRequest, ...]


class SpanAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both questions share; lists are separated by commas."""

    start: str | None = msgspec.field(default=None, name="from")
    end: str | None = msgspec.field(default=None, name="to")
    model: str | None = None
    key: str | None = None
    endpoint: str | None = None
    status: str | None = None
    code: str | None = None
    cached: Literal["true", "false"] | None = None
    format: Literal["json", "csv"] | None = None


class UsageAsked(SpanAsked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    interval: str | None = None
    group_by: str | None = None


class RequestsAsked(SpanAsked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    order: Literal["newest", "slowest"] = "newest"
    failed: Literal["true", "false"] = "false"
    limit: Annotated[int, Meta(ge=1, le=MAX_REQUESTS)] = 50


Asked = TypeVar("Asked", bound=SpanAsked)


class UsageEndpoints:
    """Endpoints over the ledger."""

    def __init__(self, database: Database, ledger: Ledger, keys: Keys, *, ledger_days: int) -> None:
        self._database = database
        self._ledger = ledger
        self._keys = keys
        self._ledger_days = ledger_days

    async def own(self, request: Request) -> Response:
        asked = _asked(request, UsageAsked)
        caller = exchanges.of(request.scope).caller
        return await self._report(request, asked, {**_only(asked), "key": (caller.id,)})

    async def all(self, request: Request) -> Response:
        asked = _asked(request, UsageAsked)
        return await self._report(request, asked, _only(asked))

    async def requests(self, request: Request) -> Response:
        asked = _asked(request, RequestsAsked)
        span, only = _span(asked), _only(asked)
        await self._ledger.flush()
        found, names = await asyncio.to_thread(
            lambda: (
                queries.requests(
                    self._database,
                    span,
                    order=asked.order,
                    failed=asked.failed == "true",
                    only=only,
                    limit=asked.limit,
                ),
                self._names(),
            )
        )
        rows = tuple(_request(row, names) for row in found)
        if _wants_csv(request, asked):
            return _csv(LedgerRequest.__struct_fields__, (msgspec.to_builtins(r) for r in rows))
        return Response(msgspec.json.encode(LedgerRequests(data=rows)), media_type=JSON)

    async def _report(self, request: Request, asked: UsageAsked, only: Mapping[Group, tuple[str, ...]]) -> Response:
        span = _span(asked)
        question = Question(span=span, interval_ms=_interval(asked, span), group_by=_groups(asked), only=only)
        kept_since_ms = int(time.time() * 1e3) - self._ledger_days * DAY_MS
        await self._ledger.flush()  # what was answered by this gateway is in it
        answer, names = await asyncio.to_thread(
            lambda: (queries.answer(self._database, question, kept_since_ms=kept_since_ms), self._names())
        )
        report = UsageReport(
            start=_date(answer.span.start_ms),
            end=_date(answer.span.end_ms),
            interval_s=None if question.interval_ms is None else question.interval_ms // 1000,
            group_by=question.group_by,
            totals=_totals(answer.totals),
            data=tuple(_row(row, question, names) for row in answer.rows),
        )
        if _wants_csv(request, asked):
            return _report_csv(report, question)
        return Response(msgspec.json.encode(report), media_type=JSON)

    def _names(self) -> Mapping[str, str]:
        return {key.id: key.terms.name for key in self._keys.all()}


FILTERS = tuple(
    Parameter(name=name, place="query", description=f"Only these, separated by commas: {name}.")
    for name in ("model", "endpoint", "status", "code", "cached")
)
SPAN = (
    Parameter(
        name="from", place="query", description="ISO 8601, unix seconds, or back from now as in `-7d`; default `-1d`."
    ),
    Parameter(name="to", place="query", description="The same; default now."),
    Parameter(name="format", place="query", type=Literal["json", "csv"], description="Or by the Accept header."),
)
SERIES = (
    Parameter(name="interval", place="query", description="A series over time: `minute`, `hour`, `day`, or as `5m`."),
    Parameter(name="group_by", place="query", description=f"Separated by commas: {', '.join(COLUMNS)}."),
)
LIST = (
    Parameter(name="order", place="query", type=Literal["newest", "slowest"], description="What comes first."),
    Parameter(name="failed", place="query", type=Literal["true", "false"], description="Only failed requests."),
    Parameter(name="limit", place="query", type=int, description=f"At most {MAX_REQUESTS}; default 50."),
)


def endpoints(usage: UsageEndpoints, render_error: RenderError) -> list[Endpoint]:
    """The list of this module's endpoints. Reading one's usage is no use."""

    def reading(
        path: str,
        respond: Callable[[Request], Awaitable[Response]],
        role: Role,
        response: type,
        summary: str,
        parameters: tuple[Parameter, ...],
    ) -> Endpoint:
        return Endpoint(
            method="GET",
            path=path,
            respond=respond,
            render_error=render_error,
            role=role,
            counted=False,
            parameters=parameters,
            documentation=Documentation(
                summary=summary,
                tag="usage",
                response=response,
                media_types=(JSON,),
                streams_out=("text/csv",),
                codes=(Code.INVALID_ARGUMENT,),
            ),
        )

    key = Parameter(name="key", place="query", description="Only these, separated by commas: ids of keys.")
    everything = (*SPAN, *FILTERS, key)
    return [
        reading("/v1/usage", usage.own, "caller", UsageReport, "The caller's own usage", (*SPAN, *SERIES, *FILTERS)),
        reading("/api/usage", usage.all, "operator", UsageReport, "Usage of all", (*everything, *SERIES)),
        reading(
            "/api/usage/requests", usage.requests, "operator", LedgerRequests, "Single requests", (*everything, *LIST)
        ),
    ]


# -- what is asked ---


def _asked(request: Request, kind: type[Asked]) -> Asked:
    """The query as `kind`; INVALID_ARGUMENT for a name that does not exist or a value that cannot be."""
    sent = dict(request.query_params)
    known = [f.encode_name for f in msgspec.structs.fields(kind)]
    for name in sent:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise GatewayError(Code.INVALID_ARGUMENT, f"There is no parameter {name[:64]!r}; {hint}")
    try:
        return msgspec.convert(sent, kind, strict=False)
    except msgspec.ValidationError as exc:
        raise GatewayError(Code.INVALID_ARGUMENT, f"A parameter cannot be read: {exc}") from None


def _only(asked: SpanAsked) -> dict[Group, tuple[str, ...]]:
    """The filters that were sent."""
    found: dict[Group, tuple[str, ...]] = {}
    for name in COLUMNS:
        text: str | None = getattr(asked, name)
        if text is not None:
            found[name] = tuple(part.strip() for part in text.split(","))
    if not all(part.isdecimal() and len(part) <= 3 for part in found.get("status", ())):
        raise GatewayError(Code.INVALID_ARGUMENT, "status must be HTTP statuses, such as 200,429.")
    return found


def _span(asked: SpanAsked) -> Span:
    now_ms = int(time.time() * 1e3)
    end = now_ms + 1 if asked.end is None else _time_ms("to", asked.end, now_ms)
    start = end - DAY_MS if asked.start is None else _time_ms("from", asked.start, now_ms)
    if start >= end:
        raise GatewayError(Code.INVALID_ARGUMENT, "from must lie before to.")
    return Span(start_ms=start, end_ms=end)


def _time_ms(name: str, text: str, now_ms: int) -> int:
    if (back := _DURATION.fullmatch(text)) and back[1]:
        return now_ms - int(back[2]) * UNITS_MS[back[3]]
    try:
        seconds = float(text) if re.fullmatch(r"\d{1,11}(\.\d+)?", text) else _iso_seconds(text)
        datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise GatewayError(
            Code.INVALID_ARGUMENT, f"{name} must be an ISO 8601 time, unix seconds, or a time back as in -24h."
        ) from None
    return int(seconds * 1e3)


def _iso_seconds(text: str) -> float:
    found = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that nobody encoded arrives as a space
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _interval(asked: UsageAsked, span: Span) -> int | None:
    text = asked.interval
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    width = WORDS_MS.get(text) or (int(found[2]) * UNITS_MS[found[3]] if found and not found[1] else 0)
    if width < 1000:
        raise GatewayError(Code.INVALID_ARGUMENT, "interval must be minute, hour, day, or as in 30s, 5m, 1h, 7d.")
    if (span.end_ms - span.start_ms) / width > MAX_POINTS:
        raise GatewayError(Code.INVALID_ARGUMENT, f"interval is too fine: at most {MAX_POINTS} points in one answer.")
    return width


def _groups(asked: UsageAsked) -> tuple[Group, ...]:
    known: dict[str, Group] = {str(name): name for name in COLUMNS}
    names = [part.strip() for part in (asked.group_by or "").split(",") if part.strip()]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise GatewayError(Code.INVALID_ARGUMENT, f"group_by: there is no {name[:64]!r}; {hint}")
    return tuple(dict.fromkeys(known[name] for name in names))


def _wants_csv(request: Request, asked: SpanAsked) -> bool:
    if asked.format is not None:
        return asked.format == "csv"
    accept = request.headers.get("accept", "")
    return CSV in accept and JSON not in accept


# -- what is answered ---


def _date(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1e3, UTC)


def _latency(found: Percentiles) -> Latency:
    return Latency(p50=found.p50, p95=found.p95, p99=found.p99)


def _totals(t: Totals) -> UsageTotals:
    return UsageTotals(
        requests=t.requests,
        errors=t.errors,
        cached=t.cached,
        series=t.series,
        input_tokens=t.input_tokens,
        output_tokens=t.output_tokens,
        total_tokens=t.total_tokens,
        latency_ms=_latency(t.latency_ms),
        queue_ms=_latency(t.queue_ms),
        compute_ms=_latency(t.compute_ms),
    )


def _row(row: queries.Row, question: Question, names: Mapping[str, str]) -> UsageRow:
    group = dict(zip(question.group_by, row.group, strict=True))
    key = group.get("key")
    return UsageRow(
        start=None if row.start_ms is None else _date(row.start_ms),
        model=group.get("model"),
        key=key,
        key_name=None if key is None else names.get(key, ""),
        endpoint=group.get("endpoint"),
        status=int(group["status"]) if "status" in group else None,
        code=group.get("code"),
        from_cache=group["cached"] in ("true", "1") if "cached" in group else None,
        **msgspec.structs.asdict(_totals(row.totals)),
    )


def _request(row: RowMapping, names: Mapping[str, str]) -> LedgerRequest:
    return LedgerRequest(
        request_id=row["request_id"],
        time=_date(row["time_ms"]),
        key=row["key_id"],
        key_name=names.get(row["key_id"], ""),
        endpoint=row["endpoint"],
        model=row["model"],
        status=row["status"],
        code=row["code"],
        series=row["series"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        latency_ms=row["latency_ms"],
        queue_ms=row["queue_ms"],
        compute_ms=row["compute_ms"],
        cached=bool(row["cached"]),
    )


def _report_csv(report: UsageReport, question: Question) -> Response:
    """One line a row; the totals alone where there are neither intervals nor groups."""
    rows: Iterable[UsageTotals] = report.data if question.interval_ms or question.group_by else (report.totals,)
    keys = ["start"] if question.interval_ms is not None else []
    for name in question.group_by:
        keys += ["key", "key_name"] if name == "key" else ["from_cache"] if name == "cached" else [name]
    lines = [_flat(msgspec.to_builtins(row)) for row in rows]
    counts = [n for n in UsageTotals.__struct_fields__ if not n.endswith("_ms")]
    times = [f"{name}_{p}" for name in ("latency_ms", "queue_ms", "compute_ms") for p in ("p50", "p95", "p99")]
    return _csv([*keys, *counts, *times], lines)


def _flat(row: Mapping[str, object]) -> dict[str, object]:
    """Nested percentiles as columns of their own."""
    flat: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}_{p}": v for p, v in value.items()}
        else:
            flat[name] = value
    return flat


def _inert(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: a request's id and a key's name are anybody's text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Response:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return Response(
        text.getvalue(), media_type=CSV, headers={"content-disposition": 'attachment; filename="usage.csv"'}
    )
