"""The dashboard as an operator uses it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser

from tests.browser.tabs import LOOKS, Tab, Tabs
from tests.serving import Gateway, serving

FORECAST = {
    "model": "seasonal-naive",
    "inputs": [{"target": [[110], [113], [108], [116]]}],
    "parameters": {"prediction_length": 2},
}
PASSWORD = "a key that nobody has"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of its own that has answered 12 forecasts and refused 3 requests."""
    config = {
        "engine": {"workers": 1, "statistical_workers": 1, "load_wait_s": 30.0, "default_model": "seasonal-naive"}
    }
    with serving(tmp_path_factory.mktemp("loaded"), config=config) as running:
        with running.client() as client:
            for _ in range(12):
                client.post("/v1/forecast", json=FORECAST).raise_for_status()
            for body in ({**FORECAST, "model": "no-such"}, {**FORECAST, "inputs": []}, {}):
                assert client.post("/v1/forecast", json=body).is_client_error
        yield running


@pytest.fixture
def tabs(browser: Browser, loaded: Gateway) -> Iterator[Tabs]:
    opened = Tabs(browser, loaded)
    yield opened
    opened.close()


def shown(tab: Tab) -> None:
    tab.page.wait_for_selector("body[data-shown=yes]")


def rows(tab: Tab, table: str) -> dict[str, list[str]]:
    """A table's rows by their first cell."""
    found = [[c.strip() for c in r.inner_text().split("\t")] for r in tab.page.query_selector_all(f"#{table} tbody tr")]
    return {cells[0]: cells[1:] for cells in found}


def test_the_figures_are_those_of_the_ledger(tabs: Tabs, loaded: Gateway) -> None:
    tab = tabs.open("/dashboard")
    shown(tab)
    usage = httpx.get(f"{loaded.base_url}/v1/usage", params={"group_by": "endpoint"}).json()
    forecasts = next(r for r in usage["data"] if r["endpoint"] == "/v1/forecast")
    assert (forecasts["requests"], forecasts["errors"], forecasts["total_tokens"]) == (15, 3, 12 * (4 + 6))
    cells = rows(tab, "by-endpoint")["/v1/forecast"]
    assert cells[:2] == ["15", "3"]
    assert cells[-1] == "120"
    assert "120" in tab.page.inner_text("#tiles .tile:nth-child(5) dd")
    drawn = tab.page.evaluate(
        "document.getElementById('requests').data.map(t => [t.name, t.y.reduce((a, b) => a + b, 0)])"
    )
    outcomes = {name: int(cells[0]) for name, cells in rows(tab, "by-code").items()}
    assert dict(drawn) == outcomes
    assert sum(outcomes.values()) == usage["totals"]["requests"]


def test_failed_requests_are_listed_with_their_ids(tabs: Tabs, loaded: Gateway) -> None:
    refused = httpx.post(f"{loaded.base_url}/v1/forecast", json={}, headers={"x-request-id": "look-for-me"})
    assert refused.status_code == 422
    tab = tabs.open("/dashboard")
    shown(tab)
    listed = tab.page.inner_text("#failed")
    assert "look-for-me" in listed
    assert "INVALID_ARGUMENT" in listed


def test_a_range_without_requests_says_so(browser: Browser, tmp_path: object, pages_gateway: Gateway) -> None:
    opened = Tabs(browser, pages_gateway)
    tab = opened.open("/dashboard")
    shown(tab)
    empty = tab.page.is_visible("#nothing")
    assert empty != tab.page.is_visible("#charts")
    opened.close()


def test_it_refreshes_by_itself(tabs: Tabs, loaded: Gateway) -> None:
    tab = tabs.open("/dashboard")
    shown(tab)
    before = int(rows(tab, "by-endpoint")["/v1/forecast"][0])
    httpx.post(f"{loaded.base_url}/v1/forecast", json=FORECAST).raise_for_status()
    cell = tab.page.locator("#by-endpoint tbody tr", has_text="/v1/forecast").locator("td").nth(1)
    cell.filter(has_text=str(before + 1)).wait_for()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_page_fits_and_is_accessible(tabs: Tabs, width: int, scheme: str) -> None:
    tab = tabs.open("/dashboard", width=width, scheme=scheme)
    shown(tab)
    assert tab.overflow() == 0
    assert tab.violations() == []


def test_with_keys_it_asks_for_an_admin_key_and_keeps_none(browser: Browser, loaded: Gateway) -> None:
    """The last of this module: from the first key on, nobody is anonymous."""
    keys = f"{loaded.base_url}/api/account/keys"
    admin = httpx.post(keys, json={"name": "operator", "admin": True}).raise_for_status().json()["key"]
    other = httpx.post(keys, json={"name": "pipeline"}, headers={"x-api-key": admin}).raise_for_status().json()["key"]
    opened = Tabs(browser, loaded)
    tab = opened.open("/dashboard")
    for wrong in (PASSWORD, other):
        tab.page.fill("#key", wrong)
        tab.page.click("dialog button")
        tab.page.wait_for_selector("#key-fault:not(:empty)")
        assert not tab.page.evaluate("document.body.dataset.shown")
    tab.page.fill("#key", admin)
    tab.page.click("dialog button")
    shown(tab)
    assert "pipeline" not in tab.page.inner_text("#by-key"), "its requests were none"
    for secret in (admin, other):
        assert secret not in tab.page.content()
        assert secret not in tab.page.url
        assert secret not in str(tab.page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie]"))
    tab.page.click("#sign-out")
    tab.page.wait_for_selector("#key")
    tab.expect_refusals()

    playground = opened.open("/playground")  # its own session, on this machine
    playground.page.wait_for_selector("body[data-read=yes]")
    playground.page.wait_for_selector("#models input")
    playground.page.click("#run")
    playground.page.wait_for_selector("body[data-ran=yes]")
    assert not playground.page.is_visible("#failure")
    playground.expect_refusals()
    opened.close()
    assert admin not in loaded.log.read_text()
    assert other not in loaded.log.read_text()
