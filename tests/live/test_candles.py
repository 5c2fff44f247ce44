"""Candles over the wire: channels by name, a calendar, and paths on demand."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.serving import serving, small_models

MODEL = "NeoQuasar/Kronos-mini"


@pytest.fixture(scope="module")
def kronos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A caller of a gateway that has loaded a small Kronos."""
    weights = tmp_path_factory.mktemp("kronos-weights")
    config = {
        "engine": {"weights_dir": str(weights), "workers": 1, "statistical_workers": 1},
        "models": small_models([MODEL], weights),
    }
    with serving(tmp_path_factory.mktemp("kronos"), config=config) as running, running.client() as caller:
        caller.post(f"/api/models/{MODEL}/load").raise_for_status()
        yield caller


def asked(names: list[str] | None, order: list[int], **parameters: object) -> dict[str, object]:
    """A request for 30 candles whose columns stand in `order`."""
    close = 100 + np.random.default_rng(3).normal(size=30).cumsum()
    candles = np.stack([close - 0.3, close + 1, close - 1, close, np.arange(30) % 7 * 10.0], axis=1)[:, order]
    inputs = {"target": candles.tolist(), "start": "2024-02-28T20:00:00+01:00"}
    if names is not None:
        inputs["channels"] = names
    parameters = {"prediction_length": 3, "frequency": "5min", "seed": 7, **parameters}
    return {"model": MODEL, "inputs": [inputs], "parameters": parameters}


def forecast(kronos: httpx.Client, body: dict[str, object]) -> dict[str, object]:
    answer = kronos.post("/v1/forecast", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"][0]


def test_channels_come_back_in_the_callers_order(kronos: httpx.Client) -> None:
    plain = forecast(kronos, asked(None, [0, 1, 2, 3, 4]))
    names = ["volume", "close", "low", "high", "open"]
    turned = forecast(kronos, asked(names, [4, 3, 2, 1, 0]))
    assert np.array_equal(np.array(turned["mean"])[:, ::-1], plain["mean"])
    assert plain["timestamps"][0] == "2024-02-28T22:30:00+01:00"
    assert "samples" not in plain


def test_every_path_comes_where_it_is_asked_for(kronos: httpx.Client) -> None:
    output = forecast(kronos, asked(None, [0, 1, 2, 3], num_samples=9, temperature=0.8, top_p=0.9))
    samples = np.array(output["samples"])
    assert samples.shape == (9, 3, 4)
    assert np.allclose(samples.mean(axis=0), output["mean"])
    again = forecast(kronos, asked(None, [0, 1, 2, 3], num_samples=9, temperature=0.8, top_p=0.9))
    assert np.array_equal(again["samples"], samples)
    greedy = np.array(forecast(kronos, asked(None, [0, 1, 2, 3], num_samples=4, top_k=1))["samples"])
    assert (greedy == greedy[0]).all()


def test_candles_without_a_price_are_refused(kronos: httpx.Client) -> None:
    answer = kronos.post("/v1/forecast", json=asked(["open", "high", "close"], [0, 1, 3]))
    assert answer.status_code == 422
    assert "low missing" in answer.json()["detail"][0]["msg"]


def test_the_time_of_a_candle_changes_its_forecast(kronos: httpx.Client) -> None:
    body = asked(None, [0, 1, 2, 3], num_samples=20)
    other = asked(None, [0, 1, 2, 3], num_samples=20)
    other["inputs"][0]["start"] = "2024-06-03T09:30:00+01:00"
    assert forecast(kronos, body)["mean"] != forecast(kronos, other)["mean"]
    del other["inputs"][0]["start"]
    assert any("2024-01-01" in notice for notice in forecast(kronos, other)["notices"])
