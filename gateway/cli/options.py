"""Options that several commands share: every setting is a flag of the same name."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.settings import SECTIONS, Resolved, resolve


def add_settings(parser: argparse.ArgumentParser, *sections: str) -> None:
    """Add `--config` and a flag for every setting of `sections`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    group = parser.add_argument_group(
        "settings", "each also in the file, or as FORECAST_GATEWAY_<NAME>; `forecast-gateway settings` prints them all"
    )
    for section in sections:
        for name in SECTIONS[section].__struct_fields__:
            flag = f"--{name.replace('_', '-')}"
            default = getattr(SECTIONS[section](), name)
            if isinstance(default, bool):
                group.add_argument(flag, dest=name, action="store_const", const=True)
            else:
                shown = ",".join(default) if isinstance(default, tuple) else default
                group.add_argument(flag, dest=name, metavar="VALUE", help=f"default: {shown}" if shown else None)


def resolve_settings(args: argparse.Namespace) -> Resolved:
    """The settings that file, environment and this command's flags come to."""
    names = [n for kind in SECTIONS.values() for n in kind.__struct_fields__]
    return resolve(config=args.config, flags={n: getattr(args, n, None) for n in names})
