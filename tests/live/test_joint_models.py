"""Chronos-2 and TimesFM 3.0 over a real port: covariates by name, cross-learning in one request, and a licence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from adapters.base import Adapter, Batch, Device, Series, SeriesForecast
from adapters.loading import load
from tests.serving import packaged, serving, small_models

CHRONOS, TIMESFM = "autogluon/chronos-2-small", "google/timesfm-3.0-pytorch"


@dataclass(frozen=True)
class Bench:
    """A gateway's caller, and the adapter of the checkpoint that it serves as Chronos-2."""

    client: httpx.Client
    chronos: Adapter

    def forecast(self, model: str, inputs: list[dict[str, object]], **parameters: object) -> list[dict[str, object]]:
        """The outputs of a forecast of eight steps and its median."""
        wanted = {"prediction_length": 8, "quantile_levels": [0.5], **parameters}
        answer = self.client.post("/v1/forecast", json={"model": model, "inputs": inputs, "parameters": wanted})
        assert answer.status_code == 200, answer.text
        outputs: list[dict[str, object]] = answer.json()["outputs"]
        return outputs


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    weights: Path = tmp_path_factory.mktemp("weights")
    engine = {"weights_dir": str(weights), "workers": 1, "accept_licences": [TIMESFM]}
    config = {"engine": engine, "models": small_models((CHRONOS, TIMESFM), weights)}
    with serving(tmp_path_factory.mktemp("gateway"), config=config) as running, running.client() as client:
        for model in (CHRONOS, TIMESFM):
            client.post(f"/api/models/{model}/load").raise_for_status()
        card = packaged(CHRONOS)
        yield Bench(client, load(card, {"model": weights / card.weights["model"].repository}, Device()))


def rows(count: int, length: int) -> np.ndarray:
    """(count, length) of waves with noise."""
    noise = np.random.default_rng(0).normal(size=(count, length))
    found: np.ndarray = 10 + np.sin(np.arange(length) / 3) * np.arange(1, count + 1)[:, None] + noise
    return found


def test_the_list_tells_each_models_truth(bench: Bench) -> None:
    found = {one["id"]: one for one in bench.client.get("/api/models").json()["data"]}
    chronos, timesfm = found[CHRONOS], found[TIMESFM]
    for one in (chronos, timesfm):
        assert one["status"] == "ready"
        assert one["multivariate"] and one["joint_steps"]
        assert [one["covariates"][kind] for kind in ("past", "future", "static")] == ["native", "native", "ignored"]
    assert chronos["cross_learning"] and chronos["covariates"]["categorical"]
    assert not timesfm["cross_learning"] and not timesfm["covariates"]["categorical"]
    assert (len(chronos["quantile_levels"]), len(timesfm["quantile_levels"])) == (21, 9)
    assert (chronos["missing_values"], timesfm["missing_values"]) == ("native", "interpolated")
    assert (chronos["licence"]["commercial"], timesfm["licence"]["commercial"]) == (True, False)


def test_every_answer_of_the_non_commercial_model_says_so(bench: Bench) -> None:
    target = rows(1, 40).T.tolist()
    (output,) = bench.forecast(TIMESFM, [{"target": target, "static_covariates": {"size": 3}}])
    notices = " ".join(map(str, output["notices"])) if isinstance(output["notices"], list) else ""
    assert "not for commercial use" in notices
    assert "size" in notices, "static covariates are not used, and that is said"


def test_named_words_move_the_forecast_and_unused_covariates_are_named(bench: Bench) -> None:
    target = rows(2, 40).T.tolist()
    sky = ["sun", "rain"] * 20
    base = {
        "target": target,
        "past_covariates": {"sky": sky, "heat": list(range(40))},
        "static_covariates": {"size": 3},
    }
    outputs = bench.forecast(
        CHRONOS,
        [{**base, "future_covariates": {"sky": ["sun"] * 8}}, {**base, "future_covariates": {"sky": ["rain"] * 8}}],
    )
    assert outputs[0]["mean"] != outputs[1]["mean"]
    assert "size" in str(outputs[0]["notices"]) and "heat" not in str(outputs[0]["notices"])
    assert bench.forecast(TIMESFM, [{"target": target, "past_covariates": {"heat": list(range(40))}}])


def test_a_request_learns_as_one_however_large_and_beside_whatever_runs(bench: Bench) -> None:
    """More tokens than a batch has; the answer is the adapter's on the whole request as one group."""
    contexts = rows(90, 200)
    inputs: list[dict[str, object]] = [{"target": row[:, None].tolist()} for row in contexts]
    found = bench.forecast(CHRONOS, inputs, cross_learning=True)
    asked = [Series(target=row[None], horizon=8, levels=(0.5,), cross_learning=True) for row in contexts]
    expected = bench.chronos.predict(Batch(tuple(asked))).series
    apart = bench.forecast(CHRONOS, inputs)
    for output, one, alone in zip(found, expected, apart, strict=True):
        assert isinstance(one, SeriesForecast)
        assert np.allclose(np.array(output["mean"]), one.point, rtol=1e-4, atol=1e-4)
        assert not np.allclose(np.array(output["mean"]), np.array(alone["mean"]), rtol=1e-3)
