"""64 concurrent clients on a checkpoint of Chronos-Bolt-tiny's size: the batches that form, and what one client pays.

    python -m tests.benchmark.many_clients [--checkpoint FOLDER] [--json OUT.json] [--seconds S]

One worker, 512 points, horizon 24, one series a request. Prints a table and writes JSON with machine, commit and
versions; asserts nothing. Load comes from the load generator beside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmark.side_by_side import machine, true_size
from tests.serving import Gateway, serving

MODEL = "amazon/chronos-bolt-tiny"
LOADGEN = Path(__file__).parents[3] / "shared" / "tools" / "bench" / "loadgen.py"
CLIENTS = (1, 8, 64)


def batches(gateway: Gateway) -> tuple[float, float]:
    """Series that ran and batches they ran in, so far."""
    return gateway.metric("gateway_batch_series_sum"), gateway.metric("gateway_batch_series_count")


def point(gateway: Gateway, clients: int, seconds: float) -> dict[str, object]:
    """Requests a second, latency and mean batch at one number of clients."""
    series, count = batches(gateway)
    command = [sys.executable, str(LOADGEN), "--url", gateway.base_url, "--payload", "canonical"]
    command += ["--concurrency", str(clients), "--seconds", str(seconds), "--warmup", "0.5"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "MODEL_ID": MODEL}, timeout=300
    )
    found = json.loads(done.stdout.splitlines()[-1])
    more_series, more = batches(gateway)
    kept = {name: found[name] for name in ("concurrency", "rps", "p50_ms", "p99_ms", "errors")}
    return {**kept, "mean_batch": round((more_series - series) / (more - count), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    if not LOADGEN.exists():
        sys.exit("skipped: the load generator is not beside this repository")
    with tempfile.TemporaryDirectory() as folder, true_size("chronos-bolt-tiny", options.checkpoint) as checkpoint:
        weights = Path(folder) / "weights"
        (weights / MODEL).parent.mkdir(parents=True)
        (weights / MODEL).symlink_to(checkpoint.absolute())
        config = {"engine": {"weights_dir": str(weights), "workers": 1, "default_model": MODEL}}
        with serving(Path(folder) / "gateway", config=config) as gateway:
            rows = [point(gateway, clients, options.seconds) for clients in CLIENTS]
    print(f"{'clients':>8} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'mean batch':>11}")
    for r in rows:
        print(f"{r['concurrency']:>8} {r['rps']:>11} {r['p50_ms']:>8} {r['p99_ms']:>8} {r['mean_batch']:>11}")
    if options.json:
        report = {"machine": machine("torch", "numpy", "uvicorn"), "model": MODEL, "results": rows}
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
