"""DataRobot's prediction API: time series predictions for deployments, and what its clients ask before.

A deployment says which columns of a table are what, and which model forecasts them; it stands in the settings or in
the database (`forecast-gateway deployments add`). Rows with an empty target behind the forecast point are predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.dialects.base import Call, Dialect, Documentation, Kind, Operation, Reply, Steps
from gateway.dialects.datarobot import parse, render
from gateway.dialects.datarobot.examples import ODD, PREDICTIONS
from gateway.dialects.guide import Example, Guide

# Where predictions are asked for: of a dedicated server, of the platform, and of a portable server.
_PREDICTIONS = (
    "/predApi/v1.0/deployments/{id}/predictions",
    "/deployments/{id}/predictions",
    "/api/v2/deployments/{id}/predictions",
    "/predApi/v1.0/predictions",
    "/predictions",
)


def _predictions(path: str, examples: tuple[Example, ...] = ()) -> Operation[Any, Any]:
    return Operation(
        method="POST",
        path=path,
        kind=Kind.FORECAST,
        parse=parse.predictions,
        render=render.predictions,
        render_error=render.error,
        documentation=Documentation(summary="Predict the rows without a target", examples=examples, listed=False),
    )


def _reading(
    path: str, parses: Callable[[Call], Steps[None]], renders: Callable[[Call, object], Reply], summary: str
) -> tuple[Operation[Any, Any], ...]:
    """A path as the client calls it, with a slash at its end, and as the reference prints it, without."""
    documentation = Documentation(summary=summary, listed=False)
    return tuple(
        Operation(
            method="GET",
            path=form,
            kind=Kind.STATUS,
            parse=parses,
            render=renders,
            render_error=render.error,
            documentation=shown,
        )
        for form, shown in ((path, documentation), (path.rstrip("/"), None))
    )


DIALECT = Dialect(
    name="datarobot",
    operations=(
        *(_predictions(path, PREDICTIONS if i == 0 else ()) for i, path in enumerate(_PREDICTIONS)),
        *_reading("/api/v2/version/", parse.nothing, render.version, "What dr.Client asks first"),
        *_reading("/api/v2/deployments/", parse.listed, render.deployments, "Every deployment"),
        *_reading("/api/v2/deployments/{id}/", parse.deployment, render.deployment, "One deployment"),
        *_reading("/api/v2/modelDeployments/{id}/", parse.deployment, render.deployment, "The same"),
        *_reading("/api/v2/predictionServers/", parse.listed, render.servers, "Where predictions are made: here"),
    ),
    guide=Guide(
        title="DataRobot",
        summary="DataRobot's prediction API for time series deployments: rows in as JSON, CSV or a file of a form, "
        "predicted rows out as JSON or CSV; and what `datarobot` and `datarobot-predict` ask before.",
        moving=(
            "Declare a deployment under the id that your callers name, in the settings (`[deployments.<id>]`) or while "
            "the gateway runs: `forecast-gateway deployments add ID --target sales --date date`. It says which columns "
            "are the date, the target, the series id and those known in advance, how far the forecast window goes, how "
            "much history is needed, and which model forecasts.",
            'Change the URL: `dr.Client(endpoint="http://127.0.0.1:8000/api/v2", token="...")`, or the prediction '
            "server of your own requests. `datarobot_predict.deployment.predict` works as it is.",
            "Where keys are in use, send one as `Authorization: Bearer <key>`, `Token <key>` or "
            "`Basic <base64 of user:key>`. A `datarobot-key` is taken and not looked at.",
        ),
        supported=(
            "`forecastPoint` with or without an offset; between rows it is the row before, and absent the last row "
            "with "
            "a target.",
            "`predictionsStartDate` and `predictionsEndDate`: every row from the one to before the other is predicted "
            "from every forecast point whose window reaches it.",
            "`relaxKnownInAdvanceFeaturesCheck`, `passthroughColumns`, `passthroughColumnsSet=all`, "
            "`maxExplanations=0`.",
            "Several series by a series-id column; rows in any order; gaps are missing values.",
            "Dates in ISO 8601 or in the deployment's `date_format`; without one, as the first row is written, months "
            "before days where both could be.",
            "Every row of the error table of DataRobot's reference, with its status and its words.",
        ),
        unsupported=(
            "Prediction explanations (`maxExplanations` over 0 is 422), binary classification (422), unstructured "
            "models.",
            "Of all columns the model sees the target and those known in advance.",
            "Predictions are the model's point forecasts; the platform's monitoring, humility rules and challengers "
            "are not here.",
        ),
        odd=ODD,
    ),
)
