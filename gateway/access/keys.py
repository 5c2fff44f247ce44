"""Keys: what they look like, what they may, and where they are kept.

A key reads `fg_<id>_<secret>`. The id is public and finds the row; of the whole only a keyed hash is stored, so that
neither the database nor the pepper alone opens anything. A secret of 256 random bits needs no slow hash.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import msgspec
import sqlalchemy as sa

from gateway.access.pepper import derive
from gateway.database import Database, metadata
from gateway.domain import Caller
from gateway.errors import Code, Fault, GatewayError

PREFIX = "fg_"
ID_BYTES, SECRET_BYTES = 6, 32
MAX_NAME = 200
LATEST = 253402300799.0  # 9999-12-31T23:59:59Z: dates end there
_FORM = re.compile(r"fg_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)

KEYS = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("admin", sa.Boolean, nullable=False),
    sa.Column("models", sa.Text, nullable=False),  # JSON
    sa.Column("endpoints", sa.Text, nullable=False),  # JSON
    sa.Column("limits", sa.Text, nullable=False),  # JSON
    sa.Column("created", sa.Double, nullable=False),  # unix seconds, as all times here
    sa.Column("expires", sa.Double),
    sa.Column("revoked", sa.Double),
    sa.Column("previous_digest", sa.String(64)),  # of the secret before the last rotation
    sa.Column("previous_until", sa.Double),
)
CHANGES = sa.Table(
    "changes",
    metadata,
    sa.Column("subject", sa.String(32), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key's own limits: null is the gateway's default for keys, 0 is no limit."""

    requests_per_minute: int | None = None
    requests_per_hour: int | None = None
    series_per_day: int | None = None
    tokens_per_day: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key is made for."""

    name: str
    owner: str = ""
    models: tuple[str, ...] = ("*",)  # globs of catalog ids
    endpoints: tuple[str, ...] = ("*",)  # globs of route templates, such as "/v1/*"
    admin: bool = False
    limits: KeyLimits = field(default_factory=KeyLimits)
    expires: float | None = None  # unix seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is kept. It holds digests, never the key."""

    id: str
    terms: KeyTerms
    created: float
    revoked: float | None
    digest: str
    previous_digest: str | None = None
    previous_until: float | None = None
    caller: Caller = field(init=False, repr=False)  # who comes with this key: made once, each request needs it

    def __post_init__(self) -> None:
        t = self.terms
        object.__setattr__(self, "caller", Caller(id=self.id, name=t.name, models=t.models, admin=t.admin))

    def may_call(self, endpoint: str) -> bool:
        """Whether a route's template is among the endpoints of this key."""
        return _reach(self.terms.endpoints, endpoint)

    def standing(self, now: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.terms.expires is not None and self.terms.expires <= now else "active"


@functools.lru_cache(maxsize=4096)
def _reach(patterns: tuple[str, ...], endpoint: str) -> bool:
    return any(fnmatchcase(endpoint, pattern) for pattern in patterns)


def id_of(text: str) -> str | None:
    """The id within a key; None for what cannot be one of ours."""
    found = _FORM.fullmatch(text)
    return found[1] if found else None


class Keys:
    """The keys in the database. Its methods wait for SQL: on an event loop call them in a thread."""

    def __init__(self, database: Database, pepper: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._secret = derive(pepper, "keys")
        self._clock = clock

    def matches(self, key: Key, text: str) -> bool:
        """Whether `text` is this key, or was before a rotation whose overlap still runs; in constant time."""
        digest = self._digest(text)
        now = hmac.compare_digest(digest, key.digest)
        before = hmac.compare_digest(digest, key.previous_digest or "")
        return now or (before and key.previous_until is not None and key.previous_until > self._clock())

    def create(self, terms: KeyTerms) -> tuple[str, Key]:
        """A new key; its text is known here and never again."""
        _check(terms, self._clock())
        key_id = secrets.token_hex(ID_BYTES)
        text = _new_text(key_id)
        key = Key(id=key_id, terms=terms, created=self._clock(), revoked=None, digest=self._digest(text))
        with self._database.writing() as connection:
            connection.execute(KEYS.insert().values(_row(key)))
            self._changed(connection)
        return text, key

    def all(self) -> tuple[Key, ...]:
        """Every key, the revoked ones too, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(KEYS.select().order_by(KEYS.c.created, KEYS.c.id)).all()
        return tuple(_key(row) for row in rows)

    def get(self, key_id: str) -> Key | None:
        """One key by its id."""
        with self._database.reading() as connection:
            row = connection.execute(KEYS.select().where(KEYS.c.id == key_id)).one_or_none()
        return _key(row) if row is not None else None

    def revoke(self, key_id: str) -> Key:
        """End a key; one that ended before stays as it was. Raises NOT_FOUND."""
        with self._database.writing() as connection:
            connection.execute(
                KEYS.update().where(KEYS.c.id == key_id, KEYS.c.revoked.is_(None)).values(revoked=self._clock())
            )
            self._changed(connection)
        return self._existing(key_id)

    def rotate(self, key_id: str, *, overlap_s: float = 0.0) -> tuple[str, Key]:
        """Another secret for the same key: id, usage, jobs and limits stay.

        The secret so far works `overlap_s` longer. Raises NOT_FOUND, and CONFLICT for a key that has ended.
        """
        before = self._existing(key_id)
        if before.standing(self._clock()) != "active":
            raise GatewayError(
                Code.CONFLICT, f"The key {key_id} is {before.standing(self._clock())}: create another one."
            )
        text = _new_text(key_id)
        values = {
            "digest": self._digest(text),
            "previous_digest": before.digest,
            "previous_until": self._clock() + overlap_s,
        }
        with self._database.writing() as connection:
            connection.execute(KEYS.update().where(KEYS.c.id == key_id).values(values))
            self._changed(connection)
        return text, self._existing(key_id)

    def version(self) -> tuple[int, bool]:
        """A number that every change of a key raises, and whether there ever was a key."""
        with self._database.reading() as connection:
            version = connection.execute(sa.select(CHANGES.c.version).where(CHANGES.c.subject == "keys")).scalar()
            return version or 0, version is not None

    def _existing(self, key_id: str) -> Key:
        key = self.get(key_id)
        if key is None:
            raise GatewayError(Code.NOT_FOUND, f"There is no key with the id {key_id[:32]!r}.")
        return key

    def _digest(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._secret, digest_size=32).hexdigest()

    def _changed(self, connection: sa.Connection) -> None:
        raised = self._database.insert(CHANGES).values(subject="keys", version=1)
        raised = raised.on_conflict_do_update(index_elements=["subject"], set_={"version": CHANGES.c.version + 1})
        connection.execute(raised)


def _new_text(key_id: str) -> str:
    return f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def _check(terms: KeyTerms, now: float) -> None:
    """Raise INVALID_ARGUMENT for terms that cannot be."""
    faults = []
    if not terms.name.strip() or len(terms.name) > MAX_NAME or not terms.name.isprintable():
        faults.append(Fault(("name",), f"must be a printable name of 1 to {MAX_NAME} characters"))
    if len(terms.owner) > MAX_NAME or not terms.owner.isprintable():
        faults.append(Fault(("owner",), f"must be printable and at most {MAX_NAME} characters long"))
    for name, globs in (("models", terms.models), ("endpoints", terms.endpoints)):
        if not globs or not all(g.strip() for g in globs):
            faults.append(Fault((name,), 'must be one or more patterns, such as "*"'))
    if terms.expires is not None and terms.expires <= now:
        faults.append(Fault(("expires",), "must lie in the future"))
    if terms.expires is not None and not terms.expires <= LATEST:
        faults.append(Fault(("expires",), "must lie before the year 10000"))
    for name in KeyLimits.__struct_fields__:
        limit = getattr(terms.limits, name)
        if limit is not None and limit < 0:
            faults.append(Fault(("limits", name), "must be 0 (no limit) or more"))
    if faults:
        raise GatewayError.invalid(*faults)


def _row(key: Key) -> dict[str, object]:
    t = key.terms
    return {
        "id": key.id,
        "digest": key.digest,
        "name": t.name,
        "owner": t.owner,
        "admin": t.admin,
        "models": msgspec.json.encode(t.models).decode(),
        "endpoints": msgspec.json.encode(t.endpoints).decode(),
        "limits": msgspec.json.encode(t.limits).decode(),
        "created": key.created,
        "expires": t.expires,
        "revoked": key.revoked,
    }


def _key(row: sa.Row[tuple[object, ...]]) -> Key:
    r = row._mapping
    terms = KeyTerms(
        name=r["name"],
        owner=r["owner"],
        models=msgspec.json.decode(r["models"], type=tuple[str, ...]),
        endpoints=msgspec.json.decode(r["endpoints"], type=tuple[str, ...]),
        admin=bool(r["admin"]),
        limits=msgspec.json.decode(r["limits"], type=KeyLimits),
        expires=None if r["expires"] is None else min(r["expires"], LATEST),  # older gateways kept any
    )
    return Key(
        id=r["id"],
        terms=terms,
        created=r["created"],
        revoked=r["revoked"],
        digest=r["digest"],
        previous_digest=r["previous_digest"],
        previous_until=r["previous_until"],
    )
