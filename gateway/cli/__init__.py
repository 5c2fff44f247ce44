"""The command line: `forecast-gateway COMMAND`. One module a command; each imports what it needs when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from catalog import CatalogError
from gateway import __version__
from gateway.cli import deployments, doctor, forecast, jobs, keys, models, pull, serve, settings, worker
from gateway.errors import GatewayError
from gateway.settings import SettingsError

COMMANDS = (serve, worker, forecast, jobs, keys, models, pull, settings, deployments, doctor)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="forecast-gateway", description="Forecasts from time-series models, served.")
    top.add_argument("--version", action="version", version=f"forecast-gateway {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 failed, 2 wrong use or wrong input, 141 its reader left (`| head`)."""
    try:
        try:
            return _run(parser().parse_args(argv))
        finally:
            sys.stdout.flush()  # here rather than at exit, where a closed pipe is a traceback
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is written at exit
        return 141


def _run(args: argparse.Namespace) -> int:
    try:
        code: int = args.run(args)
        return code
    except (SettingsError, CatalogError) as exc:
        print(f"forecast-gateway: {exc}", file=sys.stderr)
        return 2
    except GatewayError as exc:
        print(f"forecast-gateway: {exc.sentence}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] in {"gateway", "adapters", "catalog"}:
            raise
        print(
            f"forecast-gateway: the package {exc.name!r} is missing. Install the server and the model libraries:\n"
            "  pip install 'forecast-gateway[serve]'",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130
