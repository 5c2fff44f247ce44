"""Batches, ensembles, backtests and anomalies over a real port, through the client that pipelines use."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.client import Client, ClientError
from tests.serving import Gateway

NAIVE = "forecast-gateway/seasonal-naive"
JSON = {"content-type": "application/json"}
GOOD: dict[str, Any] = {
    "model": "seasonal-naive",
    "inputs": [{"target": [[1], [2], [3]], "metadata": {"item_id": "a"}}],
    "parameters": {"prediction_length": 2},
    "metadata": {"surface": "test"},
}
SEASONS = [{"target": [[float(i % 7)] for i in range(70)], "start": "2026-03-02", "metadata": {"item_id": "a"}}]


@pytest.fixture
def caller(gateway: Gateway) -> Iterator[Client]:
    with Client(gateway.base_url) as made:
        yield made


def test_each_request_of_a_batch_succeeds_and_fails_alone(client: httpx.Client) -> None:
    requests = [
        GOOD,
        {**GOOD, "model": "no/such-model"},
        {**GOOD, "inputs": [{"target": [1, 2]}], "parameters": {}},
        "no request at all",
        {**GOOD, "parameters": {"prediction_length": 10**6}},
        {**GOOD, "parameters": {"prediction_length": 2, "dry_run": True}},
        GOOD,
    ]
    reply = client.post("/v1/forecast/batch", json={"requests": requests})
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    assert list(answer) == ["object", "data"]
    first, unknown, unreadable, nothing, too_far, planned, last = answer["data"]
    for made in (first, last):
        assert made["ok"]
        alone = client.post("/v1/forecast", json=GOOD).json()
        assert list(made["result"]) == list(alone)
        assert made["result"]["outputs"] == alone["outputs"]
        assert made["result"]["metadata"] == GOOD["metadata"]
    assert planned["result"]["dry_run"] is True
    failed = [unknown, unreadable, nothing, too_far]
    assert [item["ok"] for item in failed] == [False] * 4
    assert {item["error"]["endpoint"] for item in failed} == {"/v1/forecast"}
    codes = ["NOT_FOUND", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]
    assert [item["error"]["code"] for item in failed] == codes
    for item, request in zip(failed, requests[1:5], strict=True):  # as if each had been sent alone
        alone = client.post("/v1/forecast", content=json.dumps(request), headers=JSON).json()
        assert item["error"] == {name: alone[name] for name in item["error"]}


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b'{"requests":[]}', 422, "at least one"),
        (json.dumps({"requests": [GOOD] * 65}).encode(), 422, "/v1/jobs"),
        (json.dumps(GOOD).encode(), 422, "requests"),
        (b"[]", 422, "an object"),
        (b'{"requests":[{"model"', 400, "byte"),
    ],
)
def test_what_is_no_batch_fails_as_a_whole(client: httpx.Client, body: bytes, status: int, word: str) -> None:
    reply = client.post("/v1/forecast/batch", content=body, headers=JSON)
    assert reply.status_code == status
    assert word in reply.json()["error"]
    assert reply.json()["endpoint"] == "/v1/forecast/batch"


def test_a_full_batch_of_many_series_is_answered_while_small_callers_are(gateway: Gateway) -> None:
    rows = np.random.default_rng(0).normal(100, 10, (16, 1024)).round(3)
    series = ",".join('{"target":[' + ",".join(f"[{v}]" for v in row) + "]}" for row in rows.tolist())
    one = f'{{"model":"seasonal-naive","parameters":{{"prediction_length":24}},"inputs":[{series}]}}'
    body = f'{{"requests":[{",".join([one] * 64)}]}}'.encode()
    answers: list[httpx.Response] = []

    def ask() -> None:
        with gateway.client() as caller:
            answers.append(caller.post("/v1/forecast/batch", content=body, headers=JSON))

    large = threading.Thread(target=ask)
    served_before = 0
    with gateway.client() as small:
        large.start()
        while large.is_alive():
            assert small.post("/v1/forecast", json=GOOD).status_code == 200
            served_before += not answers
    (answer,) = answers
    data = answer.json()["data"]
    assert [len(item["result"]["outputs"]) for item in data] == [16] * 64
    assert served_before >= 3


def test_the_client_speaks_every_operation(caller: Client) -> None:
    good, bad = caller.batch([GOOD, {**GOOD, "model": "no/such-model"}])
    assert good.result is not None
    assert (good.result.model, len(good.result.outputs[0].mean)) == (NAIVE, 2)
    assert bad.error is not None
    assert bad.error.code == "NOT_FOUND"
    models, weekly = ["seasonal-naive", "no/such-model"], {"frequency": "D"}
    blend = caller.ensemble(SEASONS, prediction_length=7, models=models, parameters=weekly, controls={"windows": 2})
    assert [r.model for r in blend.ranked_results] == [NAIVE, "no/such-model"]
    assert blend.ensemble_result.model == "ensemble"
    assert [row[0] for row in blend.ensemble_result.outputs[0].mean] == pytest.approx([0, 1, 2, 3, 4, 5, 6])
    scored = caller.backtest("seasonal-naive", SEASONS, prediction_length=7, windows=2, parameters=weekly)
    assert [w.cutoff for w in scored.outputs[0].windows] == [56, 63]
    assert scored.metrics["mae"] == 0.0
    spiked = [{**SEASONS[0], "target": [*SEASONS[0]["target"][:60], [40.0], *SEASONS[0]["target"][61:]]}]
    found = caller.detect_anomalies("bolt-nano", spiked, parameters=weekly)
    assert 60 in [a.index for a in found.outputs[0].anomalies]
    with pytest.raises(ClientError, match="longer than"):
        caller.ensemble([{"target": [[1], [2]]}], prediction_length=7)


def test_the_known_caller_of_ensembles_is_understood(client: httpx.Client) -> None:
    """It sends `freq` and `quantiles` beside the inputs, and reads mean, quantiles and the names of the models."""
    series = [{"item_id": "a", "target": SEASONS[0]["target"], "start": "2026-03-02"}]
    sent = {"models": ["seasonal-naive"], "inputs": series, "freq": "D", "quantiles": [0.05, 0.5, 0.95], "horizon": 3}
    answer = client.post("/v1/forecast/ensemble", json=sent).json()
    output = answer["ensemble_result"]["outputs"][0]
    assert len(output["mean"]) == 3
    assert [q["level"] for q in output["quantile_predictions"]] == [0.05, 0.5, 0.95]
    assert output["metadata"] == {"item_id": "a"}
    assert output["timestamps"][0] == "2026-05-11T00:00:00Z"
    assert [r["model"] for r in answer["ranked_results"]] == [NAIVE]
