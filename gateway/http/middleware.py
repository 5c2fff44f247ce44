"""What every exchange has, whatever endpoint answers it: an id, a time, a log line and its place in the metrics."""

from __future__ import annotations

import math
from collections.abc import Callable

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import tracing
from gateway.domain import Usage
from gateway.http import exchange as exchanges
from gateway.http.exchange import UNMATCHED, Exchange
from gateway.http.metrics import Metrics
from gateway.http.problems import internal
from gateway.http.routing import RenderError, failure

log = structlog.get_logger(__name__)

QUIET = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})  # probes: logged at debug only


class ExchangeMiddleware:
    """Opens an exchange, names it in the answer's headers, and writes it down when it is over.

    The outermost middleware. An exception that comes this far is a bug outside any endpoint: it is logged and
    answered like one inside.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        render_error: RenderError,
        when_over: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._render_error = render_error
        self._when_over = when_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = exchanges.begin(scope)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = MutableHeaders(raw=list(message["headers"]))
                headers["x-request-id"] = exchange.request_id
                headers["server-timing"] = exchange.server_timing
                headers.update(_limit_headers(exchange))
                message = {**message, "headers": headers.raw}
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                over()  # before the caller has the last byte, and may ask what it came to
            await send(message)

        done = False

        def over() -> None:
            nonlocal done
            if not done:
                done = True
                self._over(exchange)

        try:
            await self._traced(scope, receive, named, exchange)
        except Exception:
            log.exception("request_failed", request_id=exchange.request_id, endpoint=exchange.endpoint)
            if exchange.status:
                exchange.code = "INTERNAL"
                raise  # too late for another answer: the server closes the connection
            response = failure(Request(scope), internal(exchange.request_id), self._render_error)
            await response(scope, receive, named)
        finally:
            over()
            _write_down(scope, exchange)

    async def _traced(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        """Pass the request on within its span, which is named by what became of it."""
        parent = exchange.headers.get("traceparent", "")
        with tracing.span("request", parent=parent, server=True) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                tracing.describe(
                    span,
                    f"{scope['method']} {exchange.endpoint}",
                    {
                        "http.request.method": scope["method"],
                        "http.route": exchange.endpoint,
                        "http.response.status_code": exchange.status,
                        "forecast.request_id": exchange.request_id,
                        "forecast.model": exchange.model,
                        "forecast.code": exchange.code,
                        "forecast.series": exchange.series,
                    },
                    failed=exchange.status >= 500 or exchange.status == 0,
                )

    def _over(self, exchange: Exchange) -> None:
        settle(exchange, self._metrics)
        if self._when_over is not None:
            self._when_over(exchange)


def settle(exchange: Exchange, metrics: Metrics) -> None:
    """Count an exchange that is over, once. What was not delivered has no tokens."""
    if not exchange.delivered:
        exchange.usage, exchange.series = Usage(), 0
    metrics.request_done(exchange)


def _limit_headers(exchange: Exchange) -> dict[str, str]:
    """The limit of the caller that is nearest: what it is, what is left, and the seconds until some comes back."""
    standing = exchange.grant.tightest if exchange.grant is not None else None
    if standing is None:
        return {}
    return {
        "ratelimit-limit": str(standing.rule.limit),
        "ratelimit-remaining": str(standing.remaining),
        "ratelimit-reset": str(math.ceil(standing.reset_s)),
    }


def _write_down(scope: Scope, exchange: Exchange) -> None:
    """One line an exchange. The path of a route that does not exist is the caller's own text and stays out."""
    level = "debug" if exchange.endpoint in QUIET else "info"
    getattr(log, level)(
        "request",
        request_id=exchange.request_id,
        method=scope["method"],
        endpoint=exchange.endpoint,
        path=scope["path"] if exchange.endpoint != UNMATCHED else None,
        status=exchange.status,
        code=exchange.code,
        model=exchange.model or None,
        ms=round(exchange.elapsed_s * 1e3, 2),
        queue_ms=exchange.queue_ms,
        compute_ms=exchange.compute_ms,
        tokens=exchange.usage.total_tokens or None,
    )
