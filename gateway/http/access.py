"""Who may call what: the one hook where every request is admitted.

Until there are keys, everyone is anonymous, and anonymous callers are served on loopback only unless the operator
says otherwise.
"""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.domain import Caller
from gateway.errors import Code, GatewayError

# public: for probes and pages; caller: forecasts and models; operator: what changes the gateway for all
Role = Literal["public", "caller", "operator"]


class Access:
    """Admits callers to endpoints by the endpoint's role."""

    def __init__(self, *, allow_anonymous: bool) -> None:
        self._allow_anonymous = allow_anonymous

    def admit(self, scope: Scope, role: Role) -> Caller:
        """The caller behind a request; raises UNAUTHENTICATED or PERMISSION_DENIED."""
        if role == "public":
            return Caller()
        if not self._allow_anonymous and not _local(scope):
            raise GatewayError(
                Code.UNAUTHENTICATED,
                "Callers from other machines need a key, and this gateway has none. "
                "Its operator can serve them anonymously with allow_anonymous = true.",
            )
        if not self._allow_anonymous and not _asks_for_this_machine(scope):
            raise GatewayError(
                Code.PERMISSION_DENIED,
                "Without a key this gateway answers to its loopback name only. Ask for localhost or 127.0.0.1.",
            )
        if role == "operator" and not _same_origin(scope):
            # A page of another site can make a browser send this request, though not read the answer.
            raise GatewayError(Code.PERMISSION_DENIED, "Operators' calls are not taken from other sites' pages.")
        return Caller()


def _local(scope: Scope) -> bool:
    """Whether the client is on this machine; a unix socket has no address and is."""
    client = scope.get("client")
    if client is None:
        return True
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _asks_for_this_machine(scope: Scope) -> bool:
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
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _same_origin(scope: Scope) -> bool:
    """Whether the request comes from no page, or from one of this gateway."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    return origin is None or urlsplit(origin).netloc == headers.get("host")
