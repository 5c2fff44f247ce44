"""One live gateway for all tests: real processes, a real port, small checkpoints of the seed's models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deployments import DEPLOYMENTS
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
        "deployments": DEPLOYMENTS,
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


# -- skips ---

_ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true a skip whose reason is not in allowed_skips.txt fails the run: nothing goes untested unseen."""
    if os.environ.get("CI") != "true":
        return
    allowed = [line for line in _ALLOWED_SKIPS.read_text().splitlines() if line and not line.startswith("#")]
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not isinstance(session.exitstatus, int):
        return
    reasons = {str(r.longrepr[2]) for r in reporter.stats.get("skipped", []) if isinstance(r.longrepr, tuple)}
    unexpected = sorted(r for r in reasons if not any(a in r for a in allowed))
    for reason in unexpected:
        reporter.write_line(f"a skip that allowed_skips.txt does not hold: {reason}", red=True)
    if unexpected and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
