"""How work is cut: into neighbouring members that one worker runs at a time. Pure, and a chunk is work like any other.

A chunk has at most 256 series, about 4 MiB in and out, and aims at 10 s of work. Series that learn from each other
stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from gateway.dialects.canonical.metadata import Echo
from gateway.domain import (
    AnomalyRequest,
    BacktestRequest,
    BatchRequest,
    CovariateValues,
    EnsembleRequest,
    ForecastRequest,
    Parameters,
    SeriesInput,
    Work,
)
from gateway.errors import GatewayError

MAX_SERIES = 256
MAX_BYTES = 4 << 20
AIM_S = 10.0  # of work: what is lost when a worker dies, and how long a slot is held against more urgent work
FIRST_TOKENS_PER_S = 50_000.0  # of a model whose chunks nobody has timed yet
DEFAULT_LEVELS = 3

Member = SeriesInput | ForecastRequest | GatewayError


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """One chunk of a plan: members `first` to `first + count`, run by a worker that offers `model`."""

    first: int
    count: int
    model: str  # catalog id; "": no worker's, the coordinator runs it
    tokens: int


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """All chunks of a job, in the order of its members."""

    version: int
    chunks: tuple[Chunk, ...]

    def at(self, member: int) -> int:
        """Index of the chunk that holds a member."""
        low, high = 0, len(self.chunks)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.chunks[middle].first <= member else (low, middle)
        return low


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no chunk goes beyond, unless a single member does."""

    series: int = MAX_SERIES
    bytes: int = MAX_BYTES
    tokens: float = AIM_S * FIRST_TOKENS_PER_S


@dataclass(frozen=True, slots=True)
class Weight:
    """What a member adds to its chunk."""

    series: int = 0
    bytes: int = 0
    tokens: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(self.series + other.series, self.bytes + other.bytes, self.tokens + other.tokens)

    def within(self, bounds: Bounds) -> bool:
        return self.series <= bounds.series and self.bytes <= bounds.bytes and self.tokens <= bounds.tokens


class Cutter:
    """Gathers members until a chunk is full."""

    def __init__(self, work: Work, bounds: Callable[[str], Bounds], name: Callable[[str], str | None]) -> None:
        """`work` says what every chunk shares; `name` gives the catalog id of a model, None if there is none."""
        self._work = work
        self._bounds = bounds
        self._name = name
        self._members: list[Member] = []
        self._weight = Weight()
        self._model: str | None = None
        self._first = 0
        self._whole = whole(work)

    def add(self, member: Member) -> tuple[Chunk, Work] | None:
        """Take a member; returns the chunk before it if it did not fit."""
        weight, model = weight_of(member, self._work), self._model_of(member)
        full = None
        other = model is not None and self._model not in (None, model)
        bounds = self._bounds(model or self._model or "")
        if self._members and not self._whole and (other or not (self._weight + weight).within(bounds)):
            full = self.rest()
        self._members.append(member)
        self._weight += weight
        self._model = self._model or model
        return full

    def rest(self) -> tuple[Chunk, Work] | None:
        """The last chunk, if there is anything in it."""
        if not self._members:
            return None
        count = len(self._members)
        model = "" if isinstance(self._work, EnsembleRequest) else self._model or self._name("default") or "default"
        made = Chunk(self._first, count, model, self._weight.tokens), with_members(self._work, tuple(self._members))
        self._first += count
        self._members, self._weight, self._model = [], Weight(), None
        return made

    def _model_of(self, member: Member) -> str | None:
        if isinstance(member, GatewayError):
            return None
        if isinstance(member, ForecastRequest):
            return self._name(member.model)
        return None if isinstance(self._work, EnsembleRequest) else self._name(forecast_of(self._work).model)


def whole(work: Work) -> bool:
    """Whether the members of `work` cannot be parted."""
    if isinstance(work, BatchRequest):
        return False
    return isinstance(work, EnsembleRequest) or forecast_of(work).parameters.cross_learning


def forecast_of(work: Work) -> ForecastRequest:
    """The forecast that work other than batches and ensembles is about."""
    if isinstance(work, (BacktestRequest, AnomalyRequest)):
        return work.forecast
    assert isinstance(work, ForecastRequest)
    return work


def members(work: Work) -> tuple[Member, ...]:
    """What progress is counted in: series, or the requests of a batch."""
    if isinstance(work, BatchRequest):
        return work.requests
    return work.series if isinstance(work, EnsembleRequest) else forecast_of(work).series


def with_members(work: Work, parts: tuple[Member, ...]) -> Work:
    """The same work over other members."""
    if isinstance(work, BatchRequest):
        return replace(work, requests=tuple(p for p in parts if not isinstance(p, SeriesInput)))
    series = tuple(p for p in parts if isinstance(p, SeriesInput))
    if isinstance(work, (BacktestRequest, AnomalyRequest)):
        return replace(work, forecast=replace(work.forecast, series=series))
    return replace(work, series=series)


def cut(work: Work, cutter: Cutter) -> Iterator[tuple[Chunk, Work] | None]:
    """The chunks of work that is there already; None where there is none yet."""
    for member in members(work):
        yield cutter.add(member)
    yield cutter.rest()


# -- what a member weighs ---


def weight_of(member: Member, work: Work) -> Weight:
    """Bytes of a member and of its answer, and the tokens that a model reads and writes for it."""
    if isinstance(member, GatewayError):
        return Weight(bytes=1000)
    if isinstance(member, ForecastRequest):
        return sum((_series(s, member.parameters) for s in member.series), Weight())
    if isinstance(work, BacktestRequest):
        once = _series(member, work.forecast.parameters)
        return Weight(once.series, once.bytes * max(1, work.windows), once.tokens * max(1, work.windows))
    if isinstance(work, AnomalyRequest):
        once, rows = _series(member, work.forecast.parameters), len(member.target)
        runs = max(1, rows // max(1, work.forecast.parameters.prediction_length))
        return Weight(once.series, once.bytes + member.target.nbytes * 9, once.tokens * runs // 2)
    return _series(member, work.parameters if isinstance(work, EnsembleRequest) else forecast_of(work).parameters)


def _series(series: SeriesInput, p: Parameters) -> Weight:
    rows, channels = series.target.shape
    levels = DEFAULT_LEVELS if p.quantile_levels is None else len(p.quantile_levels)
    written = p.prediction_length * channels * (1 + levels + (p.num_samples or 0))
    covariates = _bytes(series.past_covariates) + _bytes(series.future_covariates)
    echo = len(series.metadata.content) if isinstance(series.metadata, Echo) else 64
    stamps = 32 * p.prediction_length if series.start is not None else 0
    size = series.target.nbytes + covariates + 8 * written + 2 * echo + stamps + 256
    return Weight(1, size, min(rows, p.context_length or rows) * channels + covariates // 8 + written)


def _bytes(columns: Mapping[str, CovariateValues]) -> int:
    return sum(8 * len(values) for values in columns.values())


def bounds_of(tokens_per_s: float | None, series: int) -> Bounds:
    """The bounds of a model's chunks by how fast it was seen to run."""
    return Bounds(series=series, tokens=AIM_S * (tokens_per_s or FIRST_TOKENS_PER_S))
