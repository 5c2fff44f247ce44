"""Backtests and anomalies to bodies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from msgspec import UNSET, UnsetType

from gateway.dialects.base import Call, Reply, Steps
from gateway.dialects.canonical import matrices, media
from gateway.dialects.canonical.evaluation_types import (
    AnomalyBody,
    AnomalyOutputBody,
    AnomalyReportBody,
    BacktestBody,
    BacktestOutputBody,
    BacktestWindowBody,
)
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.render import (
    echoed,
    failure_of,
    finite_or_none,
    listed,
    quantiles_of,
    sentences,
    streamed,
    timings_of,
    usage_of,
)
from gateway.domain import (
    AnomalyReport,
    Backtest,
    BacktestWindow,
    Scores,
    SeriesAnomalies,
    SeriesBacktest,
    SeriesError,
)

ANOMALIES_A_STEP = 512


def backtest(call: Call, answer: Backtest) -> Reply:
    """The answer in the form the caller wants; raises GatewayError INTERNAL for a number that is not finite."""
    form = media.negotiate(call).answered
    outputs = (_backtest_output(o, answer, form, i) for i, o in enumerate(answer.outputs))
    body = _backtest_body(answer, form)
    parts = streamed(body, body.outputs, outputs, len(answer.outputs), form)
    return Reply(body=parts, media_type=form.value)


def anomalies(call: Call, answer: AnomalyReport) -> Reply:
    """The answer in the form the caller wants; raises GatewayError INTERNAL for a number that is not finite."""
    form = media.negotiate(call).answered
    outputs = (_anomaly_output(o, form, i) for i, o in enumerate(answer.outputs))
    body = _report_body(answer, form)
    parts = streamed(body, body.outputs, outputs, len(answer.outputs), form)
    return Reply(body=parts, media_type=form.value)


# -- backtests ---


def _backtest_body(answer: Backtest, form: Format) -> BacktestBody:
    """The answer without its outputs."""
    return BacktestBody(
        id=answer.id,
        created=answer.created,
        model=answer.model,
        provider=answer.provider,
        horizon=answer.horizon,
        prediction_length=answer.horizon,
        windows=answer.windows,
        step=answer.step,
        quantile_levels=list(answer.quantile_levels),
        outputs=[],
        metrics=metrics_of(answer.scores),
        skipped=_skipped(answer.scores),
        usage=usage_of(answer.usage),
        latency_ms=round(answer.latency_ms, 3),
        metadata=echoed(answer.metadata, form),
        point=answer.point,
        timings_ms=timings_of(answer.queue_ms, answer.compute_ms),
        model_revision=answer.model_revision,
    )


def _backtest_output(
    output: SeriesBacktest | SeriesError, answer: Backtest, form: Format, item: int
) -> Steps[BacktestOutputBody]:
    metadata, notices = echoed(output.metadata, form), sentences(output.notices)
    if isinstance(output, SeriesError):
        return BacktestOutputBody(status="failed", error=failure_of(output), metadata=metadata, notices=notices)
    windows = []
    for window in output.windows:
        windows.append((yield from _window(window, answer.quantile_levels, form, item)))
        yield
    return BacktestOutputBody(
        windows=windows,
        metrics=metrics_of(output.scores),
        skipped=_skipped(output.scores),
        metadata=metadata,
        notices=notices,
    )


def _window(window: BacktestWindow, levels: tuple[float, ...], form: Format, item: int) -> Steps[BacktestWindowBody]:
    mean = actuals = quantiles = None
    if window.mean is not None:
        mean = yield from matrices.matrix(window.mean, form, item)
    if window.quantiles is not None:
        quantiles = yield from quantiles_of(levels, window.quantiles, form, item)
    if window.actuals is not None:
        actuals = yield from matrices.gapped(window.actuals, form, item)
    return BacktestWindowBody(
        cutoff=window.cutoff,
        mean=mean or UNSET,
        quantile_predictions=quantiles or UNSET,
        actuals=actuals or UNSET,
        timestamps=listed(window.timestamps),
        metrics=metrics_of(window.scores),
        skipped=_skipped(window.scores),
    )


def metrics_of(scores: Scores) -> dict[str, float | None]:
    """Metrics by name."""
    return {str(name): finite_or_none(value) for name, value in scores.values.items()}


def _skipped(scores: Scores) -> dict[str, int] | UnsetType:
    return {name: count for name, count in scores.skipped.items() if count} or UNSET


# -- anomalies ---


def _report_body(answer: AnomalyReport, form: Format) -> AnomalyReportBody:
    """The answer without its outputs."""
    return AnomalyReportBody(
        id=answer.id,
        created=answer.created,
        model=answer.model,
        provider=answer.provider,
        sensitivity=answer.sensitivity,
        outputs=[],
        total_points=answer.total_points,
        num_anomalies=answer.num_anomalies,
        usage=usage_of(answer.usage),
        latency_ms=round(answer.latency_ms, 3),
        metadata=echoed(answer.metadata, form),
        timings_ms=timings_of(answer.queue_ms, answer.compute_ms),
        model_revision=answer.model_revision,
    )


def _anomaly_output(output: SeriesAnomalies | SeriesError, form: Format, item: int) -> Steps[AnomalyOutputBody]:
    metadata, notices = echoed(output.metadata, form), sentences(output.notices)
    if isinstance(output, SeriesError):
        return AnomalyOutputBody(status="failed", error=failure_of(output), metadata=metadata, notices=notices)
    found = []
    for i, anomaly in enumerate(_anomalies(output, item), start=1):
        found.append(anomaly)
        if i % ANOMALIES_A_STEP == 0:
            yield
    return AnomalyOutputBody(
        anomalies=found,
        is_anomaly=(yield from matrices.marks(output.is_anomaly, form)),
        scored_from=output.scored_from,
        metadata=metadata,
        notices=notices,
    )


def _anomalies(output: SeriesAnomalies, item: int) -> Iterator[AnomalyBody]:
    """Every anomaly of a series, by row, then channel."""
    told = (output.values, output.expected, output.lower, output.upper, output.z_score)
    for row, channel in np.argwhere(output.is_anomaly == 1.0).tolist():
        value, expected, lower, upper, z_score = (float(array[row, channel]) for array in told)
        if not all(map(math.isfinite, (value, expected, lower, upper, z_score))):
            raise matrices.not_finite(item)
        yield AnomalyBody(
            index=row,
            timestamp=UNSET if output.timestamps is None else output.timestamps[row],
            channel=channel,
            value=value,
            expected=expected,
            lower=lower,
            upper=upper,
            z_score=z_score,
        )
