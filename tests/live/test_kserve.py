"""KServe's own package against a live gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.dialects.kserve.examples import FORECAST, ODD
from tests.clients import python_of, run
from tests.contract.dialects import holds
from tests.seeds import json_objects, seed_text
from tests.serving import Gateway

CALLS = Path(__file__).parents[1] / "clients" / "kserve_calls.py"
PATH = "/v1/timeseries/forecast"
MODELS = ("timesfm2", "timesfm", "google/timesfm-2.0-500m-pytorch", "seasonal-naive")

# What this gateway takes though the package's types do not: the reference prints member names, `DAY` for `day`.
TAKEN = {"A frequency of the wrong case: words are taken"}
# What it refuses though the types take it: a 1e999 is infinity there, and then 500; metadata and NaN likewise.
REFUSED = {"A number beyond 64 bits", "NaN, which is not JSON"}


@pytest.fixture(scope="module")
def said(gateway: Gateway) -> dict[str, Any]:
    """All that the package made of the gateway, in one process: importing it takes seconds."""
    odd = [row.content.decode() for row in ODD if row.method == "POST"]
    request = json.loads(FORECAST[0].request)
    asked = json.dumps({"request": request, "models": MODELS, "unknown": "nope", "odd": odd})
    answer: dict[str, Any] = json.loads(run([python_of("kserve"), CALLS, gateway.base_url], stdin=asked))
    return answer


def test_its_probes_find_the_gateway_live_and_ready(said: dict[str, Any]) -> None:
    assert said["live"] == [True, True]
    assert said["ready"] is True
    assert said["models"] == [[True, True]] * len(MODELS)
    status, sentence = said["unknown"]
    assert status == 404
    assert sentence.startswith("Model with name nope does not exist.")


def test_its_types_read_the_printed_exchange(said: dict[str, Any]) -> None:
    (printed,) = [o for o in json_objects(seed_text("kserve-timeseries-api.md")) if "usage" in o]
    answer = said["answer"]
    holds(answer, printed)
    starts = [output["content"][0]["start_timestamp"] for output in answer["outputs"]]
    assert starts == ["2025-06-12T13:10:00Z", "2025-06-05T18:10:00Z"]
    assert answer["metadata"] == {"request_id": "user_defined_request_id", "other_data": "value"}


def test_its_client_raises_what_is_refused(said: dict[str, Any]) -> None:
    status, sentence = said["refused"]
    assert status == 400
    assert "invalid_horizon" in sentence


def test_its_calendar_is_ours(said: dict[str, Any]) -> None:
    """Every frequency in both spellings, from month ends and leap days, as its own table of steps has it."""
    assert len(said["expected"]) == 16 * 4 * 3
    assert said["stamps"] == said["expected"]


def test_its_types_judge_odd_bodies_as_we_do(said: dict[str, Any]) -> None:
    rows = [row for row in ODD if row.method == "POST"]
    for row, accepted in zip(rows, said["accepted"], strict=True):
        expected = (row.status != 422 or row.sent in REFUSED) and row.sent not in TAKEN
        assert accepted == expected, row.sent


def test_the_printed_request_is_accepted_as_printed(gateway: Gateway) -> None:
    """The body of the reference's curl command, byte for byte."""
    text = seed_text("kserve-timeseries-api.md")
    body = text.partition("-d '")[2].partition("'\n")[0]
    with gateway.client() as client:
        answer = client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["status"] == "completed"
