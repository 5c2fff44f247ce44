"""Work that outlives the call that brought it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gateway.domain.evaluations import AnomalyReport, AnomalyRequest, Backtest, BacktestRequest
from gateway.domain.forecasts import Forecast, ForecastPlan, ForecastRequest, Usage
from gateway.domain.groups import BatchAnswer, BatchRequest, EnsembleForecast, EnsembleRequest
from gateway.errors import Code

JobType = Literal["forecast", "batch", "ensemble", "backtest", "anomalies"]
JobStatus = Literal["queued", "running", "completed", "partial", "failed", "cancelled", "expired"]

Work = ForecastRequest | BatchRequest | EnsembleRequest | BacktestRequest | AnomalyRequest
Answer = Forecast | ForecastPlan | BatchAnswer | EnsembleForecast | Backtest | AnomalyReport


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """A job as it is handed in, apart from its work."""

    type: JobType
    priority: int = 0  # -10 to 10: higher first
    deadline_s: float | None = None  # from now; a job that is not done by then ends as expired
    callback_url: str | None = None
    request_id: str = ""
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands. Times are unix seconds."""

    id: str
    type: JobType
    status: JobStatus
    owner: str  # the caller's id
    done: int  # series, or requests of a batch, whose results are there; failed ones included
    total: int
    failed: int  # of `done`
    usage: Usage = field(default_factory=Usage)  # of what is done
    created: float
    started: float | None = None
    finished: float | None = None
    priority: int = 0
    deadline: float | None = None
    model: str = ""  # catalog id, where there is one
    code: Code | None = None  # why it failed
    error: str | None = None
    callback_url: str | None = None
    request_id: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in ("queued", "running")
