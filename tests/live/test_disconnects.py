"""A caller that leaves frees what it held; one that is waited for is answered before the gateway stops."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.live.gated import Gate
from tests.serving import Gateway, serving

LENGTH = 33  # rows of a series that stops at the gate
JSON = {"content-type": "application/json"}
HEAD = "POST /v1/forecast HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate.make(tmp_path / "gate")


@pytest.fixture
def gated(tmp_path: Path, gate: Gate) -> Iterator[Gateway]:
    """A gateway with one worker, a model that waits at `gate`, and little patience when it stops."""
    options = {"folder": str(gate.folder), "length": LENGTH}
    card = {
        "title": "Gated",
        "family": "gated",
        "adapter": "tests.live.gated:Gated",
        "adapter_options": options,
        "licence": {"id": "none"},
        "max_context": 1000,
        "max_horizon": 10,
        "batching": {"pool": "statistical"},
    }
    config = {
        "server": {"shutdown_grace_s": 2.0},
        "engine": {"statistical_workers": 1, "workers": 1},
        "models": {"test/gated": card},
    }
    with serving(tmp_path / "gateway", config=config) as running:
        yield running


def body(rows: int) -> bytes:
    target = [[float(i)] for i in range(rows)]
    return json.dumps(
        {"model": "test/gated", "inputs": [{"target": target}], "parameters": {"prediction_length": 1}}
    ).encode()


def test_a_caller_that_leaves_frees_the_worker_for_others(gated: Gateway, gate: Gate) -> None:
    """The gate is never opened: only giving the batch up can free the one worker."""
    leaving = socket.create_connection(gated.address, timeout=60)
    leaving.sendall(HEAD.format(len(body(LENGTH))).encode() + body(LENGTH))
    gate.wait_until_started()
    leaving.close()
    with gated.client() as staying:
        assert staying.post("/v1/forecast", content=body(5), headers=JSON).status_code == 200
    assert gated.metric("gateway_requests_total", code="CLIENT_LEFT", model="test/gated") == 1
    assert gated.metric("gateway_queue_series") == 0


@pytest.mark.parametrize(("finishes", "status"), [(True, 200), (False, 503)])
def test_what_was_accepted_is_answered_before_the_gateway_stops(
    gated: Gateway, gate: Gate, finishes: bool, status: int
) -> None:
    answers: list[httpx.Response] = []

    def ask() -> None:
        with gated.client() as caller:
            answers.append(caller.post("/v1/forecast", content=body(LENGTH), headers=JSON))

    caller = threading.Thread(target=ask)
    caller.start()
    gate.wait_until_started()
    gated.process.send_signal(signal.SIGTERM)
    if finishes:
        gate.open()
    caller.join(60)
    assert [a.status_code for a in answers] == [status]
    assert gated.process.wait(60) == 0
