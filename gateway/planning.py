"""A request against a model's card: either every fault at once, or exactly what the engine will run.

Nothing here runs a model. A dry run answers with the plan; a forecast sends its series to the engine.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from adapters.base import Sampling, Series
from catalog import ModelCard
from gateway import timeline
from gateway.domain import (
    NOTICES,
    Array,
    CovariateValues,
    ForecastRequest,
    Metadata,
    Notice,
    Parameters,
    SeriesError,
    SeriesInput,
    Usage,
)
from gateway.errors import MAX_FAULTS, Code, Fault, GatewayError
from gateway.validation import parameter_faults, series_faults, size_faults

GROUP_ROWS = 256  # channels and covariates that learn from each other: the library's own bound, as memory grows squared
DEFAULT_PATHS = 100  # sample paths that quantiles are read from where the caller names no number
# A model that reads the calendar needs one: what stands in for a start and for a frequency that were not sent.
ASSUMED_START = timeline.parse_start("2024-01-01")
ASSUMED_FREQUENCY = timeline.parse_frequency("h")
SEED_BITS = 53  # a seed that was drawn can be sent back as a JSON number and read by JavaScript

KEPT_STAMPS = 64  # steps of a horizon whose stamps are worth keeping: most callers ask at the same few times

T = TypeVar("T")
Steps = Generator[None, None, T]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One series, planned. `series` is None where it already failed, with `error` saying why."""

    item: int
    series: Series | None
    error: SeriesError | None
    covariates: tuple[str, ...]  # names, in the order that adapters count them
    notices: tuple[Notice, ...]
    points: int  # rows read after the cuts
    truncated_from: int | None
    timestamps: tuple[str, ...] | None
    usage: Usage
    metadata: Metadata


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a request comes to on one model."""

    card: ModelCard
    horizon: int
    levels: tuple[float, ...]
    tasks: tuple[Task, ...]
    deterministic: bool  # the same plan gives the same forecast

    @property
    def truncated_from(self) -> int | None:
        """Rows of the longest series that was cut to the model's limit."""
        return max((t.truncated_from for t in self.tasks if t.truncated_from is not None), default=None)

    @property
    def input_points(self) -> int:
        return sum(t.points for t in self.tasks)


def notice(code: str, item: int, names: Sequence[str] = (), detail: str = "") -> Notice:
    """The notice of `code` in its full sentence."""
    sentence = NOTICES[code].format(names=", ".join(names), detail=detail)
    return Notice(code=code, sentence=sentence, item=item, names=tuple(names))


def plan(request: ForecastRequest, card: ModelCard) -> Steps[Plan]:
    """Check `request` against `card` and build the series to run; yields after each series.

    Raises GatewayError INVALID_ARGUMENT with up to 20 places.
    """
    asked = request.parameters.quantile_levels or ()
    request = _clipped(request, card)
    p = request.parameters
    faults = [*size_faults(request, card), *parameter_faults(p, card)]
    frequency = _frequency(p, faults)
    levels = card.default_quantile_levels if p.quantile_levels is None else p.quantile_levels
    starts: list[timeline.Start | None] = []
    for i, series in enumerate(request.series):
        starts.append(_start(i, series, faults))
        faults += series_faults(i, series, card)
        if len(faults) >= MAX_FAULTS:
            break
        yield
    if faults:
        raise GatewayError.invalid(*faults)
    sampling, drawn = _sampling(p, card)
    general = _general_notices(p, card, levels, sampling if drawn else None)
    if p.clip_levels:
        general += _clipped_notices(asked, levels)
    calendar = _Calendar(frequency, p.prediction_length)
    tasks = []
    for i, series in enumerate(request.series):
        tasks.append(_task(i, series, p, card, levels, sampling, general, calendar, starts[i]))
        yield
    return Plan(
        card=card,
        horizon=p.prediction_length,
        levels=levels,
        tasks=tuple(_grouped(tasks) if p.cross_learning else tasks),
        deterministic=not drawn,
    )


def _clipped(request: ForecastRequest, card: ModelCard) -> ForecastRequest:
    """The request with its levels moved into the card's trained range, where it asks for that."""
    p, trained = request.parameters, card.quantile_levels
    if not (p.clip_levels and p.quantile_levels and trained):
        return request
    levels = {min(max(q, trained[0]), trained[-1]) for q in p.quantile_levels}
    return replace(request, parameters=replace(p, quantile_levels=tuple(sorted(levels))))


def _clipped_notices(asked: Sequence[float], given: Sequence[float]) -> tuple[tuple[str, str], ...]:
    """(code, detail) of the levels that were moved."""
    moved = [q for q in asked if q not in given]
    return (("levels_clipped", ", ".join(f"{q:g}" for q in moved)),) if moved else ()


# -- checks ---


def _frequency(p: Parameters, faults: list[Fault]) -> timeline.Frequency | None:
    if p.frequency is None:
        return None
    try:
        return timeline.parse_frequency(p.frequency)
    except timeline.TimelineError as exc:
        faults.append(Fault(("parameters", "frequency"), str(exc)))
        return None


def _start(item: int, series: SeriesInput, faults: list[Fault]) -> timeline.Start | None:
    if series.start is None:
        return None
    try:
        return timeline.parse_start(series.start)
    except timeline.TimelineError as exc:
        faults.append(Fault(("inputs", item, "start"), str(exc)))
        return None


class _Calendar:
    """Forecast stamps by start and length: series of one request mostly share theirs."""

    def __init__(self, frequency: timeline.Frequency | None, horizon: int) -> None:
        self._frequency = frequency
        self._horizon = horizon
        self._known: dict[tuple[timeline.Start, int], tuple[str, ...]] = {}

    def stamps(self, start: timeline.Start | None, rows: int) -> tuple[str, ...] | None:
        """Stamps of the horizon of a series whose `rows` observations begin at `start`."""
        if start is None or self._frequency is None:
            return None
        key = (start, rows)
        if key not in self._known:
            try:
                grid = timeline.Grid(start, self._frequency)
                stamps = _kept_stamps if self._horizon <= KEPT_STAMPS else timeline.Grid.stamps
                self._known[key] = stamps(grid, rows, self._horizon)
            except timeline.TimelineError as exc:
                raise GatewayError.invalid(Fault(("parameters", "prediction_length"), str(exc))) from None
        return self._known[key]

    def seconds(self, start: timeline.Start | None, first: int, count: int) -> npt.NDArray[np.int64]:
        """Where rows `first` and on stand, in seconds on the clock of the start; assumed where not known."""
        grid = timeline.Grid(start or ASSUMED_START, self._frequency or ASSUMED_FREQUENCY)
        try:
            return grid.seconds(first, count)
        except timeline.TimelineError as exc:
            raise GatewayError.invalid(Fault(("parameters", "prediction_length"), str(exc))) from None

    def assumed(self, start: timeline.Start | None) -> str:
        """What `seconds` assumes, in words; empty where all is known."""
        parts = [] if self._frequency else ["hourly steps"]
        parts += [] if start else ["a start on Monday, 2024-01-01 at 00:00"]
        return " and ".join(parts)

    def season(self, observations: int) -> int:
        return 1 if self._frequency is None else timeline.season(self._frequency.alias, observations)

    @property
    def step_s(self) -> float | None:
        return _step_s(self._frequency) if self._frequency is not None else None


_kept_stamps = lru_cache(maxsize=1024)(timeline.Grid.stamps)


@lru_cache(maxsize=256)
def _step_s(frequency: timeline.Frequency) -> float:
    """Average seconds of one step, over enough of them to even out months and weekends."""
    steps = 420
    try:
        seconds = timeline.Grid(timeline.parse_start("0001-01-01"), frequency).seconds(0, steps + 1)
    except timeline.TimelineError:  # steps so long that few of them pass the year 9999
        return frequency.step.least_ns / 1e9
    return float(seconds[-1] - seconds[0]) / steps


def _sampling(p: Parameters, card: ModelCard) -> tuple[Sampling | None, bool]:
    """How paths are drawn, and whether the seed was drawn here."""
    copula = p.sample_method == "copula"
    if not card.sampling.native and not copula:
        return None, False
    if copula and p.num_samples is None:
        return None, False
    seed = p.seed if p.seed is not None else secrets.randbits(SEED_BITS)
    sampling = Sampling(
        count=p.num_samples or DEFAULT_PATHS,
        seed=seed,
        temperature=1.0 if p.temperature is None else p.temperature,
        top_k=card.sampling.default_top_k if p.top_k is None else p.top_k,
        top_p=1.0 if p.top_p is None else p.top_p,
        copula=copula,
        returned=p.num_samples is not None,
    )
    return sampling, p.seed is None


def _general_notices(
    p: Parameters, card: ModelCard, levels: tuple[float, ...], drawn: Sampling | None
) -> tuple[tuple[str, str], ...]:
    """(code, detail) of what is true of every series of the request."""
    found = []
    trained = card.quantile_levels
    outside = [q for q in levels if trained and not trained[0] <= q <= trained[-1]]
    if outside and card.tails == "normal":
        found.append(("levels_extrapolated", ", ".join(f"{q:g}" for q in outside)))
    if card.native_horizon and p.prediction_length > card.native_horizon:
        found.append(("horizon_extended", str(card.native_horizon)))
    if drawn is not None:
        found.append(("seed_used", str(drawn.seed)))
    if p.sample_method == "copula" and p.num_samples:
        found.append(("samples_copula", ""))
    if not card.licence.commercial:
        found.append(("licence", f"{card.title}: weights under {card.licence.id}, not for commercial use."))
    return tuple(found)


def _task(
    item: int,
    source: SeriesInput,
    p: Parameters,
    card: ModelCard,
    levels: tuple[float, ...],
    sampling: Sampling | None,
    general: tuple[tuple[str, str], ...],
    calendar: _Calendar,
    start: timeline.Start | None,
) -> Task:
    """Cut one series and its covariates to what the model reads, and say what was done."""
    rows, channels = source.target.shape
    capped = min(rows, p.context_length or rows)
    used = min(capped, card.max_context)
    first = rows - used
    target = np.ascontiguousarray(source.target[first:].T)
    columns = _columns(source, first, p.prediction_length)
    series = Series(
        target=target,
        channels=tuple(card.channel_names.index(name) for name in source.channels or ()),
        stamps=calendar.seconds(start, first, used + p.prediction_length) if card.calendar_features else None,
        horizon=p.prediction_length,
        levels=levels,
        season=calendar.season(used),
        step_s=calendar.step_s,
        past=columns.past,
        future=columns.future,
        known=columns.known,
        static=columns.static,
        categorical=columns.categorical,
        sampling=sampling,
        cross_learning=p.cross_learning,
    )
    notices = [notice(code, item, detail=detail) for code, detail in general]
    if columns.names:
        notices += _unused(item, card, columns)
    if card.calendar_features and (assumed := calendar.assumed(start)):
        notices.append(notice("calendar_assumed", item, detail=assumed))
    missing = np.isnan(target)
    holes = int(np.count_nonzero(missing))
    if holes and card.missing_values == "interpolated":
        notices.append(notice("values_imputed", item, detail=str(holes)))
    error = None
    if holes >= used and missing.all(axis=1).any():
        sentence = f"A channel has no observed value among the {used} most recent rows, which are all that is used."
        error = SeriesError(code=Code.INVALID_ARGUMENT, sentence=sentence, metadata=source.metadata)
    paths = sampling.count if sampling is not None and p.num_samples else 0
    return Task(
        item=item,
        series=None if error else series,
        error=error,
        covariates=columns.names,
        notices=tuple(notices),
        points=used,
        truncated_from=rows if capped > used else None,
        timestamps=calendar.stamps(start, rows),
        usage=Usage(
            input_tokens=target.size + columns.past.size + columns.future.size + columns.static.size,
            output_tokens=p.prediction_length * channels * max(1, len(levels), paths),
        ),
        metadata=source.metadata,
    )


def _grouped(tasks: Sequence[Task]) -> Iterator[Task]:
    """The tasks of one request in groups that learn from each other: each takes series until it has its rows."""
    group = rows = 0
    for task in tasks:
        if task.series is None:
            yield task
            continue
        yield msgspec.structs.replace(task, series=replace(task.series, group=group))
        rows += len(task.series.target) + len(task.series.past)
        if rows >= GROUP_ROWS:
            group, rows = group + 1, 0


class _Columns(msgspec.Struct, frozen=True, kw_only=True):
    """Covariates of one series in the order of `adapters.base.Series`."""

    names: tuple[str, ...]
    past: Array
    future: Array
    static: Array
    known: int
    categorical: tuple[int, ...]


_NO_COLUMNS = _Columns(
    names=(), past=np.empty((0, 0)), future=np.empty((0, 0)), static=np.empty(0), known=0, categorical=()
)


def _columns(source: SeriesInput, first: int, horizon: int) -> _Columns:
    """Stack the covariates: known over both, past only, future only, static; past ones from row `first` on."""
    past, future, static = source.past_covariates, source.future_covariates, source.static_covariates
    if not (past or future or static):
        return _NO_COLUMNS
    known = [n for n in past if n in future]
    past_names = known + [n for n in past if n not in future]
    future_names = known + [n for n in future if n not in past]
    length = source.target.shape[0] - first
    codes = {n: _codes(past.get(n), future.get(n)) for n in {*past_names, *future_names}}
    names = (*past_names, *future_names[len(known) :], *static)
    return _Columns(
        names=names,
        past=_stack([_numbers(past[n], codes[n])[first:] for n in past_names], length),
        future=_stack([_numbers(future[n], codes[n])[:horizon] for n in future_names], horizon),
        static=np.array(list(static.values()), dtype=np.float64),
        known=len(known),
        categorical=tuple(i for i, n in enumerate(names) if codes.get(n)),
    )


def _stack(rows: list[Array], length: int) -> Array:
    return np.stack(rows) if rows else np.empty((0, length), dtype=np.float64)


def _codes(*columns: CovariateValues | None) -> dict[str, float]:
    """Category -> code over all columns of one covariate; empty for numbers."""
    words = {w for c in columns if isinstance(c, tuple) for w in c if w is not None}
    return {w: float(i) for i, w in enumerate(sorted(words))}


def _numbers(values: CovariateValues, codes: Mapping[str, float]) -> Array:
    if isinstance(values, tuple):
        return np.array([np.nan if w is None else codes[w] for w in values], dtype=np.float64)
    return values


def _unused(item: int, card: ModelCard, columns: _Columns) -> list[Notice]:
    """Covariates that the card says the model does not read; regression speaks for itself when it has run."""
    use = card.covariates
    past_only = columns.names[columns.known : columns.past.shape[0]]
    n_future = columns.future.shape[0] - columns.known
    future_names = columns.names[: columns.known] if use.future == "ignored" else ()
    if use.future == "ignored":
        future_names += columns.names[columns.past.shape[0] : columns.past.shape[0] + n_future]
    static = columns.names[columns.past.shape[0] + n_future :]
    ignored = list(future_names)
    if use.past != "native":
        ignored += past_only
    if use.static == "ignored":
        ignored += static
    return [notice("covariates_ignored", item, ignored)] if ignored else []
