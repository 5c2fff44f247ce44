"""Endpoints as one application: methods, unknown paths, errors in the path's own shape, ids and logs."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from gateway.dialects.base import Call, Reply, wire_code
from gateway.errors import Code, GatewayError
from gateway.http.access import Access, Role
from gateway.http.application import Application
from gateway.http.compression import CompressionMiddleware
from gateway.http.metrics import Metrics
from gateway.http.middleware import ExchangeMiddleware
from gateway.http.problems import MEANING, STATUS
from gateway.http.routing import Endpoint, Nowhere, RenderError, Resource, routes

SECRET = "the text of an exception"


def shape(name: str) -> RenderError:
    """The errors of a dialect called `name`."""

    def render_error(call: Call, error: GatewayError, status: int) -> Reply:
        body = {"dialect": name, "code": wire_code(error.code), "said": error.sentence, "id": call.request_id}
        return Reply(status=status, body=json.dumps(body).encode())

    return render_error


async def fine(request: Request) -> Response:
    return Response(b"x" * 5000, media_type="text/plain")


async def named(request: Request) -> Response:
    return Response(request.path_params["id"])


async def broken(request: Request) -> Response:
    raise RuntimeError(SECRET)


async def busy(request: Request) -> Response:
    raise GatewayError(Code.UNAVAILABLE, "Busy.", retry_after_s=1.2)


def endpoint(method: str, path: str, respond: object, role: Role = "public", dialect: str = "a") -> Endpoint:
    return Endpoint(method=method, path=path, respond=respond, render_error=shape(dialect), role=role)  # type: ignore[arg-type]


ENDPOINTS = [
    endpoint("GET", "/fine", fine),
    endpoint("POST", "/fine", busy),
    endpoint("POST", "/broken", broken, dialect="b"),
    endpoint("POST", "/things/{id:path}/act", named, role="operator"),
    endpoint("GET", "/things/{id:path}", named, role="caller"),
]


def application(metrics: Metrics, *, allow_anonymous: bool = False) -> Starlette:
    return Application(
        routes=routes(ENDPOINTS, Access(allow_anonymous=allow_anonymous), shape("a")),
        middleware=[
            Middleware(ExchangeMiddleware, metrics=metrics, render_error=shape("a")),
            Middleware(CompressionMiddleware),
        ],
    )


def ask(
    method: str,
    path: str,
    *,
    client: str = "127.0.0.1",
    metrics: Metrics | None = None,
    allow_anonymous: bool = False,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    app = application(metrics or Metrics(), allow_anonymous=allow_anonymous)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(client, 1), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as caller:
            return await caller.request(method, path, headers=headers)

    return asyncio.run(call())


def test_every_code_has_a_status_and_a_meaning() -> None:
    assert set(STATUS) == set(MEANING) == set(Code)


def test_an_unknown_path_names_the_nearest() -> None:
    answer = ask("POST", "/fien")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert "/fine" in answer.json()["said"]


def test_another_method_is_told_which_there_are() -> None:
    answer = ask("DELETE", "/fine")
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert ask("GET", "/broken").json()["dialect"] == "b"  # in the shape of that path's callers


def test_options_tells_the_methods_and_does_nothing() -> None:
    answer = ask("OPTIONS", "/broken")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, "OPTIONS, POST", b"")


def test_head_has_the_headers_of_get() -> None:
    plain = {"accept-encoding": "identity"}
    assert ask("HEAD", "/fine", headers=plain).headers["content-length"] == "5000"


def test_a_path_may_hold_slashes_raw_or_encoded() -> None:
    assert ask("GET", "/things/a/b").text == ask("GET", "/things/a%2Fb").text == "a/b"
    assert ask("POST", "/things/a/b/act").text == "a/b"


def test_a_bug_tells_the_caller_its_id_and_the_log_its_reason() -> None:
    with capture_logs() as lines:
        answer = ask("POST", "/broken", headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.json()["code"], answer.json()["dialect"]) == (500, "INTERNAL", "b")
    assert answer.json()["id"] == answer.headers["x-request-id"] == "mine"
    assert SECRET not in answer.text
    failed = next(line for line in lines if line["event"] == "request_failed")
    assert failed["request_id"] == "mine"
    assert failed["exc_info"]


def test_retry_after_is_whole_seconds() -> None:
    assert ask("POST", "/fine").headers["retry-after"] == "2"


@pytest.mark.parametrize("sent", ["", " ", "a" * 129, "caf\xe9", "tab\there"])
def test_an_id_that_is_not_safe_to_echo_is_replaced(sent: str) -> None:
    echoed = ask("GET", "/fine", headers={"x-request-id": sent.encode("latin-1")}).headers["x-request-id"]  # type: ignore[dict-item]
    assert echoed != sent
    assert len(echoed) == 36


def test_every_answer_says_where_its_time_went() -> None:
    for path in ("/fine", "/nowhere"):
        assert ask("GET", path).headers["server-timing"].startswith("total;dur=")


@pytest.mark.parametrize(("client", "anonymous", "status"), [("127.0.0.1", False, 200), ("::1", False, 200)])
def test_callers_of_this_machine_need_no_key(client: str, anonymous: bool, status: int) -> None:
    assert ask("GET", "/things/a", client=client, allow_anonymous=anonymous).status_code == status


def test_callers_of_other_machines_need_the_operators_word() -> None:
    refused = ask("GET", "/things/a", client="10.1.2.3")
    assert (refused.status_code, refused.json()["code"]) == (401, "UNAUTHENTICATED")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert ask("GET", "/things/a", client="10.1.2.3", allow_anonymous=True).status_code == 200
    assert ask("GET", "/fine", client="10.1.2.3").status_code == 200  # public


def test_a_page_of_another_site_cannot_act_for_an_operator() -> None:
    refused = ask("POST", "/things/a/act", headers={"origin": "https://elsewhere.example"})
    assert (refused.status_code, refused.json()["code"]) == (403, "PERMISSION_DENIED")
    assert ask("POST", "/things/a/act", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert ask("POST", "/things/a/act", headers={"origin": "http://localhost"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("[bad", 403),
    ],
)
def test_a_name_that_was_rebound_to_this_machine_is_not_answered(host: str, status: int) -> None:
    assert ask("POST", "/things/a/act", headers={"host": host}).status_code == status


def test_large_answers_are_compressed_as_the_caller_likes() -> None:
    plain, packed = ask("GET", "/fine"), ask("GET", "/fine", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 5000
    assert plain.text == packed.text
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert "content-encoding" not in ask("GET", "/things/a", headers={"accept-encoding": "gzip"}).headers


def test_what_callers_probe_for_does_not_become_a_label_or_a_log_line() -> None:
    metrics = Metrics()
    with capture_logs() as lines:
        for i in range(5):
            ask("GET", f"/wp-admin-{i}?key=secret", metrics=metrics)
            ask("GET", f"/things/secret-{i}", metrics=metrics)
    samples = [s for m in metrics.registry.collect() for s in m.samples if s.name == "gateway_requests_total"]
    assert {s.labels["endpoint"] for s in samples} == {"unmatched", "/things/{id:path}"}
    assert "wp-admin" not in str(lines)
    assert "key=" not in str(lines)


def test_two_applications_count_apart() -> None:
    first, second = Metrics(), Metrics()
    ask("GET", "/fine", metrics=first)
    labels = {"endpoint": "/fine", "model": "", "code": "OK"}
    assert first.registry.get_sample_value("gateway_requests_total", labels) == 1
    assert second.registry.get_sample_value("gateway_requests_total", labels) is None


def test_the_last_route_is_for_everything_else() -> None:
    made = routes(ENDPOINTS, Access(allow_anonymous=False), shape("a"))
    assert [type(r.endpoint) for r in made] == [Resource, Resource, Resource, Resource, Nowhere]
