"""The system's Chromium, and a gateway as it comes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.tabs import Tabs
from tests.serving import Gateway, serving

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def pages_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway as it comes: the models of the package."""
    config = {"engine": {"workers": 1, "statistical_workers": 1, "load_wait_s": 30.0}}
    with serving(tmp_path_factory.mktemp("pages"), config=config) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as long as a module lasts: while it runs, Playwright's loop is the running one of this thread."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not on this machine")
    with sync_playwright() as tools:
        running = tools.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def tabs(browser: Browser, pages_gateway: Gateway) -> Iterator[Tabs]:
    opened = Tabs(browser, pages_gateway)
    yield opened
    opened.close()
