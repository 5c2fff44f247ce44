"""Traces by OpenTelemetry: from a request over the queue and the batch to the model, and on through jobs.

Nothing is traced, and nothing of OpenTelemetry is imported, until `configure` is called. Attributes name models, routes
and counts; never a payload, a header or a key.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from gateway.errors import Code, GatewayError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

Attributes = Mapping[str, str | int | float | bool]

SERVICE = "forecast-gateway"
EXTRA = "Traces need OpenTelemetry: pip install 'forecast-gateway[traces]'."

UNTRACED = nullcontext(None)

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def configure(endpoint: str, version: str) -> None:
    """Send traces to an OTLP collector from now on, such as http://127.0.0.1:4318. Raises GatewayError UNAVAILABLE."""
    global _provider, _tracer  # one exporter a process, as with logs
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise GatewayError(Code.UNAVAILABLE, EXTRA) from None
    url = endpoint.rstrip("/")
    url = url if url.endswith("/v1/traces") else f"{url}/v1/traces"
    _provider = TracerProvider(resource=Resource.create({"service.name": SERVICE, "service.version": version}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    _tracer = _provider.get_tracer(SERVICE, version)


def shutdown() -> None:
    """Send what was not sent yet; waits for the collector, some seconds at most."""
    if _provider is not None:
        _provider.shutdown()


def span(
    name: str, attributes: Attributes | None = None, *, parent: str = "", server: bool = False
) -> AbstractContextManager[Span | None]:
    """A span around a block, within the current one or within `parent`, a W3C traceparent; None without traces."""
    return UNTRACED if _tracer is None else _span(_tracer, name, attributes, parent, server)


@contextmanager
def _span(tracer: Tracer, name: str, attributes: Attributes | None, parent: str, server: bool) -> Iterator[Span | None]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None
    kind = SpanKind.SERVER if server else SpanKind.INTERNAL
    with tracer.start_as_current_span(
        name, context, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as made:
        yield made


def describe(made: Span, name: str, attributes: Attributes, *, failed: bool) -> None:
    """Name a span by what is known at its end."""
    from opentelemetry.trace import Status, StatusCode

    made.update_name(name)
    made.set_attributes(attributes)
    if failed:
        made.set_status(Status(StatusCode.ERROR))


def computed(started: float, queue_ms: float, compute_ms: float, attributes: Attributes) -> None:
    """The spans of a call of the engine that is over: its wait, its batches, and the model within them.

    `started` is the value of `time.time()` when the call began.
    """
    if _tracer is None:
        return
    from opentelemetry.trace import set_span_in_context

    begin, end = int(started * 1e9), time.time_ns()
    leaves = min(begin + int(queue_ms * 1e6), end)
    _tracer.start_span("queue", start_time=begin, attributes=attributes).end(leaves)
    batch = _tracer.start_span("batch", start_time=leaves, attributes=attributes)
    model = _tracer.start_span(
        "model",
        set_span_in_context(batch),
        start_time=max(leaves, end - int(compute_ms * 1e6)),
        attributes=attributes,
    )
    model.end(end)
    batch.end(end)


def carried() -> str:
    """The traceparent of the current span, for work that goes on elsewhere; empty where nothing is traced."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")
