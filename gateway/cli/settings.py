"""`forecast-gateway settings`: every setting, its value and where it came from."""

from __future__ import annotations

import argparse
import json

import msgspec

from gateway.cli.options import add_settings, resolve_settings
from gateway.settings import SECRETS, SECTIONS, TABLES


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("settings", help="print every setting with its origin")
    add_settings(parser, *SECTIONS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    resolved = resolve_settings(args)
    tree = msgspec.to_builtins(resolved.settings)
    rows = [
        {"section": section, "name": name, "value": _shown(name, value), "origin": resolved.origins[name]}
        for section in SECTIONS
        for name, value in tree[section].items()
    ]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    for section in SECTIONS:
        print(f"[{section}]")
        for row in rows:
            if row["section"] == section:
                print(f"  {row['name']:<30} {json.dumps(row['value']):<44} {row['origin']}")
    for table in TABLES:
        for name in tree[table]:
            print(f"[{table}] {name}  file")
    return 0


def _shown(name: str, value: object) -> object:
    """A setting's value; what a secret is set to is nobody's to read."""
    return "***" if name in SECRETS and value else value
