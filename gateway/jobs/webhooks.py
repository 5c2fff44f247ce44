"""Callbacks: a job that is over is told to the URL that it named, signed, until somebody takes it or a day has passed.

What is owed lies in Redis from the moment a job ends, so that it survives whoever was about to deliver it. The scheme
is that of Standard Webhooks: https://www.standardwebhooks.com.

A URL can make this machine knock at doors that are closed to the caller. So its host is resolved here, every address
is looked at, and the connection goes to the address that was looked at: a name that changes its mind in between gains
nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import ipaddress
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence

import httpx
import msgspec
import structlog

from gateway import __version__
from gateway.access.pepper import derive
from gateway.dialects.canonical.jobs import body_of
from gateway.domain import Caller, Job
from gateway.errors import Code, GatewayError
from gateway.jobs.jobs import Jobs

TRIES_S = (0.0, 5.0, 35.0, 155.0, 755.0)  # seconds after the end of the job at which it is tried
TIMEOUT_S = 10.0  # of one try
RESOLVE_S = 5.0
LOOK_S = 1.0  # between two looks for what is due
AT_ONCE = 16
SECRET_PREFIX = "whsec_"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
log = structlog.get_logger(__name__)


# -- whom to call ---


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet, itself and in what it wraps."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(not is_public(w) for w in wrapped if w is not None):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


async def target(url: str, *, allow_private: bool) -> tuple[httpx.URL, Address]:
    """A callback's URL and the address to connect to; raises GatewayError INVALID_ARGUMENT for one not to be called."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise _refused("is no URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _refused("is no http or https URL")
    if parsed.userinfo:
        raise _refused("holds a user or a password; callbacks are known by their signature")
    addresses = await _addresses(parsed.host, parsed.port or (443 if parsed.scheme == "https" else 80))
    if not allow_private and not all(is_public(a) for a in addresses):
        raise _refused("leads to a private, loopback or link-local address, which this gateway does not call")
    return parsed, addresses[0]


async def _addresses(host: str, port: int) -> Sequence[Address]:
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise _refused("names a host that cannot be resolved") from None
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _refused(why: str) -> GatewayError:
    return GatewayError(Code.INVALID_ARGUMENT, f"The callback_url {why}.")


# -- what to say ---


def secret(pepper: bytes, caller: str) -> str:
    """The secret that a caller checks signatures with, in the form that Standard Webhooks libraries take."""
    return SECRET_PREFIX + base64.b64encode(derive(pepper, f"webhook:{caller}")).decode()


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a message."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = hmac.new(key, b"%s.%d.%s" % (id.encode(), timestamp, body), hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def message(job: Job, secret: str, now: float) -> tuple[dict[str, str], bytes]:
    """Headers and body of a callback; every try of one job has the same id."""
    body = msgspec.json.encode(body_of(job))
    id, timestamp = f"msg_{job.id}", int(now)
    headers = {
        "content-type": "application/json",
        "user-agent": f"forecast-gateway/{__version__}",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, id, timestamp, body),
    }
    return headers, body


# -- delivering ---


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Whose certificates are believed: SSL_CERT_FILE names an operator's own."""
    return httpx.create_ssl_context()


class Webhooks:
    """Delivers what is owed, beside others that do the same: whoever claims a callback makes its next try."""

    def __init__(
        self,
        jobs: Jobs,
        pepper: Callable[[], bytes],
        *,
        allow_private: bool,
        tries_s: Sequence[float] = TRIES_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._pepper = pepper
        self._allow_private = allow_private
        self._tries_s = tries_s
        self._clock = clock

    async def check(self, url: str) -> None:
        """Raise GatewayError INVALID_ARGUMENT for a callback that will not be called."""
        await target(url, allow_private=self._allow_private)

    def secret(self, caller: Caller) -> str:
        """What a caller checks signatures with."""
        return secret(self._pepper(), caller.id)

    async def run(self) -> None:
        """Deliver what is due until cancelled."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                job = await self._due() if len(running) < AT_ONCE else None
                if job is None:
                    await asyncio.sleep(LOOK_S)
                    continue
                task = asyncio.create_task(self._settle(job))
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            for task in running:
                task.cancel()

    async def _due(self) -> Job | None:
        try:
            return await self._jobs.claim_callback()
        except GatewayError:
            return None  # Redis is away, which others tell

    async def _settle(self, job: Job) -> None:
        """Make one try, and say what came of it; where that cannot be said, it is tried again."""
        with contextlib.suppress(GatewayError):
            if await self._delivered(job):
                await self._jobs.drop_callback(job.id)
                return
            age = self._clock() - (job.finished or job.created)
            later = [t for t in self._tries_s if t > age]
            if later:
                delay_s = (later[0] - age) * random.uniform(1.0, 1.2)  # so that many do not come at once
                await self._jobs.postpone_callback(job.id, delay_s)
            else:
                log.warning("webhook_given_up", job=job.id)
                await self._jobs.drop_callback(job.id)

    async def _delivered(self, job: Job) -> bool:
        """Whether the callback was taken, or never will be."""
        try:
            url, address = await target(job.callback_url or "", allow_private=self._allow_private)
            status = await self._post(url, address, job)
        except (GatewayError, httpx.HTTPError, TimeoutError) as exc:
            log.info("webhook_failed", job=job.id, reason=type(exc).__name__)
            return False
        log.info("webhook_answered", job=job.id, status=status)
        return 200 <= status < 300 or status == httpx.codes.GONE  # gone: nobody will ever take it

    async def _post(self, url: httpx.URL, address: Address, job: Job) -> int:
        headers, body = message(job, secret(self._pepper(), job.owner), self._clock())
        headers["host"] = url.netloc.decode("ascii")
        to = url.copy_with(host=str(address))
        named = {"sni_hostname": url.host}  # the certificate is checked against the name, not the address
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx.AsyncClient(
                timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, verify=_certificates()
            ) as client,
            client.stream("POST", to, headers=headers, content=body, extensions=named) as answer,
        ):
            return answer.status_code  # its body is nobody's concern
