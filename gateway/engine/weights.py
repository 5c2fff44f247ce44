"""A card to the folders that hold its weights: bundled, local, or in the hub's cache. Only `fetch` uses the network.

Weights are read from safetensors files alone. A folder whose configuration asks for code of its own is refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from catalog.card import BUNDLED, ModelCard, Weights
from gateway.errors import Code, GatewayError
from gateway.settings import EngineSettings

_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Located:
    """Where the weights lie, by the card's names for them."""

    folders: Mapping[str, Path]
    bytes: int  # of the safetensors files


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there are none, in a sentence that names no path of this machine."""

    reason: str


def locate(card: ModelCard, weights_dir: Path) -> Located | Missing:
    """The local folders of `card`'s weights."""
    folders: dict[str, Path] = {}
    for name, weights in card.weights.items():
        found = _find(weights, weights_dir)
        if isinstance(found, str):
            return Missing(
                f"The weights of {card.id} are not on this machine{found}: run `forecast-gateway pull {card.id}`."
            )
        folders[name] = found
    size = sum((folders[n] / f).stat().st_size for n, w in card.weights.items() for f in w.files if _is_tensors(f))
    return Located(folders, size)


def fetch(card: ModelCard, settings: EngineSettings, say: Callable[[str], None]) -> Located:
    """Download what is missing of `card`'s weights into the weights folder, telling `say` what happens.

    Raises GatewayError if the licence is not accepted, the hub does not answer, or what it gave cannot be used.
    """
    require_licence(card, settings)
    weights_dir = Path(settings.weights_dir).expanduser()
    for weights in card.weights.values():
        if isinstance(_find(weights, weights_dir), str):
            for file in weights.files:
                say(f"{weights.repository} at {weights.revision}: {file}")
                _download(weights, file, weights_dir / weights.repository)
    found = locate(card, weights_dir)
    if isinstance(found, Missing):
        raise GatewayError(Code.UNAVAILABLE, f"What the hub gave cannot be used. {found.reason}")
    return found


def require_licence(card: ModelCard, settings: EngineSettings) -> None:
    """Refuse a model whose licence the operator has to accept and has not."""
    if not card.licence.commercial and card.id not in settings.accept_licences:
        raise GatewayError(
            Code.UNAVAILABLE,
            f"The licence of {card.id} ({card.licence.id}) is not a commercial one: the operator of this gateway "
            f"has to accept it by adding {card.id!r} to the setting accept_licences.",
        )


def _download(weights: Weights, file: str, folder: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        huggingface_hub.hf_hub_download(weights.repository, file, revision=weights.revision, local_dir=folder)
    except RepositoryNotFoundError:
        fault = "the hub has no such repository, or wants a token for it (HF_TOKEN)"
    except RevisionNotFoundError:
        fault = f"the repository has no revision {weights.revision}"
    except LocalEntryNotFoundError:
        fault = "the hub cannot be reached, or HF_HUB_OFFLINE forbids it"
    except EntryNotFoundError:
        fault = "the repository has no such file"
    except (HfHubHTTPError, OSError) as exc:
        fault = f"the download failed ({type(exc).__name__})"
    else:
        return
    raise GatewayError(Code.UNAVAILABLE, f"{file} of {weights.repository} could not be downloaded: {fault}.")


def _find(weights: Weights, weights_dir: Path) -> Path | str:
    """A folder that can be used, or what is wrong with those that cannot, as the end of a sentence."""
    faults = []
    for folder, place in _candidates(weights, weights_dir):
        if not folder.is_dir():
            continue
        fault = _fault(folder, weights)
        if fault is None:
            return folder
        faults.append(f" ({place}: {fault})")
    if not faults and _cache_folder(weights).is_dir():
        faults.append(f" (the hub's cache holds another revision than {weights.revision})")
    return faults[0] if faults else ""


def _candidates(weights: Weights, weights_dir: Path) -> Iterator[tuple[Path, str]]:
    if weights.bundled is not None:
        yield BUNDLED / weights.bundled, "the bundled folder"
    yield weights_dir / weights.repository, f"{weights.repository} in the weights folder"
    cache = _cache_folder(weights)
    reference = cache / "refs" / weights.revision
    commit = reference.read_text().strip() if reference.is_file() else weights.revision
    yield cache / "snapshots" / commit, "the hub's cache"


def _cache_folder(weights: Weights) -> Path:
    """Where the hub's client keeps a repository; importing that client would cost a third of a second."""
    environ = os.environ
    home = Path(environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub"
    return Path(cache).expanduser() / f"models--{weights.repository.replace('/', '--')}"


def _fault(folder: Path, weights: Weights) -> str | None:
    """Why a folder cannot be used, if so."""
    if not any(_is_tensors(f) for f in weights.files):
        return "the card names no safetensors file"
    absent = [f for f in weights.files if not (folder / f).is_file()]
    if absent and any(folder.glob("*.bin")) and any(_is_tensors(f) for f in absent):
        return "its weights are pickled, which is never loaded"
    if absent:
        return f"{', '.join(absent)} is absent"
    if _COMMIT.fullmatch(weights.revision) and _pulled(folder, weights) not in (None, weights.revision):
        return f"it holds another revision than {weights.revision}"
    if _asks_for_code(folder / "config.json"):
        return "its configuration asks for code of its own, which is never run"
    return None


def _pulled(folder: Path, weights: Weights) -> str | None:
    """The commit that the hub's client noted when it filled `folder`, if it did."""
    note = folder / ".cache" / "huggingface" / "download" / f"{weights.files[0]}.metadata"
    return note.read_text().partition("\n")[0].strip() if note.is_file() else None


def _asks_for_code(config: Path) -> bool:
    try:
        document = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return False  # the adapter will say what is wrong with it
    return isinstance(document, dict) and "auto_map" in document


def _is_tensors(file: str) -> bool:
    return file.endswith(".safetensors")
