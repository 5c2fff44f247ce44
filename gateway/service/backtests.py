"""Backtests: forecasts of held-out ends of a series, and how good they were."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from gateway import timeline
from gateway.domain import (
    MAX_SERIES,
    Backtest,
    BacktestRequest,
    BacktestWindow,
    Caller,
    Forecast,
    ForecastRequest,
    Metric,
    Notice,
    Scores,
    SeriesBacktest,
    SeriesError,
    SeriesForecast,
    SeriesInput,
    Usage,
    new_id,
)
from gateway.ensemble import scoring
from gateway.ensemble.backtest import as_known, cutoffs, rows_needed
from gateway.errors import Code, Fault, GatewayError
from gateway.pacing import paced
from gateway.planning import Plan, Steps, notice, plan
from gateway.service.forecasts import ForecastService
from gateway.validation import MAX_NUMBERS

MAX_WINDOWS = 100_000  # of one call, over all series: each keeps some kilobytes of scores
CALL_WINDOWS = 1_000  # that the engine is given at a time: many batches' worth
CALL_NUMBERS = 2_000_000  # that are held at a time where only their scores are asked for: 16 MB


@dataclass(slots=True)
class _Progress:
    """What became of the windows of one series so far."""

    source: SeriesInput
    item: int
    cutoffs: tuple[int, ...]
    windows: list[BacktestWindow] = field(default_factory=list)
    notices: dict[tuple[str, str], Notice] = field(default_factory=dict)  # each said once a series
    error: SeriesError | None = None  # the first

    def say(self, *notices: Notice) -> None:
        for said in notices:
            self.notices.setdefault((said.code, said.sentence), replace(said, item=self.item))


@dataclass(frozen=True, slots=True)
class _Fold:
    """One window to forecast."""

    of: _Progress
    cutoff: int


async def backtest(service: ForecastService, request: BacktestRequest, *, caller: Caller, deadline: float) -> Backtest:
    """Forecast every fold of every series and score it; `deadline` is in seconds of the running loop's clock.

    Raises GatewayError. A series that is too short is a `SeriesError` unless all are; a window that could not be
    forecast is left out and named in the notices of its series, which fails if it has no other.
    """
    started = time.perf_counter()
    asked = request.forecast
    if asked.parameters.dry_run:
        raise GatewayError.invalid(Fault(("parameters", "dry_run"), "a backtest has no dry run"))
    planned = await paced(plan(asked, service.card(asked.model, caller)))
    progress = await paced(_laid_out(request, planned))
    model = replace(asked, model=planned.card.id)
    usage, queue_ms, compute_ms = Usage(), 0.0, 0.0
    for folds in _calls(request, progress, _numbers_a_row(model, planned)):
        known = await paced(_as_known(folds, planned.horizon))
        answer = await service.attempt(replace(model, series=known), caller=caller, deadline=deadline)
        assert isinstance(answer, Forecast)  # no dry run
        await paced(_scored(request, planned, folds, answer))
        usage, queue_ms, compute_ms = usage + answer.usage, queue_ms + answer.queue_ms, compute_ms + answer.compute_ms
    outputs = await paced(_outputs(progress, request.metrics))
    pooled = await paced(scoring.adding(_scores(outputs), request.metrics))
    return Backtest(
        id=new_id(),
        created=int(time.time()),
        model=planned.card.id,
        model_revision=planned.card.revision,
        provider=planned.card.provider,
        point=planned.card.point,
        horizon=planned.horizon,
        windows=request.windows,
        step=_step(request),
        quantile_levels=planned.levels,
        outputs=outputs,
        scores=pooled,
        usage=usage,
        latency_ms=round((time.perf_counter() - started) * 1e3, 3),
        queue_ms=queue_ms,
        compute_ms=compute_ms,
        metadata=asked.metadata,
    )


def merged(parts: Sequence[Backtest]) -> Backtest:
    """The backtest of which `parts` are consecutive series, with the scores that one call for all would have given."""
    first = parts[0]
    outputs: list[SeriesBacktest | SeriesError] = []
    for part in parts:
        before = len(outputs)
        for output in part.outputs:
            told = (replace(n, item=n.item if n.item is None else n.item + before) for n in output.notices)
            outputs.append(replace(output, notices=tuple(told)))
    return replace(
        first,
        outputs=tuple(outputs),
        scores=scoring.added(_scores(outputs), tuple(first.scores.values)),
        usage=sum((part.usage for part in parts), Usage()),
        latency_ms=max(part.latency_ms for part in parts),
        queue_ms=sum(part.queue_ms for part in parts),
        compute_ms=sum(part.compute_ms for part in parts),
    )


# -- what is to be forecast ---


def _step(request: BacktestRequest) -> int:
    return request.step or request.forecast.parameters.prediction_length


def _laid_out(request: BacktestRequest, planned: Plan) -> Steps[list[_Progress]]:
    """The windows of every series; raises GatewayError where they are more than one call takes, or none."""
    horizon, step = planned.horizon, _step(request)
    _refuse_too_many(request, planned)
    progress, faults = [], []
    for i, series in enumerate(request.forecast.series):
        rows = len(series.target)
        found = cutoffs(rows, horizon, request.windows, step)
        one = _Progress(series, i, found)
        needed = rows_needed(horizon, 1 if request.fewer_windows else request.windows, step)
        if rows < needed:
            msg = f"{rows} rows are too few for {_windows(request.windows)}: at least {needed} are needed"
            faults.append(Fault(("inputs", i, "target"), msg))
            one.cutoffs = ()
            one.error = SeriesError(code=Code.INVALID_ARGUMENT, sentence=f"{msg[0].upper()}{msg[1:]}.")
        elif len(found) < request.windows:
            detail = f"Only {_windows(len(found))} of {request.windows} fit into the {rows} rows of this series."
            one.say(notice("windows_fewer", i, detail=detail))
        progress.append(one)
        yield
    if len(faults) == len(progress):
        raise GatewayError.invalid(*faults)
    return progress


def _windows(count: int) -> str:
    return "1 window" if count == 1 else f"{count} windows"


def _refuse_too_many(request: BacktestRequest, planned: Plan) -> None:
    """A small body can ask for a huge answer."""
    windows = request.windows * len(request.forecast.series)
    if windows > MAX_WINDOWS:
        told = f"{windows} windows over all series are more than the {MAX_WINDOWS} of one call"
        raise GatewayError.invalid(Fault(("windows",), told))
    channels = sum(series.target.shape[1] for series in request.forecast.series)
    numbers = request.windows * planned.horizon * channels * (2 + len(planned.levels))
    if request.forecasts and numbers > MAX_NUMBERS:
        told = f"the answer would hold {numbers} numbers, more than the {MAX_NUMBERS} of one call: leave forecasts out"
        raise GatewayError.invalid(Fault(("windows",), told))


def _numbers_a_row(model: ForecastRequest, planned: Plan) -> int:
    """Numbers that the forecast of one channel of one window holds."""
    return planned.horizon * (1 + len(planned.levels) + (model.parameters.num_samples or 0))


def _calls(request: BacktestRequest, progress: Sequence[_Progress], numbers: int) -> Iterator[list[_Fold]]:
    """The windows in calls of the service, each small enough to be held at once.

    Series that learn from each other are called window by window: one's context must not hold another's future.
    """
    for folds in _by_window(progress) if request.forecast.parameters.cross_learning else [_by_series(progress)]:
        call: list[_Fold] = []
        held = 0
        limit = MAX_SERIES if request.forecast.parameters.cross_learning else CALL_WINDOWS
        for fold in folds:
            size = numbers * fold.of.source.target.shape[1]
            if call and (len(call) >= limit or held + size > CALL_NUMBERS):
                yield call
                call, held = [], 0
            call.append(fold)
            held += size
        if call:
            yield call


def _by_series(progress: Sequence[_Progress]) -> Iterator[_Fold]:
    return (_Fold(one, cutoff) for one in progress for cutoff in one.cutoffs)


def _by_window(progress: Sequence[_Progress]) -> Iterator[list[_Fold]]:
    """The earliest windows first; those of one turn are as far from the end of their series."""
    for back in range(max(len(one.cutoffs) for one in progress), 0, -1):
        yield [_Fold(one, one.cutoffs[-back]) for one in progress if len(one.cutoffs) >= back]


def _as_known(folds: Sequence[_Fold], horizon: int) -> Steps[tuple[SeriesInput, ...]]:
    """The series of each window as it was known at its cutoff."""
    known = []
    for fold in folds:
        series, unknown = as_known(fold.of.source, fold.cutoff, horizon)
        known.append(series)
        if unknown:
            fold.of.say(notice("covariates_unknown_ahead", fold.of.item, unknown))
        yield
    return tuple(known)


# -- what came of it ---


def _scored(request: BacktestRequest, planned: Plan, folds: Sequence[_Fold], answer: Forecast) -> Steps[None]:
    """Put the forecast of each window, or why there is none, to its series."""
    for fold, output in zip(folds, answer.outputs, strict=True):
        one = fold.of
        one.say(*output.notices)
        if isinstance(output, SeriesError):
            last = fold.cutoff + planned.horizon - 1
            detail = f"rows {fold.cutoff} to {last}: {output.sentence}"
            one.say(notice("window_failed", one.item, detail=detail))
            one.error = one.error or replace(output, notices=())
        else:
            one.windows.append(_window(request, planned, fold, output))
        yield


def _window(request: BacktestRequest, planned: Plan, fold: _Fold, output: SeriesForecast) -> BacktestWindow:
    target, cutoff = fold.of.source.target, fold.cutoff
    actual = target[cutoff : cutoff + planned.horizon]
    season = timeline.season(request.forecast.parameters.frequency, cutoff)
    held = scoring.Held(
        actual=actual,
        point=output.mean,
        quantiles=output.quantiles,
        levels=planned.levels,
        scale=scoring.seasonal_scale(target[:cutoff], season),
    )
    return BacktestWindow(
        cutoff=cutoff,
        timestamps=output.timestamps,
        mean=output.mean if request.forecasts else None,
        quantiles=output.quantiles if request.forecasts else None,
        actuals=actual if request.forecasts else None,
        scores=scoring.scores(held, request.metrics),
    )


def _outputs(
    progress: Sequence[_Progress], metrics: Sequence[Metric]
) -> Steps[tuple[SeriesBacktest | SeriesError, ...]]:
    """What became of each series; raises GatewayError where no window of any was forecast."""
    outputs: list[SeriesBacktest | SeriesError] = []
    for one in progress:
        notices, metadata = tuple(one.notices.values()), one.source.metadata
        if one.windows:
            windows = tuple(sorted(one.windows, key=lambda w: w.cutoff))
            pooled = scoring.added((w.scores for w in windows), metrics)
            outputs.append(SeriesBacktest(windows=windows, scores=pooled, notices=notices, metadata=metadata))
        else:
            assert one.error is not None
            outputs.append(replace(one.error, notices=notices, metadata=metadata))
        yield
    if not any(isinstance(o, SeriesBacktest) for o in outputs):
        first = next(o for o in outputs if isinstance(o, SeriesError))
        raise GatewayError(first.code, f"No window of any series was forecast: {first.sentence}")
    return tuple(outputs)


def _scores(outputs: Iterable[SeriesBacktest | SeriesError]) -> Iterator[Scores]:
    """Of every series that has any, in order: what parts add up to does not depend on how they were cut."""
    return (o.scores for o in outputs if isinstance(o, SeriesBacktest))
