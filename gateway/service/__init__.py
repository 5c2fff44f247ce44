"""The calls of the gateway, whatever wire they came by."""

from gateway.service.forecasts import ForecastService

__all__ = ["ForecastService"]
