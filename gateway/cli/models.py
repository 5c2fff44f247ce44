"""`forecast-gateway models`: what the catalog holds and what of it can be served here."""

from __future__ import annotations

import argparse
import json

from gateway.cli.options import add_settings, resolve_settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="list the models and whether this machine has them")
    add_settings(parser, "engine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", action="store_true", help="print the table of the README")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from gateway.app import catalog_of
    from gateway.engine import standing

    settings = resolve_settings(args).settings
    catalog = catalog_of(settings)
    rows = [
        {
            "id": card.id,
            "aliases": list(catalog.names_of(card)),
            "family": card.family,
            "max_context": card.max_context,
            "max_horizon": card.max_horizon,
            "covariates": f"{card.covariates.past} / {card.covariates.future} / {card.covariates.static}",
            "licence": card.licence.id,
            "status": standing(card, settings.engine).state,
            "reason": standing(card, settings.engine).reason,
        }
        for card in catalog
    ]
    if args.json:
        print(json.dumps(rows, indent=2))
    elif args.markdown:
        print("| model | aliases | context | horizon | past / future / static covariates | licence |")
        print("|---|---|--:|--:|---|---|")
        for r in rows:
            names = ", ".join(f"`{a}`" for a in r["aliases"])
            print(f"| `{r['id']}` | {names} | {r['max_context']} | {r['max_horizon']} | ", end="")
            print(f"{r['covariates']} | {r['licence']} |")
    else:
        width = max(len(str(r["id"])) for r in rows)
        for r in rows:
            print(f"{r['id']:<{width}}  {r['status']:<12} {r['reason']}".rstrip())
    return 0
