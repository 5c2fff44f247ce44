"""The pages for people: the front page, Swagger UI and ReDoc, all from files on this machine.

The files of Swagger UI and ReDoc come from the package `drf-spectacular-sidecar`, which is found but never imported:
importing it would import Django. A strict Content-Security-Policy keeps every page to this server.
"""

from __future__ import annotations

import asyncio
import html
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import Code, GatewayError
from gateway.http.health import Alive
from gateway.http.routing import Endpoint, RenderError

STATIC = Path(__file__).parent / "static"
JSON = "application/json"
PACKAGE = "drf_spectacular_sidecar"
SWAGGER = "swagger-ui-dist"

Respond = Callable[[Request], Awaitable[Response]]

# name below /docs/assets -> (folder of the package; "" is our own, file)
ASSETS: Mapping[str, tuple[str, str]] = {
    "swagger-ui.css": (SWAGGER, "swagger-ui.css"),
    "swagger-ui-bundle.js": (SWAGGER, "swagger-ui-bundle.js"),
    "favicon.png": (SWAGGER, "favicon-32x32.png"),
    "redoc.js": ("redoc/bundles", "redoc.standalone.js"),
    "swagger.js": ("", "swagger.js"),
    "page.css": ("", "page.css"),
}
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".png": "image/png", ".html": "text/html"}

# Both tools write styles into the page as they run, draw with data: images, and ReDoc searches in a worker of its own.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"  # ReDoc asks for it; the policy would refuse, in red
ASSET_HEADERS = {"cache-control": "public, max-age=3600", "x-content-type-options": "nosniff"}


def package_folder() -> Path | None:
    """Where the package keeps its files, or None where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "static" / PACKAGE


def page(name: str) -> Respond:
    """An endpoint that answers with one of the documentation pages, or with what is missing for it."""

    async def respond(request: Request) -> Response:
        if package_folder() is None:
            return await _html("missing.html", 503)
        return await _html(name)

    return respond


def front(model: str) -> Respond:
    """`GET /`: the front page, with a line to try on `model`, for browsers; a word for everyone else."""

    async def respond(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return Response(msgspec.json.encode(Alive()), media_type=JSON, headers={"vary": "Accept"})
        return await _html("front.html", URL=str(request.base_url).rstrip("/"), MODEL=model)

    return respond


async def _html(name: str, status: int = 200, **words: str) -> Response:
    """One of our pages, with `{{WORD}}` replaced."""
    text = await asyncio.to_thread((STATIC / name).read_text)
    for word, value in words.items():
        text = text.replace(f"{{{{{word}}}}}", html.escape(value))
    return Response(text, status, headers=PAGE_HEADERS, media_type="text/html")


async def asset(request: Request) -> Response:
    """One of the files that the pages are made of."""
    name: str = request.path_params["name"]
    folder, file = ASSETS.get(name, ("", ""))
    root = STATIC if not folder else package_folder()
    if not file or root is None:
        raise GatewayError(Code.NOT_FOUND, "There is no such file.")
    path = root / folder / file
    content = (await asyncio.to_thread(path.read_bytes)).replace(REDOC_LOGO, b"data:,")
    return Response(content, headers=ASSET_HEADERS, media_type=MEDIA_TYPES[path.suffix])


def endpoints(model: str, render_error: RenderError) -> list[Endpoint]:
    """The list of this module's endpoints; none is part of the API that the document describes."""
    found = (
        ("/", front(model)),
        ("/docs", page("swagger.html")),
        ("/redoc", page("redoc.html")),
        ("/docs/assets/{name}", asset),
    )
    return [
        Endpoint(method="GET", path=path, respond=respond, render_error=render_error, role="public")
        for path, respond in found
    ]
