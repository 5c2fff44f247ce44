"""What holds for every dialect: its place in the table of paths, its page, its table of odd requests."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route

from gateway import app, settings
from gateway.dialects import shared
from gateway.dialects.base import Dialect
from gateway.http.access import Access
from gateway.http.dialect_pages import endpoints, page
from gateway.http.routing import Endpoint, RenderError, routes
from tests.contract.dialects import REQUEST_ID

every_dialect = pytest.mark.parametrize("dialect", app.DIALECTS, ids=lambda d: d.name)
ODD_REQUESTS = 25
TAGS = {"html", "head", "meta", "title", "link", "body", "main", "h1", "h2", "h3", "p", "ol", "ul", "li", "pre", "code"}
TAGS |= {"table", "tr", "th", "td", "nav", "a", "b"}


Served = tuple[list[Endpoint], list[BaseRoute]]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Served]:
    """Every endpoint and route of a gateway with some settings."""

    def make(**flags: Any) -> Served:
        found: list[Endpoint] = []

        def seen(endpoints: Sequence[Endpoint], access: Access, render_error: RenderError) -> list[Route]:
            found.extend(endpoints)
            return routes(endpoints, access, render_error)

        monkeypatch.setattr(app, "routes", seen)
        made = app.create_app(settings.resolve(environ={}, flags={"data_dir": str(tmp_path), **flags}))
        return found, made.routes

    return make


def concrete(path: str) -> str:
    """A path with a name in the place of each parameter."""
    return re.sub(r"\{(\w+)(:\w+)?\}", r"a-\1", path)


# -- paths ---


def test_no_path_has_two_answers(served: Callable[..., Served]) -> None:
    """A path that two dialects share stands in `shared.SHARED`, and so is served once."""
    found = Counter((e.method, re.sub(r"\{.*?\}", "{}", e.path)) for e in served()[0])
    assert [place for place, count in found.items() if count > 1] == []


def test_no_endpoint_is_hidden_by_one_before_it(served: Callable[..., Served]) -> None:
    everything, table = served()
    for endpoint in everything:
        scope = {"type": "http", "method": endpoint.method, "path": concrete(endpoint.path), "headers": []}
        first = next(route for route in table if route.matches(scope)[0] is not Match.NONE)
        assert isinstance(first, Route)
        assert first.path == endpoint.path, f"{endpoint.path} is answered by {first.path}"


def test_what_dialects_share_is_in_none_of_them() -> None:
    own = {(o.method, o.path): d.name for d in app.DIALECTS for o in d.operations}
    for one in shared.SHARED:
        assert (one.operation.method, one.operation.path) not in own
        assert len(one.dialects) > 1


@every_dialect
def test_a_dialect_that_is_switched_off_has_no_path(dialect: Dialect, served: Callable[..., Served]) -> None:
    before = {(e.method, e.path) for e in served()[0]}
    after = {(e.method, e.path) for e in served(disabled_dialects=(dialect.name,))[0]}
    own = {(o.method, o.path) for o in dialect.operations}
    assert own <= before
    assert before - after == own


def test_a_shared_path_is_served_until_the_last_of_its_dialects_is_off() -> None:
    for one in shared.SHARED:
        name = next(iter(one.dialects))
        assert one.operation in shared.operations([name])
        assert one.operation not in shared.operations([])


def test_a_dialect_that_there_is_not_cannot_be_switched_off(served: Callable[..., Served]) -> None:
    with pytest.raises(settings.SettingsError, match="kservo"):
        served(disabled_dialects=("kservo",))


# -- pages ---


@every_dialect
def test_a_page_shows_the_dialect(dialect: Dialect) -> None:
    text = page(dialect)
    documented = [o for o in dialect.operations if o.documentation is not None]
    assert any(o.documentation.examples for o in documented if o.documentation)
    assert text.count("<h3>") == len(documented)
    assert "How to move" in text
    assert "Not supported" in text
    assert dialect.guide.moving
    assert dialect.guide.unsupported
    assert set(re.findall(r"<(\w+)", text)) <= TAGS


@pytest.mark.parametrize("name", ["chronos2-server", "kserve"])
def test_a_page_of_numbers_that_no_model_gave_says_so(name: str) -> None:
    (dialect,) = [d for d in app.DIALECTS if d.name == name]
    assert "Their numbers illustrate it" in page(dialect)


def test_kserves_page_says_how_its_model_comes_here() -> None:
    (dialect,) = [d for d in app.DIALECTS if d.name == "kserve"]
    assert "forecast-gateway pull timesfm2" in page(dialect)


def test_pages_are_listed_and_served() -> None:
    every, one = endpoints(app.DIALECTS, lambda call, error, status: pytest.fail(str(error)))
    scope = {"type": "http", "method": "GET", "headers": [], "request_id": REQUEST_ID}
    listed = bytes(asyncio.run(every.respond(Request({**scope, "path": every.path}))).body).decode()
    for dialect in app.DIALECTS:
        assert f'href="/docs/dialects/{dialect.name}"' in listed
        answer = asyncio.run(one.respond(Request({**scope, "path": "", "path_params": {"name": dialect.name}})))
        assert bytes(answer.body).decode() == page(dialect)


@pytest.mark.parametrize("dialect", [d for d in app.DIALECTS if d.guide.odd], ids=lambda d: d.name)
def test_odd_requests_are_many_and_none_is_a_500(dialect: Dialect) -> None:
    rows = dialect.guide.odd
    assert len(rows) >= ODD_REQUESTS
    assert all(row.status < 500 for row in rows)
    assert len({(row.sent, row.path, row.method) for row in rows}) == len(rows)
    assert {row.status for row in rows} >= {200, 400, 422}
