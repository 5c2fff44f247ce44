"""Anomalies: values that the past of their series did not lead to expect.

The history is cut into blocks of `prediction_length` rows. Each is forecast from the context before it, and every value
is judged by its own forecast: no value is in the context that it is tested against.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from catalog import ModelCard
from gateway import timeline
from gateway.domain import (
    AnomalyReport,
    AnomalyRequest,
    Array,
    Caller,
    ForecastRequest,
    Parameters,
    SeriesAnomalies,
    SeriesError,
    SeriesInput,
    Usage,
    new_id,
)
from gateway.ensemble.anomalies import DEFAULT_SENSITIVITY, LEVELS, first_scored, judge, sound_scale
from gateway.ensemble.scoring import quantile_loss
from gateway.ensemble.seasons import FEWEST, farthest_block, usual
from gateway.errors import Code, Fault, GatewayError
from gateway.pacing import paced
from gateway.planning import SEED_BITS, Plan, Steps, notice, plan
from gateway.service.forecasts import ForecastService
from gateway.service.scanning import Block, History, Scan
from gateway.validation import MAX_NUMBERS

# Observations before a block that are read. On NAB 512 forecast better with the bundled model than 256 and 128 did, and
# a model that reads thousands would read every value thousands of times.
CONTEXT = 512
SEASONS_READ = 3  # a season that is longer than a third of this is read three times over, where the model can
ARRAYS = 6  # of the answer, beside the quantiles
MAX_READ = 1_000_000_000  # values that all contexts of one call hold: half an hour of the bundled model on one core
STAMPS_A_STEP = 2_000  # rendered at a time

# Whether values are told relative to their place in the season is decided on blocks before the scored ones.
TRIAL_BLOCKS = 64
TRIAL_SHARE = 0.9  # of the plain forecasts' loss, which the relative ones have to stay below


async def detect_anomalies(
    service: ForecastService, request: AnomalyRequest, *, caller: Caller, deadline: float
) -> AnomalyReport:
    """Score every value from the context before it; `deadline` is in seconds of the running loop's clock.

    Raises GatewayError. A series with nothing to score is a `SeriesError` unless all are; a block that could not be
    forecast is left out and named in the notices of its series, which fails if it has no other.
    """
    started = time.perf_counter()
    card = service.card(request.forecast.model, caller)
    asked = await paced(_asked(request.forecast, card))
    planned = await paced(plan(asked, card))
    survey = await paced(_survey(request, asked, planned))
    scan = Scan(service, asked, card, caller, deadline)
    for one in survey:
        if one.season is not None:
            await _choose(one, one.season, scan, planned)
    n = asked.parameters.prediction_length
    await scan.run(b for one in survey if one.history.error is None for b in one.history.blocks(one.first, n))
    outputs = await paced(_outputs(request, planned, survey, scan.context))
    total, anomalies = await paced(_counted(outputs))
    return AnomalyReport(
        id=new_id(),
        created=int(time.time()),
        model=card.id,
        model_revision=card.revision,
        provider=card.provider,
        sensitivity=_sensitivity(request),
        quantile_levels=request.forecast.parameters.quantile_levels or (),
        outputs=outputs,
        total_points=total,
        num_anomalies=anomalies,
        usage=scan.usage,
        latency_ms=round((time.perf_counter() - started) * 1e3, 3),
        queue_ms=scan.queue_ms,
        compute_ms=scan.compute_ms,
        metadata=request.forecast.metadata,
    )


def merged(parts: Sequence[AnomalyReport]) -> AnomalyReport:
    """The report of which `parts` are consecutive series."""
    outputs: list[SeriesAnomalies | SeriesError] = []
    for part in parts:
        before = len(outputs)
        for output in part.outputs:
            told = (replace(n, item=n.item if n.item is None else n.item + before) for n in output.notices)
            outputs.append(replace(output, notices=tuple(told)))
    return replace(
        parts[0],
        outputs=tuple(outputs),
        total_points=sum(part.total_points for part in parts),
        num_anomalies=sum(part.num_anomalies for part in parts),
        usage=sum((part.usage for part in parts), Usage()),
        latency_ms=max(part.latency_ms for part in parts),
        queue_ms=sum(part.queue_ms for part in parts),
        compute_ms=sum(part.compute_ms for part in parts),
    )


# -- what is asked of the model ---


def _sensitivity(request: AnomalyRequest) -> float:
    asked = request.forecast.parameters.sensitivity
    return DEFAULT_SENSITIVITY if asked is None else asked


def _asked(sent: ForecastRequest, card: ModelCard) -> Steps[ForecastRequest]:
    """What every block asks of the model, and the series without covariates of which only the future is known."""
    p = sent.parameters
    _refuse_unsuitable(p, card)
    sampled = card.sampling.native
    parameters = replace(
        p,
        quantile_levels=tuple(sorted({*LEVELS, *(p.quantile_levels or ())})),
        context_length=min(p.context_length or max(CONTEXT, SEASONS_READ * _season(p)), card.max_context),
        # One seed for all blocks: a notice names it, and a request that sends it finds the same anomalies.
        seed=secrets.randbits(SEED_BITS) if sampled and p.seed is None else p.seed,
        num_samples=p.num_samples if sampled else None,
        sample_method=p.sample_method if sampled else None,
        clip_levels=False,
    )
    series = []
    for one in sent.series:
        series.append(_without_future_only(one))
        yield
    return replace(sent, model=card.id, series=tuple(series), parameters=parameters, metadata=None)


def _refuse_unsuitable(p: Parameters, card: ModelCard) -> None:
    """What a forecast may ask and a search for anomalies may not."""
    faults = []
    if p.dry_run:
        faults.append(Fault(("parameters", "dry_run"), "a search for anomalies has no dry run"))
    if p.cross_learning:
        msg = "series that learn from each other would show a value to its own test"
        faults.append(Fault(("parameters", "cross_learning"), msg))
    trained = card.quantile_levels
    if trained and card.tails == "refuse" and not (trained[0] <= LEVELS[0] and LEVELS[-1] <= trained[-1]):
        msg = f"anomalies are judged by quantiles at 0.1 and 0.9, and {card.id} gives {trained[0]} to {trained[-1]}"
        faults.append(Fault(("model",), msg))
    if faults:
        raise GatewayError.invalid(*faults)


def _without_future_only(series: SeriesInput) -> SeriesInput:
    """A covariate without a past is known where nothing is scored."""
    future = {name: v for name, v in series.future_covariates.items() if name in series.past_covariates}
    return replace(series, future_covariates=future, metadata=None)


def _season(p: Parameters) -> int:
    """Steps in one season, however few are there; 1 where not known."""
    try:
        return timeline.parse_frequency(p.frequency).season if p.frequency else 1
    except timeline.TimelineError:
        return 1  # `plan` refuses it


# -- what is scored ---


@dataclass(slots=True)
class _Surveyed:
    """One series, and from where it is scored."""

    history: History
    first: int
    season: int | None = None  # longer than the model can learn, though the rows before `first` show it


def _survey(request: AnomalyRequest, asked: ForecastRequest, planned: Plan) -> Steps[list[_Surveyed]]:
    """Every series; raises GatewayError where there is too much to score, or nothing."""
    yield from _refuse_too_much(request, asked)
    surveyed, faults = [], []
    for i, (sent, source) in enumerate(zip(request.forecast.series, asked.series, strict=True)):
        first = first_scored(source.target, request.scored_from)
        one = _Surveyed(History.of(source, i, len(planned.levels)), first)
        if asked.parameters.seed != request.forecast.parameters.seed:
            one.history.general.append(notice("seed_used", i, detail=str(asked.parameters.seed)))
        ahead = [name for name in sent.future_covariates if name not in sent.past_covariates]
        if ahead:
            one.history.general.append(notice("covariates_unknown_ahead", i, ahead))
        if np.isnan(source.target[first:]).all():
            known = (
                f"{len(source.target)} rows are sent" if first >= len(source.target) else "no value is known from there"
            )
            msg = f"nothing to score: scoring begins at row {first}, and {known}"
            faults.append(Fault(("inputs", i, "target"), msg))
            one.history.error = SeriesError(code=Code.INVALID_ARGUMENT, sentence=f"{msg[0].upper()}{msg[1:]}.")
        elif _season_too_long(asked.parameters, first, planned.card):
            one.season = _season(asked.parameters)
        surveyed.append(one)
        yield
    if len(faults) == len(surveyed):
        raise GatewayError.invalid(*faults)
    return surveyed


def _season_too_long(p: Parameters, first: int, card: ModelCard) -> bool:
    season = _season(p)
    assert p.context_length is not None
    return (
        season * SEASONS_READ > p.context_length
        and p.prediction_length <= farthest_block(season)
        and first >= (FEWEST + 1) * season
        and card.missing_values != "refused"  # the first seasons are missing
        and not card.channel_names  # the channels of a candle have one scale
    )


def _refuse_too_much(request: AnomalyRequest, asked: ForecastRequest) -> Steps[None]:
    """A body of a megabyte can ask for days of work, or for more numbers than one answer holds."""
    p = asked.parameters
    levels = request.forecast.parameters.quantile_levels or ()
    assert p.context_length is not None
    numbers = read = 0
    for series in asked.series:
        rows, channels = series.target.shape
        numbers += rows * channels * (ARRAYS + len(levels))
        blocks = -(-max(0, rows - first_scored(series.target, request.scored_from)) // p.prediction_length)
        read += blocks * channels * min(rows, p.context_length)
        yield
    if numbers > MAX_NUMBERS:
        told = f"the answer would hold {numbers} numbers, more than the {MAX_NUMBERS} of one call: send fewer series"
        raise GatewayError.invalid(Fault(("inputs",), told))
    if read > MAX_READ:
        told = (
            f"the contexts of all blocks hold {read} values, more than the {MAX_READ} of one call: send fewer series, "
            f"longer blocks, a later scored_from or a context_length below {p.context_length}"
        )
        raise GatewayError.invalid(Fault(("inputs",), told))


async def _choose(one: _Surveyed, season: int, scan: Scan, planned: Plan) -> None:
    """Tell values relative to their place in the season, if that forecasts rows before the scored ones better."""
    history, n = one.history, planned.horizon
    relative = await paced(usual(history.source.target, season))
    plain = History.of(history.source, history.item, len(planned.levels))
    other = History.of(history.source, history.item, len(planned.levels))
    other.relative_to(relative)
    # Each block begins before the scored rows, and after enough rows that relative ones are there to be read.
    begin, end = max((FEWEST + 1) * season - season // 2, one.first - season), one.first - n
    cuts = np.unique(np.linspace(min(begin, end), end, TRIAL_BLOCKS).astype(int)).tolist()
    await scan.run([Block(trial, cut, n) for trial in (plain, other) for cut in cuts])
    losses = [_loss(trial, planned.levels) for trial in (plain, other)]
    both = np.isfinite(losses[0]) & np.isfinite(losses[1])
    share = float(losses[1][both].sum()) / float(losses[0][both].sum()) if losses[0][both].any() else 1.0
    if share < TRIAL_SHARE:
        history.relative_to(relative)
        detail = (
            f"A season of {season} steps is too long for the {scan.context} that are read: values were forecast "
            f"relative to their place in the season, which left {share:.0%} of the error before the scored rows."
        )
        history.general.append(notice("season_relative", history.item, detail=detail))


def _loss(trial: History, levels: Sequence[float]) -> Array:
    """Quantile loss of every cell, NaN where it was not forecast or is missing."""
    return quantile_loss(trial.source.target, trial.quantiles, levels)


# -- what came of it ---


def _outputs(
    request: AnomalyRequest, planned: Plan, survey: Sequence[_Surveyed], reach: int
) -> Steps[tuple[SeriesAnomalies | SeriesError, ...]]:
    """What became of each series; raises GatewayError where no value of any was scored."""
    outputs: list[SeriesAnomalies | SeriesError] = []
    for one, sent in zip(survey, request.forecast.series, strict=True):
        history = one.history
        if history.forecast:
            judged = yield from _judged(request, planned, one, sent, reach)
            outputs.append(judged if np.isfinite(judged.is_anomaly).any() else _unjudged(judged))
        else:
            error = history.error or SeriesError(
                code=Code.INVALID_ARGUMENT,
                sentence="Nothing to score: no value is known before the rows that are scored.",
            )
            outputs.append(replace(error, notices=history.notices(), metadata=sent.metadata))
        yield
    if not any(isinstance(o, SeriesAnomalies) for o in outputs):
        first = next(o for o in outputs if isinstance(o, SeriesError))
        faults = (Fault(("inputs", 0, "target"), first.sentence),) if first.code is Code.INVALID_ARGUMENT else ()
        raise GatewayError(first.code, first.sentence, faults=faults)
    return tuple(outputs)


def _unjudged(judged: SeriesAnomalies) -> SeriesError:
    """What is said where the model is certain, and no context shows how far values lie apart."""
    told = "Nothing to score: no scored row has enough values before it to tell how far values lie apart."
    return SeriesError(code=Code.INVALID_ARGUMENT, sentence=told, notices=judged.notices, metadata=judged.metadata)


def _counted(outputs: Sequence[SeriesAnomalies | SeriesError]) -> Steps[tuple[int, int]]:
    """Cells that were scored, and anomalies among them."""
    scored = anomalies = 0
    for output in outputs:
        if isinstance(output, SeriesAnomalies):
            scored += int(np.isfinite(output.is_anomaly).sum())
            anomalies += int(np.nansum(output.is_anomaly))
        yield
    return scored, anomalies


def _judged(
    request: AnomalyRequest, planned: Plan, one: _Surveyed, sent: SeriesInput, reach: int
) -> Steps[SeriesAnomalies]:
    """The judgement of every cell of one series, whose blocks read `reach` rows; yields after each block."""
    history, p = one.history, request.forecast.parameters
    target = history.source.target
    low, middle, high = (history.quantiles[planned.levels.index(level)] for level in LEVELS)
    scale = np.full(target.shape, np.nan)
    for cut in range(one.first, len(target), planned.horizon):
        rows = slice(cut, cut + planned.horizon)
        context = target[max(0, cut - reach) : cut]
        season = timeline.season(p.frequency, len(context))
        scale[rows] = sound_scale(low[rows], middle[rows], high[rows], context, season)
        yield
    judged = judge(target, middle, scale, _sensitivity(request))
    asked = [planned.levels.index(level) for level in p.quantile_levels or ()]
    quantiles = history.quantiles[asked] if asked else None
    if quantiles is not None:
        quantiles[:, np.isnan(judged.expected)] = np.nan
    return SeriesAnomalies(
        values=target,
        expected=judged.expected,
        lower=judged.lower,
        upper=judged.upper,
        z_score=judged.z_score,
        is_anomaly=judged.is_anomaly,
        quantiles=quantiles,
        scored_from=one.first,
        timestamps=(yield from _stamps(sent.start, p.frequency, len(target))),
        notices=history.notices(),
        metadata=sent.metadata,
    )


def _stamps(start: str | None, frequency: str | None, rows: int) -> Steps[tuple[str, ...] | None]:
    """The timestamp of every row, where start and frequency are known."""
    if start is None or frequency is None:
        return None
    grid = timeline.Grid(timeline.parse_start(start), timeline.parse_frequency(frequency))
    stamps: list[str] = []
    for begin in range(0, rows, STAMPS_A_STEP):
        stamps += grid.stamps(begin, min(STAMPS_A_STEP, rows - begin))
        yield
    return tuple(stamps)
