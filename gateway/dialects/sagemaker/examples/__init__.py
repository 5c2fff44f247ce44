"""Golden exchanges and odd requests: what the page shows and the tests hold the dialect to."""

from __future__ import annotations

from gateway.dialects.guide import exchange, odd_requests, resource

CONTAINER = (
    exchange(__name__, "one-series", "The first request of JumpStart's own notebook"),
    exchange(__name__, "several-series", "Two items with their starts"),
)
ENDPOINT = (
    exchange(__name__, "multivariate", "Two dimensions, and a covariate known ahead"),
    exchange(__name__, "no-inputs", "Nothing to forecast", 424),
)
ODD = odd_requests(resource(__name__, "odd.json"))
