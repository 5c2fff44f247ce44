"""Which model draws the paths of candles for callers that name none."""

from __future__ import annotations

from gateway.domain import Caller, ModelInfo
from gateway.errors import Code, GatewayError
from gateway.service.forecasts import ForecastService

KRONOS = ("NeoQuasar/Kronos-mini", "NeoQuasar/Kronos-small", "NeoQuasar/Kronos-base")  # the space's own first


def candle_model(service: ForecastService, caller: Caller, chosen: str = "") -> ModelInfo:
    """The model `chosen`, else a Kronos whose weights are here and that the caller may use, else the default model.

    Raises GatewayError: NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT for a model that draws no paths.
    """
    if chosen:
        return _that_samples(service.model(chosen, caller))
    for name in KRONOS:
        try:
            found = service.model(name, caller)
        except GatewayError:
            continue  # not in this catalog, or not for this caller
        if found.status.state != "unavailable":
            return found
    return _that_samples(service.model(service.default_card().id, caller))


def _that_samples(found: ModelInfo) -> ModelInfo:
    sampling = found.card.sampling
    if not sampling.native and not sampling.copula:
        raise GatewayError(Code.INVALID_ARGUMENT, f"{found.card.id} draws no paths, so that no candles can be drawn.")
    return found
