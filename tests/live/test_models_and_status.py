"""Models and probes over a real port."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.serving import Gateway, serving

NAIVE = "forecast-gateway/seasonal-naive"
BOLT = "amazon/chronos-bolt-small"


def ids(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {model["id"] for model in answer.json()["data"]}


def test_the_list_holds_every_model_and_its_ids(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert listed["models"] == [model["id"] for model in listed["data"]]
    assert {NAIVE, BOLT} <= set(listed["models"])


def test_filters_narrow_the_list(client: httpx.Client) -> None:
    client.post(f"/api/models/{NAIVE}/load").raise_for_status()
    everything = ids(client.get("/api/models"))
    assert ids(client.get("/api/models", params={"family": "chronos-bolt"})) < everything
    assert BOLT in ids(client.get("/api/models", params={"family": "chronos-bolt", "max_context": 100}))
    assert ids(client.get("/api/models", params={"max_context": 10**9})) == set()
    assert NAIVE in ids(client.get("/api/models", params={"status": "ready"}))
    assert ids(client.get("/api/models", params={"capability": "quantiles"})) == everything


@pytest.mark.parametrize("query", ["status=soon", "max_context=many", "max_context=0", "famly=x"])
def test_a_filter_that_cannot_be_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/api/models?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_ARGUMENT")


def test_a_model_is_found_by_id_with_either_slash_and_by_alias(client: httpx.Client) -> None:
    client.post(f"/api/models/{NAIVE}/load").raise_for_status()
    paths = (NAIVE, NAIVE.replace("/", "%2F"), "seasonal-naive")
    found = [client.get(f"/api/models/{path}").json() for path in paths]
    assert [model["id"] for model in found] == [NAIVE] * 3
    assert found[0]["status"] == "ready"
    assert "seasonal-naive" in found[0]["aliases"]


def test_a_model_that_is_not_there_names_the_nearest(client: httpx.Client) -> None:
    answer = client.get("/api/models/amazon/chronos-bolt-smal")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert BOLT in answer.json()["error"]


def test_an_operator_loads_pins_and_unloads(client: httpx.Client) -> None:
    loaded = client.post(f"/api/models/{BOLT}/load")
    assert (loaded.status_code, loaded.json()["status"]) == (200, "ready"), loaded.text
    assert client.post(f"/api/models/{BOLT}/pin").json()["pinned"] is True
    assert client.post(f"/api/models/{BOLT}/unpin").json()["pinned"] is False
    assert client.post(f"/api/models/{BOLT}/unload").json()["status"] == "loadable"
    assert client.get(f"/api/models/{BOLT}/load").status_code == 405


def test_a_model_without_weights_says_how_to_get_them(client: httpx.Client) -> None:
    model = "amazon/chronos-bolt-base"
    card = client.get(f"/api/models/{model}").json()
    assert card["status"] == "unavailable"
    assert f"forecast-gateway pull {model}" in card["status_reason"]
    asked = client.post(
        "/v1/forecast",
        json={"model": model, "inputs": [{"target": [[1], [2]]}], "parameters": {"prediction_length": 1}},
    )
    assert (asked.status_code, asked.json()["code"]) == (503, "UNAVAILABLE")
    assert f"forecast-gateway pull {model}" in asked.json()["error"]


def test_probes_answer(gateway: Gateway, client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/healthz").json()["ready"] is True
    assert client.get("/").json() == {"status": "alive"}
    status = client.get("/api/system/status").json()
    assert status["ready"] is True
    assert status["memory"]["gateway_bytes"] > 0
    assert {m["id"] for m in status["models"]} >= {NAIVE, BOLT}
    assert len(status["engine"]["workers"]) >= 1
    assert [w["embedded"] for w in status["job_workers"]] == [True]


def test_a_gateway_whose_default_model_is_not_here_lives_and_says_what_is_missing(tmp_path: Path) -> None:
    model = "amazon/chronos-bolt-base"
    config = {"engine": {"default_model": model, "weights_dir": str(tmp_path), "workers": 1}}
    with serving(tmp_path / "gateway", config=config, ready=False) as waiting, waiting.client() as caller:
        assert caller.get("/livez").status_code == 200
        not_ready = caller.get("/readyz")
        assert (not_ready.status_code, not_ready.json()["code"]) == (503, "UNAVAILABLE")
        assert int(not_ready.headers["retry-after"]) >= 1
        assert caller.get("/healthz").json()["ready"] is False
        assert model in caller.get("/api/system/status").json()["reason"]
        assert caller.post(f"/api/models/{NAIVE}/load").json()["status"] == "ready"
        assert caller.get("/readyz").status_code == 503
