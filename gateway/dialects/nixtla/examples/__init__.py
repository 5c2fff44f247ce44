"""Golden exchanges and odd requests: what the page shows and the tests hold the dialect to."""

from __future__ import annotations

from gateway.dialects.guide import exchange, odd_requests, resource

FORECAST = (
    exchange(__name__, "forecast", "Two series of different lengths, with two levels"),
    exchange(__name__, "forecast-exogenous", "A feature known ahead, and one of the past only"),
    exchange(__name__, "sizes", "Sizes that do not come to all of `y`", 422),
)
CROSS_VALIDATION = (exchange(__name__, "cross-validation", "Two windows of two rows"),)
ANOMALIES = (exchange(__name__, "anomaly-detection", "One value out of fourteen"),)
ODD = odd_requests(resource(__name__, "odd.json"))
