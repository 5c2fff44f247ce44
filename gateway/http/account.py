"""Keys over HTTP: an operator's hand on them, `POST /v1/validate`, and the sessions of our own pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.keys import Key, KeyLimits, Keys, KeyTerms
from gateway.access.ring import KeyRing
from gateway.access.sessions import COOKIE, LASTS_S, PLAYGROUND_LASTS_S, Sessions
from gateway.dialects.base import Documentation
from gateway.errors import Code, Fault, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.access import Access, Known, Role
from gateway.http.body import read_body
from gateway.http.origin import from_own_page, same_origin
from gateway.http.routing import Endpoint, Parameter, RenderError

Body = TypeVar("Body", bound=msgspec.Struct)

JSON = "application/json"
MAX_BODY_BYTES = 64 * 1024
READ_S = 10.0  # for a body of a few hundred bytes


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is made for."""

    name: str
    owner: str = ""
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)
    admin: bool = False
    limits: KeyLimits = KeyLimits()
    expires: datetime | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    id: str
    object: Literal["key"] = "key"
    prefix: str
    name: str
    owner: str
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    admin: bool
    limits: KeyLimits
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    status: str


class CreatedKey(KeyView, frozen=True, kw_only=True):
    """A new key, or a new secret of one: the only answer that holds it."""

    key: str


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """Every key, the oldest first."""

    object: Literal["list"] = "list"
    data: tuple[KeyView, ...]


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the secret so far still works."""

    overlap_s: float = 0.0


class Validation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to look at; without one it is the caller's own."""

    api_key: str | None = None


class KeySummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the holder of a key may know of it."""

    id: str
    name: str
    owner: str
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    admin: bool
    expires: datetime | None


class Validated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a key is good, and whose it is."""

    valid: bool
    auth_type: Literal["api_key", "session", "anonymous", "none"]
    user: str | None
    key: KeySummary | None = None
    reason: str | None = None


class SignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An admin's key for a session of the dashboard; without one it is the playground's own."""

    api_key: str | None = None


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """Whose calls a page makes. The session itself is in a cookie that no script reads."""

    auth_type: Literal["api_key", "session", "anonymous"]
    user: str | None
    admin: bool
    expires: datetime | None = None


class Account:
    """Endpoints over the keys."""

    def __init__(self, ring: KeyRing, sessions: Sessions, access: Access) -> None:
        self._ring = ring
        self._keys: Keys = ring.keys
        self._sessions = sessions
        self._access = access

    # -- an operator's ---

    async def create(self, request: Request) -> Response:
        new = await _body(request, NewKey)
        expires = _seconds(new.expires)
        terms = KeyTerms(
            name=new.name,
            owner=new.owner,
            models=new.models,
            endpoints=new.endpoints,
            admin=new.admin,
            limits=new.limits,
            expires=expires,
        )
        text, key = await asyncio.to_thread(self._keys.create, terms)
        await self._ring.refresh()
        return _secret(text, key, status=201)

    async def list(self, request: Request) -> Response:
        keys = await asyncio.to_thread(self._keys.all)
        return _json(KeyList(data=tuple(view(key) for key in keys)))

    async def read(self, request: Request) -> Response:
        key = await asyncio.to_thread(self._keys.get, request.path_params["id"])
        if key is None:
            raise GatewayError(Code.NOT_FOUND, "There is no key with this id.")
        return _json(view(key))

    async def revoke(self, request: Request) -> Response:
        key = await asyncio.to_thread(self._keys.revoke, request.path_params["id"])
        await self._ring.refresh()
        return _json(view(key))

    async def rotate(self, request: Request) -> Response:
        rotation = await _body(request, Rotation)
        if not 0 <= rotation.overlap_s <= 30 * 86400:
            raise GatewayError.invalid(Fault(("overlap_s",), "must be 0 to 2592000 seconds (30 days)"))
        text, key = await asyncio.to_thread(
            lambda: self._keys.rotate(request.path_params["id"], overlap_s=rotation.overlap_s)
        )
        await self._ring.refresh()
        return _secret(text, key, status=200)

    # -- everyone's ---

    async def validate(self, request: Request) -> Response:
        asked = await _body(request, Validation)
        try:
            if asked.api_key is not None:
                key = await self._ring.find(asked.api_key.strip())
                known = Known(how="api_key", caller=key.caller, key=key)
            else:
                known = await self._access.identify(request.scope)
        except GatewayError as error:
            if error.code not in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED):
                raise
            return _json(Validated(valid=False, auth_type="none", user=None, reason=error.sentence))
        return _json(
            Validated(
                valid=True, auth_type=known.how, user=_user(known), key=_summary(known.key) if known.key else None
            )
        )

    async def session(self, request: Request) -> Response:
        """Whose calls this page makes."""
        return _json(_session(await self._access.identify(request.scope)))

    async def sign_in(self, request: Request) -> Response:
        """A session: with an admin key the dashboard's, without any the playground's on this machine."""
        if not same_origin(request.scope):
            raise GatewayError(Code.PERMISSION_DENIED, "Sessions are for this gateway's own pages.")
        asked = await _body(request, SignIn)
        if asked.api_key is None:
            return self._open_playground(request)
        key = await self._ring.find(asked.api_key.strip())
        if not key.terms.admin:
            raise GatewayError(Code.PERMISSION_DENIED, "This key is no admin key.")
        value = self._sessions.open(key.id, key.digest, lasts_s=LASTS_S)
        known = Known(how="session", caller=key.caller, key=key)
        return _with_cookie(_json(_session(known, LASTS_S)), request, value, LASTS_S)

    async def sign_out(self, request: Request) -> Response:
        if not same_origin(request.scope):
            raise GatewayError(Code.PERMISSION_DENIED, "Sessions are for this gateway's own pages.")
        return _with_cookie(Response(status_code=204), request, "", 0)

    def _open_playground(self, request: Request) -> Response:
        if not (self._access.may_have_playground(request.scope) and from_own_page(request.scope)):
            raise GatewayError(
                Code.UNAUTHENTICATED,
                "The playground has a session of its own on this machine only. Sign in with a key.",
            )
        known = Known(how="session", caller=exchanges.of(request.scope).caller)
        value = self._sessions.open(lasts_s=PLAYGROUND_LASTS_S)
        return _with_cookie(_json(_session(known, PLAYGROUND_LASTS_S)), request, value, PLAYGROUND_LASTS_S)


# method, path, what answers it, the types of its bodies, its summary
Described = tuple[
    str, str, Callable[[Request], Awaitable[Response]], type[msgspec.Struct] | None, type[msgspec.Struct] | None, str
]
KEY_ID = Parameter(name="id", place="path", description="The key's id, the part between `fg_` and the second `_`.")


def endpoints(account: Account, render_error: RenderError) -> list[Endpoint]:
    """The list of this module's endpoints."""
    keys, one = "/api/account/keys", "/api/account/keys/{id}"
    operators: tuple[Described, ...] = (
        ("GET", keys, account.list, None, KeyList, "Every key"),
        ("POST", keys, account.create, NewKey, CreatedKey, "Make a key; the answer alone holds it"),
        ("GET", one, account.read, None, KeyView, "One key"),
        ("DELETE", one, account.revoke, None, KeyView, "End a key"),
        ("POST", f"{one}/revoke", account.revoke, None, KeyView, "End a key"),
        ("POST", f"{one}/rotate", account.rotate, Rotation, CreatedKey, "Another secret for the same key"),
    )
    everyones: tuple[Described, ...] = (
        ("POST", "/v1/validate", account.validate, Validation, Validated, "Whether a key is good, and whose it is"),
        ("GET", "/api/session", account.session, None, SessionView, "Whose calls this page makes"),
        ("POST", "/api/session", account.sign_in, SignIn, SessionView, "A session for one of our pages"),
        ("DELETE", "/api/session", account.sign_out, None, None, "End the session"),
    )
    roles: tuple[tuple[Role, tuple[Described, ...]], ...] = (("operator", operators), ("public", everyones))
    return [
        Endpoint(
            method=method,
            path=path,
            respond=respond,
            render_error=render_error,
            role=role,
            parameters=(KEY_ID,) if "{id}" in path else (),
            documentation=Documentation(
                summary=summary,
                tag="account",
                request=body,
                response=answer,
                status=201 if (method, path) == ("POST", keys) else 204 if answer is None else 200,
                codes=(Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.CONFLICT, Code.UNAVAILABLE),
            ),
        )
        for role, described in roles
        for method, path, respond, body, answer, summary in described
    ]


def view(key: Key) -> KeyView:
    """The wire's view of a key."""
    return KeyView(**_fields(key))


def _fields(key: Key) -> dict[str, Any]:
    t = key.terms
    return {
        "id": key.id,
        "prefix": f"fg_{key.id}",
        "name": t.name,
        "owner": t.owner,
        "models": t.models,
        "endpoints": t.endpoints,
        "admin": t.admin,
        "limits": t.limits,
        "created": _date(key.created),
        "expires": _date(t.expires),
        "revoked": _date(key.revoked),
        "status": key.standing(time.time()),
    }


def created(text: str, key: Key) -> CreatedKey:
    """The answer that holds a key."""
    return CreatedKey(key=text, **_fields(key))


def _secret(text: str, key: Key, *, status: int) -> Response:
    answer = _json(created(text, key), status)
    answer.headers["cache-control"] = "no-store"
    return answer


def _summary(key: Key) -> KeySummary:
    t = key.terms
    return KeySummary(
        id=key.id,
        name=t.name,
        owner=t.owner,
        models=t.models,
        endpoints=t.endpoints,
        admin=t.admin,
        expires=_date(t.expires),
    )


def _user(known: Known) -> str | None:
    return (known.key.terms.owner or known.key.terms.name) if known.key is not None else None


def _session(known: Known, lasts_s: float | None = None) -> SessionView:
    return SessionView(
        auth_type="session" if known.how == "none" else known.how,
        user=_user(known),
        admin=known.key is not None and known.key.terms.admin,
        expires=_date(time.time() + lasts_s) if lasts_s is not None else None,
    )


def _with_cookie(response: Response, request: Request, value: str, lasts_s: float) -> Response:
    response.set_cookie(
        COOKIE,
        value,
        max_age=int(lasts_s),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    response.headers["cache-control"] = "no-store"
    return response


async def _body(request: Request, kind: type[Body]) -> Body:
    """The body as `kind`; none at all is an empty object. A message never repeats a value: it may be a key."""
    exchange = exchanges.of(request.scope)
    deadline = asyncio.get_running_loop().time() + READ_S
    body = await read_body(exchange.headers, request.receive, limit=MAX_BODY_BYTES, deadline=deadline)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as exc:
        raise GatewayError(Code.INVALID_ARGUMENT, f"{exc}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise GatewayError(Code.MALFORMED, "The body is not JSON.") from None


def _date(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _seconds(date: datetime | None) -> float | None:
    """Unix seconds; a date without an offset is UTC, as everywhere."""
    if date is None:
        return None
    return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()


def _json(value: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type=JSON)
