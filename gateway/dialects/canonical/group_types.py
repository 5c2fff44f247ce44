"""The bodies of batches and of ensembles.

Controls of an ensemble may stand beside `parameters` or in them; the envelope keeps the former raw until both are one
object.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway import __version__
from gateway.dialects.canonical.types import (
    ABSENT,
    Count,
    Echoed,
    FaultBody,
    ForecastBody,
    ForecastRequestBody,
    Levels,
    Name,
    ParametersBody,
    SeriesBody,
    SeriesEnvelope,
    UsageBody,
    alias,
)
from gateway.domain import MAX_REQUESTS, ScoringMetric, Selection, Weighting

Result = TypeVar("Result")  # a forecast's body, or its bytes

MAX_MODELS = 100
MAX_FOLDS = 100
MAX_BUDGET_S = 3600.0

# -- requests ---


class BatchRequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Forecasts to make together; each succeeds and fails alone, one that cannot be read included."""

    requests: Annotated[
        list[ForecastRequestBody],
        Meta(
            min_length=1,
            max_length=MAX_REQUESTS,
            description="Bodies of `/v1/forecast`. More of them, or very many series, are a job: `/v1/jobs`.",
        ),
    ]


class BatchEnvelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch whose requests are not read yet."""

    requests: Raw


Models = Annotated[
    tuple[Name, ...],
    Meta(
        min_length=1,
        max_length=MAX_MODELS,
        description="Candidates. Default: every model at hand that can take the request.",
        examples=[["chronos-bolt-small", "auto-ets"]],
    ),
]
TopN = Annotated[int, Meta(ge=1, le=MAX_MODELS, description="Candidates that are backtested. Default 10.")]
MaxModels = Annotated[int, Meta(ge=1, le=MAX_MODELS, description="Models in the blend. Default 3.")]
Scoring = Annotated[ScoringMetric, Meta(description='What ranks the candidates. Default "smape".')]
Budget = Annotated[
    float,
    Meta(
        gt=0.0,
        le=MAX_BUDGET_S,
        description="Seconds for it all. A candidate that has not finished by then is left out. Default 30.",
    ),
]
Folds = Annotated[int, Meta(ge=1, le=MAX_FOLDS, description="Backtest folds. Default 1.")]
FoldStep = Annotated[Count, Meta(description="Rows from one fold to the next. Default: `prediction_length`.")]
Weights = Annotated[
    Weighting,
    Meta(
        description=(
            'How members are weighted. Default "inverse_score": in proportion to (score x CRPS)^-2 of the backtest, '
            "where score is that of `scoring_metric`; members are the candidates with the largest weights."
        )
    ),
]
Selecting = Annotated[
    Selection, Meta(description='One blend for the request, or one for each series. Default "global".')
]


class EnsembleParametersBody(ParametersBody, frozen=True, kw_only=True):
    """Controls of an ensemble. `prediction_length` is required, here or beside."""

    models: Models | None = None
    top_n: TopN | None = None
    max_models: MaxModels | None = None
    scoring_metric: Scoring | None = None
    budget: Budget | None = None
    windows: Folds | None = None
    step: FoldStep | None = None
    weighting: Weights | None = None
    selection: Selecting | None = None


class EnsembleRequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ensemble to make: backtest candidates, blend the best. Its own controls may stand in `parameters` too."""

    models: Models | None = None
    inputs: Annotated[
        list[SeriesBody],
        Meta(min_length=1, description="The series; at least one is longer than `prediction_length`."),
    ]
    parameters: EnsembleParametersBody | None = None
    top_n: TopN | None = None
    max_models: MaxModels | None = None
    scoring_metric: Scoring | None = None
    budget: Budget | None = None
    windows: Folds | None = None
    step: FoldStep | None = None
    weighting: Weights | None = None
    selection: Selecting | None = None
    metadata: Annotated[dict[str, Any], Meta(description="Opaque; echoed verbatim.")] | None = None
    prediction_length: Annotated[Count, alias("parameters.prediction_length")] | None = None
    horizon: Annotated[Count, alias("parameters.prediction_length")] | None = None
    frequency: Annotated[str, alias("parameters.frequency")] | None = None
    freq: Annotated[str, alias("parameters.frequency")] | None = None
    quantile_levels: Annotated[Levels, alias("parameters.quantile_levels")] | None = None
    quantiles: Annotated[Levels, alias("parameters.quantile_levels")] | None = None


class EnsembleEnvelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ensemble whose arrays and controls are not read yet."""

    models: Raw = ABSENT
    inputs: Annotated[list[SeriesEnvelope], Meta(min_length=1)]
    parameters: Raw = ABSENT
    top_n: Raw = ABSENT
    max_models: Raw = ABSENT
    scoring_metric: Raw = ABSENT
    budget: Raw = ABSENT
    windows: Raw = ABSENT
    step: Raw = ABSENT
    weighting: Raw = ABSENT
    selection: Raw = ABSENT
    metadata: Raw = ABSENT
    prediction_length: Raw = ABSENT
    horizon: Raw = ABSENT
    frequency: Raw = ABSENT
    freq: Raw = ABSENT
    quantile_levels: Raw = ABSENT
    quantiles: Raw = ABSENT


# -- answers ---


class BatchErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why one request of a batch has no forecast: what `/v1/forecast` would have answered."""

    error: str
    code: Annotated[str, Meta(examples=["PERMISSION_DENIED"])]
    endpoint: Literal["/v1/forecast"] = "/v1/forecast"
    detail: list[FaultBody] | UnsetType = UNSET


class BatchItem(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """`result` where `ok`, else `error`."""

    ok: bool
    result: Result | UnsetType = UNSET
    error: BatchErrorBody | UnsetType = UNSET


class BatchItemBody(BatchItem[ForecastBody], frozen=True, kw_only=True):
    """`result` where `ok`, else `error`."""


class BatchBody(msgspec.Struct, frozen=True, kw_only=True):
    """One item a request, in order."""

    object: Literal["list"] = "list"
    data: list[BatchItemBody]


class RankedModelBody(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate and what became of it."""

    model: str
    rank: Annotated[int, Meta(description="1 is the best.")]
    score: Annotated[float | None, Meta(description="Of `scoring_metric`, lower is better; null: not scored.")]
    weight: Annotated[float, Meta(description="In the blend; the mean over series where each has its own.")]
    metrics: dict[str, float | None]
    latency_ms: float | None
    status: Literal["selected", "ranked", "failed", "timed_out"]
    error: Annotated[str | None, Meta(description="Why it could not be ranked.")]


class Ensemble(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """A blend of the best candidates, and how all of them did on held-out ends."""

    id: Annotated[str, Meta(description="A UUID.")]
    object: Literal["ensemble"] = "ensemble"
    created: Annotated[int, Meta(description="Seconds since 1970.")]
    ensemble_result: Annotated[Result, Meta(description='The blend; its `model` is "ensemble".')]
    ranked_results: Annotated[list[RankedModelBody], Meta(description="Every candidate, best first.")]
    series_weights: (
        Annotated[
            list[dict[str, float]],
            Meta(description="The blend of each series by model, where `selection` is per_series."),
        ]
        | UnsetType
    ) = UNSET
    scoring_metric: ScoringMetric
    holdout_length: Annotated[int, Meta(description="Rows held out of each fold.")]
    windows: Annotated[int, Meta(description="Folds that were scored.")]
    usage: Annotated[UsageBody, Meta(description="Of all model calls delivered, backtests included.")]
    latency_ms: float
    metadata: Echoed | UnsetType = UNSET
    gateway_version: str = __version__


class EnsembleBody(Ensemble[ForecastBody], frozen=True, kw_only=True):
    """A blend of the best candidates, and how all of them did on held-out ends."""
