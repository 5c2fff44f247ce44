"""A forecast: what is asked, what is answered, and what a caller should know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from gateway.errors import Code

MAX_SERIES = 10_000  # of one call: each costs the gateway some kilobytes whatever its length

Array = npt.NDArray[np.float64]
Metadata = object  # opaque: echoed, never read; only the dialect that made it knows its form
CovariateValues = Array | tuple[str | None, ...]  # numbers (NaN: missing), or categories

NOTICES: Mapping[str, str] = {
    # Every notice a caller can meet. {names} is replaced by the covariates or channels it is about.
    "covariates_ignored": "The model did not use {names}.",
    "covariates_by_regression": "{names}: used by in-context regression, which the model does not do itself.",
    "covariates_constant": "{names}: constant over the context, so the regression did not use it.",
    "covariates_too_few_rows": "{names}: not used, too few observations for a regression ({detail}).",
    "covariates_without_gain": "{names}: not used, a regression on them forecast held-out steps no better.",
    "covariates_static_single": "{names}: static covariates cannot help a single series and were not used.",
    "values_imputed": "{detail} missing values were filled by interpolation before the forecast.",
    "calendar_assumed": "The model reads the calendar, and not all of it was sent: {detail} assumed.",
    "levels_extrapolated": "Levels {detail} lie outside the model's trained ones and assume normal tails.",
    "levels_clipped": "Levels {detail} lie outside the model's trained ones and are answered by the nearest of those.",
    "horizon_extended": "The horizon exceeds the {detail} steps of one pass; the rest is forecast from the forecast.",
    "seed_used": "Sampled with seed {detail}.",
    "fallback": "{detail}",
    "licence": "{detail}",
    "window_failed": "A window was not scored: {detail}",
    "windows_fewer": "{detail}",
    "covariates_unknown_ahead": "{names}: left out over the horizon of windows in which they are not known.",
    "season_relative": "{detail}",
    "blended": "Blended from {detail}.",
    "weights_of_others": "Too short to be scored, so the weights of the other series were used.",
    "weights_equal": "Nothing could be scored, so the models have equal weights.",
    "model_missing": "{detail}",
    "samples_not_blended": "An ensemble blends quantiles: no samples were drawn.",
    "samples_copula": "Samples were drawn from the quantile forecast by a temporal copula, not by the model.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesInput:
    """One series as sent, before any cut."""

    target: Array  # (time, channels), NaN where null
    start: str | None = None  # ISO 8601, read by `timeline`
    past_covariates: Mapping[str, CovariateValues] = field(default_factory=dict)  # (time,) each
    future_covariates: Mapping[str, CovariateValues] = field(default_factory=dict)  # (>= horizon,) each
    static_covariates: Mapping[str, float] = field(default_factory=dict)
    channels: tuple[str, ...] | None = None
    metadata: Metadata = None  # None: absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Controls of a forecast; None is "not sent"."""

    prediction_length: int
    frequency: str | None = None
    quantile_levels: tuple[float, ...] | None = None
    clip_levels: bool = False  # a level beyond the model's trained ones is answered by the nearest of those
    num_samples: int | None = None
    context_length: int | None = None
    sensitivity: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    cross_learning: bool = False
    sample_method: Literal["native", "copula"] | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRequest:
    """One call of a forecast, from any dialect."""

    model: str
    series: tuple[SeriesInput, ...]
    parameters: Parameters
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence the caller should read: what was done with the request beyond the plain forecast."""

    code: str  # a key of NOTICES
    sentence: str
    item: int | None = None  # index of the series; None: the whole request
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens by the published rule: cells read and cells answered."""

    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesForecast:
    """The forecast of one series."""

    mean: Array  # (horizon, channels): mean or median, as the forecast's `point` says
    quantiles: Array  # (levels, horizon, channels), ascending along levels
    samples: Array | None = None  # (paths, horizon, channels)
    timestamps: tuple[str, ...] | None = None
    notices: tuple[Notice, ...] = ()
    truncated_from: int | None = None
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesError:
    """One series that failed while its neighbours did not."""

    code: Code
    sentence: str
    notices: tuple[Notice, ...] = ()
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The answer to a ForecastRequest."""

    id: str
    created: int  # unix seconds
    model: str  # canonical id
    model_revision: str
    provider: str
    point: Literal["mean", "median"]
    horizon: int
    quantile_levels: tuple[float, ...]
    input_points: int
    outputs: tuple[SeriesForecast | SeriesError, ...]
    usage: Usage
    latency_ms: float
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    cached: bool = False
    truncated_from: int | None = None
    max_context_length: int | None = None
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSeries:
    """What a dry run says of one series."""

    input_points: int
    timestamps: tuple[str, ...] | None = None
    notices: tuple[Notice, ...] = ()
    truncated_from: int | None = None
    metadata: Metadata = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastPlan:
    """The answer to a dry run: everything that is known before the model runs."""

    id: str
    created: int
    model: str
    model_revision: str
    provider: str
    point: Literal["mean", "median"]
    horizon: int
    quantile_levels: tuple[float, ...]
    input_points: int
    batch_class: str  # the batch key and length bucket the series would run in
    outputs: tuple[PlannedSeries, ...]
    usage: Usage
    latency_ms: float
    truncated_from: int | None = None
    max_context_length: int | None = None
    metadata: Metadata = None
