"""Answers and errors to bodies: what every answer shares, and forecasts, plans and errors."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from msgspec import UNSET, Raw, UnsetType

from gateway.dialects.base import Call, Reply, Steps, wire_code
from gateway.dialects.canonical import matrices, media
from gateway.dialects.canonical.media import Format, array_head
from gateway.dialects.canonical.metadata import Echo, carried
from gateway.dialects.canonical.types import (
    Answer,
    ErrorBody,
    FaultBody,
    OutputBody,
    QuantileBody,
    SeriesErrorBody,
    TimingsBody,
    UsageBody,
)
from gateway.domain import (
    Array,
    Forecast,
    ForecastPlan,
    Metadata,
    Notice,
    PlannedSeries,
    SeriesError,
    SeriesForecast,
    Usage,
)
from gateway.errors import Code, GatewayError

T = TypeVar("T")


def forecast(call: Call, answer: Forecast | ForecastPlan) -> Reply:
    """The answer in the form the caller wants; raises GatewayError INTERNAL for a number that is not finite."""
    form = media.negotiate(call).answered
    return Reply(body=forecast_parts(answer, form), media_type=form.value)


def error(call: Call, problem: GatewayError, status: int) -> Reply:
    """The one shape of every error of this contract."""
    form = media.of_error(call)
    body = ErrorBody(
        error=problem.sentence,
        code=wire_code(problem.code),
        endpoint=call.path,
        request_id=call.request_id,
        detail=detail_of(problem),
    )
    return Reply(status=status, body=form.encode(body), media_type=form.value)


# -- what answers share ---


def streamed(
    body: object, place: list[Any], outputs: Iterable[Steps[object]], count: int, form: Format
) -> Iterator[bytes]:
    """A body with `count` outputs in their `place`, an empty list of it, in parts.

    Each output is made in steps of its own, and where there are several, encoded by itself: no part holds two of them.
    """
    if count == 1:
        for steps in outputs:
            place += [(yield from pausing(steps))]
        yield form.encode(body)
        return
    head, tail = _around(form.encode(body), count, form)
    comma = b"," if form is Format.JSON else b""
    for i, steps in enumerate(outputs):
        output = yield from pausing(steps)
        yield (comma if i else head) + form.encode(output)
    yield tail if count else head + tail


def _around(body: bytes, outputs: int, form: Format) -> tuple[bytes, bytes]:
    """What comes before and after the outputs of a body that was encoded without any.

    Before them are numbers and the names of the catalog only, none of which can hold what is searched for: in a string
    of JSON the quotes would be escaped, in one of msgpack the first byte is no start of a character.
    """
    if form is Format.JSON:
        before, key, after = body.partition(b'"outputs":[')
        return before + key, after
    before, key, after = body.partition(b"\xa7outputs\x90")
    return before + key[:-1] + array_head(outputs), after


def pausing(steps: Steps[T]) -> Generator[bytes, None, T]:
    """Run `steps` to its return value, with an empty part for each step."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            value: T = done.value
            return value
        yield b""


def detail_of(problem: GatewayError) -> list[FaultBody] | UnsetType:
    return [FaultBody(loc=["body", *f.loc], msg=f.msg, type=f.type) for f in problem.faults] or UNSET


def usage_of(usage: Usage) -> UsageBody:
    return UsageBody(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, total_tokens=usage.total_tokens
    )


def timings_of(queue_ms: float, compute_ms: float) -> TimingsBody:
    return TimingsBody(queue=round(queue_ms, 3), compute=round(compute_ms, 3))


def finite_or_none(score: float | None) -> float | None:
    """A score to answer; null stands for no score, and never for one that went wrong."""
    if score is not None and not math.isfinite(score):
        raise GatewayError(Code.INTERNAL, "A score of the answer is not finite.")
    return score


def failure_of(failed: SeriesError) -> SeriesErrorBody:
    return SeriesErrorBody(error=failed.sentence, code=wire_code(failed.code))


def sentences(notices: Sequence[Notice]) -> list[str] | UnsetType:
    return [n.sentence for n in notices] or UNSET


def listed(stamps: tuple[str, ...] | None) -> list[str] | UnsetType:
    return UNSET if stamps is None else list(stamps)


def quantiles_of(levels: Sequence[float], values: Array, form: Format, item: int) -> Steps[list[QuantileBody]]:
    """`(levels, time, channels)`, each under its level."""
    return _under(levels, (yield from matrices.stack(values, form, item)))


def _under(levels: Sequence[float], values: Sequence[object]) -> list[QuantileBody]:
    return [QuantileBody(level=level, values=of_level) for level, of_level in zip(levels, values, strict=True)]


def echoed(metadata: Metadata, form: Format) -> Raw | UnsetType:
    if metadata is None:
        return UNSET
    assert isinstance(metadata, Echo), "metadata of this dialect is what its decode made"
    return Raw(carried(metadata.content, metadata.form, form))


def _unless_none(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value


# -- forecasts ---


def forecast_parts(answer: Forecast | ForecastPlan, form: Format) -> Iterator[bytes]:
    """The body of a forecast, in parts."""
    body = forecast_body(answer, form)
    return streamed(body, body.outputs, forecast_outputs(answer, form), len(answer.outputs), form)


def forecast_body(answer: Forecast | ForecastPlan, form: Format) -> Answer[OutputBody]:
    """The answer without its outputs."""
    plan = answer if isinstance(answer, ForecastPlan) else None
    made = answer if isinstance(answer, Forecast) else None
    return Answer(
        id=answer.id,
        created=answer.created,
        model=answer.model,
        provider=answer.provider,
        horizon=answer.horizon,
        prediction_length=answer.horizon,
        quantile_levels=list(answer.quantile_levels),
        input_points=answer.input_points,
        outputs=[],
        usage=usage_of(answer.usage),
        latency_ms=round(answer.latency_ms, 3),
        metadata=echoed(answer.metadata, form),
        truncated_from=_unless_none(answer.truncated_from),
        max_context_length=_unless_none(answer.max_context_length),
        point=answer.point,
        timings_ms=timings_of(made.queue_ms, made.compute_ms) if made else UNSET,
        cached=True if made and made.cached else UNSET,
        dry_run=True if plan else UNSET,
        batch_class=plan.batch_class if plan else UNSET,
        model_revision=answer.model_revision,
    )


def forecast_outputs(answer: Forecast | ForecastPlan, form: Format) -> Iterator[Steps[OutputBody]]:
    """Each output of an answer, still to be made."""
    for i, output in enumerate(answer.outputs):
        yield _output(output, answer.quantile_levels, form, i)


def _output(
    output: SeriesForecast | SeriesError | PlannedSeries, levels: tuple[float, ...], form: Format, item: int
) -> Steps[OutputBody]:
    metadata = echoed(output.metadata, form)
    notices = sentences(output.notices)
    if isinstance(output, SeriesError):
        return OutputBody(status="failed", error=failure_of(output), metadata=metadata, notices=notices)
    timestamps = listed(output.timestamps)
    cut = _unless_none(output.truncated_from)
    if isinstance(output, PlannedSeries):
        points = output.input_points
        return OutputBody(
            timestamps=timestamps, metadata=metadata, input_points=points, truncated_from=cut, notices=notices
        )
    values = np.concatenate((output.mean[np.newaxis], output.quantiles)) if levels else output.mean[np.newaxis]
    mean, *quantiles = yield from matrices.stack(values, form, item)
    samples = UNSET if output.samples is None else (yield from matrices.stack(output.samples, form, item))
    return OutputBody(
        mean=mean,
        quantile_predictions=_under(levels, quantiles) or UNSET,
        samples=samples,
        timestamps=timestamps,
        metadata=metadata,
        truncated_from=cut,
        notices=notices,
    )
