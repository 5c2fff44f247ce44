"""Golden exchanges and odd requests: what the page shows and the tests hold the dialect to."""

from __future__ import annotations

from gateway.dialects.guide import exchange, odd_requests, resource

FORECAST = (
    exchange(__name__, "forecast", "Two series, as the API's own reference prints them"),
    exchange(__name__, "forecast-multivariate", "Two variables, no start, no quantiles"),
    exchange(__name__, "forecast-partial", "One input fails alone"),
    exchange(__name__, "invalid-horizon", "A horizon that no model has", 400),
    exchange(__name__, "schema", "Fields that are missing", 422),
)
ODD = odd_requests(resource(__name__, "odd.json"))
