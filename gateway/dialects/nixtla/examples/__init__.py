"""Golden exchanges and odd requests: what the page shows and the tests hold the dialect to."""

from __future__ import annotations

from gateway.dialects.guide import Example, OddRequest

FORECAST: tuple[Example, ...] = ()
CROSS_VALIDATION: tuple[Example, ...] = ()
ANOMALIES: tuple[Example, ...] = ()
MODEL_PARAMS: tuple[Example, ...] = ()
ODD: tuple[OddRequest, ...] = ()
