"""`forecast-gateway pull`: bring a model's weights to this machine."""

from __future__ import annotations

import argparse
import sys

from gateway.cli.options import add_settings, resolve_settings
from gateway.errors import Code, GatewayError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("pull", help="download a model's weights from the hub")
    parser.add_argument("model", nargs="+", help="model id or alias")
    add_settings(parser, "engine")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from gateway.app import catalog_of
    from gateway.engine.weights import fetch

    settings = resolve_settings(args).settings
    catalog = catalog_of(settings)
    for name in args.model:
        card = catalog.get(name)
        if card is None:
            near = " or ".join(catalog.nearest(name))
            raise GatewayError(
                Code.NOT_FOUND, f"There is no model {name!r}." + (f" Did you mean {near}?" if near else "")
            )
        fetch(card, settings.engine, say=lambda line: print(line, file=sys.stderr))
        print(f"{card.id}: here")
    return 0
