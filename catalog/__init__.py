"""What exists and what it can do: model cards, with no arrays and no wire."""

from catalog.card import (
    Batching,
    Catalog,
    CatalogError,
    Covariates,
    Licence,
    ModelCard,
    Sampling,
    Weights,
    load_cards,
    merged,
)

__all__ = [
    "Batching",
    "Catalog",
    "CatalogError",
    "Covariates",
    "Licence",
    "ModelCard",
    "Sampling",
    "Weights",
    "load_cards",
    "merged",
]
