"""Batches and ensembles to bodies."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET, Raw, UnsetType

from gateway import __version__
from gateway.dialects.base import Call, Reply, wire_code
from gateway.dialects.canonical import media
from gateway.dialects.canonical.group_types import BatchErrorBody, BatchItem, Ensemble, RankedModelBody
from gateway.dialects.canonical.media import Format, array_head
from gateway.dialects.canonical.render import (
    detail_of,
    echoed,
    finite_or_none,
    forecast_body,
    forecast_outputs,
    forecast_parts,
    streamed,
    usage_of,
)
from gateway.dialects.canonical.render_evaluations import metrics_of
from gateway.dialects.canonical.types import Answer, OutputBody
from gateway.domain import BatchAnswer, EnsembleForecast, Forecast, ForecastPlan, RankedModel, Scores
from gateway.errors import GatewayError


def batch(call: Call, answer: BatchAnswer) -> Reply:
    """One item a request, each of which is a forecast or an error whatever the others are."""
    form = media.negotiate(call).answered
    return Reply(body=_batch_parts(answer, form), media_type=form.value)


def ensemble(call: Call, answer: EnsembleForecast) -> Reply:
    """The answer in the form the caller wants; raises GatewayError INTERNAL for a number that is not finite."""
    form = media.negotiate(call).answered
    blend = answer.forecast
    body = _ensemble_body(answer, form)
    place = body.ensemble_result.outputs
    parts = streamed(body, place, forecast_outputs(blend, form), len(blend.outputs), form)
    return Reply(body=parts, media_type=form.value)


# -- batches ---


def _batch_parts(answer: BatchAnswer, form: Format) -> Iterator[bytes]:
    head = b'{"object":"list","data":['
    if form is Format.MSGPACK:
        head = b"\x82\xa6object\xa4list\xa4data" + array_head(len(answer.results))
    yield head
    for i, result in enumerate(answer.results):
        if i and form is Format.JSON:
            yield b","
        yield from _item(result, form)
    yield b"]}" if form is Format.JSON else b""


def _item(result: Forecast | ForecastPlan | GatewayError, form: Format) -> Iterator[bytes]:
    """One item; a forecast that cannot be rendered is an error like any other."""
    if isinstance(result, GatewayError):
        yield form.encode(_failed(result))
        return
    parts = []
    try:
        for part in forecast_parts(result, form):
            parts.append(part)
            yield b""
    except GatewayError as problem:
        yield form.encode(_failed(problem))
    else:
        yield form.encode(BatchItem(ok=True, result=Raw(b"".join(parts))))


def _failed(problem: GatewayError) -> BatchItem[Raw]:
    told = BatchErrorBody(error=problem.sentence, code=wire_code(problem.code), detail=detail_of(problem))
    return BatchItem(ok=False, error=told)


# -- ensembles ---


def _ensemble_body(answer: EnsembleForecast, form: Format) -> Ensemble[Answer[OutputBody]]:
    """The answer without the blend's outputs."""
    blend = answer.forecast
    return Ensemble(
        id=blend.id,
        created=blend.created,
        ensemble_result=forecast_body(blend, form),
        ranked_results=[_ranked(r) for r in answer.ranked],
        series_weights=_weights(answer),
        scoring_metric=answer.scoring_metric,
        holdout_length=answer.holdout_length,
        windows=answer.windows,
        usage=usage_of(answer.usage),
        latency_ms=round(answer.latency_ms, 3),
        metadata=echoed(blend.metadata, form),
        gateway_version=__version__,
    )


def _ranked(candidate: RankedModel) -> RankedModelBody:
    return RankedModelBody(
        model=candidate.model,
        rank=candidate.rank,
        score=finite_or_none(candidate.score),
        weight=candidate.weight,
        metrics=metrics_of(Scores(values=candidate.metrics)),
        latency_ms=None if candidate.latency_ms is None else round(candidate.latency_ms, 3),
        status=candidate.status,
        error=candidate.error,
    )


def _weights(answer: EnsembleForecast) -> list[dict[str, float]] | UnsetType:
    if answer.series_weights is None:
        return UNSET
    names = [r.model for r in answer.ranked]
    return [
        {name: weight for name, weight in zip(names, weights, strict=True) if weight}
        for weights in answer.series_weights
    ]
