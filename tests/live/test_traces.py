"""Traces as a collector receives them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.serving import Gateway, serving

HANG_LIMIT_S = 60.0
SECRET = "a-secret-of-the-caller"


class Collector:
    """An OTLP collector over HTTP that keeps what it gets."""

    def __init__(self) -> None:
        self._arrived: queue.Queue[Span] = queue.Queue()
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            collector._arrived.put(span)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def trace(self, trace_id: str, *names: str) -> dict[str, Span]:
        """The spans of a trace by name, once those of `names` have arrived."""
        while True:
            found = {s.name: s for s in self.spans if s.trace_id.hex() == trace_id}
            if set(names) <= set(found):
                return found
            self.spans.append(self._arrived.get(timeout=HANG_LIMIT_S))


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("traced")
    config = {
        "server": {"otlp_endpoint": collector.url},
        "engine": {"default_model": "seasonal-naive", "statistical_workers": 1, "load_wait_s": 30.0},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with serving(folder, config=config) as running:
            yield running


def body(model: str = "seasonal-naive") -> dict[str, object]:
    return {"model": model, "inputs": [{"target": [[1], [2], [3]]}], "parameters": {"prediction_length": 2}}


def attributes(span: Span) -> dict[str, str]:
    return {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}


def inside(inner: Span, outer: Span) -> bool:
    return (
        inner.parent_span_id == outer.span_id
        and outer.start_time_unix_nano <= inner.start_time_unix_nano
        and inner.end_time_unix_nano <= outer.end_time_unix_nano
    )


def test_a_request_is_traced_over_queue_and_batch_to_the_model(traced: Gateway, collector: Collector) -> None:
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace_id}-{parent}-01", "x-request-id": "traced", "x-api-key": SECRET}
    with traced.client(**headers) as client:
        client.post("/v1/forecast", json=body()).raise_for_status()
    spans = collector.trace(trace_id, "POST /v1/forecast", "queue", "batch", "model")
    request = spans["POST /v1/forecast"]
    assert request.parent_span_id.hex() == parent
    assert request.kind == Span.SPAN_KIND_SERVER
    said = attributes(request)
    assert said["http.route"] == "/v1/forecast"
    assert said["http.response.status_code"] == "200"
    assert said["forecast.request_id"] == "traced"
    assert inside(spans["queue"], request)
    assert inside(spans["batch"], request)
    assert inside(spans["model"], spans["batch"])
    assert attributes(spans["batch"])["forecast.model"] == "forecast-gateway/seasonal-naive"
    assert all(SECRET.encode() not in span.SerializeToString() for span in collector.spans)


def test_a_request_that_is_the_callers_fault_is_no_failed_span(traced: Gateway, collector: Collector) -> None:
    trace_id = "1af7651916cd43dd8448eb211c80319d"
    with traced.client(traceparent=f"00-{trace_id}-b7ad6b7169203331-01") as client:
        assert client.post("/v1/forecast", json=body("no-such-model")).status_code == 404
    span = collector.trace(trace_id, "POST /v1/forecast")["POST /v1/forecast"]
    assert attributes(span)["forecast.code"] == "NOT_FOUND"
    assert span.status.code != Status.STATUS_CODE_ERROR


def test_what_is_no_trace_begins_one(traced: Gateway, collector: Collector) -> None:
    with traced.client(traceparent="nonsense", **{"x-request-id": "no-trace"}) as client:
        client.post("/v1/forecast", json=body()).raise_for_status()
    while not any(attributes(s).get("forecast.request_id") == "no-trace" for s in collector.spans):
        collector.spans.append(collector._arrived.get(timeout=HANG_LIMIT_S))


def test_a_job_belongs_to_the_trace_that_brought_it(traced: Gateway, collector: Collector) -> None:
    trace_id = "2af7651916cd43dd8448eb211c80319e"
    with traced.client(traceparent=f"00-{trace_id}-b7ad6b7169203331-01") as client:
        job = client.post("/v1/jobs", json={"type": "forecast", "request": body()}).json()
    spans = collector.trace(trace_id, "POST /v1/jobs", "job chunk", "batch", "model")
    assert attributes(spans["job chunk"])["forecast.job"] == job["id"]
    assert spans["job chunk"].parent_span_id == spans["POST /v1/jobs"].span_id
    assert spans["batch"].parent_span_id == spans["job chunk"].span_id
