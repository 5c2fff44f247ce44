"""Dialects on a live gateway: odd requests as told, and the numbers of `/v1/forecast` whatever the format.

Dialects that need settings of their own, such as deployments, are tested beside their clients.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.app import DIALECTS
from gateway.dialects.base import Dialect
from gateway.dialects.guide import OddRequest
from tests.contract.dialects import contains

PLAIN = ("kserve", "chronos2-server")  # on any gateway
ROWS = [(dialect, row) for dialect in DIALECTS if dialect.name in PLAIN for row in dialect.guide.odd]
MODEL = "default"
LEVELS = [0.1, 0.5, 0.9]
SERIES = [round(100 + i + 8 * np.sin(i / 3), 3) for i in range(96)]


@pytest.mark.parametrize(("dialect", "row"), ROWS, ids=lambda v: v.name if isinstance(v, Dialect) else v.sent)
def test_an_odd_request_is_answered_as_told(client: httpx.Client, dialect: Dialect, row: OddRequest) -> None:
    """The table of the dialect's page: in the dialect's own shape, and never a 500."""
    answer = client.request(row.method, row.path, content=row.content)
    assert answer.status_code == row.status, answer.text
    contains(answer.json(), json.loads(bytes(row.answer)))


@pytest.fixture(scope="module")
def canonical(gateway: object) -> dict[float, list[float]]:
    """The quantiles of `/v1/forecast`, by level."""
    body = {
        "model": MODEL,
        "inputs": [{"target": [[v] for v in SERIES], "start": "2025-01-01"}],
        "parameters": {"prediction_length": 12, "frequency": "D", "quantile_levels": [0.05, *LEVELS, 0.95]},
    }
    with gateway.client() as caller:  # type: ignore[attr-defined]
        output = caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"][0]
    found = {q["level"]: [row[0] for row in q["values"]] for q in output["quantile_predictions"]}
    return {**found, -1: [row[0] for row in output["mean"]]}


def test_kserve_gives_the_numbers_of_the_canonical_contract(
    client: httpx.Client, canonical: dict[float, list[float]]
) -> None:
    shown = {"type": "univariate_time_series", "name": "a", "frequency": "D", "start_timestamp": "2025-01-01T00:00:00Z"}
    inputs = [
        {**shown, "series": SERIES},
        {**shown, "type": "multivariate_time_series", "series": [[v] for v in SERIES]},
    ]
    body = {"model": MODEL, "inputs": inputs, "options": {"horizon": 12, "quantiles": [*LEVELS[::-1], 0.05, 0.95]}}
    one, rows = client.post("/v1/timeseries/forecast", json=body).raise_for_status().json()["outputs"]
    content = one["content"][0]
    assert content["mean_forecast"] == canonical[-1]
    assert content["quantiles"] == {str(level): canonical[level] for level in (*LEVELS, 0.05, 0.95)}
    assert rows["content"][0]["mean_forecast"] == [[v] for v in canonical[-1]]


def test_the_chronos2_server_gives_the_numbers_of_the_canonical_contract(
    client: httpx.Client, canonical: dict[float, list[float]]
) -> None:
    body = {"values": SERIES, "prediction_length": 12}
    one = client.post("/forecast/univariate", json=body).raise_for_status().json()
    assert one["median"] == canonical[0.5]
    assert one["quantiles"] == {str(level): canonical[level] for level in LEVELS}
    many = {"series_list": [{"values": SERIES[:50]}, {"values": SERIES}], "prediction_length": 12}
    assert client.post("/forecast/multi-series", json=many).raise_for_status().json()["results"][1] == one


def test_its_anomalies_and_backtest_are_held_against_that_forecast(
    client: httpx.Client, canonical: dict[float, list[float]]
) -> None:
    recent = [v + 1 for v in canonical[0.5]]
    body = {"context_values": SERIES, "recent_observed": recent, "prediction_length": 12}
    points = client.post("/anomaly/detect", json=body).raise_for_status().json()["anomalies"]
    for level, name in ((0.05, "lower_bound"), (0.5, "expected"), (0.95, "upper_bound")):
        assert [p[name] for p in points] == canonical[level]
    body = {"context_values": SERIES, "actual_values": recent, "prediction_length": 12}
    scores = client.post("/backtest/simple", json=body).raise_for_status().json()
    assert scores["forecast"] == canonical[0.5]
    assert (scores["mae"], scores["rmse"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert scores["errors"] == pytest.approx([1.0] * 12)


KSERVE_BODY: dict[str, Any] = {
    "model": "seasonal-naive",
    "inputs": [{"type": "univariate_time_series", "name": "a", "series": [1, 2, 3], "frequency": "D"}],
    "options": {"horizon": 1},
}
CHRONOS_BODY = {"values": [1, 2, 3], "prediction_length": 1}


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({"host": "elsewhere.example"}, 403, "permission_denied"),
        ({"content-encoding": "br"}, 415, "unsupported_media_type"),
        ({"x-request-timeout-ms": "0.001"}, 504, "deadline_exceeded"),
    ],
)
def test_errors_of_the_gateway_take_the_shape_of_the_dialect(
    client: httpx.Client, headers: dict[str, str], status: int, kind: str
) -> None:
    answer = client.post("/v1/timeseries/forecast", json=KSERVE_BODY, headers=headers)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["type"], set(error)) == (str(status), kind, {"code", "message", "param", "type"})
    answer = client.post("/forecast/univariate", json=CHRONOS_BODY, headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert isinstance(answer.json()["detail"], str)


def test_a_model_without_weights_is_503_for_all_inputs(client: httpx.Client) -> None:
    body = {**KSERVE_BODY, "model": "amazon/chronos-t5-large", "inputs": KSERVE_BODY["inputs"] * 2}
    answer = client.post("/v1/timeseries/forecast", json=body)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "unavailable"


def test_a_models_own_bounds_are_400_for_all_inputs(client: httpx.Client) -> None:
    body = {**KSERVE_BODY, "model": "timesfm2", "inputs": KSERVE_BODY["inputs"] * 2, "options": {"horizon": 100_000}}
    answer = client.post("/v1/timeseries/forecast", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_horizon"


def test_a_thousand_inputs_are_a_thousand_outputs_in_order(client: httpx.Client) -> None:
    shown = KSERVE_BODY["inputs"][0]
    inputs = [{**shown, "name": str(i), "series": [i, i, i]} for i in range(1000)]
    outputs = client.post("/v1/timeseries/forecast", json={**KSERVE_BODY, "inputs": inputs}).json()["outputs"]
    told = [(o["content"][0]["name"], o["content"][0]["mean_forecast"]) for o in outputs]
    assert told == [(str(i), [i]) for i in range(1000)]
    assert len({o["id"] for o in outputs}) == 1000
