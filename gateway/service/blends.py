"""What an ensemble makes of its candidates: their weights, and the answer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from gateway.domain import (
    Array,
    EnsembleForecast,
    EnsembleRequest,
    Forecast,
    Notice,
    RankedModel,
    ScoringMetric,
    SeriesBacktest,
    SeriesError,
    SeriesForecast,
    SeriesInput,
    Usage,
    new_id,
)
from gateway.ensemble.blending import blend, greedy, weigh
from gateway.ensemble.ranking import Key, held, score, shared, windows_of
from gateway.errors import Code
from gateway.planning import Steps, notice
from gateway.service.candidates import Candidate

MODEL = "ensemble"
GREEDY_WINDOWS = 2_000  # that greedy selection looks at: more change its choice no more, and cost the loop
FROM_BACKTEST = ("windows_fewer", "covariates_unknown_ahead")  # notices of a backtest that its ensemble repeats


# -- weights ---


def choose(request: EnsembleRequest, tried: Sequence[Candidate], levels: tuple[float, ...]) -> Steps[Array]:
    """Score the candidates that were backtested; (series, candidates) weights, each row of sum 1."""
    for candidate in tried:
        assert candidate.backtest is not None
        candidate.windows = windows_of(candidate.backtest)
        yield
    compared, keys = shared([c.windows or {} for c in tried])
    scores = yield from _scores(request.scoring_metric, tried, compared, keys)
    for candidate, found in zip(tried, scores, strict=True):
        candidate.score = found
    overall = yield from _weights(request, tried, compared, keys, levels)
    rows = np.tile(overall, (len(request.series), 1))
    if request.selection == "per_series":
        own: dict[int, list[Key]] = defaultdict(list)
        for key in keys:
            own[key[0]].append(key)
        for item, windows in own.items():
            rows[item] = yield from _weights(request, tried, compared, windows, levels)
    return rows


def _weights(
    request: EnsembleRequest,
    tried: Sequence[Candidate],
    compared: Sequence[bool],
    keys: Sequence[Key],
    levels: tuple[float, ...],
) -> Steps[Array]:
    """Weights by the windows at `keys`."""
    metric, most = request.scoring_metric, request.max_models
    scores = yield from _scores(metric, tried, compared, keys)
    crps = yield from _scores("crps", tried, compared, keys)
    if request.weighting != "greedy":
        return weigh(scores, crps, request.weighting, most)
    if all(s is None for s in scores):
        return weigh(scores, crps, "equal", most)
    members = [i for i, s in enumerate(scores) if s is not None]
    some = keys[:: -(-len(keys) // GREEDY_WINDOWS)]
    frequency = request.parameters.frequency
    cells = []
    for i in members:
        cells.append(held(tried[i].windows or {}, some, request.series, frequency, levels))
        yield
    weights = np.zeros(len(tried))
    weights[members] = yield from greedy(cells, metric, most)
    return weights


def _scores(
    metric: ScoringMetric, tried: Sequence[Candidate], compared: Sequence[bool], keys: Sequence[Key]
) -> Steps[list[float | None]]:
    """The score of each candidate over the windows at `keys`; None of those that are not compared."""
    scores: list[float | None] = []
    for candidate, comparable in zip(tried, compared, strict=True):
        scores.append((yield from score(candidate.windows or {}, keys, metric)) if comparable else None)
        yield
    return scores


# -- the answer ---


def answer(
    request: EnsembleRequest,
    levels: tuple[float, ...],
    found: Sequence[Candidate],
    tried: Sequence[Candidate],
    weights: Array,
    started: float,
) -> Steps[EnsembleForecast]:
    """Blend what came in time, and say what became of every candidate.

    `weights` (series, tried) are those that were chosen, `started` is a reading of `time.perf_counter`.
    """
    outputs: list[SeriesForecast | SeriesError] = []
    used = np.zeros_like(weights)
    for item, series in enumerate(request.series):
        used[item] = _used(tried, weights[item], item)
        outputs.append(_output(request, item, series, tried, weights[item], used[item]))
        yield
    ranked = sorted(found, key=_standing)
    place = {id(c): i for i, c in enumerate(tried)}
    columns = [used[:, place[id(c)]] if id(c) in place else np.zeros(len(used)) for c in ranked]
    made = [c.forecast for c in tried if c.forecast is not None]
    usage = sum((f.usage for f in made), Usage())
    usage += sum((c.backtest.usage for c in found if c.backtest is not None), Usage())
    blended = [c.forecast for c, column in zip(ranked, columns, strict=True) if c.forecast and column.any()]
    latency_ms = round((time.perf_counter() - started) * 1e3, 3)
    return EnsembleForecast(
        forecast=_forecast(request, levels, blended, tuple(outputs), usage, latency_ms),
        ranked=tuple(_ranked(i + 1, c, float(columns[i].mean())) for i, c in enumerate(ranked)),
        scoring_metric=request.scoring_metric,
        holdout_length=request.parameters.prediction_length,
        windows=max((len(o.windows) for c in tried for o in _backtested(c)), default=0),
        usage=usage,
        latency_ms=latency_ms,
        series_weights=tuple(zip(*(map(float, column) for column in columns), strict=True))
        if request.selection == "per_series"
        else None,
    )


def _standing(candidate: Candidate) -> tuple[int, bool, float]:
    """What ranks a candidate: those in good standing by score, then those not tried, then those that failed."""
    state = 2 if candidate.refusal is not None else 1 if candidate.passed_over else 0
    return state, candidate.score is None, candidate.score or 0.0


def _backtested(candidate: Candidate) -> Iterator[SeriesBacktest]:
    if candidate.backtest is not None:
        yield from (o for o in candidate.backtest.outputs if isinstance(o, SeriesBacktest))


def _ranked(rank: int, candidate: Candidate, weight: float) -> RankedModel:
    status: Literal["selected", "ranked", "failed", "timed_out"] = "selected" if weight > 0 else "ranked"
    error = candidate.passed_over or None
    if candidate.refusal is not None:
        status, error = "timed_out" if candidate.late else "failed", candidate.refusal.sentence
    elif candidate.score is None and not candidate.passed_over:
        error = "It scored too few of the held-out windows to be compared."
    backtest = candidate.backtest
    return RankedModel(
        model=candidate.model,
        rank=rank,
        status=status,
        score=candidate.score,
        weight=weight,
        metrics=backtest.scores.values if backtest is not None else {},
        latency_ms=backtest.latency_ms if backtest is not None else None,
        error=error,
    )


def _forecast(
    request: EnsembleRequest,
    levels: tuple[float, ...],
    blended: Sequence[Forecast],
    outputs: tuple[SeriesForecast | SeriesError, ...],
    usage: Usage,
    latency_ms: float,
) -> Forecast:
    cut = min((f for f in blended if f.truncated_from is not None), key=_limit, default=None)
    return Forecast(
        id=new_id(),
        created=int(time.time()),
        model=MODEL,
        model_revision=" ".join(f"{f.model}@{f.model_revision}" for f in blended),
        provider="forecast-gateway",
        point="median" if all(f.point == "median" for f in blended) else "mean",
        horizon=request.parameters.prediction_length,
        quantile_levels=levels,
        input_points=max((f.input_points for f in blended), default=0),
        outputs=outputs,
        usage=usage,
        latency_ms=latency_ms,
        queue_ms=max((f.queue_ms for f in blended), default=0.0),
        compute_ms=sum(f.compute_ms for f in blended),
        truncated_from=cut.truncated_from if cut is not None else None,
        max_context_length=cut.max_context_length if cut is not None else None,
        metadata=request.metadata,
    )


def _limit(forecast: Forecast) -> int:
    return forecast.max_context_length or 0


# -- one series ---


def _made(candidate: Candidate, item: int) -> SeriesForecast | SeriesError | None:
    return candidate.forecast.outputs[item] if candidate.forecast is not None else None


def _used(tried: Sequence[Candidate], chosen: Array, item: int) -> Array:
    """The weights of one series over the forecasts that are there; the best other one if none of the chosen is."""
    there = np.array([isinstance(_made(c, item), SeriesForecast) for c in tried])
    weights: Array = np.where(there, chosen, 0.0)
    if not weights.any() and there.any():
        weights[min(np.flatnonzero(there).tolist(), key=lambda i: _standing(tried[i]))] = 1.0
    total = weights.sum()
    return weights / total if total > 0 else weights


def _output(
    request: EnsembleRequest, item: int, series: SeriesInput, tried: Sequence[Candidate], chosen: Array, used: Array
) -> SeriesForecast | SeriesError:
    members: list[tuple[str, SeriesForecast, float]] = []
    missing: list[Notice] = []
    error = SeriesError(code=Code.MODEL_FAILED, sentence="No model forecast this series.", metadata=series.metadata)
    for i in np.argsort(-used, kind="stable").tolist():
        candidate, made = tried[i], _made(tried[i], item)
        if used[i] > 0 and isinstance(made, SeriesForecast):
            members.append((candidate.model, made, float(used[i])))
        elif chosen[i] > 0 and isinstance(made, SeriesError):
            error = replace(made, notices=(), metadata=series.metadata)
            missing.append(notice("model_missing", item, detail=f"{candidate.model}: {made.sentence}"))
    if not members:
        return error
    values = blend([m.mean for _, m, _ in members], [m.quantiles for _, m, _ in members], [w for _, _, w in members])
    told = ", ".join(f"{model} ({weight:.2f})" for model, _, weight in members)
    notices = [notice("blended", item, detail=told), *missing]
    notices += _of_weights(request, item, tried)
    notices += _of_members(members)
    return SeriesForecast(
        mean=values.point,
        quantiles=values.quantiles,
        timestamps=members[0][1].timestamps,
        notices=tuple(notices),
        truncated_from=max((m.truncated_from for _, m, _ in members if m.truncated_from), default=None),
        metadata=series.metadata,
    )


def _of_weights(request: EnsembleRequest, item: int, tried: Sequence[Candidate]) -> Iterator[Notice]:
    """What a caller should know of the weights of one series."""
    if all(c.score is None for c in tried):
        yield notice("weights_equal", item)
    elif not any(key[0] == item for c in tried for key in c.windows or ()):
        yield notice("weights_of_others", item)
    if request.parameters.num_samples is not None:
        yield notice("samples_not_blended", item)
    said = set()
    for candidate in tried:
        output = candidate.backtest.outputs[item] if candidate.backtest is not None else None
        for one in output.notices if output is not None else ():
            if one.code in FROM_BACKTEST and one.code not in said:
                said.add(one.code)
                yield one


def _of_members(members: Sequence[tuple[str, SeriesForecast, float]]) -> Iterator[Notice]:
    """What the members say of their own forecasts, once, with their names where not all say it."""
    said: dict[str, tuple[Notice, list[str]]] = {}
    for model, made, _ in members:
        for one in made.notices:
            said.setdefault(one.sentence, (one, []))[1].append(model)
    for sentence, (one, models) in said.items():
        yield one if len(models) == len(members) else replace(one, sentence=f"{', '.join(models)}: {sentence}")
