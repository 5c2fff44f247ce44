"""Candidates of an ensemble: which models they are, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass

from catalog import ModelCard
from gateway.domain import Backtest, Caller, EnsembleRequest, Forecast, ForecastRequest, ModelInfo, Parameters
from gateway.ensemble.ranking import Windows
from gateway.errors import Code, GatewayError
from gateway.pacing import paced
from gateway.planning import plan
from gateway.service.forecasts import ForecastService

SERVABLE = ("ready", "loading", "loadable")


@dataclass(slots=True, eq=False)
class Candidate:
    """One model that was asked for, or that could take part."""

    model: str  # the catalog's id; as asked where the catalog has none
    card: ModelCard | None = None
    refusal: GatewayError | None = None  # why it takes no part
    late: bool = False  # `refusal` is that its time was over
    passed_over: str = ""  # why it was not tried at all
    backtest: Backtest | None = None
    windows: Windows | None = None  # of `backtest`
    score: float | None = None
    forecast: Forecast | None = None

    @property
    def alive(self) -> bool:
        """Whether it may still take part."""
        return self.refusal is None and not self.passed_over

    @property
    def pool(self) -> str:
        """The workers that run it."""
        return self.card.batching.pool if self.card is not None else ""

    def price(self, request: EnsembleRequest) -> float:
        """Of one channel of the longest series, in shares of a batch: about seconds of work."""
        if self.card is None:
            return 0.0
        batching = self.card.batching
        rows = min(self.card.max_context, max(len(series.target) for series in request.series))
        factors = batching.horizon_factors or (1.0,)
        factor = factors[min(self.card.horizon_class(request.parameters.prediction_length), len(factors) - 1)]
        return (-(-rows // batching.patch) + batching.overhead) * factor / batching.token_budget

    def fail(self, error: GatewayError) -> None:
        """Take no further part."""
        self.refusal = error
        self.late = error.code is Code.DEADLINE_EXCEEDED

    def request(self, request: EnsembleRequest, parameters: Parameters) -> ForecastRequest:
        """What this candidate is asked to forecast."""
        return ForecastRequest(model=self.model, series=request.series, parameters=parameters)


async def candidates(
    service: ForecastService, request: EnsembleRequest, parameters: Parameters, caller: Caller
) -> list[Candidate]:
    """The models that are asked for, or else all that can serve the request: `top_n` of them are tried.

    Those that cannot be tried are among them with the reason, if they were asked for by name.
    """
    named = request.models is not None
    found = _named(service, request.models, caller) if request.models is not None else _servable(service, caller)
    tried = 0
    for candidate in found:
        if candidate.alive and tried >= request.top_n:
            candidate.passed_over = f"Not tried: top_n lets {request.top_n} candidates be backtested."
        elif candidate.alive and candidate.card is not None:
            try:
                await paced(plan(candidate.request(request, parameters), candidate.card))
                tried += 1
            except GatewayError as error:
                candidate.fail(error)
    return found if named else _kept(found)


def _kept(found: list[Candidate]) -> list[Candidate]:
    """Without those that nobody named and that cannot take the request; the first of them where nobody can."""
    return [c for c in found if c.alive] or found[:1]


def _named(service: ForecastService, models: tuple[str, ...], caller: Caller) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for name in models:
        try:
            info = service.model(name, caller)
        except GatewayError as error:
            found.setdefault(name, Candidate(model=name, refusal=error))
            continue
        candidate = Candidate(model=info.card.id, card=info.card)
        if info.status.state not in SERVABLE:
            status = info.status
            candidate.refusal = GatewayError(Code.UNAVAILABLE, status.reason, retry_after_s=status.retry_after_s)
        found.setdefault(info.card.id, candidate)
    return list(found.values())


def _servable(service: ForecastService, caller: Caller) -> list[Candidate]:
    """Those in memory first, then the smallest: what is tried must come within the budget."""
    there = [info for info in service.models(caller) if info.status.state in SERVABLE]
    return [Candidate(model=info.card.id, card=info.card) for info in sorted(there, key=_effort)]


def _effort(info: ModelInfo) -> tuple[bool, int]:
    return info.status.state != "ready", info.card.parameters or 0


def nothing_left(found: list[Candidate]) -> GatewayError:
    """One error for a call of which no candidate is left: the first one's, and everybody's reason."""
    refused = [(c.model, c.refusal) for c in found if c.refusal is not None]
    if not refused:
        return GatewayError(Code.UNAVAILABLE, "No model of this gateway can take the request.")
    first = refused[0][1]
    if len({error.sentence for _, error in refused}) == 1:
        reasons = first.sentence
    else:
        reasons = " ".join(f"{model}: {error.sentence}" for model, error in refused)
    return GatewayError(
        first.code,
        f"No candidate is left. {reasons}",
        faults=first.faults if first.code is Code.INVALID_ARGUMENT else (),
        retry_after_s=first.retry_after_s,
    )
