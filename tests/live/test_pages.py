"""The pages for people: on this machine only, and never by importing what they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest

from gateway.http.pages import ASSETS


class References(HTMLParser):
    """Every URL that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [v for k, v in attributes if v and k in ("src", "href", "spec-url", "action")]


def references(page: str) -> Iterator[str]:
    parser = References()
    parser.feed(page)
    yield from parser.found


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/docs/dialects", "/docs/dialects/kserve"])
def test_a_page_refers_to_this_server_only_and_all_of_it_is_there(client: httpx.Client, path: str) -> None:
    page = client.get(path, headers={"accept": "text/html"})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    found = list(references(page.text))
    assert found
    for reference in found:
        assert re.match(r"/(?!/)", reference), reference
        assert client.get(reference).status_code == 200, reference


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/docs/dialects", "/docs/dialects/kserve"])
def test_a_page_may_reach_nothing_else(client: httpx.Client, path: str) -> None:
    policy = client.get(path, headers={"accept": "text/html"}).headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    assert "http" not in policy


@pytest.mark.parametrize("name", ASSETS)
def test_the_files_of_the_pages_are_served(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/docs/assets/{name}")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.content) > 50


@pytest.mark.parametrize("name", ["nothing.js", "../pages.py", "..%2Fpages.py", "%2e%2e/%2e%2e/pages.py"])
def test_no_other_file_is(client: httpx.Client, name: str) -> None:
    assert client.get(f"/docs/assets/{name}").status_code == 404


def test_the_style_sheets_of_the_pages_fetch_nothing(client: httpx.Client) -> None:
    for name in ("swagger-ui.css", "page.css"):
        for url in re.findall(r"url\(\s*[\"']?([^\"')]{1,60})", client.get(f"/docs/assets/{name}").text):
            assert url.startswith("data:"), url
