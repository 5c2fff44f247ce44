"""The calls of the gateway, whatever wire they came by."""

from gateway.service.cache import ForecastCache
from gateway.service.forecasts import ForecastService

__all__ = ["ForecastCache", "ForecastService"]
