"""`forecast-gateway deployments`: tables of a known layout and the models that forecast them, as DataRobot names them.

Those of the settings file are listed and left alone; others are kept in the database, and gateways on it serve them
within a second.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from gateway.cli.options import add_settings, resolve_settings
from gateway.errors import Code, GatewayError
from gateway.settings import DeploymentSettings, Resolved

if TYPE_CHECKING:
    from gateway.deployments import StoredDeployments
    from gateway.domain import Deployment

_SECTIONS = ("server", "ledger")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("deployments", help="declare tables for DataRobot's clients")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_parser(actions)
    listing = actions.add_parser("list", help="every deployment and where it stands")
    listing.add_argument("--json", action="store_true", help="print JSON")
    add_settings(listing, *_SECTIONS)
    listing.set_defaults(run=run_list)
    removing = actions.add_parser("remove", help="forget deployments of the database")
    removing.add_argument("id", nargs="+")
    add_settings(removing, *_SECTIONS)
    removing.set_defaults(run=run_remove)


def _add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    adding = actions.add_parser("add", help="keep a deployment in the database")
    adding.add_argument("id", help="what callers name it by")
    adding.add_argument("--target", required=True, metavar="COLUMN", help="the column that is forecast")
    adding.add_argument("--date", required=True, metavar="COLUMN", help="the column of times")
    adding.add_argument("--series-id", metavar="COLUMN", help="the column that tells series apart")
    adding.add_argument("--known-in-advance", default="", metavar="COLUMN[,COLUMN]")
    adding.add_argument("--label", default="", help="what people call it")
    adding.add_argument("--model", default="default", help="model id or alias")
    adding.add_argument("--date-format", metavar="FORMAT", help="such as '%%m/%%d/%%y'; default: ISO 8601")
    adding.add_argument("--frequency", metavar="ALIAS", help="such as D or 15min; default: what most rows follow")
    adding.add_argument("--window-start", type=int, default=1, metavar="STEPS", help="first step that is predicted")
    adding.add_argument("--window-end", type=int, default=365, metavar="STEPS", help="last step that is predicted")
    adding.add_argument("--history", type=int, default=1, metavar="ROWS", help="rows needed up to a forecast point")
    adding.add_argument("--not-time-series", action="store_true", help="declare it, and answer 422 as DataRobot does")
    adding.add_argument("--binary", action="store_true", help="the same for a binary target")
    adding.add_argument("--json", action="store_true", help="print JSON")
    add_settings(adding, *_SECTIONS)
    adding.set_defaults(run=run_add)


def run_add(args: argparse.Namespace) -> int:
    from gateway.app import catalog_of
    from gateway.deployments import checked

    resolved = resolve_settings(args)
    deployment = checked(args.id, _settings(args))
    catalog = catalog_of(resolved.settings)
    if catalog.get(args.model) is None:
        near = " or ".join(catalog.nearest(args.model))
        raise GatewayError(
            Code.NOT_FOUND, f"There is no model {args.model!r}." + (f" Did you mean {near}?" if near else "")
        )
    if args.id in resolved.settings.deployments:
        raise GatewayError(Code.CONFLICT, f"The deployment {args.id!r} stands in the settings file: change it there.")
    with _stored(resolved) as stored:
        stored.add(deployment)
    print(json.dumps(_row(deployment, "database")) if args.json else f"{deployment.id}: kept")
    return 0


def _settings(args: argparse.Namespace) -> DeploymentSettings:
    fields = {
        "target": args.target,
        "date": args.date,
        "series_id": args.series_id,
        "known_in_advance": [c.strip() for c in args.known_in_advance.split(",") if c.strip()],
        "label": args.label,
        "model": args.model,
        "date_format": args.date_format,
        "frequency": args.frequency,
        "window_start": args.window_start,
        "window_end": args.window_end,
        "history": args.history,
        "time_series": not args.not_time_series,
        "binary": args.binary,
    }
    try:
        return msgspec.convert(fields, DeploymentSettings)
    except msgspec.ValidationError as exc:
        raise GatewayError(Code.INVALID_ARGUMENT, f"The deployment {args.id!r}: {exc}") from None


def run_list(args: argparse.Namespace) -> int:
    from gateway.deployments import checked

    resolved = resolve_settings(args)
    found = [(checked(name, one), "file") for name, one in resolved.settings.deployments.items()]
    with _stored(resolved) as stored:
        found += [(one, "database") for one in stored.all() if one.id not in resolved.settings.deployments]
    rows = [_row(deployment, origin) for deployment, origin in found]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        columns = f"{row['date']}, {row['target']}" + (f" by {row['series_id']}" if row["series_id"] else "")
        print(f"{row['id']:<26} {row['model']:<34} {columns:<40} {row['origin']}")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    resolved = resolve_settings(args)
    for name in args.id:
        if name in resolved.settings.deployments:
            raise GatewayError(Code.CONFLICT, f"The deployment {name!r} stands in the settings file: remove it there.")
    with _stored(resolved) as stored:
        for name in args.id:
            stored.remove(name)
            print(f"{name}: removed")
    return 0


def _row(deployment: Deployment, origin: str) -> dict[str, object]:
    return {"id": deployment.id, **msgspec.to_builtins(deployment.settings), "origin": origin}


@contextmanager
def _stored(resolved: Resolved) -> Iterator[StoredDeployments]:
    from gateway.database import open_database
    from gateway.deployments import StoredDeployments

    settings = resolved.settings
    database = open_database(settings.server.data_dir, settings.ledger.database_url)
    try:
        yield StoredDeployments(database)
    finally:
        database.close()
