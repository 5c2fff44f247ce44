"""NixtlaClient, unchanged, against a live gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from tests.clients import python_of, run
from tests.serving import Gateway

CALLS = Path(__file__).parents[1] / "clients" / "nixtla_calls.py"
ROWS, H = 120, 7
NAMES = ["a"] * H + ["b"] * H


@pytest.fixture(scope="module")
def said(gateway: Gateway) -> dict[str, Any]:
    """All that the client made of the gateway, in one process: importing it takes seconds."""
    answer: dict[str, Any] = json.loads(run([python_of("datarobot-nixtla-boto3"), CALLS, gateway.base_url]))
    return answer


def series(level: float) -> list[float]:
    """The numbers that the client sends: it writes float32."""
    steps = np.arange(ROWS)
    values = np.round(level + 10 * np.sin(steps / 7 * 2 * np.pi) + 0.1 * steps, 3).astype(np.float32)
    return [float(str(v)) for v in values]


@pytest.fixture(scope="module")
def canonical(gateway: Gateway) -> dict[float, list[float]]:
    """Mean (as level 0) and quantiles of `/v1/forecast`, series after series."""
    body = {
        "model": "default",
        "inputs": [{"target": [[v] for v in series(level)]} for level in (50, 80)],
        "parameters": {"prediction_length": H, "frequency": "D", "quantile_levels": [0.0475, 0.1, 0.5, 0.9, 0.9525]},
    }
    with gateway.client() as caller:
        outputs = caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"]
    found = {0.0: [row[0] for output in outputs for row in output["mean"]]}
    for output in outputs:
        for quantile in output["quantile_predictions"]:
            found.setdefault(quantile["level"], []).extend(row[0] for row in quantile["values"])
    return found


def test_levels_are_the_quantiles_of_the_canonical_contract(
    said: dict[str, Any], canonical: dict[float, list[float]]
) -> None:
    levels = said["levels"]
    assert levels["unique_id"] == NAMES
    assert levels["ds"][:2] == ["2024-04-30 00:00:00", "2024-05-01 00:00:00"]
    assert levels["TimeGPT"] == canonical[0.0]
    assert levels["TimeGPT-lo-80"] == canonical[0.1]
    assert levels["TimeGPT-hi-80"] == canonical[0.9]
    assert levels["TimeGPT-lo-90.5"] == canonical[0.0475]
    assert levels["TimeGPT-hi-90.5"] == canonical[0.9525]


def test_quantiles_too(said: dict[str, Any], canonical: dict[float, list[float]]) -> None:
    columns = {f"TimeGPT-q-{percent}": canonical[percent / 100] for percent in (10, 90)}
    assert {name: said["quantiles"][name] for name in columns} == columns
    assert said["quantiles"]["TimeGPT-q-50"] == canonical[0.0]
    assert said["parts"]["TimeGPT"] == canonical[0.0]


def test_exogenous_features_come_with_their_futures(said: dict[str, Any], gateway: Gateway) -> None:
    """Features known ahead come first, then those of the past only."""
    steps = np.arange(ROWS)
    inputs = [
        {
            "target": [[v] for v in series(level)],
            "past_covariates": {
                "promo": (steps % 2).tolist(),
                "temperature": (steps * 0.1).astype(np.float32).tolist(),
            },
            "future_covariates": {"promo": [1, 0, 1, 0, 1, 0, 1]},
        }
        for level in (50, 80)
    ]
    parameters = {"prediction_length": H, "frequency": "D", "quantile_levels": [0.1]}
    with gateway.client() as caller:
        body = {"model": "default", "inputs": inputs, "parameters": parameters}
        outputs = caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"]
    lower = [row[0] for output in outputs for row in output["quantile_predictions"][0]["values"]]
    assert said["exogenous"]["TimeGPT-lo-80"] == pytest.approx(lower, rel=1e-6)
    assert len(said["dates"]["TimeGPT"]) == 2 * H
    assert np.isfinite(said["holes"]["TimeGPT"]).all()


def test_folds_stand_where_they_were_cut(said: dict[str, Any], gateway: Gateway) -> None:
    folds = said["folds"]
    assert folds["unique_id"] == ["a"] * 3 * H + ["b"] * 3 * H
    assert [c[:10] for c in folds["cutoff"][::H][:3]] == ["2024-04-12", "2024-04-17", "2024-04-22"]
    assert folds["ds"][0][:10] == "2024-04-13"
    sent = series(50)
    assert folds["y"][:H] == pytest.approx(sent[103:110], rel=1e-6)
    with gateway.client() as caller:
        body = {
            "model": "default",
            "inputs": [{"target": [[v] for v in sent[:103]]}],
            "parameters": {"prediction_length": H, "frequency": "D", "quantile_levels": [0.1, 0.9]},
        }
        first = caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"][0]
    assert folds["TimeGPT"][:H] == pytest.approx([row[0] for row in first["mean"]], rel=1e-5)
    assert folds["TimeGPT-hi-80"][:H] == pytest.approx(
        [row[0] for row in first["quantile_predictions"][1]["values"]], rel=1e-5
    )
    assert len(said["folds_exogenous"]["TimeGPT"]) == 2 * 2 * H


def test_history_ends_where_the_forecast_begins(said: dict[str, Any]) -> None:
    history = said["history"]
    ours = [ds[:10] for ds, name in zip(history["ds"], history["unique_id"], strict=True) if name == "a"]
    assert ours == sorted(ours)
    assert ours[-1] == "2024-05-06"
    assert len(ours) > H


def test_an_outlier_is_an_anomaly(said: dict[str, Any]) -> None:
    found = said["anomalies"]
    assert {"TimeGPT-lo-99", "TimeGPT-hi-99"} <= set(found)
    at = [i for i, y in enumerate(found["y"]) if y == 500]
    assert len(at) == 2
    assert all(found["anomaly"][i] for i in at)
    assert sum(found["anomaly"]) < len(found["anomaly"]) / 4
    outside = [
        not lo <= y <= hi for y, lo, hi in zip(found["y"], found["TimeGPT-lo-99"], found["TimeGPT-hi-99"], strict=True)
    ]
    assert outside == found["anomaly"]


def test_large_bodies_come_compressed(said: dict[str, Any]) -> None:
    assert said["compressed"] == 1200


def test_the_client_learns_of_key_usage_and_models(said: dict[str, Any]) -> None:
    assert said["valid"] is True
    assert said["usage"]["minute"]["limit"] > 0
    assert said["usage"]["month"]["consumed"] > 10
    assert {"forecast-gateway/seasonal-naive", "amazon/chronos-bolt-small"} <= set(said["models"])


def test_what_is_refused_is_raised_at_once(said: dict[str, Any]) -> None:
    kind, status, body = said["unknown"]
    assert (kind, status) == ("ApiError", 404)
    assert body["detail"].startswith("There is no model 'nope'.")
    kind, status, body = said["too_far"]
    assert (kind, status) == ("ApiError", 422)
    assert body["detail"].startswith("h: ")


def test_a_compressed_body_need_not_say_its_size(gateway: Gateway) -> None:
    body = json.dumps({"series": {"y": [1.0, 2.0, None] * 1000, "sizes": [3000]}, "h": 1, "freq": "D"}).encode()
    packed = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(body)
    assert zstandard.get_frame_parameters(packed).content_size == zstandard.CONTENTSIZE_UNKNOWN
    with gateway.client() as caller:
        plain = caller.post("/v2/forecast", content=body).raise_for_status().json()
        answer = caller.post("/v2/forecast", content=packed, headers={"content-encoding": "zstd"})
    assert answer.json()["mean"] == plain["mean"]
