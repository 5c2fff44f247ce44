"""Callbacks: how they are signed, and whom this machine may call."""

from __future__ import annotations

import asyncio
import ipaddress

import msgspec
import pytest

from gateway.domain import Job
from gateway.errors import Code, GatewayError
from gateway.jobs import webhooks

PUBLISHED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the example of the Standard Webhooks libraries


def test_signatures_are_those_of_the_standard() -> None:
    found = webhooks.signature(PUBLISHED, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_caller_has_a_secret_of_its_own() -> None:
    mine, other = webhooks.secret(b"p" * 32, "a"), webhooks.secret(b"p" * 32, "b")
    assert mine == webhooks.secret(b"p" * 32, "a") != other
    assert mine != webhooks.secret(b"q" * 32, "a")
    assert mine.startswith("whsec_")


def test_a_message_holds_the_job_and_its_signature() -> None:
    job = Job(
        id="j", type="forecast", status="completed", owner="a", done=1, total=1, failed=0, created=1.0, finished=2.0
    )
    headers, body = webhooks.message(job, PUBLISHED, 7.9)
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_j", "7")
    assert headers["webhook-signature"] == webhooks.signature(PUBLISHED, "msg_j", 7, body)
    assert msgspec.json.decode(body)["status"] == "completed"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)  # fmt: skip
def test_an_address_of_this_network_is_not_public(address: str) -> None:
    assert not webhooks.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert webhooks.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://8.8.8.8/", "file:///etc/passwd", "8.8.8.8", "", "http://", "http://user:pass@8.8.8.8/", "http://[::1",
        "http://127.0.0.1/", "http://localhost:8000/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest",
        "http://0x7f000001/", "http://2130706433/", "http://127.1/", "http://no-such-host.invalid/",
    ],
)  # fmt: skip
def test_a_target_that_is_not_to_be_called_is_refused(url: str) -> None:
    with pytest.raises(GatewayError) as caught:
        asyncio.run(webhooks.target(url, allow_private=False))
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("url", ["https://8.8.8.8/hook?x=1", "http://1.1.1.1:8080/"])
def test_a_target_comes_with_the_address_to_connect_to(url: str) -> None:
    parsed, address = asyncio.run(webhooks.target(url, allow_private=False))
    assert str(parsed) == url
    assert str(address) == parsed.host


def test_an_operator_may_allow_targets_of_this_network() -> None:
    _, address = asyncio.run(webhooks.target("http://127.0.0.1:9/", allow_private=True))
    assert address.is_loopback
