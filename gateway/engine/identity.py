"""What decides the numbers of a loaded model beside the series, as one digest: equal digests forecast alike.

A card's revision is a name, and files can be replaced under a name, so the files themselves are read. To equal numbers
within the tolerance of batch neighbours (1e-4), that is: processors of one kind differ in the last digits.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

import adapters
from adapters.base import Device
from catalog.card import ModelCard
from gateway import __version__

IDENTITY_BYTES = 16
LIBRARIES = ("numpy", "scipy", "torch", "transformers", "chronos-forecasting", "timesfm", "statsforecast")

Stamps = tuple[tuple[int, int, int], ...]


def stamps(card: ModelCard, folders: Mapping[str, Path]) -> Stamps:
    """What changes when one of the files that a model is loaded from is replaced. Raises OSError."""
    found = [file.stat() for file in _weights(card, folders)]
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in found)


def identity(card: ModelCard, folders: Mapping[str, Path], device: Device) -> bytes:
    """The digest of a model that was loaded from `folders` and runs on `device`. Raises OSError.

    An adapter that an operator wrote counts as its own module: what that imports is the operator's to watch.
    """
    kind = replace(device, name=device.name.partition(":")[0])  # the second GPU computes what the first one does
    said = (__version__, card, kind, [_version(library) for library in LIBRARIES])
    digest = hashlib.sha256(msgspec.msgpack.encode(said, order="deterministic"))
    for file in (*_code(card), *_weights(card, folders)):
        with file.open("rb") as opened:
            digest.update(file.name.encode() + b"\0" + hashlib.file_digest(opened, "sha256").digest())
    return digest.digest()[:IDENTITY_BYTES]


def _weights(card: ModelCard, folders: Mapping[str, Path]) -> list[Path]:
    return [folders[name] / file for name, weights in card.weights.items() for file in weights.files]


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _code(card: ModelCard) -> list[Path]:
    """The sources of all adapters, and of the one that the card names if it is another's."""
    ours = Path(next(iter(adapters.__path__)))
    found = sorted(ours.rglob("*.py"))
    named = sys.modules.get((card.adapter or "").partition(":")[0])
    if named is not None and named.__file__ and not Path(named.__file__).is_relative_to(ours):
        found.append(Path(named.__file__))
    return found
