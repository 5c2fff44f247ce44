"""What chunks come to: put together, cut to a range, counted, or made of errors where a chunk failed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from catalog import ModelCard
from gateway.domain import (
    AnomalyReport,
    AnomalyRequest,
    Answer,
    Backtest,
    BacktestRequest,
    BatchAnswer,
    BatchRequest,
    EnsembleForecast,
    EnsembleRequest,
    Forecast,
    ForecastPlan,
    Scores,
    SeriesError,
    SeriesInput,
    Usage,
    Work,
)
from gateway.errors import Code, GatewayError
from gateway.jobs.chunks import members
from gateway.service import anomalies, backtests
from gateway.store.jobs import Settlement


def settlement(answer: Answer) -> Settlement:
    """How many members an answer holds, how many of them failed, what they cost, and why the first failed."""
    if isinstance(answer, BatchAnswer):
        errors: list[GatewayError | SeriesError] = [r for r in answer.results if isinstance(r, GatewayError)]
        usage = sum((r.usage for r in answer.results if isinstance(r, Forecast)), Usage())
        return _settlement(len(answer.results), errors, usage)
    if isinstance(answer, EnsembleForecast):
        outputs: Sequence[object] = answer.forecast.outputs
    else:
        outputs = answer.outputs
    errors = [o for o in outputs if isinstance(o, SeriesError)]
    return _settlement(len(outputs), errors, answer.usage)


def _settlement(done: int, errors: list[GatewayError | SeriesError], usage: Usage) -> Settlement:
    first = errors[0] if errors else None
    return Settlement(
        done=done,
        failed=len(errors),
        usage=usage,
        code=first.code.value if first else "",
        reason=first.sentence if first else "",
    )


# -- ranges ---


def trimmed(answer: Answer, begin: int, end: int) -> Answer:
    """Members `begin` to `end` of a chunk's answer."""
    if isinstance(answer, BatchAnswer):
        return replace(answer, results=answer.results[begin:end])
    if isinstance(answer, EnsembleForecast):
        return replace(answer, forecast=replace(answer.forecast, outputs=answer.forecast.outputs[begin:end]))
    if isinstance(answer, ForecastPlan):
        return replace(answer, outputs=answer.outputs[begin:end])
    return replace(cast(Forecast, answer), outputs=answer.outputs[begin:end])  # type: ignore[arg-type]


def shifted(answer: Answer, first: int) -> Answer:
    """The answer to a chunk whose notices count series from the beginning of the job."""
    if first == 0 or isinstance(answer, (BatchAnswer, EnsembleForecast, ForecastPlan)):
        return answer
    outputs = tuple(
        replace(o, notices=tuple(n if n.item is None else replace(n, item=n.item + first) for n in o.notices))
        if o.notices
        else o
        for o in answer.outputs
    )
    return replace(cast(Forecast, answer), outputs=outputs)  # type: ignore[arg-type]


# -- wholes ---


def merged(answers: Sequence[Answer]) -> Answer:
    """One answer of the answers to all chunks of a job, in order; those of forecasts are `shifted` already."""
    first = answers[0]
    if isinstance(first, BatchAnswer):
        return BatchAnswer(results=tuple(r for a in answers for r in cast(BatchAnswer, a).results))
    if isinstance(first, Backtest):
        return backtests.merged(cast(Sequence[Backtest], answers))
    if isinstance(first, AnomalyReport):
        return anomalies.merged(cast(Sequence[AnomalyReport], answers))
    if not isinstance(first, Forecast):
        return first  # an ensemble is one chunk
    parts = cast(Sequence[Forecast], answers)
    whole = next((p for p in parts if p.model_revision), first)
    cuts = [p.truncated_from for p in parts if p.truncated_from is not None]
    return replace(
        whole,
        input_points=sum(p.input_points for p in parts),
        outputs=tuple(o for p in parts for o in p.outputs),
        usage=sum((p.usage for p in parts), Usage()),
        queue_ms=max(p.queue_ms for p in parts),
        compute_ms=sum(p.compute_ms for p in parts),
        truncated_from=max(cuts, default=None),
        max_context_length=next((p.max_context_length for p in parts if p.max_context_length is not None), None),
    )


def dated(answer: Answer, id: str, created: float, took_s: float) -> Answer:
    """The answer of a job under the job's own id and times."""
    if isinstance(answer, BatchAnswer):
        return answer
    if isinstance(answer, EnsembleForecast):
        return replace(answer, forecast=replace(answer.forecast, id=id, created=int(created)))
    return replace(cast(Forecast, answer), id=id, created=int(created), latency_ms=round(took_s * 1e3, 3))


# -- failures ---


def failed(work: Work, error: GatewayError, card: ModelCard | None, created: int) -> Answer:
    """The answer to a chunk none of whose members has a result: each of them with the same error."""
    if isinstance(work, BatchRequest):
        return BatchAnswer(results=tuple(r if isinstance(r, GatewayError) else error for r in work.requests))
    outputs = tuple(
        SeriesError(code=error.code, sentence=error.sentence, metadata=s.metadata)
        for s in members(work)
        if isinstance(s, SeriesInput)
    )
    request = work.forecast if isinstance(work, (BacktestRequest, AnomalyRequest)) else work
    p = request.parameters
    levels = p.quantile_levels
    if levels is None:
        levels = card.default_quantile_levels if card else (0.1, 0.5, 0.9)
    model = "ensemble" if isinstance(request, EnsembleRequest) else card.id if card else request.model
    forecast = Forecast(
        id=str(uuid.uuid4()),
        created=created,
        model=model,
        model_revision=card.revision if card else "",
        provider=card.provider if card else "forecast-gateway",
        point=card.point if card else "mean",
        horizon=p.prediction_length,
        quantile_levels=levels,
        input_points=0,
        outputs=outputs,
        usage=Usage(),
        latency_ms=0.0,
        metadata=request.metadata,
    )
    if isinstance(work, BacktestRequest):
        return _backtest(work, forecast, outputs)
    if isinstance(work, AnomalyRequest):
        return _report(work, forecast, outputs)
    return forecast


def _backtest(work: BacktestRequest, like: Forecast, outputs: tuple[SeriesError, ...]) -> Backtest:
    return Backtest(
        id=like.id,
        created=like.created,
        model=like.model,
        model_revision=like.model_revision,
        provider=like.provider,
        point=like.point,
        horizon=like.horizon,
        windows=work.windows,
        step=work.step or like.horizon,
        quantile_levels=like.quantile_levels,
        outputs=outputs,
        scores=Scores(values=dict.fromkeys(work.metrics)),
        usage=Usage(),
        latency_ms=0.0,
        metadata=like.metadata,
    )


def _report(work: AnomalyRequest, like: Forecast, outputs: tuple[SeriesError, ...]) -> AnomalyReport:
    return AnomalyReport(
        id=like.id,
        created=like.created,
        model=like.model,
        model_revision=like.model_revision,
        provider=like.provider,
        sensitivity=work.forecast.parameters.sensitivity or 3.0,
        quantile_levels=like.quantile_levels,
        outputs=outputs,
        total_points=0,
        num_anomalies=0,
        usage=Usage(),
        latency_ms=0.0,
        metadata=like.metadata,
    )


def cancelled(status: str) -> GatewayError:
    """Why a member of a job that ended early has no result."""
    if status == "expired":
        return GatewayError(Code.DEADLINE_EXCEEDED, "The deadline of the job passed before this was done.")
    return GatewayError(Code.UNAVAILABLE, "The job was cancelled before this was done.")
