"""The ledger against the answers and the counters: every token once, none for what failed, through a restart."""

from __future__ import annotations

import csv
import io
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.serving import START_LIMIT_S, Gateway, serving

CONFIG: dict[str, dict[str, object]] = {
    "engine": {"workers": 1, "statistical_workers": 1, "default_model": "seasonal-naive"},
}
THREADS = 6
Answers = list[tuple[str, int, dict[str, object]]]  # path, status, body


def forecast(rng: random.Random, model: str = "seasonal-naive") -> dict[str, object]:
    rows = rng.randint(3, 30)
    inputs = [{"target": [[rng.random()] for _ in range(rows)]} for _ in range(rng.randint(1, 3))]
    return {"model": model, "inputs": inputs, "parameters": {"prediction_length": rng.randint(1, 5)}}


def mixed(rng: random.Random) -> tuple[str, dict[str, object]]:
    """A call of some kind; about a third fails."""
    good = forecast(rng)
    bad = {**good, "parameters": {"prediction_length": 0}}
    calls: list[tuple[str, dict[str, object]]] = [
        ("/v1/forecast", good),
        ("/v1/forecast", good),
        ("/v1/forecast", bad),
        ("/v1/forecast", forecast(rng, "no/such-model")),
        ("/v1/forecast", {**good, "parameters": {"prediction_length": 3, "dry_run": True}}),
        ("/v1/forecast/batch", {"requests": [good, bad, forecast(rng)]}),
        ("/v1/backtest", {**forecast(rng), "inputs": [{"target": [[i] for i in range(40)]}], "windows": 2}),
        ("/v1/detect-anomalies", {"model": "seasonal-naive", "inputs": [{"target": [[i % 7] for i in range(40)]}]}),
    ]
    return rng.choice(calls)


def ask(client: httpx.Client, rng: random.Random) -> tuple[str, int, dict[str, object]]:
    path, body = mixed(rng)
    # A caller may use one request id again and again, for requests that have nothing to do with each other.
    headers = {"x-request-id": "mine"} if rng.random() < 0.2 else {}
    answer = client.post(path, json=body, headers=headers)
    return path, answer.status_code, answer.json()


def load(gateway: Gateway, calls: int, seed: int) -> Answers:
    def worker(number: int) -> Answers:
        rng = random.Random(seed * 100 + number)
        with gateway.client() as client:
            return [ask(client, rng) for _ in range(calls // THREADS)]

    with ThreadPoolExecutor(THREADS) as threads:
        return [a for found in threads.map(worker, range(THREADS)) for a in found]


def tokens(answers: Answers) -> Counter[str]:
    """What the bodies of the answers say."""
    total: Counter[str] = Counter()
    for _, _, body in answers:
        members = [body, *(d.get("result", {}) for d in body.get("data", []))]  # type: ignore[attr-defined]
        for member in members:
            if member.get("object") == "forecast_plan" or "usage" not in member or not member.get("outputs"):
                continue
            if "batch_class" in member:
                continue  # a dry run says what it would take
            total.update({k: member["usage"][k] for k in ("input_tokens", "output_tokens")})
    return total


def counted(gateway: Gateway) -> Counter[str]:
    """What Prometheus would read."""
    return Counter(
        {f"{d}_tokens": int(gateway.metric("gateway_tokens_total", direction=d)) for d in ("input", "output")}
    )


def in_flight_while_it_stops(gateway: Gateway) -> Answers:
    """Send SIGTERM to a gateway that is at work; the answers that came all the same."""
    working = threading.Barrier(THREADS + 1)

    def worker(number: int) -> Answers:
        rng, found = random.Random(number), []
        with gateway.client() as client:
            found.append(ask(client, rng))
            working.wait(START_LIMIT_S)
            while True:
                try:
                    found.append(ask(client, rng))
                except httpx.TransportError:
                    return found

    with ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(worker, n) for n in range(THREADS)]
        working.wait(START_LIMIT_S)
        gateway.process.send_signal(signal.SIGTERM)
        found = [a for one in running for a in one.result(START_LIMIT_S)]
    gateway.process.wait(START_LIMIT_S)
    return found


@pytest.mark.parametrize("calls", [180, pytest.param(5000, marks=pytest.mark.slow)])
def test_the_ledger_is_the_sum_of_the_answers_and_of_the_counters(calls: int, tmp_path: Path) -> None:
    with serving(tmp_path, config=CONFIG) as first:
        before = load(first, calls // 2, 1)
        counters = counted(first)
        between = in_flight_while_it_stops(first)
    with serving(tmp_path, config=CONFIG) as second:
        after = load(second, calls // 2, 2)
        counters += counted(second)
        report = httpx.get(f"{second.base_url}/api/usage", params={"group_by": "status"}).json()
        plain = httpx.get(f"{second.base_url}/v1/usage").json()
    everything = [*before, *between, *after]
    statuses = Counter(status for _, status, _ in everything)
    assert 0.15 < 1 - statuses[200] / len(everything) < 0.6  # failures were among them
    assert 500 not in statuses
    totals = report["totals"]
    assert tokens([*before, *after]) == counters
    assert {k: totals[k] for k in ("input_tokens", "output_tokens")} == tokens(everything)
    assert totals["requests"] == len(everything)  # a row each, though many had the same id
    assert {row["status"]: row["requests"] for row in report["data"]} == dict(statuses)
    assert all(row["total_tokens"] == 0 for row in report["data"] if row["status"] != 200)
    assert plain["totals"] == totals  # one anonymous caller made them all


# -- what can be asked ---


@pytest.fixture(scope="module")
def used(gateway: Gateway) -> Gateway:
    """A gateway that was just used."""
    with gateway.client() as client:
        for _ in range(3):
            client.post("/v1/forecast", json=forecast(random.Random(1))).raise_for_status()
        client.post("/v1/forecast", json=forecast(random.Random(1), "no/such-model"))
    return gateway


def test_usage_is_grouped_and_spread_over_time(used: Gateway) -> None:
    with used.client() as client:
        asked = {"interval": "minute", "group_by": "model,endpoint,status,key,code,cached", "from": "-1h"}
        report = client.get("/api/usage", params=asked).json()
        naive = [r for r in report["data"] if r["model"] == "forecast-gateway/seasonal-naive" and r["status"] == 200]
        assert sum(r["requests"] for r in naive) >= 3
        assert {r["endpoint"] for r in naive} >= {"/v1/forecast"}
        row = naive[0]
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["p99"]
        assert datetime.fromisoformat(row["start"]).second == 0
        for name in ("requests", "errors", "total_tokens", "series"):
            assert report["totals"][name] == sum(r[name] for r in report["data"])
        only = client.get("/api/usage", params={"status": "404", "endpoint": "/v1/forecast"}).json()["totals"]
        assert only["requests"] == only["errors"] > 0
        assert only["total_tokens"] == 0
        later = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
        nothing = client.get("/api/usage", params={"from": later, "to": "2100-01-01"}).json()
        assert nothing["totals"]["requests"] == 0
        assert nothing["totals"]["latency_ms"]["p50"] is None


def test_usage_comes_as_csv_too(used: Gateway) -> None:
    with used.client() as client:
        asked = {"group_by": "model,status", "interval": "hour"}
        for answer in (
            client.get("/api/usage", params=asked, headers={"accept": "text/csv"}),
            client.get("/api/usage", params={**asked, "format": "csv"}),
        ):
            assert answer.headers["content-type"].startswith("text/csv")
            rows = list(csv.DictReader(io.StringIO(answer.text)))
            assert {"start", "model", "status", "requests", "total_tokens", "latency_ms_p95"} <= set(rows[0])
        report = client.get("/api/usage", params=asked).json()
        assert sum(int(r["requests"]) for r in rows) == report["totals"]["requests"]


def test_single_requests_can_be_found(used: Gateway) -> None:
    with used.client() as client:
        made = client.post("/v1/forecast", json=forecast(random.Random(2)))
        newest = client.get("/api/usage/requests", params={"limit": 1}).json()["data"][0]
        assert newest["request_id"] == made.headers["x-request-id"]
        usage = made.json()["usage"]
        assert [newest["input_tokens"], newest["output_tokens"]] == [usage["input_tokens"], usage["output_tokens"]]
        assert newest["series"] == len(made.json()["outputs"])
        slowest = client.get("/api/usage/requests", params={"order": "slowest"}).json()["data"]
        assert [r["latency_ms"] for r in slowest] == sorted((r["latency_ms"] for r in slowest), reverse=True)
        failed = client.get("/api/usage/requests", params={"failed": "true"}).json()["data"]
        assert failed
        assert all(r["status"] >= 400 for r in failed)


def test_a_jobs_submission_and_its_end_are_one_row(used: Gateway) -> None:
    order = {"type": "forecast", "request": forecast(random.Random(3))}
    with used.client() as client:
        made = client.post("/v1/jobs", json=order).json()
        until = time.monotonic() + START_LIMIT_S
        rows = []
        while not rows or rows[0]["code"] == "ACCEPTED":
            assert time.monotonic() < until
            asked = {"endpoint": "/v1/jobs", "limit": 500}
            found = client.get("/api/usage/requests", params=asked).json()["data"]
            rows = [r for r in found if r["request_id"] == made["request_id"]]
        assert len(rows) == 1
        job = client.get(f"/v1/jobs/{made['id']}").json()
        assert job["status"] == "completed"
        assert rows[0]["input_tokens"] + rows[0]["output_tokens"] == job["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("grup_by=model", "did you mean 'group_by'"),
        ("group_by=modell", "did you mean 'model'"),
        ("from=yesterday", "ISO 8601"),
        ("from=2026-01-02&to=2026-01-01", "before"),
        ("interval=fortnight", "interval"),
        ("interval=1s&from=-30d", "2000 points"),
        ("status=bad", "status"),
        ("format=xml", "format"),
    ],
)
def test_a_question_that_cannot_be_is_refused(query: str, words: str, used: Gateway) -> None:
    answer = httpx.get(f"{used.base_url}/api/usage?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_ARGUMENT")
    assert words in answer.json()["error"]


def test_no_cell_of_csv_is_a_formula(used: Gateway) -> None:
    with used.client() as client:
        for begun in "=+-@":
            client.post("/v1/forecast", json=forecast(random.Random(1)), headers={"x-request-id": f"{begun}1+1"})
        answer = client.get("/api/usage/requests", params={"format": "csv", "limit": 4})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sorted(row["request_id"] for row in rows) == ["'+1+1", "'-1+1", "'=1+1", "'@1+1"]
