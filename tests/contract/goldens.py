"""The golden exchanges that a gateway is asked; `python -m tests.contract.goldens` asks again and keeps the answers.

What a request is answered with is what the documents show, so the answers come from a gateway and not from a hand. The
bundled checkpoint stands under the id of the seed's model.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.serving import COMMAND, REPOSITORY, START_LIMIT_S, packaged, serving

FOLDER = REPOSITORY / "gateway" / "dialects" / "canonical" / "examples"
PATHS: Mapping[str, str] = {
    "batch": "/v1/forecast/batch",
    "ensemble": "/v1/forecast/ensemble",
    "ensemble-too-short": "/v1/forecast/ensemble",
    "backtest": "/v1/backtest",
    "detect-anomalies": "/v1/detect-anomalies",
}
SEED_MODEL = "amazon/chronos-bolt-small"
KEY_MODELS = ("amazon/*", "forecast-gateway/*", "statsforecast/*")
VOLATILE = frozenset({"id", "created", "latency_ms", "timings_ms", "gateway_version"})
REQUEST_ID = "4f0c1c6e-3d0c-4b43-9a5e-8a0f6f1b7c2d"
LINE = 110  # characters that a value may take to stand on one line
DIGITS = 6  # significant digits that are shown
TOLERANCE = 1e-3  # relative, of numbers that models made: other processors round otherwise


@contextmanager
def golden_gateway(folder: Path) -> Iterator[httpx.Client]:
    """A caller of a gateway with nothing but what is in the package; its key does not open the seed's other model."""
    nano = packaged("forecast-gateway/bolt-nano")
    bundled = {
        "weights": {"model": {"repository": nano.id, "bundled": nano.weights["model"].bundled}},
        "max_context": nano.max_context,
        "quantile_levels": list(nano.quantile_levels),
    }
    config = {"models": {SEED_MODEL: bundled}, "engine": {"workers": 1, "statistical_workers": 1}}
    with serving(folder, config=config) as gateway:
        with gateway.client() as operator:
            operator.post(f"/api/models/{SEED_MODEL}/load").raise_for_status()
        headers = {"x-request-id": REQUEST_ID, "authorization": f"Bearer {_key(folder / 'data')}"}
        with gateway.client(**headers) as caller:
            yield caller


def _key(data_dir: Path) -> str:
    """A new key of the gateway that runs over `data_dir`."""
    options = ["--data-dir", str(data_dir), "--name", "goldens", "--models", ",".join(KEY_MODELS), "--json"]
    command = [sys.executable, "-c", COMMAND, "keys", "create", *options]
    made = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=START_LIMIT_S)
    key: str = json.loads(made.stdout)["key"]
    return key


def answer(caller: httpx.Client, name: str) -> tuple[int, Any]:
    """Status and body of what the gateway says to a golden request."""
    request = (FOLDER / f"{name}.request.json").read_bytes()
    reply = caller.post(PATHS[name], content=request, headers={"content-type": "application/json"})
    return reply.status_code, reply.json()


def differences(golden: object, found: object, place: str = "") -> list[str]:
    """Where two answers differ: in keys and their order, types, lengths, words, and in numbers by more than noise."""
    match golden, found:
        case dict(), dict():
            if list(golden) != list(found):
                return [f"{place}: {list(golden)} and {list(found)}"]
            names = [name for name in golden if name not in VOLATILE]
            return [d for name in names for d in differences(golden[name], found[name], f"{place}.{name}")]
        case list(), list():
            if len(golden) != len(found):
                return [f"{place}: {len(golden)} and {len(found)} members"]
            pairs = enumerate(zip(golden, found, strict=True))
            return [d for i, (one, other) in pairs for d in differences(one, other, f"{place}[{i}]")]
        case float(), float():
            same = math.isclose(golden, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        case _:
            same = type(golden) is type(found) and golden == found
    return [] if same else [f"{place}: {golden!r} and {found!r}"]


def printed(value: object, indent: int = 0) -> str:
    """JSON as people like to read it: what fits on a line stands on one."""
    line = json.dumps(value)
    if len(line) + indent <= LINE or not value or not isinstance(value, (dict, list)):
        return line
    deeper = " " * (indent + 2)
    if isinstance(value, dict):
        members = [f"{json.dumps(name)}: {printed(v, indent + 2)}" for name, v in value.items()]
        opened, closed = "{", "}"
    else:
        members, (opened, closed) = [printed(v, indent + 2) for v in value], "[]"
        if all(not isinstance(v, dict) for v in value):
            return _wrapped(members, indent)
    return f"{opened}\n{deeper}" + f",\n{deeper}".join(members) + f"\n{' ' * indent}{closed}"


def _wrapped(members: list[str], indent: int) -> str:
    """An array of short members over as many lines as it takes."""
    lines, deeper = [""], " " * (indent + 2)
    for i, member in enumerate(members):
        text = member + ("," if i + 1 < len(members) else "")
        if lines[-1] and len(lines[-1]) + len(text) + indent + 2 > LINE:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + text
    return "[\n" + "\n".join(deeper + line for line in lines) + f"\n{' ' * indent}]"


def rounded(value: Any) -> Any:
    """Numbers as the documents show them; a level is a number that was asked for and stays."""
    if isinstance(value, dict):
        return {k: v if k in ("level", "quantile_levels") else rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def refresh() -> None:
    """Ask a gateway for every exchange, and write down what has changed."""
    with tempfile.TemporaryDirectory() as folder, golden_gateway(Path(folder)) as caller:
        for name in PATHS:
            status, body = answer(caller, name)
            kept = FOLDER / f"{name}.response.json"
            changes = differences(json.loads(kept.read_bytes()), body) if kept.exists() else ["new"]
            if changes:
                kept.write_text(printed(rounded(body)) + "\n")
            print(f"{name}: {status}", *changes[:5], sep="\n  ")


if __name__ == "__main__":
    refresh()
