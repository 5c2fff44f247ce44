"""The bodies of the canonical contract as types: what is decoded, what is encoded, and what the documents say.

A request has two views of the same fields. The `...Body` types are the documented ones. The `...Envelope` types are
decoded: there all that may be long stays raw, so that it is read by itself and in steps. A test holds that both have
the same fields. null in an optional field means that it was not sent.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway import __version__

ABSENT = Raw(b"")
MAX_LEVELS = 99
MAX_SAMPLES = 1000

Input = TypeVar("Input")  # one series
Controls = TypeVar("Controls")  # parameters
Output = TypeVar("Output")  # the forecast of one series

# Within 64 bits, so that no number of a body outgrows an array's shape or a sentence.
Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Level = Annotated[float, Meta(gt=0.0, lt=1.0)]
Levels = Annotated[tuple[Level, ...], Meta(max_length=MAX_LEVELS)]
Name = Annotated[str, Meta(min_length=1)]
Matrix = Annotated[
    Any, Meta(extra_json_schema={"type": "array", "items": {"type": "array", "items": {"type": "number"}}})
]  # Raw where it was encoded slice by slice, else lists: see `matrices`
Row = Annotated[list[float | None], Meta(min_length=1)]
Rows = Annotated[list[Row], Meta(min_length=1)]
Echoed = Annotated[
    Raw, Meta(description="The metadata sent, verbatim.", extra_json_schema={"type": ["object", "null"]})
]


def alias(name: str) -> Meta:
    return Meta(description=f"Alias of `{name}`, for migration.", extra_json_schema={"deprecated": True})


class SeriesBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One series: its observations, their calendar and their covariates."""

    target: Annotated[
        Rows,
        Meta(
            description="Observations `[time][channel]`, oldest first. Always 2D: a univariate series is "
            "`[[v1], [v2], ...]`. null marks a missing observation; every channel needs one that is not.",
            examples=[[[110], [113], [None], [116]]],
        ),
    ]
    start: (
        Annotated[
            str,
            Meta(
                description="ISO 8601 date or date-time of the first observation. No offset means UTC. With "
                "`parameters.frequency` it gives the forecast its timestamps.",
                examples=["2026-03-01T00:00:00Z"],
            ),
        ]
        | None
    ) = None
    past_covariates: (
        Annotated[
            dict[str, list[float | str | None]],
            Meta(
                description="Signals observed beside the target: by name, as many values as target rows. null marks "
                "a missing value. All strings where the model takes categories.",
                examples=[{"promo": [0, 1, 0, 1]}],
            ),
        ]
        | None
    ) = None
    future_covariates: (
        Annotated[
            dict[str, list[float | str | None]],
            Meta(
                description="Signals known ahead: by name, at least `prediction_length` values and no null. "
                "Further values are ignored.",
                examples=[{"promo": [1, 0, 0]}],
            ),
        ]
        | None
    ) = None
    static_covariates: (
        Annotated[
            dict[str, float],
            Meta(description="Numbers that describe the series as a whole.", examples=[{"store_cluster": 2}]),
        ]
        | None
    ) = None
    channels: (
        Annotated[
            tuple[Name, ...],
            Meta(description="Names of the channels, one a channel, for models whose channels have a meaning."),
        ]
        | None
    ) = None
    item_id: (
        Annotated[str | int, Meta(description="Alias for migration: added to the echoed `metadata` as its `item_id`.")]
        | None
    ) = None
    metadata: Annotated[dict[str, Any], Meta(description="Opaque; echoed verbatim on this output.")] | None = None


class SeriesEnvelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A series of which nothing that may be long is read yet."""

    target: Raw
    start: str | None = None
    past_covariates: Raw = ABSENT
    future_covariates: Raw = ABSENT
    static_covariates: Raw = ABSENT
    channels: Raw = ABSENT
    item_id: str | int | None = None
    metadata: Raw = ABSENT


class ParametersBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Controls of a forecast. `prediction_length` is required."""

    prediction_length: (
        Annotated[Count, Meta(description="Steps to forecast, up to the model's `max_horizon`.", examples=[12])]
        | UnsetType
    ) = UNSET
    frequency: (
        Annotated[
            str,
            Meta(description="A pandas offset alias: `h`, `15min`, `D`, `W-MON`, `MS`, ...", examples=["D"]),
        ]
        | None
    ) = None
    quantile_levels: (
        Annotated[
            Levels,
            Meta(
                description="Quantiles to answer: ascending, no repeats. Omitted: the model's default. "
                "Empty: point forecast only.",
                examples=[[0.1, 0.5, 0.9]],
                extra_json_schema={"uniqueItems": True},
            ),
        ]
        | None
    ) = None
    num_samples: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=MAX_SAMPLES,
                description="Paths to draw from a sample-based model; deterministic models ignore it.",
            ),
        ]
        | None
    ) = None
    context_length: Annotated[Count, Meta(description="Cap on the observations used: the most recent ones.")] | None = (
        None
    )
    sensitivity: Annotated[float, Meta(description="For anomaly detection; ignored here.")] | None = None
    temperature: (
        Annotated[float, Meta(gt=0.0, description="Sampling temperature, where the model takes one.")] | None
    ) = None
    top_p: Annotated[float, Meta(gt=0.0, le=1.0, description="Nucleus sampling, where the model takes it.")] | None = (
        None
    )
    top_k: (
        Annotated[
            int,
            Meta(ge=0, le=2**63 - 1, description="Draw from the k likeliest only, where the model does; 0: all."),
        ]
        | None
    ) = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1, description="The same seed repeats a sampled forecast.")] | None = (
        None
    )
    cross_learning: (
        Annotated[bool, Meta(description="Let the series of this request inform each other, where the model can.")]
        | None
    ) = None
    sample_method: (
        Annotated[
            Literal["native", "copula"],
            Meta(description="Paths by the model itself, or drawn from its quantile forecast by a temporal copula."),
        ]
        | None
    ) = None
    dry_run: Annotated[bool, Meta(description="Answer what would be done, without a forecast.")] | None = None
    freq: Annotated[str, alias("frequency")] | None = None
    quantiles: Annotated[Levels, alias("quantile_levels")] | None = None
    horizon: Annotated[Count, alias("prediction_length")] | None = None


class Request(msgspec.Struct, Generic[Input, Controls], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A forecast to make: which model, of which series, under which parameters."""

    model: Annotated[Name, Meta(description="Catalog id or alias.", examples=["amazon/chronos-bolt-small"])]
    inputs: Annotated[list[Input], Meta(min_length=1, description="The series, each forecast on its own.")]
    parameters: Annotated[Controls, Meta(extra_json_schema={"required": ["prediction_length"]})]


class ForecastRequestBody(Request[SeriesBody, ParametersBody], frozen=True, kw_only=True):
    """A forecast to make: which model, of which series, under which parameters."""

    metadata: Annotated[dict[str, Any], Meta(description="Opaque; echoed verbatim.")] | None = None


class ForecastEnvelope(Request[SeriesEnvelope, Raw], frozen=True, kw_only=True):
    """A request whose arrays and parameters are not read yet."""

    metadata: Raw = ABSENT


class QuantileBody(msgspec.Struct, frozen=True, kw_only=True):
    """The values of one quantile level."""

    level: Annotated[float, Meta(description="Exactly the number asked.")]
    values: Annotated[Matrix, Meta(description="`[time][channel]`")]


class SeriesErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why one series has no forecast."""

    error: str
    code: Annotated[str, Meta(examples=["MODEL_FAILED"])]


class OutputBody(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of one series; of a failed one `status`, `error` and `metadata`; of a planned one no numbers."""

    status: Annotated[Literal["failed"], Meta(description="Only on a series that failed alone.")] | UnsetType = UNSET
    error: SeriesErrorBody | UnsetType = UNSET
    mean: Annotated[Matrix, Meta(description="`[time][channel]`: what the answer's `point` says.")] | UnsetType = UNSET
    quantile_predictions: (
        Annotated[list[QuantileBody], Meta(description="One entry a level asked, ascending; values never cross.")]
        | UnsetType
    ) = UNSET
    samples: (
        Annotated[list[Matrix], Meta(description="`[num_samples][time][channel]`, from sample-based models.")]
        | UnsetType
    ) = UNSET
    timestamps: (
        Annotated[list[str], Meta(description="Of each step, where `start` and `frequency` were sent.")] | UnsetType
    ) = UNSET
    metadata: Echoed | UnsetType = UNSET
    input_points: Annotated[int, Meta(description="Rows that would be read; dry run only.")] | UnsetType = UNSET
    truncated_from: Annotated[int, Meta(description="Rows sent, where the context was cut.")] | UnsetType = UNSET
    notices: (
        Annotated[list[str], Meta(description="What was done beyond the plain forecast, in sentences.")] | UnsetType
    ) = UNSET


class UsageBody(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens by the published rule: cells read after the cut, and cells answered."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class TimingsBody(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of the request in the engine."""

    queue: float
    compute: float


class Answer(msgspec.Struct, Generic[Output], frozen=True, kw_only=True):
    """A forecast: one output a series, in the order of the inputs."""

    id: Annotated[str, Meta(description="A UUID.")]
    object: Literal["forecast"] = "forecast"
    created: Annotated[int, Meta(description="Seconds since 1970.")]
    model: Annotated[str, Meta(description="The catalog id, also where an alias was asked.")]
    provider: str
    horizon: int
    prediction_length: int
    quantile_levels: list[float]
    input_points: Annotated[int, Meta(description="Rows read after the cuts, over all series.")]
    outputs: list[Output]
    usage: UsageBody
    latency_ms: float
    metadata: Echoed | UnsetType = UNSET
    truncated_from: (
        Annotated[int, Meta(description="Rows of the longest series that was cut, as sent.")] | UnsetType
    ) = UNSET
    max_context_length: (
        Annotated[int, Meta(description="Rows the model reads at most; where a series was cut.")] | UnsetType
    ) = UNSET
    point: Annotated[Literal["mean", "median"], Meta(description="What `mean` holds.")]
    timings_ms: TimingsBody | UnsetType = UNSET
    cached: Annotated[bool, Meta(description="True where the answer was computed earlier.")] | UnsetType = UNSET
    dry_run: Annotated[bool, Meta(description="True where this is a plan, without numbers.")] | UnsetType = UNSET
    batch_class: (
        Annotated[str, Meta(description="What the series may share a batch with; dry run only.")] | UnsetType
    ) = UNSET
    model_revision: str
    gateway_version: str = __version__


class ForecastBody(Answer[OutputBody], frozen=True, kw_only=True):
    """A forecast: one output a series, in the order of the inputs."""


class FaultBody(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong place of a request."""

    loc: Annotated[list[str | int], Meta(examples=[["body", "parameters", "prediction_length"]])]
    msg: Annotated[str, Meta(examples=["Field required"])]
    type: Literal["missing", "type_error", "value_error", "unknown_field"]


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """Every answer that is not a forecast."""

    error: Annotated[str, Meta(description="A sentence that can be shown to people.")]
    code: Annotated[str, Meta(description="For programs.", examples=["INVALID_ARGUMENT"])]
    endpoint: str
    request_id: str
    detail: Annotated[list[FaultBody], Meta(description="Up to 20 wrong places at once.")] | UnsetType = UNSET
