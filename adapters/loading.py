"""From a card to a loaded adapter: the one place where a family's module is imported."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from adapters.base import Adapter, Device, LoadableAdapter
from adapters.copula import CopulaSampling
from adapters.covariates import InContextRegression
from catalog.card import ModelCard


def load(card: ModelCard, folders: Mapping[str, Path], device: Device) -> Adapter:
    """Load `card`'s model from `folders`; around it sampling by copula and in-context regression, as the card says.

    `folders` maps the card's names for its weights to local folders. Raises ValueError, with a sentence for
    the operator, when the card names no usable class or the checkpoint is bad.
    """
    if device.gpu:
        from adapters import cuda_graphs  # imports torch, which statistical models do without

        cuda_graphs.prepare(device)
    adapter: Adapter = adapter_class(card).load(card, folders, device)
    if card.sampling.copula:
        adapter = CopulaSampling(adapter, card)
    if card.covariates.future == "regression":  # past-only covariates end where the horizon begins
        return InContextRegression(adapter)
    return adapter


def adapter_class(card: ModelCard) -> type[LoadableAdapter]:
    """The class that `card.adapter` names as "module:Class"; raises ValueError where there is none."""
    module_name, _, class_name = (card.adapter or "").partition(":")
    if not module_name or not class_name:
        raise ValueError(f"the card of {card.id} names no adapter as 'module:Class'")
    try:
        module = importlib.import_module(module_name)
    except ImportError as exc:
        raise ValueError(f"{card.id}: the adapter module {module_name} cannot be imported ({exc})") from exc
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not hasattr(found, "load"):
        raise ValueError(f"{card.id}: {module_name} has no adapter class {class_name}")
    return found
