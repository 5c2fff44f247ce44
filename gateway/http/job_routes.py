"""The paths of `/v1/jobs`, and what the documents say of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.base import Documentation, Example
from gateway.dialects.canonical import jobs as bodies
from gateway.domain import JobStatus, JobType
from gateway.errors import Code
from gateway.http import events, idempotency
from gateway.http.jobs import MOST_JOBS, PAGE, JobEndpoints, SecretBody
from gateway.http.operations import DEADLINE_HEADER
from gateway.http.routing import Endpoint, Parameter, RenderError

READING = (Code.NOT_ACCEPTABLE, Code.UNAVAILABLE)
ANSWERS = dict[str, Any]
_ID = Parameter(name="id", place="path", description="The job's id.")
_LIST = (
    Parameter(name="status", place="query", type=JobStatus, description="Only jobs of this status."),
    Parameter(name="type", place="query", type=JobType, description="Only jobs of this type."),
    Parameter(
        name="limit",
        place="query",
        type=Annotated[int, Meta(ge=1, le=MOST_JOBS)],
        description="Jobs of a page; 50 unless told.",
    ),
    Parameter(name="cursor", place="query", description="`next` of the page before."),
)
_RESULT = (
    Parameter(name="offset", place="query", type=Annotated[int, Meta(ge=0)], description="The first output wanted."),
    Parameter(
        name="limit",
        place="query",
        type=Annotated[int, Meta(ge=1)],
        description=f"Outputs wanted. With either of the two, JSON comes in pages, {PAGE} outputs unless told.",
    ),
)

SUBMIT = """\
`type` says which endpoint's body `request` is. The answer is the job; `Location` is where to look for it.

**Uploads** are forecasts of any number of series, read as they come. As `application/x-ndjson` the first line holds
the order, whose request has `model` and `parameters` and no inputs, and every further line one input. As
`application/vnd.apache.parquet` a tidy table has one row a series and time, the rows of a series together and in the
order of time; the order is in the query (`model`, `prediction_length`, `frequency`, `quantile_levels`,
`context_length`, `priority`, `deadline_s`, `callback_url`; `id`, `time` and `target` name the columns where their
names do not tell), or, as the first line of an NDJSON upload, in the schema metadata under `forecast_gateway`. An
upload with a fault is refused whole, with the lines or rows of up to 20 faults.

**Callbacks** are signed by the Standard Webhooks scheme: `webhook-id`, `webhook-timestamp` and `webhook-signature`."""

RESULT = """\
As the endpoint would have answered at once. `offset` and `limit` page through it; as `application/x-ndjson` it comes
as a stream, one output a line with its `index`, and forecasts also as `application/vnd.apache.parquet`, one row a
series, step and channel. Of a job that still runs, pages and streams hold what is done so far."""


def endpoints(
    jobs: JobEndpoints, render_error: RenderError, examples: Mapping[str, tuple[Example, ...]]
) -> list[Endpoint]:
    """The list of this module's endpoints."""

    def endpoint(
        method: str,
        path: str,
        respond: Callable[[Request], Awaitable[Response]],
        docs: Documentation,
        *parameters: Parameter,
    ) -> Endpoint:
        name = f"{method} {path}"
        return Endpoint(
            method=method,
            path=path,
            respond=respond,
            render_error=render_error,
            counted=method == "POST",  # who looks how a job stands uses nothing
            parameters=parameters,
            documentation=replace(docs, tag="jobs", examples=examples.get(name, ())),
        )

    one = "/v1/jobs/{id}"
    both = ("application/json", "application/msgpack")
    streams = (bodies.LINES, bodies.TABLE)
    return [
        endpoint(
            "POST",
            "/v1/jobs",
            jobs.submit,
            Documentation(
                summary="Hand in a job",
                description=SUBMIT,
                request=bodies.OrderBody,
                response=bodies.JobBody,
                status=202,
                media_types=both,
                streams_in=streams,
                codes=(Code.CONFLICT, Code.PERMISSION_DENIED),
            ),
            DEADLINE_HEADER,
            idempotency.PARAMETER,
        ),
        endpoint(
            "GET",
            "/v1/jobs",
            jobs.list,
            Documentation(summary="The caller's jobs", response=bodies.JobListBody, media_types=both, codes=READING),
            *_LIST,
        ),
        endpoint(
            "GET",
            one,
            jobs.read,
            Documentation(summary="How a job stands", response=bodies.JobBody, media_types=both, codes=READING),
            _ID,
            Parameter(name="result", place="query", type=bool, description="false: never the result itself."),
        ),
        endpoint(
            "GET",
            f"{one}/result",
            jobs.result,
            Documentation(
                summary="The result of a job",
                description=RESULT,
                response=ANSWERS,
                media_types=both,
                streams_out=streams,
                codes=(*READING, Code.CONFLICT, Code.MODEL_FAILED, Code.DEADLINE_EXCEEDED),
            ),
            _ID,
            *_RESULT,
        ),
        endpoint(
            "GET",
            f"{one}/events",
            jobs.watch,
            Documentation(
                summary="The progress of a job as server-sent events",
                description="`progress` events, and a last `done`; the data of each is the job.",
                streams_out=(events.MEDIA_TYPE,),
                codes=(Code.UNAVAILABLE,),
            ),
            _ID,
        ),
        endpoint(
            "POST",
            f"{one}/cancel",
            jobs.cancel,
            Documentation(
                summary="Stop a job",
                description="What is done stays readable. A job that is over stays as it is.",
                response=bodies.JobBody,
                media_types=both,
                codes=READING,
            ),
            _ID,
        ),
        endpoint(
            "DELETE",
            one,
            jobs.delete,
            Documentation(
                summary="Forget a job",
                description="It is cancelled where it still runs; its result is gone.",
                status=204,
                codes=(Code.UNAVAILABLE,),
            ),
            _ID,
        ),
        endpoint(
            "GET",
            "/api/account/webhook-secret",
            jobs.secret,
            Documentation(
                summary="The secret of the caller's callbacks",
                description="What any Standard Webhooks library checks `webhook-signature` with.",
                response=SecretBody,
            ),
        ),
    ]
