"""How many levels a call may name."""

from __future__ import annotations

import json

import pytest

from gateway.dialects.base import Call
from gateway.dialects.nixtla import parse
from gateway.domain import ForecastRequest
from gateway.errors import GatewayError
from gateway.pacing import at_once


def forecast(levels: list[float]) -> ForecastRequest:
    body = {"series": {"y": [1, 2, 3, 4], "sizes": [4]}, "h": 1, "level": levels}
    headers = {"content-type": "application/json"}
    return at_once(
        parse.forecast(Call(method="POST", path="/v2/forecast", headers=headers, body=json.dumps(body).encode()))
    )


@pytest.mark.parametrize(("levels", "quantiles"), [([80] * 120, 2), ([0, *range(2, 100, 2)], 99)])
def test_levels_are_counted_once(levels: list[float], quantiles: int) -> None:
    assert len(forecast(levels).parameters.quantile_levels) == quantiles


@pytest.mark.parametrize("levels", [list(range(50, 100)), [80] * 1001])
def test_too_many_levels_are_refused(levels: list[float]) -> None:
    with pytest.raises(GatewayError, match="level"):
        forecast(levels)
