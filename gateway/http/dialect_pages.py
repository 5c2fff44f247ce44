"""A page a dialect: how to move to this gateway, what is asked and answered, and what is not served.

Everything comes from the dialect itself: its guide, the golden exchanges of its operations and its table of odd
requests, all of which tests hold it to. To add a page, give the dialect a `Guide` (`dialects/guide.py`); the page is at
`/docs/dialects/<name>` as soon as the dialect is in the list of `app.py`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.base import Dialect, Example
from gateway.dialects.guide import OddRequest
from gateway.errors import Code, GatewayError
from gateway.http.pages import PAGE_HEADERS
from gateway.http.routing import Endpoint, RenderError

SHOWN = 400  # characters of an odd request or its answer

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: Forecast Gateway</title>
<link rel="icon" href="/docs/assets/favicon.png">
<link rel="stylesheet" href="/docs/assets/page.css">
</head>
<body>
<main>
"""
_FOOT = "</main>\n</body>\n</html>\n"


def endpoints(dialects: Sequence[Dialect], render_error: RenderError) -> list[Endpoint]:
    """The list of dialects and the page of each; a page is made when it is first asked for."""
    known = {dialect.name: dialect for dialect in dialects}
    made: dict[str, str] = {}

    async def every(request: Request) -> Response:
        return _html(_list(dialects))

    async def one(request: Request) -> Response:
        name: str = request.path_params["name"]
        if name not in known:
            raise GatewayError(Code.NOT_FOUND, f"There is no such dialect. Known are {', '.join(known) or 'none'}.")
        if name not in made:
            made[name] = page(known[name])
        return _html(made[name])

    return [
        Endpoint(method="GET", path=path, respond=respond, render_error=render_error, role="public")
        for path, respond in (("/docs/dialects", every), ("/docs/dialects/{name}", one))
    ]


def page(dialect: Dialect) -> str:
    """The page of a dialect."""
    return "".join(_page(dialect))


def _page(dialect: Dialect) -> Iterator[str]:
    guide = dialect.guide
    yield _HEAD.format(title=html.escape(guide.title))
    yield f"<h1>{html.escape(guide.title)}</h1>\n<p>{_prose(guide.summary)}</p>\n"
    yield f"<h2>How to move</h2>\n{_items('ol', guide.moving)}"
    yield "<h2>Requests and answers</h2>\n"
    if guide.exchanges:
        yield f"<p>{_prose(guide.exchanges)}</p>\n"
    for operation in dialect.operations:
        docs = operation.documentation
        if docs is not None:
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", operation.path)
            yield f"<h3><code>{operation.method} {html.escape(path)}</code></h3>\n<p>{html.escape(docs.summary)}</p>\n"
            yield from (_exchange(example) for example in docs.examples)
    yield f"<h2>Supported</h2>\n{_items('ul', guide.supported)}"
    yield f"<h2>Not supported, or otherwise</h2>\n{_items('ul', guide.unsupported)}"
    if guide.odd:
        yield "<h2>Odd requests</h2>\n<p>What tests send, and what the answer holds; further keys are left out.</p>\n"
        yield _odd(guide.odd)
    yield '<nav aria-label="Pages"><a href="/docs/dialects"><b>Other formats</b></a></nav>\n' + _FOOT


def _list(dialects: Sequence[Dialect]) -> str:
    links = "".join(
        f'<a href="/docs/dialects/{d.name}"><b>{html.escape(d.guide.title)}</b>'
        f"<span>{_prose(d.guide.summary)}</span></a>\n"
        for d in dialects
    )
    text = "Clients of these systems work here when their URL is changed. Each page says how, with examples."
    return (
        _HEAD.format(title="Other formats")
        + f'<h1>Other formats</h1>\n<p>{text}</p>\n<nav aria-label="Formats">{links}</nav>\n'
        + _FOOT
    )


def _exchange(example: Example) -> str:
    sent = f"<pre>{_shown(example.request)}</pre>\n" if example.request else ""
    title = f"<p>{html.escape(example.summary)}, answered with {example.status}:</p>\n" if example.summary else ""
    return f"{title}{sent}<pre>{_shown(example.response)}</pre>\n"


def _odd(rows: Iterable[OddRequest]) -> str:
    lines = "".join(
        f"<tr><td>{_prose(row.sent)}<pre>{_short(row.content.decode() or f'{row.method} {row.path}')}</pre></td>"
        f"<td>{row.status}</td><td><pre>{_short(bytes(row.answer).decode())}</pre></td></tr>\n"
        for row in rows
    )
    return f"<table>\n<tr><th>Sent</th><th>Status</th><th>Answered</th></tr>\n{lines}</table>\n"


def _items(tag: str, texts: Iterable[str]) -> str:
    return f"<{tag}>\n" + "".join(f"<li>{_prose(text)}</li>\n" for text in texts) + f"</{tag}>\n"


def _prose(text: str) -> str:
    """Plain text with `code` between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _shown(body: bytes) -> str:
    """A body as it is shown: JSON with two spaces, lists of numbers on one line."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return html.escape(body.decode("utf-8", "replace"))
    flat = re.sub(r"\[\s+([^\[\]{}\"]+?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m[1]) + "]", text)
    return html.escape(flat)


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return html.escape(one_line if len(one_line) <= SHOWN else one_line[: SHOWN - 1] + "…")


def _html(text: str) -> Response:
    return Response(text, headers=PAGE_HEADERS, media_type="text/html")
