"""Who may call what: the one hook where every request is admitted.

A caller is known by a key, by a page's session, or is anonymous. Anonymous callers are served on loopback only, or
where the operator allows it, and nowhere from the first key on; a page of this gateway on this machine then has a
session. A credential that is ours and not good is refused even where none would be needed. Where there are no keys at
all, other credentials are passed over: clients of other systems insist on sending some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from starlette.requests import cookie_parser
from starlette.types import Scope

from gateway.access.keys import PREFIX, Key
from gateway.access.limits import Grant, Limits, quota_of_anonymous, quota_of_key
from gateway.access.ring import KeyRing
from gateway.access.sessions import COOKIE, Sessions
from gateway.domain import Caller
from gateway.errors import Code, GatewayError
from gateway.http import credentials
from gateway.http import exchange as exchanges
from gateway.http.origin import Proxies, asks_for_this_machine, of_other_site, same_origin, subject
from gateway.settings import LimitSettings

# public: for probes and pages; caller: forecasts and models; operator: what changes the gateway for all
Role = Literal["public", "caller", "operator"]
How = Literal["api_key", "session", "anonymous", "none"]

NOBODY = Caller(id="unauthenticated", models=())  # whose key was refused, in the ledger
HOW_TO = "Send it as: Authorization: Bearer <key>, or X-API-Key: <key>."


class Known(NamedTuple):
    """Who a request comes from, before it is asked what they may."""

    how: How
    caller: Caller
    key: Key | None = None
    playground: bool = False  # a page's anonymous session, beside keys


class Access:
    """Admits callers to endpoints by the endpoint's role. Without a ring there are no keys."""

    def __init__(
        self,
        *,
        allow_anonymous: bool,
        ring: KeyRing | None = None,
        sessions: Sessions | None = None,
        limits: Limits | None = None,
        limit_settings: LimitSettings | None = None,
        proxies: Proxies | None = None,
        cors_origins: Sequence[str] = (),
    ) -> None:
        self._allow_anonymous = allow_anonymous
        self._ring = ring
        self._sessions = sessions
        self._limits = limits
        self._limit_settings = limit_settings or LimitSettings()
        self._cors_origins = cors_origins
        self.proxies = proxies or Proxies(())

    @property
    def has_keys(self) -> bool:
        return self._ring is not None and self._ring.exist

    async def admit(self, scope: Scope, role: Role, endpoint: str, *, counted: bool) -> Caller:
        """The caller behind a request to a route's template; its exchange gets the grant of `counted` ones.

        Raises UNAUTHENTICATED, PERMISSION_DENIED or RESOURCE_EXHAUSTED.
        """
        if role == "public":
            return Caller()
        exchange = exchanges.of(scope)
        exchange.caller = NOBODY
        known = await self.identify(scope)
        exchange.caller = known.caller  # whose the refusals are, too
        if known.key is not None:
            exchange.may_call = known.key.may_call
        exchange.check_endpoint(endpoint)
        if known.how == "anonymous" and scope["method"] == "POST" and of_other_site(scope, self._cors_origins):
            # Who has no key is known by where they are, and any page in a browser there could have work done.
            raise GatewayError(
                Code.PERMISSION_DENIED, "Pages of other sites may call this gateway where its cors_origins name them."
            )
        if role == "operator":
            self._check_operator(scope, known)
        if counted and self._limits is not None:
            exchange.grant = self._grant(scope, known)
            await self._limits.admit(exchange.grant)
        return known.caller

    async def identify(self, scope: Scope) -> Known:
        """Who sends a request. Raises UNAUTHENTICATED or PERMISSION_DENIED where they cannot be served at all."""
        headers = exchanges.of(scope).headers
        text = credentials.sent(headers) if self.has_keys else _ours(headers)
        if text is not None:
            if self._ring is None:
                raise GatewayError(Code.UNAUTHENTICATED, "This key is unknown.")
            key = await self._ring.find(text)
            return Known(how="api_key", caller=key.caller, key=key)
        if COOKIE in headers.get("cookie", "") and (known := await self._by_session(scope, headers["cookie"])):
            return known
        if self.has_keys:
            raise GatewayError(Code.UNAUTHENTICATED, f"This gateway needs a key. {HOW_TO}")
        self._check_anonymous(scope)
        return Known(how="anonymous", caller=Caller())

    def may_have_playground(self, scope: Scope) -> bool:
        """Whether an anonymous session is given out here: to our own pages, in a browser on this machine."""
        return self.proxies.local(scope) and asks_for_this_machine(scope) and same_origin(scope)

    async def _by_session(self, scope: Scope, cookie: str) -> Known | None:
        """Who a session's cookie stands for; None for a cookie that is of no use any more."""
        value = cookie_parser(cookie).get(COOKIE, "")
        session = self._sessions.read(value) if self._sessions is not None else None
        if session is None or not same_origin(scope):
            return None
        if session.key_id is None:
            if not self.may_have_playground(scope):
                return None
            return Known(how="session", caller=Caller(), playground=True)
        key = await self._ring.by_id(session.key_id) if self._ring is not None else None
        if key is None or self._ring is None or not key.digest.startswith(session.digest):
            return None
        self._ring.check(key)
        return Known(how="session", caller=key.caller, key=key)

    def _check_anonymous(self, scope: Scope) -> None:
        if self._allow_anonymous:
            return
        if not self.proxies.local(scope):
            raise GatewayError(
                Code.UNAUTHENTICATED,
                "Callers from other machines need a key, and this gateway has none. "
                "Its operator can make one with: forecast-gateway keys create --name NAME.",
            )
        if not asks_for_this_machine(scope):
            raise GatewayError(
                Code.PERMISSION_DENIED,
                "Without a key this gateway answers to its loopback name only. Ask for localhost or 127.0.0.1.",
            )

    def _check_operator(self, scope: Scope, known: Known) -> None:
        """Operators have an admin key; while there is no key at all, whoever sits at this machine is one."""
        if known.key is None:
            if known.playground or not self.proxies.local(scope) or not asks_for_this_machine(scope):
                raise GatewayError(Code.PERMISSION_DENIED, f"This needs an admin key. {HOW_TO}")
        elif not known.key.terms.admin:
            raise GatewayError(Code.PERMISSION_DENIED, "This key is no admin key.")
        if known.how != "api_key" and not same_origin(scope):
            # A page of another site can make a browser send this request, though not read the answer.
            raise GatewayError(Code.PERMISSION_DENIED, "Operators' calls are not taken from other sites' pages.")

    def _grant(self, scope: Scope, known: Known) -> Grant:
        settings = self._limit_settings
        if known.key is not None:
            return Grant(subject=f"key:{known.key.id}", quota=quota_of_key(known.key.terms.limits, settings))
        quota = quota_of_anonymous(settings, loopback=self.proxies.local(scope))
        return Grant(subject=subject(self.proxies.address(scope)), quota=quota)


def _ours(headers: Mapping[str, str]) -> str | None:
    """A key that looks like one of ours, where there are none: whoever sends it believes there are."""
    try:
        text = credentials.sent(headers)
    except GatewayError:
        return None
    return text if text is not None and text.startswith(PREFIX) else None
