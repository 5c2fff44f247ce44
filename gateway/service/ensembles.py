"""Ensembles: candidates are backtested side by side, and the forecasts of the best are blended."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from gateway.domain import Backtest, BacktestRequest, Caller, EnsembleForecast, EnsembleRequest
from gateway.service.forecasts import ForecastService


class Backtester(Protocol):
    """Where a candidate is backtested: in the engine of this process, or as a job of its own on the pool.

    Cancelling the call withdraws the work.
    """

    def __call__(self, request: BacktestRequest, *, caller: Caller, deadline: float) -> Awaitable[Backtest]: ...


async def ensemble(
    service: ForecastService,
    request: EnsembleRequest,
    *,
    caller: Caller,
    deadline: float,
    backtester: Backtester | None = None,
) -> EnsembleForecast:
    """Rank the candidates and blend the best within the budget; without a `backtester`, through the engine here."""
    raise NotImplementedError
