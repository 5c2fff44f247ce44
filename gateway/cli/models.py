"""`forecast-gateway models`: what the catalog holds and what of it can be served here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

import msgspec

from catalog import Catalog, ModelCard
from gateway.cli.options import add_settings, resolve_settings
from gateway.settings import EngineSettings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="list the models and whether this machine has them")
    add_settings(parser, "engine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", action="store_true", help="print the table of the README")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from gateway.app import catalog_of

    settings = resolve_settings(args).settings
    catalog = catalog_of(settings)
    rows = [_row(card, catalog, settings.engine) for card in sorted(catalog, key=lambda c: c.id.lower())]
    if args.json:
        print(json.dumps(msgspec.to_builtins(rows), indent=2))
    elif args.markdown:
        print("\n".join(_markdown(rows)))
    else:
        width = max(len(r.id) for r in rows)
        for r in rows:
            print(f"{r.id:<{width}}  {r.status:<12} {r.reason}".rstrip())
    return 0


class Row(msgspec.Struct, frozen=True):
    """One model, for people and scripts."""

    id: str
    aliases: tuple[str, ...]
    family: str
    max_context: int
    max_horizon: int
    covariates: str
    licence: str
    status: str
    reason: str


def _row(card: ModelCard, catalog: Catalog, settings: EngineSettings) -> Row:
    from gateway.engine import standing

    stands = standing(card, settings)
    use = card.covariates
    return Row(
        id=card.id,
        aliases=catalog.names_of(card),
        family=card.family,
        max_context=card.max_context,
        max_horizon=card.max_horizon,
        covariates=f"{use.past} / {use.future} / {use.static}",
        licence=card.licence.id,
        status=stands.state,
        reason=stands.reason,
    )


def _markdown(rows: Sequence[Row]) -> Iterator[str]:
    yield "| model | aliases | context | horizon | past / future / static covariates | licence |"
    yield "|---|---|--:|--:|---|---|"
    for r in rows:
        names = ", ".join(f"`{a}`" for a in r.aliases if a != "default")
        yield f"| `{r.id}` | {names} | {r.max_context} | {r.max_horizon} | {r.covariates} | {r.licence} |"
