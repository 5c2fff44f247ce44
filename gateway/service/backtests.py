"""Backtests: forecasts of held-out ends of a series, and how good they were."""

from __future__ import annotations

from gateway.domain import Backtest, BacktestRequest, Caller
from gateway.service.forecasts import ForecastService


async def backtest(service: ForecastService, request: BacktestRequest, *, caller: Caller, deadline: float) -> Backtest:
    """Forecast every fold of every series and score it; `deadline` is in seconds of the running loop's clock."""
    raise NotImplementedError
