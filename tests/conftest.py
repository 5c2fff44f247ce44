"""One live gateway for all tests: real processes, a real port, small checkpoints of the seed's models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import Gateway, serving, small_models

SEED_MODELS = ("amazon/chronos-bolt-small", "google/timesfm-2.0-500m-pytorch")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty `weights_dir`."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Gateway]:
    """A gateway that is ready: seasonal naive, and the seed's models on small checkpoints."""
    config = {
        "engine": {"weights_dir": str(weights), "workers": 1, "statistical_workers": 1},
        "models": small_models(SEED_MODELS, weights),
    }
    with serving(tmp_path_factory.mktemp("gateway"), config=config) as running:
        with running.client() as operator:
            for model in SEED_MODELS:
                operator.post(f"/api/models/{model}/load").raise_for_status()
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """A caller of `gateway`."""
    with gateway.client() as caller:
        yield caller
