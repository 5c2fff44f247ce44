"""A gateway whose model waits at a gate, shared by the tests of jobs."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.live.gated import Gate
from tests.live.jobs import GATED, LENGTH
from tests.serving import Gateway, serving


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    return Gate.make(tmp_path_factory.mktemp("gate") / "gate")


@pytest.fixture(scope="session")
def jobs_gateway(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[Gateway]:
    """A gateway with a gated model, whose callbacks may go to this machine."""
    card = {
        "title": "Gated",
        "family": "gated",
        "adapter": "tests.live.gated:Gated",
        "adapter_options": {"folder": str(gate.folder), "length": LENGTH},
        "licence": {"id": "none"},
        "max_context": 1000,
        "max_horizon": 10,
        "batching": {"pool": "statistical"},
    }
    config = {
        "server": {"shutdown_grace_s": 2.0},
        "engine": {"statistical_workers": 2, "workers": 1},
        "jobs": {"webhook_allow_private": True},
        "models": {GATED: card},
    }
    with serving(tmp_path_factory.mktemp("jobs"), config=config) as running:
        yield running


@pytest.fixture
def jobs_client(jobs_gateway: Gateway) -> Iterator[httpx.Client]:
    """A caller of `jobs_gateway`."""
    with jobs_gateway.client() as caller:
        yield caller
