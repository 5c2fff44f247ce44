"""Endpoints as plain values, grouped into one resource a path; the one place where an error becomes an answer."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.dialects.base import Call, Documentation, Reply, wire_code
from gateway.domain import Deployment
from gateway.errors import Code, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.access import Access, Role
from gateway.http.body import ClientLeftError
from gateway.http.exchange import Exchange
from gateway.http.problems import STATUS, headers_of, internal

log = structlog.get_logger(__name__)

CLIENT_LEFT = "CLIENT_LEFT"  # in logs and metrics only: nobody is there to read it
ANY = "/{path:path}"

RenderError = Callable[[Call, GatewayError, int], Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of the query or the path, for the OpenAPI document."""

    name: str
    place: Literal["query", "path", "header"]
    type: object = str
    description: str = ""
    codes: tuple[Code, ...] = ()  # errors that only callers who send it can meet


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path. `respond` raises GatewayError; `render_error` shapes it for this path's callers."""

    method: str
    path: str
    respond: Callable[[Request], Awaitable[Response]]
    render_error: RenderError
    role: Role = "caller"
    counted: bool = True  # of callers' endpoints: whether it counts as use, before limits and in the ledger
    parameters: tuple[Parameter, ...] = ()
    documentation: Documentation | None = None


def routes(endpoints: Sequence[Endpoint], access: Access, render_error: RenderError) -> list[Route]:
    """One route a path, in the order of `endpoints`, and a last one that answers for every path there is not."""
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    known = [Route(path, Resource(path, group, access)) for path, group in by_path.items()]
    return [*known, Route(ANY, Nowhere(by_path, render_error))]


def call_of(request: Request, body: bytes = b"", deployments: Mapping[str, Deployment] | None = None) -> Call:
    """The call as dialects see it."""
    scope = request.scope
    exchange = exchanges.of(scope)
    return Call(
        method=scope["method"],
        path=scope["path"],
        path_params=scope.get("path_params", {}),
        query=tuple(request.query_params.multi_items()) if scope.get("query_string") else (),
        headers=exchange.headers,
        body=body,
        base_url=f"{scope.get('scheme', 'http')}://{exchange.headers.get('host', '')}{scope.get('root_path', '')}",
        request_id=exchange.request_id,
        caller=exchange.caller,
        deployments=deployments or {},
    )


class Resource:
    """Every method of one path, as an ASGI application."""

    def __init__(self, path: str, endpoints: Iterable[Endpoint], access: Access) -> None:
        self._path = path
        self._access = access
        self._methods = {e.method: e for e in endpoints}
        if "GET" in self._methods:
            self._methods["HEAD"] = self._methods["GET"]  # the server drops the body
        self._allow = ", ".join(sorted({*self._methods, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchanges.of(scope)
        exchange.endpoint = self._path
        endpoint = self._methods.get(scope["method"])
        request = Request(scope, receive)
        response = await self._answer(endpoint, request, exchange) if endpoint else self._other_method(request)
        if response is not None:
            await response(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, request: Request, exchange: Exchange) -> Response | None:
        """The answer of `endpoint`, or of its failure; None where the client has left."""
        try:
            exchange.counted = endpoint.counted and endpoint.role == "caller"
            exchange.caller = await self._access.admit(
                request.scope, endpoint.role, self._path, counted=exchange.counted
            )
            return await endpoint.respond(request)
        except ClientLeftError:
            exchange.code = CLIENT_LEFT
            return None
        except GatewayError as error:
            return failure(request, error, endpoint.render_error)
        except asyncio.CancelledError:
            # A client that left is not seen here: the server gives up on what has outlived its grace.
            stopping = GatewayError(Code.UNAVAILABLE, "The gateway is stopping and could not finish this in time.")
            return failure(request, stopping, endpoint.render_error)
        except Exception:
            # The caller gets an id, the log what happened: an exception's text may hold anything.
            log.exception("request_failed", request_id=exchange.request_id, endpoint=self._path)
            return failure(request, internal(exchange.request_id), endpoint.render_error)

    def _other_method(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": self._allow})
        render_error = next(iter(self._methods.values())).render_error
        error = GatewayError(
            Code.METHOD_NOT_ALLOWED, f"{self._path} does not take {request.method}, only {self._allow}."
        )
        return failure(request, error, render_error, {"allow": self._allow})


class Nowhere:
    """The answer to a path that is none of ours: 404, naming the nearest paths."""

    def __init__(self, paths: Iterable[str], render_error: RenderError) -> None:
        self._paths = [p.replace(":path}", "}") for p in paths]
        self._render_error = render_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        near = difflib.get_close_matches(scope["path"][:256], self._paths, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "GET /openapi.json lists all that there is."
        error = GatewayError(Code.NOT_FOUND, f"There is no such path. {hint}")
        response = failure(Request(scope, receive), error, self._render_error)
        await response(scope, receive, send)


def failure(
    request: Request,
    error: GatewayError,
    render_error: RenderError,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The HTTP answer to `error`, in the shape that `render_error` gives it."""
    exchanges.of(request.scope).code = wire_code(error.code)
    reply = render_error(call_of(request), error, STATUS[error.code])
    body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
    all_headers = {**headers_of(error), **(headers or {}), **reply.headers}
    return Response(body, reply.status, headers=all_headers, media_type=reply.media_type)
