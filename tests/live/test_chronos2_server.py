"""The client classes that the Chronos2 Server's reference prints, and every request it prints, on a live gateway."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import packages_of, run
from tests.contract.dialects import holds
from tests.seeds import json_objects, seed_text
from tests.serving import Gateway

SEED = "chronos2-server-api.txt"
CONTEXT, RECENT = [100, 102, 105, 103, 108, 112, 115], [120, 200, 124]

# A key that only requests of one path have -> the path.
PATHS = {
    "series_list": "/forecast/multi-series",
    "recent_observed": "/anomaly/detect",
    "actual_values": "/backtest/simple",
    "values": "/forecast/univariate",
}


def printed_requests() -> list[tuple[str, str]]:
    """Path and body of every request that is printed as JSON or as Python that reads the same."""
    text = re.sub(r"(?<=[{\n])(values|prediction_length|quantile_levels): ", r'"\1": ', seed_text(SEED))
    days = json.dumps([f"2025-01-{d:02}" for d in range(1, 11)])
    text = text.replace('"timestamps": timestamps,', f'"timestamps": {days},')
    found = [o for o in json_objects(text) if "prediction_length" in o]
    return [(next(p for key, p in PATHS.items() if key in o), json.dumps(o)) for o in found]


def test_every_printed_request_is_accepted(client: httpx.Client) -> None:
    """The bodies of the reference: of `Request Body`, of curl, of Python and of fetch."""
    requests = printed_requests()
    counts = {path: sum(p == path for p, _ in requests) for path in PATHS.values()}
    assert counts == {
        "/forecast/multi-series": 2,
        "/anomaly/detect": 4,
        "/backtest/simple": 4,
        "/forecast/univariate": 7,
    }
    printed = {
        "/forecast/univariate": "median",
        "/anomaly/detect": "total_points",
        "/backtest/simple": "mae",
    }
    shapes = {path: next(o for o in json_objects(seed_text(SEED)) if key in o) for path, key in printed.items()}
    for path, body in requests:
        answer = client.post(path, content=body)
        assert answer.status_code == 200, (path, body, answer.text)
        asked = json.loads(body)
        if path in shapes and asked["prediction_length"] == 3 and 0.5 in asked.get("quantile_levels", [0.5]):
            holds(answer.json(), shapes[path])
        if path == "/forecast/univariate":
            assert list(answer.json()["quantiles"]) == [str(q) for q in asked.get("quantile_levels", [0.1, 0.5, 0.9])]
        if "timestamps" in asked:
            assert answer.json()["timestamps"] == [f"2025-01-{d}" for d in range(11, 18)]


@pytest.mark.parametrize(("path", "key"), [("/health", "timestamp"), ("/health/info", "python_version")])
def test_the_printed_probes_answer(client: httpx.Client, path: str, key: str) -> None:
    printed = next(o for o in json_objects(seed_text(SEED)) if key in o)
    holds(client.get(path).json(), printed)


def test_the_printed_pages_are_there(client: httpx.Client) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) >= {*PATHS.values(), "/health", "/health/info"}


# -- the clients ---


def python_client() -> Any:
    """The class as printed; the reference lost its indentation, which is given back here."""
    text = seed_text(SEED).partition("pip install requests pandas\n")[2].partition("# Usage")[0]
    indents = {"import ": 0, "class ": 0, "def ": 4}
    lines = [
        " " * next((n for word, n in indents.items() if line.startswith(word)), 8) + line for line in text.splitlines()
    ]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    return names["Chronos2Client"]


def test_the_python_client_as_printed(gateway: Gateway, client: httpx.Client) -> None:
    theirs = python_client()(gateway.base_url)
    usage = theirs.forecast([100, 102, 105], 3)
    assert len(usage["median"]) == 3
    levels = theirs.forecast(CONTEXT, 3, quantile_levels=[0.05, 0.5, 0.95], freq="D")
    assert list(levels["quantiles"]) == ["0.05", "0.5", "0.95"]
    found = theirs.detect_anomalies(CONTEXT, RECENT, quantile_low=0.1, quantile_high=0.9)
    assert (found["total_points"], len(found["anomalies"])) == (3, 3)
    with pytest.raises(Exception, match="400 Client Error"):  # what raise_for_status of requests raises
        theirs.forecast([100], 3)


def test_the_typescript_client_as_printed(gateway: Gateway, client: httpx.Client, tmp_path: Path) -> None:
    """Types are taken out by esbuild; everything else runs as printed, and then makes the calls of its usage."""
    packages = packages_of("axios") / "node_modules"
    text = seed_text(SEED).partition("npm install axios\n")[2].partition("// Usage")[0]
    calls = f"""
const client = new Chronos2Client(process.argv[2]);
const usage = await client.forecast([100, 102, 105], 3);
const levels = await client.forecast({CONTEXT}, 3, {{quantile_levels: [0.9, 0.1]}});
const anomalies = await client.detectAnomalies({CONTEXT}, {RECENT});
const refused = await client.forecast([], 3).catch((error) => [error.response.status, error.response.data]);
console.log(JSON.stringify({{usage, levels, anomalies, refused}}));
"""
    source = tmp_path / "client.ts"
    source.write_text(text + calls)
    (tmp_path / "node_modules").symlink_to(packages)
    run([packages / ".bin" / "esbuild", source, "--format=esm", f"--outfile={tmp_path / 'client.mjs'}"])
    said = json.loads(run(["node", tmp_path / "client.mjs", gateway.base_url]))
    body = {"values": CONTEXT, "prediction_length": 3, "quantile_levels": [0.9, 0.1]}
    assert said["levels"] == client.post("/forecast/univariate", json=body).json()
    assert said["usage"]["timestamps"] == ["4", "5", "6"]
    assert said["anomalies"]["total_points"] == 3
    assert said["refused"] == [400, {"detail": "values cannot be empty"}]
