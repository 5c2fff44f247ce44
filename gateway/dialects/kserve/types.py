"""The bodies of KServe's time-series API. Requests take further properties at every level."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway.dialects.fastapi import Detail

UNIVARIATE = "univariate_time_series"
MULTIVARIATE = "multivariate_time_series"
SeriesType = Literal["univariate_time_series", "multivariate_time_series"]
Status = Literal["completed", "error", "pending", "partial"]

_NUMBERS = {"type": "array", "items": {"type": "number"}}
_ROWS = {"type": "array", "items": _NUMBERS}
_OBSERVED = {"anyOf": [_NUMBERS, _ROWS]}
_FORECAST = {"anyOf": [_NUMBERS, _ROWS]}

# What the wire calls a frequency -> pandas' alias. Words are taken in any case, letters as they are.
FREQUENCIES = {
    "second": "S",
    "minute": "T",
    "hour": "H",
    "day": "D",
    "week": "W",
    "month": "M",
    "quarter": "Q",
    "year": "Y",
}


# -- request ---


class InputBody(msgspec.Struct, frozen=True, kw_only=True):
    """One series."""

    type: SeriesType
    name: str
    series: Annotated[
        Raw,
        Meta(description="Observations, or rows of one value a variable: time first.", extra_json_schema=_OBSERVED),
    ]
    frequency: Annotated[
        str,
        Meta(
            description="`second`, `minute`, `hour`, `day`, `week`, `month`, `quarter`, `year`, in any case, or the "
            "letters `S T H D W M Q Y`."
        ),
    ]
    start_timestamp: Annotated[str, Meta(description="ISO 8601, of the first observation.")] | None = None


class OptionsBody(msgspec.Struct, frozen=True, kw_only=True):
    """What to forecast."""

    horizon: Annotated[int, Meta(description="Steps, at least 1 and at most the model's.")]
    quantiles: list[float] | None = None


class RequestBody(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/timeseries/forecast`."""

    model: Annotated[str, Meta(description="An id or alias of the catalog.")]
    inputs: list[InputBody]
    options: OptionsBody
    metadata: dict[str, Any] | None = None


class RequestEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """The same, of which options and metadata are not read yet."""

    model: str
    inputs: list[InputBody]
    options: Raw
    metadata: Raw = Raw(b"")


# -- response ---


class ErrorObject(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, and with which parameter."""

    code: str
    message: str
    param: str
    type: str


class ContentBody(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of one series."""

    type: SeriesType
    name: str
    mean_forecast: Annotated[Raw, Meta(extra_json_schema=_FORECAST)]
    frequency: str
    start_timestamp: str | None
    quantiles: dict[str, Annotated[Raw, Meta(extra_json_schema=_FORECAST)]] | None


class OutputBody(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one input."""

    type: Literal["time_series_forecast"] = "time_series_forecast"
    id: str
    status: Status
    content: list[ContentBody]
    error: ErrorObject | None = None
    notices: list[str] | UnsetType = UNSET


class UsageBody(msgspec.Struct, frozen=True, kw_only=True):
    """Cells read and cells answered."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: one output an input. Unknown properties of the request are echoed beside these."""

    id: str
    created_at: int
    status: Status
    error: ErrorObject | None
    model: str
    outputs: Annotated[
        list[Raw], Meta(extra_json_schema={"type": "array", "items": {"type": "object"}})
    ]  # OutputBody each, encoded one by one
    usage: UsageBody


# -- errors and probes ---


class ErrorBody(msgspec.Struct, frozen=True):
    """An error of the time-series API."""

    error: ErrorObject


class SentenceBody(msgspec.Struct, frozen=True):
    """An error of the model routes, and an unknown model."""

    error: str


class DetailBody(msgspec.Struct, frozen=True):
    """A body that is not of the schema."""

    detail: list[Detail]


class AnyErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """An error: an object or a sentence in `error`, or the places in `detail` where the body is not of the schema."""

    error: Annotated[Raw, Meta(extra_json_schema={"type": ["object", "string"]})] | UnsetType = UNSET
    detail: list[Detail] | UnsetType = UNSET


class LiveBody(msgspec.Struct, frozen=True):
    """The process answers."""

    live: bool


class ReadyBody(msgspec.Struct, frozen=True):
    """Forecasts are served."""

    ready: bool


class ServerBody(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers."""

    name: str
    version: str
    extensions: list[str]


class ModelReadyBody(msgspec.Struct, frozen=True):
    """Whether a model answers."""

    name: str
    ready: bool


class ModelBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the V2 protocol tells of a model; tensors it has none."""

    name: str
    platform: str
    inputs: list[str]
    outputs: list[str]
