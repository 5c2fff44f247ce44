"""Forecasts to predicted rows, and deployments to what clients read of them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode

import msgspec
import numpy as np

from gateway.dialects import notices
from gateway.dialects.base import Call, Reply
from gateway.dialects.datarobot import query
from gateway.dialects.datarobot import types as wire
from gateway.dialects.datarobot.errors import ARGUMENT
from gateway.dialects.datarobot.rows import Cell, text_of
from gateway.dialects.datarobot.windows import Window
from gateway.domain import Deployment, Forecast, SeriesError, SeriesForecast
from gateway.errors import Code, GatewayError

ROWS_A_PART = 500
SERVER = "forecast-gateway"  # the id of the one prediction server, and its key: nothing is kept from anybody by it
API = (2, 49)  # the version of DataRobot's public API that is spoken


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer needs of its request."""

    deployment: Deployment
    is_csv: bool
    passthrough: Mapping[str, list[Cell]]  # whole columns, by name


class _Row(msgspec.Struct, frozen=True):
    """One predicted row: `n` is its place among those of its window."""

    window: Window
    n: int
    value: float


def predictions(call: Call, answer: Forecast) -> Reply:
    """The predicted rows in the order of the table, as JSON or CSV."""
    asked = answer.metadata
    assert isinstance(asked, Asked), "metadata of this dialect is what its parse made"
    headers = notices.header(n for output in answer.outputs for n in output.notices)
    if asked.is_csv:
        return Reply(body=_csv(answer, asked), media_type="text/csv; charset=utf-8", headers=headers)
    return Reply(body=_json(answer, asked), headers=headers)


def _rows(answer: Forecast) -> list[_Row]:
    found: list[_Row] = []
    for output in answer.outputs:
        window = output.metadata
        assert isinstance(window, Window), "metadata of this dialect is what its parse made"
        if isinstance(output, SeriesError):
            which = f"series {window.series_id}: " if window.series_id is not None else ""
            raise GatewayError(output.code, f"{which}{output.sentence}")
        found += _of_window(window, output)
    return sorted(found, key=lambda row: (row.window.rows[row.n], row.window.point))


def _of_window(window: Window, output: SeriesForecast) -> Iterator[_Row]:
    values = output.mean[:, 0]
    if not np.isfinite(values).all():
        raise GatewayError(Code.INTERNAL, "The forecast holds a number that is not finite.")
    for n, distance in enumerate(window.distances):
        yield _Row(window, n, float(values[distance - 1]))


def _json(answer: Forecast, asked: Asked) -> Iterator[bytes]:
    label = f"{asked.deployment.settings.target} (actual)"
    opening = b'{"data":['
    for rows in _parts(_rows(answer)):
        yield opening + msgspec.json.encode([_prediction(row, asked, label) for row in rows])[1:-1]
        opening = b","
    yield b"]}" if opening == b"," else opening + b"]}"


def _prediction(row: _Row, asked: Asked, label: str) -> wire.Prediction:
    window, n = row.window, row.n
    return wire.Prediction(
        series_id=window.series_id,
        forecast_point=window.point,
        row_id=window.rows[n],
        timestamp=window.timestamps[n],
        prediction_values=(wire.Value(value=row.value, label=label),),
        forecast_distance=window.distances[n],
        prediction=row.value,
        passthrough_values={name: column[window.rows[n]] for name, column in asked.passthrough.items()},
    )


def _csv(answer: Forecast, asked: Asked) -> Iterator[bytes]:
    settings = asked.deployment.settings
    rows = _rows(answer)
    first = [settings.series_id] if settings.series_id is not None else []
    head = [*first, "FORECAST_POINT", settings.date, "FORECAST_DISTANCE", f"{settings.target}_PREDICTION"]
    again = [name for name in asked.passthrough if name not in (*first, settings.date)]
    yield _lines([[*head, *again]])
    for part in _parts(rows):
        yield _lines([_cells(row, first, again, asked) for row in part])


def _cells(row: _Row, first: list[str], again: list[str], asked: Asked) -> list[str]:
    window, n = row.window, row.n
    cells = [window.series_id or ""] if first else []
    cells += [window.point, window.timestamps[n], str(window.distances[n]), repr(row.value)]
    return cells + [text_of(asked.passthrough[name][window.rows[n]]) for name in again]


def _lines(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _parts(rows: list[_Row]) -> Iterator[tuple[_Row, ...]]:
    left = iter(rows)
    while part := tuple(itertools.islice(left, ROWS_A_PART)):
        yield part


# -- what clients ask beside predictions ---


def version(call: Call, answer: object) -> Reply:
    """The version of the API: what a client checks before anything else."""
    major, minor = API
    body = wire.Version(
        version_string=f"{major}.{minor}.0", major=major, minor=minor, release_package=f"v{major}.{minor}"
    )
    return Reply(body=msgspec.json.encode(body))


def servers(call: Call, answer: object) -> Reply:
    """The one prediction server."""
    return _page(call, [_server(call)])


def deployments(call: Call, answer: object) -> Reply:
    """Every deployment."""
    return _page(call, [_deployment(call, one) for one in call.deployments.values()])


def deployment(call: Call, answer: object) -> Reply:
    """One deployment; its parse found it."""
    return Reply(body=msgspec.json.encode(_deployment(call, call.deployments[call.path_params["id"]])))


def _page(call: Call, every: list[wire.PredictionServer] | list[wire.Deployment]) -> Reply:
    asked = query.page(call)
    first, end = asked.offset, asked.offset + (asked.limit or len(every))
    data = every[first:end]
    body = wire.Page(
        count=len(data),
        next=_url(call, end, asked.limit) if end < len(every) else None,
        previous=_url(call, max(0, first - asked.limit), asked.limit) if first and asked.limit else None,
        data=data,
    )
    return Reply(body=msgspec.json.encode(body))


def _url(call: Call, offset: int, limit: int) -> str:
    """Where another page of the same list is."""
    kept = [(name, value) for name, value in call.query if name not in ("offset", "limit")]
    return f"{call.base_url}{call.path}?{urlencode([*kept, ('limit', limit), ('offset', offset)])}"


def _server(call: Call) -> wire.PredictionServer:
    return wire.PredictionServer(id=SERVER, url=call.base_url, key=SERVER)


def _deployment(call: Call, one: Deployment) -> wire.Deployment:
    settings = one.settings
    return wire.Deployment(
        id=one.id,
        label=one.label,
        description="",
        status="active",
        importance="LOW",
        model=wire.Model(
            id=settings.model,
            type=settings.model,
            target_name=settings.target,
            target_type="Binary" if settings.binary else "Regression",
        ),
        default_prediction_server=_server(call),
        url=call.base_url,
        key=SERVER,
        capabilities={"supportsTimeSeries": settings.time_series},
        date_column=settings.date,
        series_id_column=settings.series_id,
        known_in_advance=settings.known_in_advance,
        forecast_window_start=settings.window_start,
        forecast_window_end=settings.window_end,
    )


# -- errors ---


def error(call: Call, problem: GatewayError, status: int) -> Reply:
    """`{"message": ...}`: a sentence, or one a query argument; JSON whatever the caller accepts."""
    arguments = {str(f.loc[1]): f.msg for f in problem.faults if f.loc[:1] == (ARGUMENT,)}
    return Reply(status=status, body=msgspec.json.encode(wire.Message(message=arguments or problem.sentence)))
