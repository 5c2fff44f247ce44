"""Anomalies: values that the past of their series did not lead to expect."""

from __future__ import annotations

from gateway.domain import AnomalyReport, AnomalyRequest, Caller
from gateway.service.forecasts import ForecastService


async def detect_anomalies(
    service: ForecastService, request: AnomalyRequest, *, caller: Caller, deadline: float
) -> AnomalyReport:
    """Score every value from the context before it; `deadline` is in seconds of the running loop's clock."""
    raise NotImplementedError
