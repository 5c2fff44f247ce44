"""What a request may use at most, as far as it can be told before anything has run.

A charge need not be exact: it is set right when the request is over. It must be quick, and rarely below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from catalog import ModelCard
from gateway.domain import (
    AnomalyRequest,
    BacktestRequest,
    BatchRequest,
    EnsembleRequest,
    ForecastRequest,
    Parameters,
    SeriesInput,
    Work,
)

CardOf = Callable[[str], ModelCard | None]  # None: a model that will not run for this caller


@dataclass(frozen=True, slots=True)
class Cost:
    """Series and tokens, by the published rule."""

    series: int = 0
    tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.series + other.series, self.tokens + other.tokens)

    def times(self, n: int) -> Cost:
        """The same series in `n` calls of a model."""
        return Cost(self.series, self.tokens * n)


def cost(work: Work, card_of: CardOf) -> Cost:
    """What `work` may come to. A batch is one request, its series and tokens summed."""
    match work:
        case ForecastRequest():
            return _forecast(work, card_of)
        case BatchRequest():
            members = (_forecast(r, card_of) for r in work.requests if isinstance(r, ForecastRequest))
            return sum(members, Cost())
        case BacktestRequest():
            return _forecast(work.forecast, card_of).times(work.windows)
        case AnomalyRequest():
            return _anomalies(work, card_of)
        case EnsembleRequest():
            # Every candidate runs once a fold, and those that are chosen once more.
            calls = work.windows * len(work.models or range(work.top_n)) + work.max_models
            return _series(work.series, work.parameters, None).times(calls)


def _forecast(request: ForecastRequest, card_of: CardOf) -> Cost:
    card = card_of(request.model)
    if card is None or request.parameters.dry_run:
        return Cost()
    return _series(request.series, request.parameters, card)


def _anomalies(request: AnomalyRequest, card_of: CardOf) -> Cost:
    card = card_of(request.forecast.model)
    if card is None:
        return Cost()
    parameters, total = request.forecast.parameters, Cost()
    for series in request.forecast.series:
        rows = series.target.shape[0]
        first = request.scored_from if request.scored_from is not None else max(8, rows // 3)
        blocks = max(1, -(-max(0, rows - first) // parameters.prediction_length))
        total += _series((series,), parameters, card).times(blocks)
    return total


def cost_of_series(series: Iterable[SeriesInput], head: ForecastRequest, card_of: CardOf) -> Cost:
    """What some series of a request come to that is sent piece by piece."""
    card = card_of(head.model)
    return Cost() if card is None else _series(series, head.parameters, card)


def _series(series: Iterable[SeriesInput], parameters: Parameters, card: ModelCard | None) -> Cost:
    horizon, levels = parameters.prediction_length, parameters.quantile_levels
    if levels is None:
        levels = card.default_quantile_levels if card is not None else (0.1, 0.5, 0.9)
    answered = horizon * max(1, len(levels), parameters.num_samples or 0)
    most = min(
        parameters.context_length or (1 << 62),
        card.max_context if card is not None else (1 << 62),
    )
    found = Cost()
    for s in series:
        rows, channels = min(s.target.shape[0], most), s.target.shape[1]
        covariates = rows * len(s.past_covariates) + horizon * len(s.future_covariates) + len(s.static_covariates)
        found += Cost(1, rows * channels + covariates + answered * channels)
    return found
