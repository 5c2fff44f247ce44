"""A job that is over is told to its callback, signed with the secret of whoever handed it in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

import httpx
import pytest

from tests.live.jobs import ended, request, submitted
from tests.receiver import Received, receiving
from tests.serving import serving

HANG_S = 60.0


def is_signed(callback: Received, secret: str) -> bool:
    """As a Standard Webhooks library checks it."""
    told = callback.headers
    signed = f"{told['webhook-id']}.{told['webhook-timestamp']}.".encode() + callback.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in told["webhook-signature"].split()


def test_a_callback_holds_the_job_and_a_signature(jobs_client: httpx.Client) -> None:
    secret = jobs_client.get("/api/account/webhook-secret").json()["secret"]
    with receiving() as receiver:
        job = submitted(jobs_client, "forecast", request(), callback_url=f"{receiver.url}/hook?a=1")
        callback = receiver.callbacks.get(timeout=HANG_S)
    assert (callback.path, callback.headers["webhook-id"]) == ("/hook?a=1", f"msg_{job['id']}")
    assert json.loads(callback.body) == ended(jobs_client, job["id"])
    assert is_signed(callback, secret)
    assert not is_signed(Received(callback.path, callback.headers, callback.body + b" "), secret)


def test_a_job_that_is_cancelled_is_told_too(jobs_client: httpx.Client) -> None:
    with receiving() as receiver:
        callback_url = receiver.url
        job = submitted(jobs_client, "forecast", request(), callback_url=callback_url, priority=-10)
        jobs_client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
        callback = receiver.callbacks.get(timeout=HANG_S)
    assert json.loads(callback.body)["status"] in ("cancelled", "completed")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://localhost/", "http://169.254.169.254/latest/meta-data", "ftp://8.8.8.8/"]
)
def test_a_callback_to_this_network_is_refused_unless_the_operator_allows_it(client: httpx.Client, url: str) -> None:
    answer = client.post("/v1/jobs", json={"type": "forecast", "request": request(), "callback_url": url})
    assert answer.status_code == 422
    assert [fault["loc"] for fault in answer.json()["detail"]] == [["body", "callback_url"]]


@pytest.mark.slow
def test_what_is_owed_survives_the_gateway(tmp_path: Path) -> None:
    """And is delivered by the next one, under the same id."""
    config = {"engine": {"workers": 1, "statistical_workers": 1}, "jobs": {"webhook_allow_private": True}}
    with receiving([500, 200]) as receiver:
        with serving(tmp_path, config=config) as gateway:
            with gateway.client() as client:
                submitted(client, "forecast", request(), callback_url=receiver.url)
            refused = receiver.callbacks.get(timeout=HANG_S)
            gateway.process.kill()
            gateway.process.wait(HANG_S)
        with serving(tmp_path, config=config) as gateway, gateway.client() as client:
            taken = receiver.callbacks.get(timeout=3 * HANG_S)  # a try of the killed one holds it for a minute
            assert is_signed(taken, client.get("/api/account/webhook-secret").json()["secret"])
    assert taken.headers["webhook-id"] == refused.headers["webhook-id"]
    assert taken.body == refused.body
