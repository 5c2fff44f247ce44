"""What keys, limits and the ledger add to a request: one gateway with them, one without, asked in turns.

    python -m tests.benchmark.bench_access [OUT.json]

Prints milliseconds and writes JSON with machine, commit and versions; asserts nothing. Both gateways are the same
program on the same machine; the one "without" has its hooks taken out when it starts. Every round asks both, in an
order that alternates, so that whatever else the machine does weighs on both alike.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx

from tests import serving
from tests.benchmark.http_path import Caller, request
from tests.redis_servers import redis_server
from tests.serving import Gateway

ROUNDS, CALLS = 60, 20
CONFIG: dict[str, dict[str, object]] = {
    "engine": {"workers": 1, "statistical_workers": 1, "default_model": "seasonal-naive"},
    "server": {"log_level": "warning"},
}
WITHOUT = """
import sys
from gateway.domain import Caller
from gateway.http import access, accounts

async def admit(self, scope, role, endpoint, *, counted):
    return Caller()

access.Access.admit = admit
accounts.Accounts.request_over = lambda self, exchange: None
from gateway.cli import main
sys.exit(main())
"""


@contextmanager
def bare(folder: Path, config: dict[str, dict[str, object]]) -> Iterator[Gateway]:
    """A gateway whose requests meet no keys, no limits and no ledger."""
    before, serving.COMMAND = serving.COMMAND, WITHOUT
    try:
        with serving.serving(folder, config=config) as gateway:
            yield gateway
    finally:
        serving.COMMAND = before


def measure(callers: dict[str, Caller], body: bytes) -> dict[str, list[float]]:
    """Milliseconds of every call, by who was asked."""
    found: dict[str, list[float]] = {name: [] for name in callers}
    for turn in range(ROUNDS + 5):
        names = list(callers)
        if turn % 2:
            names.reverse()
        for name in names:
            for _ in range(CALLS):
                started = time.perf_counter()
                callers[name].send("POST", "/v1/forecast", body)
                if turn >= 5:
                    found[name].append((time.perf_counter() - started) * 1e3)
    return found


def key_of(gateway: Gateway, limits: dict[str, int]) -> str:
    admin = httpx.post(f"{gateway.base_url}/api/account/keys", json={"name": "admin", "admin": True}).json()["key"]
    headers = {"authorization": f"Bearer {admin}"}
    made = httpx.post(f"{gateway.base_url}/api/account/keys", json={"name": "b", "limits": limits}, headers=headers)
    key: str = made.json()["key"]
    return key


def compare(limits: dict[str, int]) -> dict[str, float]:
    """Percentiles of the two, and of what is between them."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url:
        folder, config = Path(name), {**CONFIG, "redis": {"redis_url": url}, "jobs": {"job_slots": 0}}
        with serving.serving(folder / "with", config=config) as full, bare(folder / "without", config) as empty:
            callers = {
                "with": Caller(full, f"authorization: Bearer {key_of(full, limits)}\r\n"),
                "without": Caller(empty),
            }
            found = measure(callers, request("seasonal-naive", 1, 128, 12))
    between = [a - b for a, b in zip(sorted(found["with"]), sorted(found["without"]), strict=True)]
    cuts = {name: statistics.quantiles(values, n=100) for name, values in found.items()}
    return {
        **{f"{name}_p{p}_ms": round(cut[p - 1], 3) for name, cut in cuts.items() for p in (50, 90, 99)},
        "added_p50_ms": round(cuts["with"][49] - cuts["without"][49], 3),
        "added_median_of_quantiles_ms": round(statistics.median(between), 3),
    }


def main() -> None:
    many, counted_together = 10**9, 99_999  # of requests a minute; higher ones each gateway counts alone
    requests = {"requests_per_minute": counted_together, "requests_per_hour": many}
    every = {"series_per_day": many, "tokens_per_day": many, "concurrent_requests": 100}
    kinds = {"requests a minute and an hour": requests, "every limit there is": requests | every}
    results = {name: compare(limits) for name, limits in kinds.items()}
    for name, found in results.items():
        print(name)
        for figure, value in found.items():
            print(f"  {figure:<32} {value:8.3f}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "benchmark": "bench_access",
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "commit": commit,
        "versions": {name: version(name) for name in ("starlette", "uvicorn", "redis", "sqlalchemy")},
        "calls": ROUNDS * CALLS,
        "results": results,
    }
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
