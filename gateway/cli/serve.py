"""`forecast-gateway serve`: run the gateway."""

from __future__ import annotations

import argparse

from gateway.cli.options import add_settings, resolve_settings
from gateway.settings import SECTIONS


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "serve",
        help="run the gateway",
        description="Run the gateway. Every setting is a flag: --host, --port, --data-dir, --weights-dir, --workers, "
        "...; `forecast-gateway settings` lists them all.",
    )
    add_settings(parser, *SECTIONS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    resolved = resolve_settings(args)
    from gateway.app import serve  # the server's packages are an extra

    serve(resolved)
    return 0
