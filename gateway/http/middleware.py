"""What every exchange has, whatever endpoint answers it: an id, a time, a log line and its place in the metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from gateway import tracing
from gateway.http import exchange as exchanges
from gateway.http.exchange import UNMATCHED, Exchange
from gateway.http.metrics import Metrics
from gateway.http.problems import internal
from gateway.http.routing import RenderError, failure

if TYPE_CHECKING:
    from opentelemetry.trace import Span

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
        self._log = log.bind()  # the lazy one would be bound again for each line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = exchanges.begin(scope)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message = {**message, "headers": [*message["headers"], *_headers(exchange)]}
            elif not message.get("more_body", False):
                self._over(exchange)  # before the caller has the last byte, and may ask what it came to
            await send(message)

        try:
            with tracing.span("request", parent=exchange.headers.get("traceparent", ""), server=True) as span:
                try:
                    await self._app(scope, receive, named)
                finally:
                    if span is not None:
                        _describe(span, scope["method"], exchange)
        except Exception:
            log.exception("request_failed", request_id=exchange.request_id, endpoint=exchange.endpoint)
            if exchange.status:
                exchange.code = "INTERNAL"
                raise  # too late for another answer: the server closes the connection
            response = failure(Request(scope), internal(exchange.request_id), self._render_error)
            await response(scope, receive, named)
        finally:
            self._over(exchange)
            _write_down(self._log, scope, exchange)

    def _over(self, exchange: Exchange) -> None:
        """Count an exchange and settle it, once."""
        if exchange.over:
            return
        exchange.over = True
        settle(exchange, self._metrics)
        if self._when_over is not None:
            self._when_over(exchange)


def settle(exchange: Exchange, metrics: Metrics) -> None:
    """Count an exchange that is over, once. What was not delivered has no tokens."""
    if not exchange.delivered:
        exchange.usage, exchange.series = exchanges.NOTHING, 0
    metrics.request_done(exchange)


def _headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """What every answer says: its id, its times, and the limit of the caller that is nearest.

    Of that, what it is, what is left, and the seconds until some comes back.
    """
    headers = [
        (b"x-request-id", exchange.request_id.encode("latin-1")),
        (b"server-timing", exchange.server_timing.encode("latin-1")),
    ]
    standing = exchange.grant.tightest if exchange.grant is not None else None
    if standing is not None:
        headers += [
            (b"ratelimit-limit", b"%d" % standing.rule.limit),
            (b"ratelimit-remaining", b"%d" % standing.remaining),
            (b"ratelimit-reset", b"%d" % math.ceil(standing.reset_s)),
        ]
    return headers


def _describe(span: Span, method: str, exchange: Exchange) -> None:
    """Name the span of a request by what became of it."""
    about: tracing.Attributes = {
        "http.request.method": method,
        "http.route": exchange.endpoint,
        "http.response.status_code": exchange.status,
        "forecast.request_id": exchange.request_id,
        "forecast.model": exchange.model,
        "forecast.code": exchange.code,
        "forecast.series": exchange.series,
    }
    tracing.describe(
        span, f"{method} {exchange.endpoint}", about, failed=exchange.status >= 500 or exchange.status == 0
    )


def _write_down(log: FilteringBoundLogger, scope: Scope, exchange: Exchange) -> None:
    """One line an exchange. The path of a route that does not exist is the caller's own text and stays out."""
    write = log.debug if exchange.endpoint in QUIET else log.info
    write(
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
