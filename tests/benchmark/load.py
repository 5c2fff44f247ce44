"""A closed loop of clients: each asks, waits for the answer and asks again, and no two requests are the same work.

    taskset -c 0 python -m tests.benchmark.load URL [--form canonical] [--clients 1,8,64] [--seconds S] [--mixed]

Bodies are encoded beforehand; before each call a few digits of its first series are written over with a number that
no other call has, so that neither a cache nor shared work can answer for the model. Prints one JSON object a number
of clients. Standard library only: a load that computes costs the machine that it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

BODIES = 64
HORIZON, LEVELS = 24, [0.1, 0.5, 0.9]
MODEL = "amazon/chronos-bolt-tiny"
MARK = 10000000  # each first value of a body is this, until a call writes its own number there
WARM_UP_S = 1.5
LIMIT_S = 60.0


def mixed_lengths(count: int = 32) -> list[int]:
    """Log-uniform from 32 to 2,048, the same every time."""
    draw = random.Random(7)
    return [round(math.exp(draw.uniform(math.log(32), math.log(2048)))) for _ in range(count)]


def walk(length: int, seed: int) -> list[float]:
    """A daily wave on a random walk, rounded as people send it; the first value is `MARK` and is about to change."""
    draw = random.Random(seed)
    level, values = draw.uniform(10, 30), []
    for i in range(length):
        level += draw.gauss(0, 0.3)
        values.append(round(level + 3 * math.sin(i / 24 * math.tau), 4))
    return [*values[:-1], MARK]


def canonical(rows: list[list[float]]) -> object:
    """The gateway's own contract."""
    inputs = [{"target": [[x] for x in row], "metadata": {"item_id": f"s{i}"}} for i, row in enumerate(rows)]
    parameters = {"prediction_length": HORIZON, "quantile_levels": LEVELS}
    return {"model": MODEL, "inputs": inputs, "parameters": parameters}


def rows(rows: list[list[float]]) -> object:
    """What the small servers read that are made to compare."""
    inputs = [{"target": [row]} for row in rows]
    return {"inputs": inputs, "parameters": {"prediction_length": HORIZON, "quantile_levels": LEVELS}}


def bento(given: list[list[float]]) -> object:
    """The same for BentoML's batchable endpoint."""
    return {"items": [rows(given)]}


def v2(rows: list[list[float]]) -> object:
    """A tensor of the Open Inference Protocol."""
    data = [x for row in rows for x in row]
    return {"inputs": [{"name": "target", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}]}


FORMS: dict[str, Callable[[list[list[float]]], object]] = {
    "canonical": canonical,
    "rows": rows,
    "bento": bento,
    "v2": v2,
}


class Body:
    """A request whose series is another one at each call."""

    def __init__(self, head: str, document: object) -> None:
        content = json.dumps(document, separators=(",", ":")).encode()
        start = f"{head}content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode()
        self._request = bytearray(start + content)
        self._place = self._request.index(str(MARK).encode())

    def next(self, number: int) -> bytes:
        """The whole request, with a last value between 10 and 30 of its own."""
        value = f"{10 + number % 20}.{number % 100_000:05d}"
        self._request[self._place : self._place + len(value)] = value.encode()
        return bytes(self._request)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whom to ask, and with what."""

    host: str
    port: int
    bodies: Sequence[Body]


def target(url: str, form: str, lengths: Sequence[int], series: int, headers: Sequence[str]) -> Target:
    """`url` with its path; body b holds `series` series of the b-th length."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n" + "".join(f"{h}\r\n" for h in headers)
    made = [
        Body(head, FORMS[form]([walk(lengths[b % len(lengths)], b * series + s) for s in range(series)]))
        for b in range(BODIES)
    ]
    return Target(host=parts.hostname, port=parts.port, bodies=made)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status, _, rest = head[9:12], None, head.partition(b"content-length:")[2]
    if rest:
        return int(status), await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    parts: list[bytes] = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return int(status), b"".join(parts)


async def point(asked: Target, clients: int, seconds: float) -> dict[str, object]:
    """So many clients for so long."""
    numbers = itertools.count()
    took: list[float] = []
    faults: Counter[str] = Counter()
    begin = time.perf_counter() + WARM_UP_S
    end = begin + seconds

    async def client(mine: Iterator[Body]) -> None:
        reader, writer = await asyncio.open_connection(asked.host, asked.port, limit=2**24)
        while (started := time.perf_counter()) < end:
            writer.write(next(mine).next(next(numbers)))
            async with asyncio.timeout(LIMIT_S):
                status, content = await _answer(reader)
            if status != 200:
                faults[f"{status} {content[:200].decode(errors='replace')}"] += 1
            elif started >= begin:
                took.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client(itertools.cycle([*asked.bodies[k:], *asked.bodies[:k]])) for k in _starts(clients)))
    took.sort()
    return {
        "clients": clients,
        "rps": round(len(took) / seconds, 1),
        **{f"p{p}_ms": round(1e3 * took[min(len(took) - 1, len(took) * p // 100)], 2) for p in (50, 95, 99) if took},
        "faults": dict(faults),
    }


def _starts(clients: int) -> Iterator[int]:
    """Which body each client begins with: far from its neighbours'."""
    return (k * 7 % BODIES for k in range(clients))


async def run(options: argparse.Namespace) -> None:
    lengths = mixed_lengths() if options.mixed else [options.points]
    asked = target(options.url, options.form, lengths, options.series, options.header)
    for clients in map(int, options.clients.split(",")):
        print(json.dumps(await point(asked, clients, options.seconds)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--form", choices=FORMS, default="canonical")
    parser.add_argument("--clients", default="1,8,32,64")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--series", type=int, default=1)
    parser.add_argument("--mixed", action="store_true", help="lengths from 32 to 2,048")
    parser.add_argument("--header", action="append", default=[])
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
