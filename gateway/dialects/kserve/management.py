"""KServe's health and model routes, of its V1 and V2 protocols."""

from __future__ import annotations

import msgspec

from gateway.dialects.base import Call, Reply, Steps
from gateway.dialects.kserve.types import LiveBody, ModelBody, ModelReadyBody, ReadyBody, ServerBody
from gateway.domain import GatewayStatus, ModelInfo
from gateway.errors import Code, GatewayError

# A model that is not in memory yet answers: the first forecast loads it. A client that waits for readiness before its
# first forecast would wait for ever otherwise.
ANSWERING = ("ready", "loadable")


def nothing(call: Call) -> Steps[None]:
    yield from ()


def model_name(call: Call) -> Steps[str]:
    yield from ()
    return call.path_params["id"]


def live(call: Call, status: GatewayStatus) -> Reply:
    return _reply(LiveBody(live=True))


def ready(call: Call, status: GatewayStatus) -> Reply:
    if not status.ready:
        raise GatewayError(Code.UNAVAILABLE, f"Server is not ready: {status.reason}", retry_after_s=1.0)
    return _reply(ReadyBody(ready=True))


def server(call: Call, status: GatewayStatus) -> Reply:
    return _reply(ServerBody(name="forecast-gateway", version=status.version, extensions=[]))


def model_ready(call: Call, model: ModelInfo) -> Reply:
    """Whether a forecast of the model would be answered; raises UNAVAILABLE, as the reference server does."""
    name = call.path_params["id"]
    if model.status.state not in ANSWERING:
        sentence = f"Model with name {name} is not ready."
        raise GatewayError(Code.UNAVAILABLE, sentence, retry_after_s=model.status.retry_after_s)
    return _reply(ModelReadyBody(name=name, ready=True))


def model(call: Call, model: ModelInfo) -> Reply:
    return _reply(ModelBody(name=call.path_params["id"], platform="", inputs=[], outputs=[]))


def names(call: Call, models: tuple[ModelInfo, ...]) -> Reply:
    """The bare list of the time-series API."""
    return Reply(body=msgspec.json.encode([m.card.id for m in models]))


def _reply(body: msgspec.Struct) -> Reply:
    return Reply(body=msgspec.json.encode(body))
