"""The bodies of DataRobot's API, as its clients read them."""

from __future__ import annotations

import msgspec

from gateway.dialects.datarobot.rows import Cell


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """One predicted value and what it is of."""

    value: float
    label: str


class Prediction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One predicted row."""

    series_id: str | None
    forecast_point: str
    row_id: int
    timestamp: str
    prediction_values: tuple[Value, ...]
    forecast_distance: int
    prediction: float
    passthrough_values: dict[str, Cell] = {}


class Predictions(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a call for predictions."""

    data: list[Prediction]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Every answer that is an error: a sentence, or one a query argument."""

    message: str | dict[str, str]


class Version(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a client asks first: the API that is spoken here."""

    version_string: str
    major: int
    minor: int
    release_package: str


class PredictionServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where predictions are made: here."""

    id: str
    url: str
    key: str = msgspec.field(name="datarobot-key")


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The model of a deployment."""

    id: str
    type: str
    target_name: str
    target_type: str
    is_deprecated: bool = False


class Deployment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A deployment as `dr.Deployment.get` reads it, and the layout of its table."""

    id: str
    label: str
    description: str
    status: str
    importance: str
    model: Model
    default_prediction_server: PredictionServer
    url: str
    key: str = msgspec.field(name="datarobot-key")
    capabilities: dict[str, bool]
    date_column: str
    series_id_column: str | None
    known_in_advance: tuple[str, ...]
    forecast_window_start: int
    forecast_window_end: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list, and where the parts beside it are."""

    count: int  # on this page
    next: str | None
    previous: str | None
    data: list[PredictionServer] | list[Deployment]
