"""Where a request comes from: its address, this machine or another, a page of ours or of another site."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")


class Proxies:
    """The proxies whose word on a caller's address is taken."""

    def __init__(self, trusted: Sequence[str]) -> None:
        """Raises ValueError for what is neither an address nor a network."""
        self._trusted: list[Network] = [ipaddress.ip_network(t, strict=False) for t in trusted]

    def address(self, scope: Scope) -> Address | None:
        """The caller's address; None for a unix socket, and for one that cannot be read.

        Of X-Forwarded-For the last address that is no trusted proxy: what stands before it is the caller's own text.
        """
        client = scope.get("client")
        address = _parsed(client[0]) if client is not None else None
        if not self._trusted or (address is not None and not self._trusts(address)):
            return address
        hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        for hop in reversed(hops):
            found = _parsed(hop.strip())
            if found is None:
                return address if hop.strip() == "" else None
            address = found
            if not self._trusts(found):
                break
        return address

    def local(self, scope: Scope) -> bool:
        """Whether the caller is on this machine; a unix socket has no address and is.

        A request that was forwarded by a proxy nobody told us of comes from who knows where.
        """
        headers = Headers(scope=scope)
        if not self._trusted and any(name in headers for name in FORWARDED):
            return False
        address = self.address(scope)
        if address is None:
            return scope.get("client") is None and "x-forwarded-for" not in headers
        return address.is_loopback

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted if network.version == address.version)


def subject(address: Address | None) -> str:
    """What anonymous callers are counted by: the address, of IPv6 the network that one customer has."""
    if address is None:
        return "ip:local"
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return f"ip:{ipaddress.ip_network((address, 64), strict=False)}"
    return f"ip:{address}"


def asks_for_this_machine(scope: Scope) -> bool:
    """Whether the name asked for is a loopback one: a page can rebind a name of its own to 127.0.0.1."""
    host = Headers(scope=scope).get("host")
    if host is None or scope.get("client") is None:
        return True  # no browser leaves the name out; a unix socket has none
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _parsed(name)
    return address is not None and address.is_loopback


def same_origin(scope: Scope) -> bool:
    """Whether the request comes from no page, or from one of this gateway."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def of_other_site(scope: Scope, allowed: Sequence[str]) -> bool:
    """Whether a page of another site sent the request, by the browser's word; `allowed` are origins, "*" for all.

    A form, or a call without a content-type, is sent without asking first: CORS keeps only its answer from the page.
    """
    headers = Headers(scope=scope)
    origin, told = headers.get("origin"), headers.get("sec-fetch-site")
    if "*" in allowed or origin in allowed:
        return False
    if told is not None:
        return told == "cross-site"
    return origin is not None and _name(origin) != _name(f"//{headers.get('host', '')}")


def _name(url: str) -> str | None:
    """The host of a URL; a port makes no other site."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def from_own_page(scope: Scope) -> bool:
    """Whether a browser says that a page of this gateway sent the request."""
    headers = Headers(scope=scope)
    return same_origin(scope) and (headers.get("sec-fetch-site") == "same-origin" or "origin" in headers)


def _parsed(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
