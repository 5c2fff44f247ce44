"""Pages in Chromium that keep to this machine and say nothing on their consoles."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request

from tests.serving import Gateway

LIMIT_MS = 60_000  # a hang limit
# Width and colour scheme: a phone at night and a desk by day, and in the long run the others.
LOOKS = [
    pytest.param(390, "dark", id="phone-dark"),
    pytest.param(1440, "light", id="desk-light"),
    pytest.param(390, "light", id="phone-light", marks=pytest.mark.slow),
    pytest.param(1440, "dark", id="desk-dark", marks=pytest.mark.slow),
]


@dataclass
class Tab:
    """One page, and all that it said and asked."""

    page: Page
    base_url: str
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def expect_refusals(self) -> None:
        """Forget what the console says of answers that are errors: the browser notes each of them."""
        self.said = [line for line in self.said if "Failed to load resource" not in line]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width

    def violations(self) -> list[dict[str, Any]]:
        """What axe-core finds serious or critical."""
        found = importlib.util.find_spec("axe_core_python")
        assert found is not None and found.submodule_search_locations
        script = next(Path(found.submodule_search_locations[0]).rglob("axe.min.js"))
        self.page.evaluate(script.read_text())
        results = self.page.evaluate("axe.run()")
        return [
            {"rule": v["id"], "where": [n["html"][:120] for n in v["nodes"]][:3], "how": v["help"]}
            for v in results["violations"]
            if v["impact"] in ("serious", "critical")
        ]


class Tabs:
    """Opens pages; in the end each has kept to this machine, and its console is empty."""

    def __init__(self, browser: Browser, gateway: Gateway) -> None:
        self._browser = browser
        self._gateway = gateway
        self._open: list[Tab] = []

    def open(self, path: str, *, width: int = 1440, scheme: Any = "light", **context: Any) -> Tab:
        session = self._browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **context)
        session.set_default_timeout(LIMIT_MS)
        tab = Tab(session.new_page(), self._gateway.base_url)
        tab.page.on("console", lambda message: tab.said.append(f"{message.type}: {message.text}"))
        tab.page.on("pageerror", lambda error: tab.said.append(f"error: {error}"))
        tab.page.on("request", lambda request: self._note(tab, request))
        tab.page.goto(self._gateway.base_url + path)
        self._open.append(tab)
        return tab

    def _note(self, tab: Tab, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            tab.asked.append(urlsplit(request.url).netloc)

    def close(self) -> None:
        here = urlsplit(self._gateway.base_url).netloc
        for tab in self._open:
            assert set(tab.asked) == {here}, "a page asked another machine"
            assert tab.said == [], "a page said something on its console"
            tab.page.context.close()
