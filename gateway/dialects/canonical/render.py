"""Forecast, plan and error to bodies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import UNSET, Raw, UnsetType

from gateway.dialects.base import Call, Reply, wire_code
from gateway.dialects.canonical import media
from gateway.dialects.canonical.media import Format, array_head
from gateway.dialects.canonical.metadata import Echo, carried
from gateway.dialects.canonical.types import (
    Answer,
    ErrorBody,
    FaultBody,
    Matrix,
    OutputBody,
    QuantileBody,
    SeriesErrorBody,
    TimingsBody,
    UsageBody,
)
from gateway.domain import Array, Forecast, ForecastPlan, Metadata, PlannedSeries, SeriesError, SeriesForecast
from gateway.errors import Code, GatewayError


def forecast(call: Call, answer: Forecast | ForecastPlan) -> Reply:
    """The answer in the form the caller wants; raises GatewayError INTERNAL for a number that is not finite."""
    form = media.negotiate(call).answered
    return Reply(body=_parts(answer, form), media_type=form.value)


def error(call: Call, problem: GatewayError, status: int) -> Reply:
    """The one shape of every error of this contract."""
    form = media.of_error(call)
    detail = [FaultBody(loc=["body", *f.loc], msg=f.msg, type=f.type) for f in problem.faults]
    body = ErrorBody(
        error=problem.sentence,
        code=wire_code(problem.code),
        endpoint=call.path,
        request_id=call.request_id,
        detail=detail or UNSET,
    )
    return Reply(status=status, body=form.encode(body), media_type=form.value)


def _parts(answer: Forecast | ForecastPlan, form: Format) -> Iterator[bytes]:
    """Each series is encoded in a step of its own, and no step holds two of them."""
    head, tail = _around(form.encode(_body(answer, form)), len(answer.outputs), form)
    comma = b"," if form is Format.JSON else b""
    for i, output in enumerate(answer.outputs):
        yield (comma if i else head) + form.encode(_output(output, answer.quantile_levels, form, i))
    yield tail if answer.outputs else head + tail


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


def _body(answer: Forecast | ForecastPlan, form: Format) -> Answer[Raw]:
    """The answer without its outputs."""
    plan = answer if isinstance(answer, ForecastPlan) else None
    made = answer if isinstance(answer, Forecast) else None
    usage = answer.usage
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
        usage=UsageBody(
            input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, total_tokens=usage.total_tokens
        ),
        latency_ms=round(answer.latency_ms, 3),
        metadata=_echoed(answer.metadata, form),
        truncated_from=_unless_none(answer.truncated_from),
        max_context_length=_unless_none(answer.max_context_length),
        point=answer.point,
        timings_ms=_timings(made) if made else UNSET,
        cached=True if made and made.cached else UNSET,
        dry_run=True if plan else UNSET,
        batch_class=plan.batch_class if plan else UNSET,
        model_revision=answer.model_revision,
    )


def _timings(made: Forecast) -> TimingsBody:
    return TimingsBody(queue=round(made.queue_ms, 3), compute=round(made.compute_ms, 3))


def _output(
    output: SeriesForecast | SeriesError | PlannedSeries, levels: tuple[float, ...], form: Format, item: int
) -> OutputBody:
    metadata = _echoed(output.metadata, form)
    notices = [n.sentence for n in output.notices] or UNSET
    if isinstance(output, SeriesError):
        failure = SeriesErrorBody(error=output.sentence, code=wire_code(output.code))
        return OutputBody(status="failed", error=failure, metadata=metadata, notices=notices)
    timestamps = list(output.timestamps) if output.timestamps is not None else UNSET
    cut = _unless_none(output.truncated_from)
    if isinstance(output, PlannedSeries):
        points = output.input_points
        return OutputBody(
            timestamps=timestamps, metadata=metadata, input_points=points, truncated_from=cut, notices=notices
        )
    quantiles = [
        QuantileBody(level=level, values=_matrix(values, item))
        for level, values in zip(levels, output.quantiles, strict=True)
    ]
    return OutputBody(
        mean=_matrix(output.mean, item),
        quantile_predictions=quantiles or UNSET,
        samples=[_matrix(path, item) for path in output.samples] if output.samples is not None else UNSET,
        timestamps=timestamps,
        metadata=metadata,
        truncated_from=cut,
        notices=notices,
    )


def _matrix(values: Array, item: int) -> Matrix:
    """`(time, channels)` as nested lists; the encoder would write NaN as null, so that it is refused here."""
    if not np.isfinite(values).all():
        raise GatewayError(Code.INTERNAL, f"The forecast of series {item} holds a number that is not finite.")
    rows: Matrix = values.tolist()
    return rows


def _echoed(metadata: Metadata, form: Format) -> Raw | UnsetType:
    if metadata is None:
        return UNSET
    assert isinstance(metadata, Echo), "metadata of this dialect is what its decode made"
    return Raw(carried(metadata.content, metadata.form, form))


def _unless_none(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value
