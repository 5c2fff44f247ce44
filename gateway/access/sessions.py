"""Sessions of the pages: a signed value in a cookie, so that no page ever holds a key.

A value says whose the session is and when it ends; nothing is stored. A session of a key is as good as the key is at
that moment: a revoked key ends it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable

import msgspec

from gateway.access.pepper import derive

COOKIE = "fg_session"
LASTS_S = 8 * 3600.0  # a working day for an operator who signed in
PLAYGROUND_LASTS_S = 1800.0  # the page asks for another by itself


class Session(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Whose calls a page makes: a key's, or an anonymous caller's on this machine."""

    key_id: str | None
    expires: float  # unix seconds
    digest: str = ""  # the beginning of the key's digest: a rotation ends the sessions of the secret before


class Sessions:
    """Signs sessions, and reads what it signed."""

    def __init__(self, pepper: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = derive(pepper, "sessions")
        self._clock = clock

    def open(self, key_id: str | None = None, digest: str = "", *, lasts_s: float = PLAYGROUND_LASTS_S) -> str:
        """The cookie's value for a new session."""
        session = Session(key_id=key_id, expires=self._clock() + lasts_s, digest=digest[:16])
        body = msgspec.json.encode(session)
        return base64.urlsafe_b64encode(self._sign(body) + body).decode().rstrip("=")

    def read(self, value: str) -> Session | None:
        """The session behind a cookie's value; None where it is not ours or is over."""
        try:
            whole = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        except (binascii.Error, ValueError):
            return None
        signature, body = whole[:32], whole[32:]
        if not hmac.compare_digest(signature, self._sign(body)):
            return None
        session = msgspec.json.decode(body, type=Session)
        return session if session.expires > self._clock() else None

    def _sign(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self._secret, digest_size=32).digest()
