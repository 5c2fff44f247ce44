"""The pages and the files they are made of, all from this machine.

The chart library is the one that the plotly package carries; the package is found and never imported.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import Code, GatewayError
from gateway.http.pages import ASSET_HEADERS, MEDIA_TYPES, PAGE_HEADERS
from gateway.http.routing import Endpoint, RenderError

STATIC = Path(__file__).parent / "static"
SAMPLES = Path(__file__).parent.parent / "samples"
PLOTLY = "plotly.min.js"

# address -> page
PAGES: Mapping[str, str] = {"/playground": "playground.html", "/dashboard": "dashboard.html"}
FILES = (
    "app.css",
    "app.js",
    "dashboard.css",
    "dashboard.js",
    "session.js",
    "playground.css",
    "playground.js",
    "playground-calls.js",
    "playground-charts.js",
    "playground-code.js",
)

Respond = Callable[[Request], Awaitable[Response]]


def plotly_folder() -> Path | None:
    """Where the plotly package keeps its script, or None where it is not installed."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "package_data"


def _page(name: str) -> Respond:
    async def respond(request: Request) -> Response:
        content = await asyncio.to_thread((STATIC / name).read_bytes)
        return Response(content, headers=PAGE_HEADERS, media_type="text/html")

    return respond


async def _asset(request: Request) -> Response:
    """One of the files of the pages."""
    name: str = request.path_params["name"]
    folder = plotly_folder() if name == PLOTLY else STATIC if name in FILES else None
    if folder is None:
        raise GatewayError(Code.NOT_FOUND, "There is no such file.")
    content = await asyncio.to_thread((folder / name).read_bytes)
    return Response(content, headers=ASSET_HEADERS, media_type=MEDIA_TYPES[Path(name).suffix])


async def _sample(request: Request) -> Response:
    """One of the data sets in the box."""
    name: str = request.path_params["name"]
    known = {path.name: path for path in SAMPLES.glob("*.csv")}
    if name not in known:
        raise GatewayError(Code.NOT_FOUND, "There is no such sample.")
    content = await asyncio.to_thread(known[name].read_bytes)
    return Response(content, headers=ASSET_HEADERS, media_type="text/csv")


def endpoints(render_error: RenderError) -> list[Endpoint]:
    """The list of this module's endpoints."""
    found = (
        *((path, _page(name)) for path, name in PAGES.items()),
        ("/web/{name}", _asset),
        ("/samples/{name}", _sample),
    )
    return [
        Endpoint(method="GET", path=path, respond=respond, render_error=render_error, role="public")
        for path, respond in found
    ]
