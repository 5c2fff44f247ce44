"""boto3 with a live gateway as its SageMaker runtime, and the gateway as a container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.dialects.sagemaker.examples import CONTAINER
from gateway.settings import resolve
from tests.clients import python_of, run
from tests.serving import Gateway

CALLS = Path(__file__).parents[1] / "clients" / "boto3_calls.py"
TARGET = [12.0, 14.5, 11.0, 13.0, 15.5, 12.5, 14.0, 16.5, 13.0, 15.0, 17.5, 14.0]
REQUEST = {
    "inputs": [{"target": TARGET, "item_id": "a", "start": "2024-01-31"}, {"target": [TARGET, TARGET[::-1]]}],
    "parameters": {"prediction_length": 3, "quantile_levels": [0.9, 0.1]},
}


@pytest.fixture(scope="module")
def said(gateway: Gateway) -> dict[str, Any]:
    body = json.dumps({**REQUEST, "inputs": [{"target": TARGET, "item_id": "a"}, REQUEST["inputs"][1]]})
    python = python_of("datarobot-nixtla-boto3")
    answer: dict[str, Any] = json.loads(run([python, CALLS, gateway.base_url, "default", body]))
    return answer


def test_boto3_gets_the_numbers_of_the_canonical_contract(said: dict[str, Any], gateway: Gateway) -> None:
    one, two = said["body"]["predictions"]
    inputs = [
        {"target": [[v] for v in TARGET]},
        {"target": [list(row) for row in zip(TARGET, TARGET[::-1], strict=True)]},
    ]
    parameters = {"prediction_length": 3, "quantile_levels": [0.1, 0.9]}
    with gateway.client() as caller:
        body = {"model": "default", "inputs": inputs, "parameters": parameters}
        first, second = caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"]
    assert list(one) == ["mean", "0.9", "0.1", "item_id"]
    assert one["mean"] == [row[0] for row in first["mean"]]
    assert one["0.1"] == [row[0] for row in first["quantile_predictions"][0]["values"]]
    assert one["item_id"] == "a"
    assert two["mean"] == [list(channel) for channel in zip(*second["mean"], strict=True)]
    assert two["0.9"] == [list(c) for c in zip(*second["quantile_predictions"][1]["values"], strict=True)]
    assert said["bare"] == said["body"]
    assert said["type"] == "application/json"
    assert said["request_id"]


def test_boto3_raises_a_model_error(said: dict[str, Any]) -> None:
    for name, status, told in (("refused", 422, "inputs"), ("unknown", 404, "nope")):
        code, http_status, original = said[name]
        assert (code, http_status) == ("ModelError", 424)
        assert original["OriginalStatusCode"] == status
        assert told in original["OriginalMessage"]


def test_a_container_answers_its_probe_and_invocations(client: httpx.Client) -> None:
    assert client.get("/ping").status_code == 200
    for example in CONTAINER:
        answer = client.post("/invocations", content=example.request, headers={"content-type": "application/json"})
        assert answer.status_code == 200
        assert len(answer.json()["predictions"]) == len(json.loads(example.request)["inputs"])


def test_a_level_beyond_the_trained_ones_is_answered_by_the_nearest(client: httpx.Client) -> None:
    body = {"inputs": [{"target": TARGET}], "parameters": {"prediction_length": 2, "quantile_levels": [0.01, 0.1]}}
    answer = client.post("/endpoints/chronos-bolt-small/invocations", json=body)
    (one,) = answer.raise_for_status().json()["predictions"]
    assert one["0.01"] == one["0.1"]
    assert "0.01" in answer.headers["x-forecast-notices"]


def test_the_port_of_a_container_is_the_environments() -> None:
    environ = {"SAGEMAKER_BIND_TO_PORT": "8080"}
    assert resolve(environ=environ).settings.server.port == 8080
    assert resolve(environ={**environ, "FORECAST_GATEWAY_PORT": "9000"}).settings.server.port == 9000
