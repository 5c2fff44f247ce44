"""The bodies of Nixtla's API, as its client sends and reads them. Keys that are not here are read past."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from gateway.dialects.canonical.types import Count

ABSENT = Raw(b"")
Level = Annotated[int, Meta(ge=0, lt=100)] | Annotated[float, Meta(ge=0, lt=100)]  # percent between lo and hi


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """All series of a call, one after the other."""

    y: Raw  # every observation of every series
    sizes: Raw  # observations of each series
    X: Raw = ABSENT  # [feature][observation]: the features known ahead first, then those of the past only
    X_future: Raw = ABSENT  # [feature][series and step]
    start_datetime: Raw = ABSENT  # of each series
    categorical_exog: Annotated[list[int], Meta(max_length=1000)] | None = None  # rows of X that hold categories


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What forecasts, cross-validations and anomaly detections have in common."""

    series: Series
    model: str | None = None
    freq: str | int | None = None
    finetune_steps: int | None = None
    finetuned_model_id: str | None = None
    feature_contributions: bool | None = None
    multivariate: bool | None = None


class ForecastRequest(Request, frozen=True, kw_only=True):
    """`POST /v2/forecast`"""

    h: Count
    level: Annotated[tuple[Level, ...], Meta(max_length=1000)] | None = None


class CrossValidationRequest(ForecastRequest, frozen=True, kw_only=True):
    """`POST /v2/cross_validation`"""

    n_windows: Count | None = None
    step_size: Count | None = None
    full_history: bool | None = None  # as many windows as there are, for the client's `add_history`
    hist_exog: Annotated[list[int], Meta(max_length=1000)] | None = (
        None  # rows of X that are not known ahead; none sent: all are
    )


class AnomalyRequest(Request, frozen=True, kw_only=True):
    """`POST /v2/anomaly_detection`"""

    level: Level | None = None


class Detail(msgspec.Struct, frozen=True):
    """An answer in one sentence."""

    detail: str


class ModelSizes(msgspec.Struct, frozen=True):
    """What the client cuts its history to."""

    input_size: int
    horizon: int


class ModelParameters(msgspec.Struct, frozen=True):
    """`GET /model_params`"""

    detail: ModelSizes


class Used(msgspec.Struct, frozen=True):
    """Requests in a span of time, and the most there may be; null: any."""

    consumed: int
    limit: int | None


class Usage(msgspec.Struct, frozen=True):
    """`GET /usage`"""

    minute: Used
    month: Used


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong place of a body."""

    loc: list[str | int]
    msg: str
    type: str


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every answer that is an error."""

    detail: str
    code: str
    request_id: str = msgspec.field(name="requestID")
    details: list[Place] = []
