"""Forecasts over a real port: the seed's requests as printed, both media types, both encodings, every header."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import zstandard

from tests.seeds import seed_body
from tests.serving import Gateway

NAIVE = "forecast-gateway/seasonal-naive"
REQUEST = {
    "model": "seasonal-naive",
    "inputs": [{"start": "2026-02-27", "target": [[1], [2], [3], [4.5]], "metadata": {"item_id": "a"}}],
    "parameters": {"prediction_length": 3, "frequency": "D"},
}


def numbers(value: object) -> Iterator[float]:
    """Every number of a decoded body."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner)


def shape(matrix: list[list[float]]) -> tuple[int, int]:
    return len(matrix), len(matrix[0])


@pytest.mark.parametrize("title", ["forecast.request.json", "forecast-minimal.request.json"])
def test_the_seeds_requests_run_as_printed(client: httpx.Client, title: str) -> None:
    request: Any = seed_body(title)
    answer = client.post("/v1/forecast", json=request)
    assert answer.status_code == 200, answer.text
    body, horizon = answer.json(), request["parameters"]["prediction_length"]
    assert body["object"] == "forecast"
    assert body["model"] == request["model"]
    assert body["horizon"] == body["prediction_length"] == horizon
    assert body["quantile_levels"] == [0.1, 0.5, 0.9]
    (output,) = body["outputs"]
    assert output["metadata"] == request["inputs"][0]["metadata"]
    assert shape(output["mean"]) == (horizon, 1)
    assert [q["level"] for q in output["quantile_predictions"]] == [0.1, 0.5, 0.9]
    assert {shape(q["values"]) for q in output["quantile_predictions"]} == {(horizon, 1)}
    assert all(map(math.isfinite, numbers(body)))
    assert body["usage"]["output_tokens"] == horizon * 3


def test_the_seeds_answer_has_no_field_and_no_timestamp_that_ours_lacks(client: httpx.Client) -> None:
    printed: Any = seed_body("forecast.response.json")
    ours = client.post("/v1/forecast", json=seed_body("forecast.request.json")).json()
    assert set(printed) <= set(ours)
    assert set(printed["outputs"][0]) <= set(ours["outputs"][0])
    assert printed["outputs"][0]["timestamps"] == ours["outputs"][0]["timestamps"]
    assert printed["metadata"] == ours["metadata"]


def test_an_answer_names_the_request_and_its_times(client: httpx.Client) -> None:
    answer = client.post("/v1/forecast", json=REQUEST, headers={"x-request-id": "order-7"})
    assert answer.headers["x-request-id"] == "order-7"
    timings = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert set(timings) == {"queue", "compute", "total"}
    assert 0 <= float(timings["compute"]) <= float(timings["total"])
    assert answer.json()["model"] == NAIVE


def test_msgpack_is_answered_in_kind(client: httpx.Client) -> None:
    headers = {"content-type": "application/msgpack"}
    answer = client.post("/v1/forecast", content=msgspec.msgpack.encode(REQUEST), headers=headers)
    assert answer.headers["content-type"] == "application/msgpack"
    same = client.post("/v1/forecast", json=REQUEST).json()
    assert msgspec.msgpack.decode(answer.content)["outputs"] == same["outputs"]


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_bodies_are_compressed_both_ways(client: httpx.Client, encoding: str, encode: Any) -> None:
    request = {**REQUEST, "parameters": {"prediction_length": 200}}
    plain = client.post("/v1/forecast", json=request, headers={"accept-encoding": "identity"})
    packed = client.post(
        "/v1/forecast",
        content=encode(msgspec.json.encode(request)),
        headers={"content-encoding": encoding, "accept-encoding": encoding, "content-type": "application/json"},
    )
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == encoding
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert packed.json()["outputs"] == plain.json()["outputs"]


def test_a_deadline_that_has_passed_is_told(client: httpx.Client) -> None:
    late = client.post("/v1/forecast", json=REQUEST, headers={"x-request-timeout-ms": "0.001"})
    assert (late.status_code, late.json()["code"]) == (504, "DEADLINE_EXCEEDED")
    odd = client.post("/v1/forecast", json=REQUEST, headers={"x-request-timeout-ms": "soon"})
    assert (odd.status_code, odd.json()["code"]) == (422, "INVALID_ARGUMENT")


def test_what_is_refused_never_reaches_the_engine(gateway: Gateway, client: httpx.Client) -> None:
    client.post("/v1/forecast", json=REQUEST)
    batches = gateway.metric("gateway_batch_series_count")
    refused = [
        {**REQUEST, "model": "nowhere/to-be-found"},
        {**REQUEST, "inputs": []},
        {**REQUEST, "parameters": {"prediction_length": 0}},
        {**REQUEST, "parameters": {"prediction_length": 10**9}},
        {**REQUEST, "inputs": [REQUEST["inputs"][0], {"target": [["a"]]}]},  # type: ignore[index]
    ]
    for body in refused:
        assert client.post("/v1/forecast", json=body).is_client_error
    dry = {**REQUEST, "parameters": {"prediction_length": 3, "dry_run": True}}
    assert client.post("/v1/forecast", json=dry).json()["dry_run"] is True
    assert gateway.metric("gateway_batch_series_count") == batches


def test_metrics_count_by_model_and_code_without_names_of_callers_making(
    gateway: Gateway, client: httpx.Client
) -> None:
    done = gateway.metric("gateway_requests_total", model=NAIVE, code="OK", endpoint="/v1/forecast")
    read = gateway.metric("gateway_tokens_total", model=NAIVE, direction="input")
    client.post("/v1/forecast", json=REQUEST)
    client.post("/v1/forecast", json={**REQUEST, "model": "made-up-by-a-caller"})
    assert gateway.metric("gateway_requests_total", model=NAIVE, code="OK", endpoint="/v1/forecast") == done + 1
    assert gateway.metric("gateway_tokens_total", model=NAIVE, direction="input") == read + 4
    page = client.get("/metrics")
    assert "made-up-by-a-caller" not in page.text
    assert page.headers["content-type"].startswith("text/plain")
