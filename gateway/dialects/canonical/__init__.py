"""The canonical contract: `POST /v1/forecast`.

`decode` and `render` are its two directions; `types` are its bodies. Another operation of the contract is one more
module that reads `series` and `parameters` and one more line here.
"""

from __future__ import annotations

from gateway.dialects.base import Documentation, Kind, Operation
from gateway.dialects.canonical import decode, render
from gateway.dialects.canonical.examples import FORECAST
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.types import ErrorBody, ForecastBody, ForecastRequestBody
from gateway.domain import Forecast, ForecastPlan, ForecastRequest

OPERATIONS: tuple[Operation[ForecastRequest, Forecast | ForecastPlan], ...] = (
    Operation(
        method="POST",
        path="/v1/forecast",
        kind=Kind.FORECAST,
        parse=decode.forecast,
        render=render.forecast,
        render_error=render.error,
        documentation=Documentation(
            summary="Forecast one or more series",
            description="Each series is forecast on its own and may fail on its own. Faults of the body are told "
            "with their places, all at once. `parameters.dry_run` answers what would be done.",
            request=ForecastRequestBody,
            response=ForecastBody,
            error=ErrorBody,
            media_types=tuple(f.value for f in Format),
            examples=FORECAST,
        ),
    ),
)
