"""From a URL to Redis.

redis://, rediss:// and unix:// as usual; redis+sentinel://[user:password@]host:port,host:port/master[/db] finds the
master through sentinels (rediss+sentinel:// speaks TLS to it). A URL may hold a password: it is never logged.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, ReadOnlyError, TimeoutError

from gateway.errors import Code, GatewayError

Redis = AsyncRedis

TIMEOUT_S = 10.0  # of one call
CONNECT_S = 5.0
RETRIES = 3  # of a call whose connection broke; the scripts can be repeated
SENTINEL_PORT = 26379
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")


def connect(url: str) -> Redis:
    """A client of the server at `url`; nothing is sent yet. Raises GatewayError INVALID_ARGUMENT for another URL."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        known = ", ".join(f"{s}://" for s in SCHEMES)
        raise GatewayError(Code.INVALID_ARGUMENT, f"redis_url must begin with one of {known}.")
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": CONNECT_S,
        "health_check_interval": 30,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES),
        "retry_on_error": [ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError],
    }
    try:
        if scheme.endswith("+sentinel"):
            return _through_sentinels(url, options)
        client: Redis = AsyncRedis.from_url(url, **options)
        return client
    except ValueError as exc:
        raise GatewayError(Code.INVALID_ARGUMENT, f"redis_url cannot be read: {masked(str(exc))}.") from None


def _through_sentinels(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    access, _, hosts = parts.netloc.rpartition("@")
    user, _, password = access.partition(":")
    master, _, db = parts.path.strip("/").partition("/")
    if not hosts or not master:
        raise ValueError("a sentinel URL is redis+sentinel://host:port,host:port/master/db")
    options |= {
        "username": unquote(user) or None,
        "password": unquote(password) or None,
        "db": int(db or 0),
        "ssl": parts.scheme.startswith("rediss"),
    }
    query = parse_qs(parts.query)
    found = [h.rpartition(":") if ":" in h else (h, ":", str(SENTINEL_PORT)) for h in hosts.split(",")]
    watch: dict[str, Any] = {"password": query["sentinel_password"][0]} if "sentinel_password" in query else {}
    watch["socket_timeout"] = CONNECT_S
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [(h, int(p)) for h, _, p in found], sentinel_kwargs=watch, **options
    )
    client: Redis = sentinel.master_for(master)
    return client


def masked(text: str) -> str:
    """`text` with the password of every URL in it replaced."""
    text = re.sub(r"(://[^/@\s:]*):[^/\s]*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s]+", r"\1***", text)
