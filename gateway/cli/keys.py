"""`forecast-gateway keys`: who may call. Works on the database itself, whether a gateway runs on it or not.

A running gateway knows of a change within seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.options import add_settings, resolve_settings
from gateway.errors import Code, GatewayError

if TYPE_CHECKING:
    from gateway.access.keys import Key, Keys

SECTIONS = ("server", "ledger")
LIMITS = ("requests_per_minute", "requests_per_hour", "series_per_day", "tokens_per_day", "concurrent_requests")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("keys", help="make, list, revoke and rotate keys")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    creating = actions.add_parser("create", help="make a key; it is printed once and never again")
    creating.add_argument("--name", required=True, help="what people know it by")
    creating.add_argument("--owner", default="", help="whose it is")
    creating.add_argument("--models", default="*", metavar="GLOB,...", help="catalog ids it may use; default: all")
    creating.add_argument("--endpoints", default="*", metavar="GLOB,...", help="paths it may use, such as '/v1/*'")
    creating.add_argument("--expires", metavar="TIME", help="ISO 8601, or from now as in 12h or 30d")
    creating.add_argument("--admin", action="store_true", help="may manage keys and models, and see all usage")
    for name in LIMITS:
        creating.add_argument(
            f"--{name.replace('_', '-')}", type=int, metavar="N", help="0: no limit; default: the gateway's setting"
        )
    _finish(creating, run_create)
    _finish(actions.add_parser("list", help="every key, the oldest first"), run_list)
    revoking = actions.add_parser("revoke", help="end keys")
    revoking.add_argument("id", nargs="+")
    _finish(revoking, run_revoke)
    rotating = actions.add_parser("rotate", help="another secret for the same key: usage, jobs and limits stay")
    rotating.add_argument("id")
    rotating.add_argument("--overlap", default="0s", metavar="TIME", help="the secret so far works this long: 24h")
    _finish(rotating, run_rotate)


def run_create(args: argparse.Namespace) -> int:
    from gateway.access.keys import KeyLimits, KeyTerms

    terms = KeyTerms(
        name=args.name,
        owner=args.owner,
        models=_globs(args.models),
        endpoints=_globs(args.endpoints),
        admin=args.admin,
        limits=KeyLimits(**{name: getattr(args, name) for name in LIMITS}),
        expires=_moment(args.expires) if args.expires else None,
    )
    with _keys(args) as keys:
        text, key = keys.create(terms)
    _print_secret(text, key, as_json=args.json)
    return 0


def run_list(args: argparse.Namespace) -> int:
    with _keys(args) as keys:
        found = keys.all()
    if args.json:
        print(json.dumps([_row(key) for key in found], indent=2))
        return 0
    for key in found:
        t = key.terms
        about = ", ".join(filter(None, (t.owner, "admin" if t.admin else "", f"models {','.join(t.models)}")))
        print(f"{key.id}  {key.standing(time.time()):<8} {t.name}  ({about})")
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    with _keys(args) as keys:
        found = [keys.revoke(key_id) for key_id in args.id]
    if args.json:
        print(json.dumps([_row(key) for key in found], indent=2))
    else:
        for key in found:
            print(f"{key.id}: revoked")
    return 0


def run_rotate(args: argparse.Namespace) -> int:
    with _keys(args) as keys:
        text, key = keys.rotate(args.id, overlap_s=_span_s("--overlap", args.overlap))
    _print_secret(text, key, as_json=args.json)
    return 0


def _finish(parser: argparse.ArgumentParser, run: object) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, *SECTIONS)
    parser.set_defaults(run=run)


@contextmanager
def _keys(args: argparse.Namespace) -> Iterator[Keys]:
    from gateway.access import pepper
    from gateway.access.keys import Keys
    from gateway.database import open_database

    settings = resolve_settings(args).settings
    database = open_database(settings.server.data_dir, settings.ledger.database_url)
    try:
        yield Keys(database, pepper.read(settings.server.data_dir, settings.server.key_pepper))
    finally:
        database.close()


def _print_secret(text: str, key: Key, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"key": text, "id": key.id}))
    else:
        print(f"{text}\n\nThe key {key.id} ({key.terms.name}). It is not kept and cannot be shown again.")


def _row(key: Key) -> dict[str, object]:
    t = key.terms
    return {
        "id": key.id,
        "name": t.name,
        "owner": t.owner,
        "admin": t.admin,
        "models": list(t.models),
        "endpoints": list(t.endpoints),
        "limits": {name: getattr(t.limits, name) for name in LIMITS},
        "created": _stamp(key.created),
        "expires": _stamp(t.expires),
        "revoked": _stamp(key.revoked),
        "status": key.standing(time.time()),
    }


def _globs(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _stamp(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> float:
    """Unix seconds of a time, or of a span from now."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return time.time() + _span_s("--expires", text)
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _span_s(flag: str, text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isdecimal():
        raise GatewayError(Code.INVALID_ARGUMENT, f"{flag} {text!r}: give a time as in 90s, 15m, 12h or 30d.")
    return float(number) * units[unit]
