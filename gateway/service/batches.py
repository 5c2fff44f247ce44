"""Batches: many forecasts in one call, each of which succeeds and fails alone."""

from __future__ import annotations

from gateway.domain import BatchAnswer, BatchRequest, Caller
from gateway.service.forecasts import ForecastService


async def batch(service: ForecastService, request: BatchRequest, *, caller: Caller, deadline: float) -> BatchAnswer:
    """Run every request of a batch side by side; `deadline` is in seconds of the running loop's clock."""
    raise NotImplementedError
