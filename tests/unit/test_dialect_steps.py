"""Large bodies of DataRobot, Nixtla and SageMaker are read in steps of about a window, as told by counting them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gateway.dialects import datarobot, nixtla, sagemaker
from gateway.dialects.base import Call, Operation, Steps
from gateway.dialects.canonical.slices import WINDOW
from gateway.domain import Deployment
from gateway.errors import Code, GatewayError
from gateway.http.problems import STATUS
from gateway.settings import DeploymentSettings

SERIES, ROWS = 200, 1000
VALUES = np.random.default_rng(0).normal(100, 20, SERIES * ROWS).round(3).tolist()
DAYS = (np.datetime64("2015-01-01") + np.arange(ROWS)).astype(str).tolist()
DEPLOYMENT = Deployment(id="d", settings=DeploymentSettings(target="y", date="t", series_id="s"))


def rows() -> list[dict[str, Any]]:
    numbers = [v if i % ROWS < ROWS - 3 else None for i, v in enumerate(VALUES)]
    return [{"t": DAYS[i % ROWS], "s": f"s{i // ROWS}", "y": v} for i, v in enumerate(numbers)]


def csv() -> str:
    return "t,s,y\n" + "".join(f"{r['t']},{r['s']},{'' if r['y'] is None else r['y']}\n" for r in rows())


def counted(steps: Steps[Any]) -> tuple[int, Any]:
    count = 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as done:
            return count, done.value


BODIES = {
    "nixtla": lambda: json.dumps({"series": {"y": VALUES, "sizes": [ROWS] * SERIES}, "h": 2}),
    "nixtla, features": lambda: json.dumps(
        {"series": {"y": VALUES, "sizes": [ROWS] * SERIES, "X": [VALUES], "X_future": [VALUES[:SERIES]]}, "h": 1}
    ),
    "sagemaker": lambda: json.dumps({"inputs": [{"target": VALUES[i::SERIES]} for i in range(SERIES)]}),
    "sagemaker, one series": lambda: json.dumps({"inputs": [{"target": VALUES}]}),
    "datarobot, csv": csv,
    "datarobot, json": lambda: json.dumps(rows()),
}
OPERATIONS: dict[str, Operation[Any, Any]] = {
    "nixtla": nixtla.DIALECT.operations[0],
    "sagemaker": sagemaker.DIALECT.operations[0],
    "datarobot": datarobot.DIALECT.operations[0],
}


@pytest.mark.parametrize("name", BODIES)
def test_a_large_body_is_read_in_many_steps(name: str) -> None:
    body = BODIES[name]().encode()
    call = Call(method="POST", path="/", path_params={"id": "d"}, body=body, deployments={"d": DEPLOYMENT})
    count, request = counted(OPERATIONS[name.partition(",")[0]].parse(call))
    assert count >= len(body) // (2 * WINDOW)
    cells = sum(np.isfinite(series.target).sum() for series in request.series)
    assert cells >= SERIES * (ROWS - 3)


KEPT = (
    Code.UNAUTHENTICATED,
    Code.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
    Code.INTERNAL,
)


@pytest.mark.parametrize("code", KEPT)
def test_errors_of_every_kind_keep_their_status_and_take_the_dialects_shape(code: Code) -> None:
    shapes = {
        "datarobot": {"message"},
        "nixtla": {"detail", "code", "requestID"},
        "sagemaker": {"code", "type", "message"},
    }
    problem = GatewayError(code, "Something was not to be.", retry_after_s=3.0)
    for name, keys in shapes.items():
        reply = OPERATIONS[name].render_error(Call(method="POST", path="/"), problem, STATUS[code])
        assert isinstance(reply.body, bytes)
        assert (reply.status, set(json.loads(reply.body))) == (STATUS[code], keys)
    endpoint = sagemaker.DIALECT.operations[1].render_error(Call(method="POST", path="/"), problem, STATUS[code])
    assert endpoint.status == STATUS[code]
    assert endpoint.headers["x-amzn-errortype"] != "ModelError"
