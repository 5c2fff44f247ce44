"""Two gateways that share forecasts through one Redis, while the model, the callers or Redis change under them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import redis

from tests.checkpoints import chronos_bolt
from tests.redis_servers import redis_server
from tests.serving import START_LIMIT_S, Gateway, packaged, serving, small_models

NANO = "forecast-gateway/bolt-nano"
TINY = "amazon/chronos-bolt-tiny"
KEYS = "fg:forecast:*"

Config = dict[str, dict[str, object]]


def sharing(url: str, folder: Path, **engine: object) -> Config:
    return {
        "server": {"data_dir": str(folder / "data")},
        "engine": {"workers": 1, "statistical_workers": 1, "cache_mb": 16, "cache_shared_s": 600, **engine},
        "redis": {"redis_url": url},
    }


@contextmanager
def pair(folder: Path) -> Iterator[tuple[Gateway, Gateway, redis.Redis]]:
    """Two gateways on one data folder and one Redis, and the Redis."""
    with redis_server(folder) as url:
        config = sharing(url, folder)
        with (
            serving(folder / "a", config=config) as a,
            serving(folder / "b", config=config) as b,
            redis.Redis.from_url(url) as kept,
        ):
            yield a, b, kept


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway, redis.Redis]]:
    with pair(tmp_path_factory.mktemp("shared")) as both:
        yield both


def body(number: int, model: str = NANO, series: int = 3, points: int = 100, **parameters: object) -> dict[str, object]:
    rng = np.random.default_rng(number)
    inputs = [{"target": np.round(10 + rng.random((points, 1)), 3).tolist()} for _ in range(series)]
    return {"model": model, "inputs": inputs, "parameters": {"prediction_length": 8, **parameters}}


def ask(gateway: Gateway, content: Mapping[str, object], **headers: str) -> dict[str, object]:
    answer = httpx.post(f"{gateway.base_url}/v1/forecast", json=content, headers=headers, timeout=START_LIMIT_S)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def until(there: Callable[[], bool]) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while not there():
        assert time.monotonic() < limit
        time.sleep(0.02)


def batches(gateway: Gateway) -> float:
    return gateway.metric("gateway_batch_series_count")


def found(gateway: Gateway, place: str) -> float:
    return gateway.metric("gateway_forecast_cache_series_total", place=place)


def test_the_second_gateway_answers_what_the_first_one_computed(
    shared: tuple[Gateway, Gateway, redis.Redis],
) -> None:
    a, b, kept = shared
    before = kept.dbsize()
    first = ask(a, body(1))
    assert "cached" not in first
    until(lambda: len(kept.keys(KEYS)) >= 3)
    ran, seen = batches(b), found(b, "redis")
    second = ask(b, body(1))
    assert second["cached"] is True
    assert second["outputs"] == first["outputs"]
    assert second["usage"] == first["usage"]
    assert batches(b) == ran
    assert found(b, "redis") == seen + 3
    inside = found(b, "memory")
    assert ask(b, body(1))["outputs"] == first["outputs"]
    assert found(b, "memory") == inside + 3, "from here on it has them itself"
    assert kept.dbsize() > before
    for name in kept.keys(KEYS):
        assert 0 < kept.pttl(name) <= 600_000


def test_what_is_computed_is_what_is_not_there(shared: tuple[Gateway, Gateway, redis.Redis]) -> None:
    a, b, kept = shared
    keys = len(kept.keys(KEYS))
    first = ask(a, body(2))
    until(lambda: len(kept.keys(KEYS)) == keys + 3)
    more = body(3, series=2)
    more["inputs"] = [more["inputs"][0], *body(2)["inputs"][::-1], more["inputs"][1]]  # type: ignore[index]
    ran = b.metric("gateway_batch_series_sum")
    partly = ask(b, more)
    assert "cached" not in partly, "something was computed for it"
    assert b.metric("gateway_batch_series_sum") == ran + 2
    assert partly["outputs"][1:4] == first["outputs"][::-1]  # type: ignore[index]


def test_a_series_that_ends_alike_is_told_how_it_was_cut(shared: tuple[Gateway, Gateway, redis.Redis]) -> None:
    a, _, _ = shared
    long = body(4, series=1, points=600)
    short = {**long, "inputs": [{"target": long["inputs"][0]["target"][-512:]}]}  # type: ignore[index]
    whole, cut = ask(a, short), ask(a, long)
    assert cut["cached"] is True, "the model reads the same"
    assert (cut["truncated_from"], whole.get("truncated_from")) == (600, None)
    assert cut["outputs"][0]["mean"] == whole["outputs"][0]["mean"]  # type: ignore[index]


def test_notices_name_the_covariates_of_the_call(shared: tuple[Gateway, Gateway, redis.Redis]) -> None:
    a, _, _ = shared

    def asked(name: str) -> dict[str, object]:
        content = body(6, series=1)
        (one,) = content["inputs"]  # type: ignore[misc]
        one |= {"past_covariates": {name: [1.0] * 100}, "future_covariates": {name: [1.0] * 8}}
        return content

    first, second = ask(a, asked("price")), ask(a, asked("rain"))
    assert second["cached"] is True
    told = [str(answer["outputs"][0]["notices"]) for answer in (first, second)]  # type: ignore[index]
    assert "price: constant" in told[0]
    assert told[1] == told[0].replace("price", "rain")


def test_samples_without_a_seed_are_never_kept(shared: tuple[Gateway, Gateway, redis.Redis]) -> None:
    a, b, kept = shared
    drawn = body(5, series=1, num_samples=3, sample_method="copula")
    keys, looked = kept.keys(KEYS), sum(found(a, place) for place in ("memory", "redis", "nowhere"))
    one, two = ask(a, drawn), ask(a, drawn)
    assert "cached" not in one | two
    assert one["outputs"] != two["outputs"]
    assert sorted(kept.keys(KEYS)) == sorted(keys)
    assert sum(found(a, place) for place in ("memory", "redis", "nowhere")) == looked
    seeded = body(5, series=1, num_samples=3, sample_method="copula", seed=7)
    first = ask(a, seeded)
    until(lambda: len(kept.keys(KEYS)) == len(keys) + 1)
    second = ask(b, seeded)
    assert second["cached"] is True
    assert second["outputs"] == first["outputs"]
    other = body(5, series=1, num_samples=3, sample_method="copula", seed=8)
    assert "cached" not in ask(b, other)


def test_what_was_changed_in_redis_is_computed_again(shared: tuple[Gateway, Gateway, redis.Redis]) -> None:
    a, b, kept = shared
    for number, change in enumerate(
        (
            lambda v: v[:-1],
            lambda v: v[: len(v) // 2],
            lambda v: b"",
            lambda v: b"\x01" + v[1:],
            lambda v: v[:-20] + bytes([v[-20] ^ 1]) + v[-19:],
            lambda v: b"\x80\x04}\x94.",
            None,
        )
    ):
        content = body(100 + number, series=1)
        keys = set(kept.keys(KEYS))
        first = ask(a, content)
        until(lambda keys=keys: len(kept.keys(KEYS)) > len(keys))  # type: ignore[misc]
        (name,) = set(kept.keys(KEYS)) - keys
        if change is not None:
            kept.set(name, change(kept.get(name)), keepttl=True)
        else:  # what belongs to another series
            kept.set(name, kept.get(next(iter(keys))), keepttl=True)
        answer = ask(b, content)
        assert "cached" not in answer, number
        np.testing.assert_allclose(
            answer["outputs"][0]["mean"],
            first["outputs"][0]["mean"],
            rtol=1e-4,  # type: ignore[index]
        )
    kept.delete(name)
    kept.rpush(name, "a list")
    assert "cached" not in ask(b, body(200, series=1))


def test_without_redis_both_still_answer(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b, kept):
        first = ask(a, body(1))
        until(lambda: len(kept.keys(KEYS)) >= 3)
        os.kill(kept.info("server")["process_id"], signal.SIGKILL)
        assert ask(a, body(1))["cached"] is True, "it has its own"
        alone = ask(b, body(1))
        assert "cached" not in alone
        np.testing.assert_allclose(
            [o["mean"] for o in alone["outputs"]],  # type: ignore[attr-defined]
            [o["mean"] for o in first["outputs"]],  # type: ignore[attr-defined]
            rtol=1e-4,
        )
        assert ask(b, body(1))["cached"] is True
        for gateway in (a, b):
            ask(gateway, body(2))
        assert b.metric("gateway_forecast_cache_failures_total", what="read") >= 1


def test_one_keys_forecasts_answer_no_other_key(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b, kept):

        def key(name: str, **headers: str) -> dict[str, str]:
            """Headers of a new key, which both gateways know."""
            asked = {"name": name, "admin": True}
            made = httpx.post(f"{a.base_url}/api/account/keys", json=asked, headers=headers).json()["key"]
            for gateway in (a, b):
                url = f"{gateway.base_url}/v1/validate"
                until(lambda url=url: httpx.post(url, json={"api_key": made}).json()["valid"])  # type: ignore[misc]
            return {"authorization": f"Bearer {made}"}

        one = key("one")
        two = key("two", **one)
        before = len(kept.keys(KEYS))
        tokens = ask(a, body(1), **one)["usage"]["total_tokens"]  # type: ignore[index]
        until(lambda: len(kept.keys(KEYS)) == before + 3)
        assert ask(b, body(1), **one)["cached"] is True
        assert "cached" not in ask(a, body(1), **two)

        def totals() -> dict[str, int]:
            found: dict[str, int] = httpx.get(f"{b.base_url}/api/usage", headers=one).json()["totals"]
            return found

        until(lambda: totals()["requests"] == 3)  # of three equal forecasts, charged alike
        assert (totals()["cached"], totals()["series"]) == (1, 9)
        assert totals()["total_tokens"] == 3 * tokens


@pytest.mark.parametrize("how", ["unload", "kill"])
def test_other_weights_under_the_same_id_never_answer_from_the_old(tmp_path: Path, how: str) -> None:
    weights = tmp_path / "weights"
    with redis_server(tmp_path) as url:
        config = sharing(url, tmp_path, weights_dir=str(weights)) | {"models": small_models([TINY], weights)}
        lies = weights / packaged(TINY).weights["model"].repository
        with serving(tmp_path / "a", config=config) as gateway, redis.Redis.from_url(url) as kept:

            def anew() -> None:
                """Have the worker read its files again."""
                if how == "unload":
                    httpx.post(f"{gateway.base_url}/api/models/{TINY}/unload", timeout=START_LIMIT_S).raise_for_status()
                    return
                restarts = gateway.metric("gateway_worker_restarts_total")
                children = psutil.Process(gateway.process.pid).children()
                workers = [c for c in children if "gateway.engine.worker" in c.cmdline()]
                for worker in workers:
                    worker.kill()
                until(lambda: gateway.metric("gateway_worker_restarts_total") == restarts + len(workers))

            asked, before = body(1, model=TINY), len(kept.keys(KEYS))
            first = ask(gateway, asked)
            assert ask(gateway, asked)["cached"] is True
            old = (lies / "model.safetensors").read_bytes()
            chronos_bolt.write(tmp_path / "other", levels=packaged(TINY).quantile_levels, seed=1)
            (tmp_path / "other" / "model.safetensors").replace(lies / "model.safetensors")
            anew()
            second = ask(gateway, asked)
            assert "cached" not in second
            assert second["outputs"] != first["outputs"]
            assert ask(gateway, asked)["outputs"] == second["outputs"]
            until(lambda: len(kept.keys(KEYS)) == before + 6)
            (tmp_path / "old").write_bytes(old)
            (tmp_path / "old").replace(lies / "model.safetensors")
            anew()
            again = ask(gateway, asked)
            assert again["cached"] is True, "the same weights are the same model"
            assert again["outputs"] == first["outputs"]
