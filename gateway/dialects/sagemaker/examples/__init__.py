"""Golden exchanges and odd requests: what the page shows and the tests hold the dialect to."""

from __future__ import annotations

from gateway.dialects.guide import Example, OddRequest

CONTAINER: tuple[Example, ...] = ()
ENDPOINT: tuple[Example, ...] = ()
ODD: tuple[OddRequest, ...] = ()
