"""Calls to requests: the deployment, the query, the table and its windows."""

from __future__ import annotations

from gateway.dialects.base import Call, Steps
from gateway.dialects.datarobot import errors, query, rows, times
from gateway.dialects.datarobot.query import Query
from gateway.dialects.datarobot.render import Asked
from gateway.dialects.datarobot.windows import Planner
from gateway.domain import Deployment, ForecastRequest, Parameters


def predictions(call: Call) -> Steps[ForecastRequest]:
    """The request of a call for predictions. Raises GatewayError with DataRobot's statuses and words."""
    deployment = found(call)
    settings = deployment.settings
    if settings.binary:
        raise errors.binary()
    if not settings.time_series:
        raise errors.not_time_series()
    asked = query.read(call)
    table = yield from rows.table(call, None if asked.every_column else _wanted(deployment, asked))
    needed = (settings.series_id,) if settings.series_id is not None else ()
    known = () if asked.relaxed else settings.known_in_advance
    table.require(settings.date, *needed, *known, *asked.passthrough)
    if settings.target not in table.columns:
        raise errors.no_output()  # nothing is known of any row
    stamps = yield from times.read(settings.date, table.columns[settings.date], settings.date_format)
    target = yield from table.numbers(settings.target)
    prepared = yield from Planner(deployment, asked, table, stamps, target).prepared()
    names = list(table.columns) if asked.every_column else asked.passthrough
    return ForecastRequest(
        model=settings.model,
        series=prepared.series,
        parameters=Parameters(prediction_length=prepared.horizon, frequency=prepared.frequency, quantile_levels=()),
        metadata=Asked(
            deployment=deployment,
            is_csv="text/csv" in call.headers.get("accept", "").lower(),
            passthrough={name: table.columns[name] for name in names},
        ),
    )


def found(call: Call) -> Deployment:
    """The deployment that a path names, or the only one where it names none. Raises NOT_FOUND."""
    name = call.path_params.get("id")
    if name is None and len(call.deployments) == 1:
        return next(iter(call.deployments.values()))
    if name is None or name not in call.deployments:
        raise errors.no_deployment(name or "without an id", call.caller.id)
    return call.deployments[name]


def deployment(call: Call) -> Steps[None]:
    """Nothing but that the deployment is there."""
    found(call)
    yield from ()


def nothing(call: Call) -> Steps[None]:
    """Nothing is asked."""
    yield from ()


def listed(call: Call) -> Steps[None]:
    """Nothing but that the page asked for can be read."""
    query.page(call)
    yield from ()


def _wanted(deployment: Deployment, asked: Query) -> tuple[str, ...]:
    """Columns that are read at all."""
    settings = deployment.settings
    series = () if settings.series_id is None else (settings.series_id,)
    return (settings.date, settings.target, *series, *settings.known_in_advance, *asked.passthrough)
