"""Golden exchanges and odd requests: what the page shows and the tests hold the dialect to."""

from __future__ import annotations

from gateway.dialects.guide import exchange, odd_requests, resource

PREDICTIONS = (
    exchange(__name__, "regression", "35 days of history, and one day to predict"),
    exchange(__name__, "several-series", "Two series, and a column known in advance"),
    exchange(__name__, "no-history", "A row to predict, and nothing before it", 400),
)
ODD = odd_requests(resource(__name__, "odd.json"))
