"""What the gateway counts, in Prometheus' terms.

Labels are bounded: endpoints are route templates, models are catalog ids, codes are those of `gateway.errors`. A name
that only a caller knows never becomes a label. Every application has a registry of its own, so that two in one process
do not meet.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.dialects.base import Documentation
from gateway.domain import Usage
from gateway.http.exchange import NOTHING, Exchange
from gateway.http.routing import Endpoint, RenderError

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

M = TypeVar("M", bound=MetricWrapperBase)


class Labelled(Generic[M]):
    """A metric's children by their labels, found without the checks that prometheus-client makes every time."""

    def __init__(self, metric: M) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], M] = {}

    def __call__(self, *labels: str) -> M:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels) if labels else self._metric
        return child


class Metrics:
    """Counts exchanges, and what the engine tells it as its observer."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("gateway_info", "Always 1.", ["version"], registry=registry).labels(__version__).set(1)

        def counter(name: str, text: str, *labels: str) -> Labelled[Counter]:
            return Labelled(Counter(f"gateway_{name}", text, labels, registry=registry))

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Labelled[Histogram]:
            return Labelled(Histogram(f"gateway_{name}", text, labels, buckets=buckets, registry=registry))

        def gauge(name: str, text: str, *labels: str) -> Labelled[Gauge]:
            return Labelled(Gauge(f"gateway_{name}", text, labels, registry=registry))

        self._requests = counter(
            "requests", "Requests by code: OK or the code of the error.", "endpoint", "model", "code"
        )
        self._latency = histogram(
            "request_seconds",
            "From the first byte of a request to the last of its answer.",
            SECONDS,
            "endpoint",
            "model",
        )
        self._queue = histogram("queue_seconds", "Time that a request's series waited.", SECONDS, "endpoint", "model")
        self._compute = histogram("compute_seconds", "Time that a request's series ran.", SECONDS, "endpoint", "model")
        self._tokens = counter("tokens", "Tokens read and answered.", "endpoint", "model", "direction")
        self._batch_series = histogram("batch_series", "Series in one batch.", ROWS, "model")
        self._batch_seconds = histogram("batch_seconds", "Time of one batch in the model.", SECONDS, "model")
        self._batch_tokens = counter("batch_tokens", "Tokens of batches that were observations.", "model")
        self._padding_tokens = counter("batch_padding_tokens", "Tokens of batches that were padding.", "model")
        self._loads = counter("model_loads", "Models loaded.", "model")
        self._load_seconds = counter("model_load_seconds", "Time spent loading models.", "model")
        self._restarts = counter("worker_restarts", "Workers that died or were killed, and were started again.", "pool")
        self._ledger = counter(
            "ledger_entries",
            "Rows of the usage ledger: written, spilled to a file while the database is away, or lost.",
            "outcome",
        )
        self._limits_shared = gauge("limits_shared", "1: limits hold over all gateways; 0: this one counts alone.")
        self._limits_alone = counter(
            "limits_without_redis", "Requests that met limits while Redis was away: served or refused.", "outcome"
        )
        self._forecasts_found = counter(
            "forecast_cache_series",
            "Series looked for among kept forecasts, by where they were: memory, redis or nowhere.",
            "place",
        )
        self._forecasts_failed = counter(
            "forecast_cache_failures",
            "Questions to Redis that failed (read, write), and kept forecasts that were not written there (dropped).",
            "what",
        )
        self._queued_series = gauge("queue_series", "Series that wait for a worker.", "pool")
        self._queued_tokens = gauge("queue_tokens", "Tokens that wait for a worker.", "pool")

    # -- exchanges ---

    def request_done(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        where = (exchange.endpoint, exchange.model)
        usage = exchange.usage
        self._requests(*where, exchange.code).inc()
        self._latency(*where).observe(exchange.elapsed_s)
        if exchange.queue_ms is not None:
            self._queue(*where).observe(exchange.queue_ms / 1e3)
        if exchange.compute_ms is not None:
            self._compute(*where).observe(exchange.compute_ms / 1e3)
        if usage is not NOTHING:
            self.tokens_used(*where, usage)

    def tokens_used(self, endpoint: str, model: str, usage: Usage) -> None:
        """Count tokens that were delivered."""
        if usage.total_tokens:
            self._tokens(endpoint, model, "input").inc(usage.input_tokens)
            self._tokens(endpoint, model, "output").inc(usage.output_tokens)

    # -- the engine's observer ---

    def batch_done(self, model: str, rows: int, tokens: float, padded_tokens: float, compute_s: float) -> None:
        """Count a batch: `tokens` of observations among `padded_tokens` that were computed."""
        self._batch_series(model).observe(rows)
        self._batch_seconds(model).observe(compute_s)
        self._batch_tokens(model).inc(tokens)
        self._padding_tokens(model).inc(max(0, padded_tokens - tokens))

    def model_loaded(self, model: str, seconds: float) -> None:
        self._loads(model).inc()
        self._load_seconds(model).inc(seconds)

    def worker_restarted(self, pool: str, reason: str) -> None:
        self._restarts(pool).inc()

    def queue_changed(self, pool: str, series: int, tokens: float) -> None:
        self._queued_series(pool).set(series)
        self._queued_tokens(pool).set(tokens)

    # -- the ledger's and the limits' observer ---

    def ledger_entries(self, outcome: str, count: int) -> None:
        self._ledger(outcome).inc(count)

    def limits_shared(self, shared: bool) -> None:
        self._limits_shared().set(int(shared))

    def limits_alone(self, outcome: str) -> None:
        self._limits_alone(outcome).inc()

    # -- the observer of kept forecasts ---

    def forecasts_found(self, place: str, count: int) -> None:
        self._forecasts_found(place).inc(count)

    def forecasts_failed(self, what: str, count: int) -> None:
        self._forecasts_failed(what).inc(count)

    # -- the page ---

    def endpoint(self, render_error: RenderError) -> Endpoint:
        """`GET /metrics`."""
        documentation = Documentation(
            summary="Counts for Prometheus", tag="system", response=str, media_types=("text/plain",)
        )
        return Endpoint(
            method="GET",
            path="/metrics",
            respond=self._page,
            render_error=render_error,
            role="public",
            documentation=documentation,
        )

    async def _page(self, request: Request) -> Response:
        """The text format or OpenMetrics, as the scraper asks."""
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.registry), headers={"content-type": media_type})
