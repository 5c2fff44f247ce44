"""`/v1/jobs`: the body that orders a job, and the bodies that tell of one.

The inner request is read by the operation that would have answered it at once, so that a job takes exactly what its
endpoint takes; its faults are told at `["body", "request", ...]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType, inspect

from gateway.dialects.base import Call, Operation, Reply, Steps, wire_code
from gateway.dialects.canonical import envelope, malformed, media, walk
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.media import Format, Wire
from gateway.dialects.canonical.types import SeriesErrorBody, UsageBody
from gateway.domain import Answer, Job, JobOrder, JobStatus, JobType, Work
from gateway.errors import Code, Fault, GatewayError

Operations = Mapping[JobType, Operation[Any, Any]]  # the endpoint whose request a job of each type holds

TYPES: tuple[JobType, ...] = get_args(JobType)
HIGHEST = 10  # priority; the lowest is its negative
LONGEST_S = 7 * 24 * 3600.0  # deadline of a job

LINES = "application/x-ndjson"
TABLE = "application/vnd.apache.parquet"
LINES_NAMES = (LINES, "application/ndjson", "application/jsonl", "application/x-jsonlines")
TABLE_NAMES = (TABLE, "application/parquet", "application/x-parquet")

_MARK = re.compile(rb'\[\["@(\d+)"\]\]')

Priority = Annotated[
    int, Meta(ge=-HIGHEST, le=HIGHEST, description="Higher goes first among the jobs that wait.", examples=[5])
]
DeadlineS = Annotated[
    float,
    Meta(gt=0.0, le=LONGEST_S, description="Seconds from now after which the job ends as `expired`.", examples=[600]),
]
CallbackUrl = Annotated[
    str,
    Meta(
        description="Gets the job's body as a POST when it is over, signed by the Standard Webhooks scheme.",
        examples=["https://example.com/forecasts"],
    ),
]


class OrderFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of a job beside its work."""

    type: Annotated[JobType, Meta(description="What the request is.", examples=["forecast"])]
    priority: Priority | None = None
    callback_url: CallbackUrl | None = None
    deadline_s: DeadlineS | None = None


class OrderBody(OrderFields, frozen=True, kw_only=True):
    """A job to do: any request that an endpoint would answer at once."""

    request: Annotated[
        dict[str, Any],
        Meta(description="The body that the endpoint of this type takes: `/v1/forecast`, `/v1/forecast/batch`, ..."),
    ]


class OrderEnvelope(OrderFields, frozen=True, kw_only=True):
    """An order whose request is not read yet."""

    request: Raw


class ProgressBody(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is: series, or requests of a batch."""

    done: Annotated[int, Meta(description="Whose results are there, failed ones included.")]
    total: int
    failed: Annotated[int, Meta(description="Of those done.")]


class JobBody(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it stands. Times are seconds since 1970."""

    id: str
    object: Literal["job"] = "job"
    type: JobType
    status: JobStatus
    progress: ProgressBody
    created: float
    started: float | None
    finished: float | None
    error: Annotated[SeriesErrorBody | None, Meta(description="Why it failed, was cancelled or expired.")]
    result_url: Annotated[str | None, Meta(description="Where the result is read, once the job is over and has one.")]
    model: Annotated[str, Meta(description="The catalog id, where there is one.")] | UnsetType = UNSET
    priority: int
    deadline: Annotated[float | None, Meta(description="When it expires.")]
    callback_url: str | UnsetType = UNSET
    usage: Annotated[UsageBody, Meta(description="Of what is done.")]
    request_id: Annotated[str, Meta(description="Of the request that handed it in.")]
    result: (
        Annotated[
            Raw,
            Meta(
                description="What the endpoint would have answered, where the job is over and this is at most 1 MiB.",
                extra_json_schema={"type": "object"},
            ),
        ]
        | UnsetType
    ) = UNSET


class JobListBody(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[JobBody]
    next: Annotated[str | None, Meta(description="The `cursor` of the next page; null: there is none.")]


class ResultPageBody(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbouring outputs of a long result."""

    object: Literal["list"] = "list"
    data: Annotated[
        list[Raw],
        Meta(
            description="Each as in the whole result, with its `index`.",
            extra_json_schema={"items": {"type": "object", "properties": {"index": {"type": "integer"}}}},
        ),
    ]
    offset: int
    total: int
    next: Annotated[str | None, Meta(description="Where the next page is; null: nothing is known beyond this one.")]


# -- the order ---


def order(call: Call, operations: Operations) -> Steps[tuple[JobOrder, Work]]:
    """The job that a body hands in; raises GatewayError with every fault of order and request."""
    try:
        wire = media.negotiate(call)
    except GatewayError as error:
        if error.code is Code.UNSUPPORTED_MEDIA_TYPE:
            uploads = f"An upload of many series is {LINES} or {TABLE}."
            raise GatewayError(error.code, f"{error.sentence} {uploads}") from None
        raise
    try:
        body = yield from envelope.of(call.body, wire.asked)
        try:
            sent = wire.asked.decode(body.content, OrderEnvelope)
        except msgspec.ValidationError as failure:
            raise (yield from _refusal(body, wire, failure, call, operations)) from None
        work = yield from _work(_inner(sent.request, body), sent.type, call, operations)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise (yield from malformed.error(call.body, wire.asked, failure)) from None
    except RecursionError:
        raise malformed.too_deep() from None
    return order_of(sent, call), work


def order_of(sent: OrderFields, call: Call) -> JobOrder:
    """The domain's order, apart from its work."""
    return JobOrder(
        type=sent.type,
        priority=sent.priority or 0,
        deadline_s=sent.deadline_s,
        callback_url=sent.callback_url,
        request_id=call.request_id,
        idempotency_key=call.headers.get("idempotency-key"),
    )


def within_request(error: GatewayError) -> GatewayError:
    """A refusal of the inner request, at its places in the order."""
    if not error.faults:
        return error
    faults = tuple(Fault(("request", *f.loc), f.msg, f.type) for f in error.faults)
    told = GatewayError.invalid(*faults) if error.code is Code.INVALID_ARGUMENT else error
    return GatewayError(error.code, told.sentence, faults=faults, retry_after_s=error.retry_after_s)


def _inner(request: Raw, body: Envelope) -> bytes:
    """The request as it was sent; whether its arrays are JSON is seen by whoever reads it."""
    if not body.arrays:
        return bytes(request)
    return _MARK.sub(lambda mark: body.arrays[int(mark[1])], bytes(request))


def _work(request: bytes, kind: JobType, call: Call, operations: Operations) -> Steps[Work]:
    inner = Call(
        method="POST",
        path=operations[kind].path,
        headers=call.headers,
        body=request,
        base_url=call.base_url,
        request_id=call.request_id,
    )
    try:
        work: Work = yield from operations[kind].parse(inner)
    except GatewayError as error:
        if error.code is Code.MALFORMED and error.sentence != malformed.too_deep().sentence:
            raise msgspec.DecodeError(error.sentence) from None  # told of the whole body, whose bytes the caller counts
        raise within_request(error) from None
    return work


def _refusal(body: Envelope, wire: Wire, failure: Exception, call: Call, operations: Operations) -> Steps[GatewayError]:
    """The error of an order that is not of its type, with the faults of its request where they can be seen."""
    form = wire.asked
    try:
        sent = form.decode(body.content, dict[Any, Raw])
    except msgspec.ValidationError:
        form.decode(body.content, Raw)
        noun = walk.noun(walk.untyped(body.content, form))
        return GatewayError.invalid(Fault((), f"Expected an object, got {noun}", "type_error"))
    outer = inspect.type_info(OrderEnvelope)
    assert isinstance(outer, inspect.StructType)
    faults = list(walk.fields(sent, outer, (), lambda _, raw: walk.untyped(raw, form)))
    kind = walk.untyped(sent["type"], form) if "type" in sent else None
    if kind in TYPES and "request" in sent:
        try:
            yield from _work(_inner(sent["request"], body), kind, call, operations)
        except GatewayError as error:
            faults += error.faults
    return GatewayError.invalid(*(faults or walk.found((), failure, ())))


# -- what is told of it ---


def path_of(id: str) -> str:
    return f"/v1/jobs/{id}"


def body_of(job: Job, result: bytes | None = None) -> JobBody:
    """The wire's view of a job."""
    error = None
    if job.error is not None or job.code is not None:
        error = SeriesErrorBody(error=job.error or "", code=wire_code(job.code or Code.INTERNAL))
    readable = job.over and job.status != "failed" and job.done > 0
    return JobBody(
        id=job.id,
        type=job.type,
        status=job.status,
        progress=ProgressBody(done=job.done, total=job.total, failed=job.failed),
        created=round(job.created, 3),
        started=_rounded(job.started),
        finished=_rounded(job.finished),
        error=error,
        result_url=f"{path_of(job.id)}/result" if readable else None,
        model=job.model or UNSET,
        priority=job.priority,
        deadline=_rounded(job.deadline),
        callback_url=job.callback_url or UNSET,
        usage=UsageBody(
            input_tokens=job.usage.input_tokens,
            output_tokens=job.usage.output_tokens,
            total_tokens=job.usage.total_tokens,
        ),
        request_id=job.request_id,
        result=UNSET if result is None else Raw(result),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def job(call: Call, answer: Job, *, status: int = 200, result: bytes | None = None) -> Reply:
    """One job; `result` is in the form of the answer already."""
    form = form_of(call)
    headers = {"location": path_of(answer.id)} if status == 202 else {}
    return Reply(status=status, body=form.encode(body_of(answer, result)), media_type=form.value, headers=headers)


def job_list(call: Call, jobs: Iterable[Job], next_cursor: str | None) -> Reply:
    """Some jobs."""
    form = form_of(call)
    body = JobListBody(data=[body_of(j) for j in jobs], next=next_cursor)
    return Reply(body=form.encode(body), media_type=form.value)


def result_page(call: Call, members: Iterable[bytes], *, offset: int, total: int, next_url: str | None) -> Reply:
    """Some outputs of a result, each in the form of the answer already."""
    form = form_of(call)
    body = ResultPageBody(data=[Raw(m) for m in members], offset=offset, total=total, next=next_url)
    return Reply(body=form.encode(body), media_type=form.value)


def form_of(call: Call) -> Format:
    """JSON or msgpack, as the caller wants its answer."""
    return media.negotiate(call).answered


class Shape(Enum):
    """The forms that a result is served in."""

    WHOLE = "whole"  # JSON or msgpack, in one piece or page by page
    LINES = "lines"
    TABLE = "table"


def shape_of(call: Call) -> Shape:
    """How the caller wants a result: a stream only where it is named, and wanted no less than what else is."""
    best, found = 0.0, Shape.WHOLE
    for part in call.headers.get("accept", "").lower().split(","):
        name, *options = (p.strip() for p in part.split(";"))
        shape = Shape.LINES if name in LINES_NAMES else Shape.TABLE if name in TABLE_NAMES else Shape.WHOLE
        weight = next((o[2:] for o in options if o.startswith("q=")), "1")
        try:
            quality = float(weight)
        except ValueError:
            quality = 1.0
        if "*" not in name and quality > best:
            best, found = quality, shape
    return found


def whole(call: Call, answer: Answer, operation: Operation[Any, Any]) -> Steps[list[bytes]]:
    """A result as the endpoint would have answered it; raises NOT_ACCEPTABLE where JSON cannot hold its metadata."""
    body = operation.render(call, answer).body
    if isinstance(body, bytes):
        return [body]
    parts = []
    try:
        for part in body:
            parts.append(part)
            yield
    except ValueError as exc:
        told = f"The metadata {exc}."
        raise GatewayError(Code.NOT_ACCEPTABLE, told) from None
    return parts
