"""Limits over real gateways: exact over several of them, told in headers, and what failed is given back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.redis_servers import redis_server
from tests.serving import START_LIMIT_S, Gateway, serving

BODY = {"model": "seasonal-naive", "inputs": [{"target": [[1], [2], [3]]}], "parameters": {"prediction_length": 1}}
COST = 3 + 1 * 3  # tokens: three cells read, three levels answered
CLIENTS, CALLS = 8, 25


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways on one data folder and one Redis."""
    folder = tmp_path_factory.mktemp("pair")
    with redis_server(folder) as url:
        config: dict[str, dict[str, object]] = {
            "server": {"data_dir": str(folder / "data")},
            "engine": {"workers": 1, "statistical_workers": 1, "default_model": "seasonal-naive"},
            "redis": {"redis_url": url},
        }
        with serving(folder / "a", config=config) as a, serving(folder / "b", config=config) as b:
            yield a, b


@pytest.fixture(scope="module")
def admin(pair: tuple[Gateway, Gateway]) -> Iterator[httpx.Client]:
    made = httpx.post(f"{pair[0].base_url}/api/account/keys", json={"name": "admin", "admin": True})
    with pair[0].client(authorization=f"Bearer {made.json()['key']}") as client:
        yield client


def key_of(admin: httpx.Client, pair: tuple[Gateway, Gateway], **limits: int) -> str:
    """A key with limits, which both gateways know."""
    made = admin.post("/api/account/keys", json={"name": "limited", "limits": {"requests_per_hour": 0, **limits}})
    key: str = made.json()["key"]
    until = time.monotonic() + 25
    for gateway in pair:
        while not httpx.post(f"{gateway.base_url}/v1/validate", json={"api_key": key}).json()["valid"]:
            assert time.monotonic() < until
    return key


def test_a_limit_holds_exactly_over_two_gateways(pair: tuple[Gateway, Gateway], admin: httpx.Client) -> None:
    key = key_of(admin, pair, requests_per_minute=100)
    together = threading.Barrier(CLIENTS)

    def client(number: int) -> list[httpx.Response]:
        with pair[number % 2].client(authorization=f"Bearer {key}") as caller:
            together.wait(START_LIMIT_S)
            return [caller.post("/v1/forecast", json=BODY) for _ in range(CALLS)]

    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        answers = [a for found in threads.map(client, range(CLIENTS)) for a in found]
    if time.monotonic() - started < 60:  # else the window has moved on, and more may pass
        assert Counter(a.status_code for a in answers) == {200: 100, 429: CLIENTS * CALLS - 100}
    for answer in answers:
        assert answer.headers["ratelimit-limit"] == "100"
        assert 0 < int(answer.headers["ratelimit-reset"]) <= 61
    refused = next(a for a in answers if a.status_code == 429)
    assert refused.json()["code"] == "RESOURCE_EXHAUSTED"
    assert "100 requests a minute" in refused.json()["error"]
    assert 0 < int(refused.headers["retry-after"]) <= 61
    left = {int(a.headers["ratelimit-remaining"]) for a in answers if a.status_code == 200}
    assert left == set(range(100))  # each was counted once
    for gateway in pair:
        assert gateway.metric("gateway_limits_shared") == 1


def given_back(client: httpx.Client, body: dict[str, object]) -> int:
    """The status once what a failed request was charged is given back, which is beside the answer's way."""
    limit = time.monotonic() + START_LIMIT_S
    while (status := client.post("/v1/forecast", json=body).status_code) == 429 and time.monotonic() < limit:
        time.sleep(0.05)
    return status


def test_tokens_are_charged_and_given_back_for_what_failed(pair: tuple[Gateway, Gateway], admin: httpx.Client) -> None:
    key = key_of(admin, pair, tokens_per_day=2 * COST + 1)
    too_far = {**BODY, "parameters": {"prediction_length": 1, "quantile_levels": [], "frequency": "nonsense"}}
    with pair[0].client(authorization=f"Bearer {key}") as a, pair[1].client(authorization=f"Bearer {key}") as b:
        assert a.post("/v1/forecast", json=BODY).status_code == 200
        for _ in range(4):
            assert given_back(b, too_far) == 422
        assert given_back(b, BODY) == 200
        refused = a.post("/v1/forecast", json=BODY)
        assert (refused.status_code, refused.headers["ratelimit-remaining"]) == (429, "1")
        assert "tokens a day" in refused.json()["error"]
        small = {**BODY, "inputs": [{"target": [[1]]}]}
        assert a.post("/v1/forecast", json=small).status_code == 429  # 4 tokens, 1 is left
        alone = {**BODY, "parameters": {"prediction_length": 50}}
        never = a.post("/v1/forecast", json=alone)
        assert never.status_code == 429
        assert "this request alone" in never.json()["error"]


def test_a_batch_is_one_request_with_the_series_of_all_its_members(
    pair: tuple[Gateway, Gateway], admin: httpx.Client
) -> None:
    key = key_of(admin, pair, series_per_day=3, requests_per_minute=3)
    with pair[1].client(authorization=f"Bearer {key}") as client:
        batch = client.post("/v1/forecast/batch", json={"requests": [BODY, BODY]})
        assert batch.status_code == 200
        assert client.post("/v1/forecast/batch", json={"requests": [BODY, BODY]}).status_code == 429
        third = client.post("/v1/forecast", json=BODY)
        assert third.status_code == 200
        assert third.headers["ratelimit-remaining"] == "0"
        assert "3 requests a minute" in client.post("/v1/forecast", json=BODY).json()["error"]
        assert client.get("/v1/usage").status_code == 200  # looking is free
        assert client.get("/v1/usage").json()["totals"]["series"] == 3


def test_a_job_is_charged_when_it_is_handed_in(pair: tuple[Gateway, Gateway], admin: httpx.Client) -> None:
    key = key_of(admin, pair, series_per_day=2)
    order = {"type": "forecast", "request": {**BODY, "inputs": BODY["inputs"] * 2}}  # type: ignore[operator]
    with pair[0].client(authorization=f"Bearer {key}") as client:
        assert client.post("/v1/jobs", json=order).status_code == 202
        refused = client.post("/v1/jobs", json=order)
        assert refused.status_code == 429
        assert client.post("/v1/forecast", json=BODY).status_code == 429


def test_callers_without_a_key_are_counted_by_address(tmp_path_factory: pytest.TempPathFactory) -> None:
    config: dict[str, dict[str, object]] = {
        "server": {"allow_anonymous": True, "trusted_proxies": ["127.0.0.1"]},
        "engine": {"workers": 1, "statistical_workers": 1, "default_model": "seasonal-naive"},
        "limits": {"anonymous_requests_per_minute": 2},
        "jobs": {"job_slots": 0},
    }
    with serving(tmp_path_factory.mktemp("anonymous"), config=config) as gateway, gateway.client() as client:

        def asked(forwarded: str) -> httpx.Response:
            return client.get("/api/models/seasonal-naive", headers={"x-forwarded-for": forwarded})

        statuses = [asked("203.0.113.7").status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert asked("198.51.100.1, 203.0.113.7").status_code == 429  # what stands before is the caller's own text
        assert asked("203.0.113.8").status_code == 200
        assert [asked(f"2001:db8::{i}").status_code for i in range(3)] == [200, 200, 429]  # one network
        home = client.get("/api/models/seasonal-naive")
        assert home.headers["ratelimit-limit"] == "1000000"
