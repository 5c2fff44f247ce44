"""Golden exchanges and odd requests: what the page shows and the tests hold the dialect to."""

from __future__ import annotations

from gateway.dialects.guide import exchange, odd_requests, resource

UNIVARIATE = (
    exchange(__name__, "univariate", "One series"),
    exchange(__name__, "univariate-timestamps", "Timestamps, answered in the form sent"),
    exchange(__name__, "schema", "A field is missing", 422),
    exchange(__name__, "empty", "No values", 400),
)
MULTI_SERIES = (exchange(__name__, "multi-series", "Three series"),)
ANOMALIES = (exchange(__name__, "anomalies", "Three observations, one of them far off"),)
BACKTEST = (exchange(__name__, "backtest", "A forecast beside what came"),)
ODD = odd_requests(resource(__name__, "odd.json"))
