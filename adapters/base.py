"""The contract between the engine and a model family.

The engine hands an adapter a `Batch` of series and gets a `BatchForecast` with one entry a series, in order.
Both sides are plain arrays: no names sent by clients, no wire, no event loop. This module imports numpy only,
so that the gateway can build batches without any model library.

Laws of every adapter:
- a series' forecast does not depend on its batch neighbours (1e-4 relative);
- inputs are never written to; outputs are freshly allocated;
- `predict` is synchronous and called by one thread at a time;
- a series that cannot be forecast becomes a `SeriesFailure`; only a broken model raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from catalog.card import ModelCard

Array = npt.NDArray[np.float64]


def _none(*shape: int) -> Array:
    return np.empty(shape, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How paths are drawn. `count` paths from a generator seeded with `seed`, the same whatever the batch."""

    count: int
    seed: int
    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    copula: bool = False  # draw from the quantile forecast instead of the model's own sampler
    returned: bool = True  # the paths are asked for; else only what is read from them, and the worker drops them


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series as the model shall see it: the context is already cut to the model's limit.

    Covariates stand in one order: the first `known` rows of `past` and of `future` are the same covariates over
    past and horizon; further rows of `past` are known in the past only, further rows of `future` over the horizon
    only. Their index in notices counts known, then past-only, then future-only, then static ones.
    """

    target: Array  # (channels, time), NaN where missing, >= 1 observed value a channel
    channels: tuple[int, ...] = ()  # what each is, as a place in the card's `channel_names`; none: in that order
    horizon: int  # steps to forecast
    levels: tuple[float, ...] = ()  # quantile levels asked for, ascending; none: point forecast only
    season: int = 1  # steps in one season
    step_s: float | None = None  # average seconds of one step; None where the frequency is not known
    past: Array = field(default_factory=lambda: _none(0, 0))  # (past covariates, time), NaN where missing
    future: Array = field(default_factory=lambda: _none(0, 0))  # (future covariates, horizon)
    known: int = 0  # covariates in both
    static: Array = field(default_factory=lambda: _none(0))  # (static covariates,)
    categorical: tuple[int, ...] = ()  # indices of covariates whose values are codes of categories
    stamps: npt.NDArray[np.int64] | None = None  # (time + horizon,) seconds since 1970, local to the stamps
    sampling: Sampling | None = None
    cross_learning: bool = False  # may see the other series of its own request (they share `group`)
    group: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Series that run together: one model, one horizon class; lengths may differ."""

    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something the caller should know of one series: a code of `gateway.domain.NOTICES`, and about what."""

    code: str
    covariates: tuple[int, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesForecast:
    """The forecast of one series."""

    point: Array  # (horizon, channels): what the card's `point` says
    quantiles: Array  # (levels, horizon, channels), never crossing along levels
    samples: Array | None = None  # (paths, horizon, channels)
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class SeriesFailure:
    """One series that the model could not forecast, with a sentence that is safe to show."""

    reason: str


@dataclass(frozen=True, slots=True)
class BatchForecast:
    """One entry a series of the batch, in its order."""

    series: tuple[SeriesForecast | SeriesFailure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where and how to compute."""

    name: str = "cpu"  # "cpu" or "cuda:0"
    dtype: str = "float32"
    threads: int = 1
    engine: str = "auto"  # "auto": the lean path where the configuration is known; "upstream": the library
    tf32: bool = False  # on a GPU, products of float32 keep 10 bits of 23: faster, and not the same numbers
    graphs: bool = True  # on a GPU, small passes are replayed from CUDA graphs where an adapter can: the same numbers

    @property
    def gpu(self) -> bool:
        """Whether this is a GPU."""
        return self.name.startswith("cuda")

    @property
    def label(self) -> str:
        """What an operator and a caller are told: the name, and what makes its numbers other than float32's."""
        if self.dtype != "float32":
            return f"{self.name} in {self.dtype}"
        return f"{self.name} in TF32" if self.tf32 and self.gpu else self.name


class Adapter(Protocol):
    """A loaded model."""

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series of `batch`."""
        ...

    def close(self) -> None:
        """Give back memory; called once."""
        ...


class LoadableAdapter(Adapter, Protocol):
    """What a card's "module:Class" names: an adapter that reads its own weights."""

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Read the weights in `folders`, by the card's names; raises ValueError for a bad checkpoint."""
        ...


def describe(series: Sequence[Series]) -> str:
    """Shapes of a batch in one line, for logs: counts and lengths, never values."""
    lengths = sorted(s.target.shape[1] for s in series)
    return f"{len(series)} series of {lengths[0]}..{lengths[-1]} points" if lengths else "no series"
