"""Golden exchanges and odd requests: what the page shows and the tests hold the dialect to."""

from __future__ import annotations

from gateway.dialects.guide import exchange, odd_requests, resource

JOIN = (exchange(__name__, "join", "A forecast of the next hour; the messages of the session tell what comes of it"),)
ANSWERS = (
    exchange(__name__, "predict-api", "/predict_api of the next hour"),
    exchange(__name__, "predict-custom", "/predict_custom with candles in the form that the space prints"),
)
ODD = odd_requests(resource(__name__, "odd.json"))
