"""What tests of the Kronos space share: a market whose klines never change, and calls over the curl form."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np

HOUR_MS = 3_600_000
FIRST_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
LENGTH = 400  # klines of the market
HEAD = {"content-type": "application/json"}
Kline = list[int | str]


def klines(count: int = LENGTH, first_ms: int = FIRST_MS) -> list[Kline]:
    """Hourly klines as exchanges write them: open time, prices and volume as text, close time, amount, and the rest."""
    random = np.random.default_rng(11)
    close = np.round(60_000 * np.exp((random.normal(size=count) * 0.004).cumsum()), 2)
    opened = np.concatenate([[60_000.0], close[:-1]])
    high = np.maximum(opened, close) + np.round(np.abs(random.normal(size=count)) * 60, 2)
    low = np.minimum(opened, close) - np.round(np.abs(random.normal(size=count)) * 60, 2)
    volume = np.round(np.abs(random.normal(900, 300, size=count)), 5)
    rows = zip(opened, high, low, close, volume, strict=True)
    return [
        [
            first_ms + i * HOUR_MS,
            *(f"{value:.2f}" for value in row[:4]),
            f"{row[4]:.5f}",
            first_ms + (i + 1) * HOUR_MS - 1,
            f"{row[4] * row[3]:.2f}",
            *(1200, "0", "0", "0"),
        ]
        for i, row in enumerate(rows)
    ]


def candles(count: int) -> dict[str, list[Any]]:
    """The market's first candles, as callers of `/predict_custom` send them."""
    rows = klines()[:count]
    stamps = np.datetime64("2025-01-01T00:00:00") + np.arange(count) * np.timedelta64(1, "h")
    columns = {
        name: [float(row[i]) for row in rows] for i, name in enumerate(("open", "high", "low", "close", "volume"), 1)
    }
    return {"timestamps": [str(stamp) for stamp in stamps], **columns, "amount": [float(row[7]) for row in rows]}


@dataclass
class Market:
    """A source of klines: what it answers next, and how often it was asked."""

    url: str = ""
    answer: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0


@contextmanager
def market(rows: Sequence[Kline] | None = None) -> Iterator[Market]:
    """A loopback server that answers every GET with what its market holds."""
    source = Market(answer=json.dumps(klines() if rows is None else rows).encode())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            source.asked += 1
            self.send_response(source.status)
            for name, value in source.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(source.answer)))
            self.end_headers()
            self.wfile.write(source.answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    source.url = f"http://127.0.0.1:{server.server_address[1]}/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=361"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield source
    finally:
        server.shutdown()
        server.server_close()


# -- calls ---


def events(text: str) -> list[tuple[str, Any]]:
    """Server-sent events as (event, data)."""
    found = []
    for block in text.split("\n\n"):
        if block.strip():
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            found.append((fields.get("event", ""), json.loads(fields["data"])))
    return found


def told(caller: httpx.Client, path: str, event_id: str) -> tuple[str, Any]:
    """What the stream of an event says in the end."""
    answer = caller.get(f"{path}/{event_id}")
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events(answer.text)[-1]


def ask(caller: httpx.Client, method: str, path: str, content: bytes) -> tuple[int, Any]:
    """Status and answer of a call; of one that hands in an event, `{what its stream says in the end: ...}`."""
    reply = caller.request(method, path, content=content, headers=HEAD)
    body = reply.json() if reply.headers["content-type"].startswith("application/json") else reply.text
    if isinstance(body, str):
        return reply.status_code, dict(events(body)[-1:])
    if "event_id" not in body:
        return reply.status_code, body
    if path.endswith("/join"):
        session = json.loads(content)["session_hash"]
        messages = [
            data for _, data in events(caller.get("/gradio_api/queue/data", params={"session_hash": session}).text)
        ]
        return reply.status_code, messages[-2]
    return reply.status_code, dict([told(caller, path, body["event_id"])])


def call(caller: httpx.Client, name: str, *values: object) -> Any:
    """What a function answers: its one result, or all that it returns."""
    status, answer = ask(caller, "POST", f"/gradio_api/call/{name}", json.dumps({"data": values}).encode())
    assert status == 200, answer
    assert list(answer) == ["complete"], answer
    return answer["complete"][0] if len(answer["complete"]) == 1 else answer["complete"]
