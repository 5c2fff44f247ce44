"""`/v1/jobs`: work that outlives the call that brought it, handed in, watched, fetched, stopped and forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.dialects.base import Call, Operation, Reply
from gateway.dialects.canonical import job_lines
from gateway.dialects.canonical import jobs as bodies
from gateway.dialects.canonical.jobs import Shape
from gateway.domain import MAX_SERIES, Caller, Job, JobOrder, JobStatus, JobType, Work
from gateway.errors import Code, Fault, GatewayError
from gateway.http import events, idempotency, results, uploads
from gateway.http import exchange as exchanges
from gateway.http.accounts import Accounts
from gateway.http.body import client_present, joined, read_body
from gateway.http.exchange import Exchange
from gateway.http.operations import timeout_s
from gateway.http.routing import Endpoint, Parameter, call_of
from gateway.http.uploads import Bounds, Upload
from gateway.jobs import Jobs
from gateway.jobs.webhooks import Webhooks
from gateway.pacing import paced
from gateway.service import ForecastService
from gateway.settings import ServerSettings

INLINE_BYTES = 1024 * 1024  # of a result that stands in the job's own body
INLINE_CELLS = 100_000  # output tokens above which a result is not even tried for it
PAGE = 100
MOST = 1000
MOST_JOBS = 200
PATH = "/v1/jobs"

Query = TypeVar("Query", bound=msgspec.Struct)


class ListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the list of jobs can be narrowed by."""

    status: JobStatus | None = None
    type: JobType | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_JOBS)] = 50
    cursor: str | None = None


class ReadQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a small result stands in the job's own body."""

    result: bool = True


class ResultQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a result is wanted."""

    offset: Annotated[int, Meta(ge=0)] | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None


class SecretBody(msgspec.Struct, frozen=True):
    """The secret that the signatures of the caller's callbacks are made with."""

    secret: Annotated[str, Meta(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEndpoints:
    """Endpoints over the jobs."""

    jobs: Jobs
    operations: bodies.Operations
    server: ServerSettings
    bounds: Bounds
    uploads_dir: Path  # where Parquet lies while it is read
    webhooks: Webhooks
    service: ForecastService
    accounts: Accounts

    # -- handing in ---

    async def submit(self, request: Request) -> Response:
        exchange = exchanges.of(request.scope)
        kind = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in bodies.LINES_NAMES:
            made = await self._lines(request)
        elif kind in bodies.TABLE_NAMES:
            made = await self._table(request)
        else:
            made = await self._order(request)
        replayed = made.request_id != exchange.request_id
        response = _answer(bodies.job(_asking(request), made, status=202))
        if replayed and idempotency.HEADER in exchange.headers:
            response.headers[idempotency.REPLAYED] = "true"
        return response

    async def _order(self, request: Request) -> Job:
        exchange = exchanges.of(request.scope)
        exchange.deadline = asyncio.get_running_loop().time() + timeout_s(exchange.headers, self.server)
        body = await read_body(
            exchange.headers, request.receive, limit=self.server.max_body_bytes, deadline=exchange.deadline
        )
        order, work = await paced(bodies.order(call_of(request, body), self.operations))
        return await self.hand_in(order, work, request)

    async def hand_in(self, order: JobOrder, work: Work, request: Request) -> Job:
        """Submit work whose body was read whole."""
        exchange = exchanges.of(request.scope)
        await self._check(order, exchange)
        await self.accounts.charge(exchange, work, self.service)
        async with client_present(request.receive):
            try:
                return _noted(exchange, await self.jobs.submit(order, work, exchange.caller))
            except GatewayError as error:
                raise bodies.within_request(error) from None

    async def _lines(self, request: Request) -> Job:
        call = call_of(request)
        if call.query:
            raise GatewayError(Code.INVALID_ARGUMENT, "An upload of lines has its order in the first line.")
        pieces = uploads.pieces(call.headers, request.receive, self.bounds)
        forecast = self.operations["forecast"]
        return await self._stream(await uploads.lines(pieces, call, forecast, self.operations), request)

    async def _table(self, request: Request) -> Job:
        call = call_of(request)
        pieces = uploads.pieces(call.headers, request.receive, self.bounds)
        async with uploads.table(pieces, call, self.uploads_dir, self.operations) as upload:
            return await self._stream(upload, request)

    async def _stream(self, upload: Upload, request: Request) -> Job:
        exchange = exchanges.of(request.scope)
        await self._check(upload.order, exchange)
        series = self.accounts.charged(exchange, upload.head, upload.series, self.service)
        try:
            return _noted(exchange, await self.jobs.submit_stream(upload.order, upload.head, series, exchange.caller))
        except GatewayError as error:
            raise upload.placed(error) from None

    async def _check(self, order: JobOrder, exchange: Exchange) -> None:
        exchange.check_endpoint(self.operations[order.type].path)  # a job is no way around a key's endpoints
        if order.idempotency_key is not None:
            idempotency.checked(order.idempotency_key)
        if order.callback_url is not None:
            try:
                await self.webhooks.check(order.callback_url)
            except GatewayError as error:
                raise GatewayError.invalid(Fault(("callback_url",), error.sentence)) from None

    # -- looking ---

    async def list(self, request: Request) -> Response:
        query = _query(request, ListQuery)
        page = await self.jobs.jobs(
            _caller(request), status=query.status, type=query.type, limit=query.limit, cursor=query.cursor
        )
        return _answer(bodies.job_list(call_of(request), page.jobs, page.next))

    async def read(self, request: Request) -> Response:
        query = _query(request, ReadQuery)
        call, caller = call_of(request), _caller(request)
        job = await self.jobs.job(_id(request), caller)
        result = None
        small = job.total <= MAX_SERIES and job.usage.output_tokens <= INLINE_CELLS
        if query.result and small and job.status in ("completed", "partial"):
            result = await self._whole(call, job, caller)
        if result is not None and len(result) > INLINE_BYTES:
            result = None
        return _answer(bodies.job(call, job, result=result))

    async def watch(self, request: Request) -> Response:
        changes = self.jobs.events(_id(request), _caller(request))
        first = await anext(changes)
        if request.method == "HEAD":
            return Response(media_type=events.MEDIA_TYPE)
        stream = events.stream(first, changes, partial(_stopping, request))
        return StreamingResponse(stream, media_type=events.MEDIA_TYPE, headers={"cache-control": "no-store"})

    # -- fetching ---

    async def result(self, request: Request) -> Response:
        query = _query(request, ResultQuery)
        call, caller = call_of(request), _caller(request)
        job = await self.jobs.job(_id(request), caller)
        shape = bodies.shape_of(call)
        if shape is Shape.WHOLE and query == ResultQuery():
            if job.total > MAX_SERIES:
                told = (
                    f"This result has {job.total} outputs, too many for one body: page through it with ?offset= and "
                    f"&limit=, or ask for {bodies.LINES} or {bodies.TABLE}."
                )
                raise GatewayError(Code.INVALID_ARGUMENT, told)
            return Response(await self._whole(call, job, caller), media_type=bodies.form_of(call).value)
        if shape is Shape.WHOLE:
            return await self._page(call, job, caller, query)
        if request.method == "HEAD":
            return Response(media_type=bodies.LINES if shape is Shape.LINES else bodies.TABLE)
        operation = self.operations[job.type]
        part = self.jobs.slices(job.id, caller, first=query.offset or 0, count=query.limit)
        slices = await results.begun(part)
        if slices is None:
            self._nothing(job)
        if shape is Shape.LINES:
            lines = results.lines(call, slices or part, operation)
            return StreamingResponse(lines, media_type=bodies.LINES)
        table = await results.begun(results.table(slices or part))
        if table is None:
            raise GatewayError(Code.NOT_FOUND, "No output lies there, and a table of none has no columns.")
        return StreamingResponse(table, media_type=bodies.TABLE)

    async def _whole(self, call: Call, job: Job, caller: Caller) -> bytes:
        answer = await self.jobs.answer(job.id, caller)
        return await joined(await paced(bodies.whole(call, answer, self.operations[job.type])))

    async def _page(self, call: Call, job: Job, caller: Caller, query: ResultQuery) -> Response:
        offset, limit = query.offset or 0, min(query.limit or PAGE, MOST)
        form = bodies.form_of(call)
        members: list[bytes] = []
        async for part in self.jobs.slices(job.id, caller, first=offset, count=limit):
            steps = job_lines.members(call, part.answer, part.first, self.operations[job.type], form)
            members += await paced(steps)
        if not members:
            self._nothing(job)
        end = offset + len(members)
        more = end < (job.total if job.over else job.done) and len(members) == limit
        following = f"{bodies.path_of(job.id)}/result?offset={end}&limit={limit}" if more else None
        reply = bodies.result_page(call, members, offset=offset, total=job.total, next_url=following)
        return _answer(reply)

    def _nothing(self, job: Job) -> None:
        """Say why a job has no result at all, where that is so."""
        if job.status == "failed":
            raise GatewayError(job.code or Code.INTERNAL, job.error or "The job failed.")
        if not job.done and not job.over:
            raise GatewayError(Code.CONFLICT, f"The job is {job.status}: none of its result is there yet.")

    async def secret(self, request: Request) -> Response:
        secret = SecretBody(secret=self.webhooks.secret(_caller(request)))
        headers = {"cache-control": "no-store"}
        return Response(msgspec.json.encode(secret), media_type="application/json", headers=headers)

    # -- stopping ---

    async def cancel(self, request: Request) -> Response:
        return _answer(bodies.job(_asking(request), await self.jobs.cancel(_id(request), _caller(request))))

    async def delete(self, request: Request) -> Response:
        await self.jobs.delete(_id(request), _caller(request))
        return Response(status_code=204)


# -- answering later ---


def deferrable(operation: Operation[Any, Any], endpoint: Endpoint, jobs: JobEndpoints) -> Endpoint:
    """The endpoint of an operation that can be a job: `Prefer: respond-async` hands it in instead."""
    kind = operation.job
    if kind is None:
        return endpoint

    def respond(request: Request) -> Awaitable[Response]:
        prefer = exchanges.of(request.scope).headers.get("prefer")
        return deferred(request) if prefer and prefers_async(prefer) else endpoint.respond(request)

    async def deferred(request: Request) -> Response:
        exchange = exchanges.of(request.scope)
        exchange.check_endpoint(PATH)
        exchange.deadline = asyncio.get_running_loop().time() + timeout_s(exchange.headers, jobs.server)
        body = await read_body(
            exchange.headers, request.receive, limit=jobs.server.max_body_bytes, deadline=exchange.deadline
        )
        call = call_of(request, body)
        work = await paced(jobs.operations[kind].parse(call))
        order = JobOrder(
            type=kind, request_id=exchange.request_id, idempotency_key=exchange.headers.get(idempotency.HEADER)
        )
        await jobs.accounts.charge(exchange, work, jobs.service)
        async with client_present(request.receive):
            made = _noted(exchange, await jobs.jobs.submit(order, work, exchange.caller))
        response = _answer(bodies.job(call, made, status=202))
        response.headers["preference-applied"] = "respond-async"
        return response

    docs = endpoint.documentation and replace(endpoint.documentation, accepted=bodies.JobBody)
    return replace(endpoint, respond=respond, parameters=(*endpoint.parameters, PREFER), documentation=docs)


def _noted(exchange: Exchange, made: Job) -> Job:
    """The job, noted for the ledger: its submission and its end are one row."""
    exchange.model = made.model
    if made.request_id == exchange.request_id:  # else an idempotency key led to one that was handed in before
        exchange.job = made.id
    return made


def prefers_async(prefer: str) -> bool:
    """Whether a Prefer header (RFC 7240) asks for an answer later."""
    return any(p.partition(";")[0].strip().lower() == "respond-async" for p in prefer.split(","))


PREFER = Parameter(
    name="Prefer",
    place="header",
    description="`respond-async` makes a job of the request: 202 with its `Location`.",
)


def _stopping(request: Request) -> bool:
    """Whether the server waits for its last answers; `serve` tells it by the application's state."""
    told: Callable[[], bool] | None = getattr(request.app.state, "stopping", None)
    return told is not None and told()


def _caller(request: Request) -> Caller:
    return exchanges.of(request.scope).caller


def _id(request: Request) -> str:
    id: str = request.path_params["id"]
    return id


def _asking(request: Request) -> Call:
    """The call where its body has no say in the form of the answer, whatever it was."""
    call = call_of(request)
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in bodies.LINES_NAMES or kind in bodies.TABLE_NAMES or call.path.endswith("/cancel"):
        return msgspec.structs.replace(call, headers={k: v for k, v in call.headers.items() if k != "content-type"})
    return call


def _answer(reply: Reply) -> Response:
    assert isinstance(reply.body, bytes)
    return Response(reply.body, reply.status, headers=dict(reply.headers), media_type=reply.media_type)


def _query(request: Request, kind: type[Query]) -> Query:
    """The query as `kind`; INVALID_ARGUMENT for a name that does not exist or a value that cannot be."""
    sent = dict(request.query_params)
    for name in sent:
        if name not in kind.__struct_fields__:
            told = f"There is no parameter {name[:64]!r} here; known: {', '.join(kind.__struct_fields__)}."
            raise GatewayError(Code.INVALID_ARGUMENT, told)
    try:
        return msgspec.convert(sent, kind, strict=False)
    except msgspec.ValidationError:
        raise GatewayError(Code.INVALID_ARGUMENT, " ".join(_faulty(sent, kind))) from None


def _faulty(sent: Mapping[str, str], kind: type[msgspec.Struct]) -> Iterator[str]:
    """A sentence for each value that cannot be, with those that can."""
    for field in msgspec.structs.fields(kind):
        if field.name in sent:
            try:
                msgspec.convert(sent[field.name], field.type, strict=False)
            except msgspec.ValidationError:
                yield f"{field.name} is {_possible(field.type)}, not {sent[field.name][:64]!r}."


def _possible(type: object) -> str:
    found = msgspec.inspect.type_info(type)
    for one in found.types if isinstance(found, msgspec.inspect.UnionType) else (found,):
        if isinstance(one, msgspec.inspect.LiteralType):
            return f"one of {', '.join(map(str, one.values))}"
        if isinstance(one, msgspec.inspect.IntType):
            return f"a whole number from {one.ge} " + ("on" if one.le is None else f"to {one.le}")
    return "true or false"
