"""The models: lists, cards with how they stand on this machine, and the operators' hand on what is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from catalog import Covariates, Licence, Sampling
from gateway.dialects.base import Documentation
from gateway.domain import Caller, ModelInfo, ModelState
from gateway.errors import Code, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.routing import Endpoint, Parameter, RenderError
from gateway.service import ForecastService

JSON = "application/json"


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A model: what its card promises, and how it stands on this machine."""

    id: str
    object: Literal["model"] = "model"
    owned_by: str  # the provider, under the name that clients of model lists know
    aliases: tuple[str, ...]
    title: str
    family: str
    summary: str
    provider: str
    revision: str
    licence: Licence
    parameters: int | None
    max_context: int
    max_horizon: int
    native_horizon: int | None
    joint_steps: bool
    quantile_levels: tuple[float, ...]
    default_quantile_levels: tuple[float, ...]
    tails: Literal["native", "normal", "refuse"]
    point: Literal["mean", "median"]
    multivariate: bool
    max_channels: int
    channel_names: tuple[str, ...]
    required_channels: tuple[str, ...]
    calendar_features: bool
    covariates: Covariates
    missing_values: Literal["native", "interpolated", "refused"]
    missing_values_note: str
    sampling: Sampling
    cross_learning: bool
    capabilities: tuple[str, ...]
    status: ModelState
    status_reason: str
    retry_after_s: float | None
    memory_bytes: int | None
    pinned: bool


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Models, in the catalog's order."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]


class ModelListWithIds(msgspec.Struct, frozen=True, kw_only=True):
    """Models, and their ids once more for clients that read `models`."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]
    models: tuple[str, ...]


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `GET /api/models` can be narrowed by; a model must meet all that are sent."""

    family: str | None = None
    capability: str | None = None
    max_context: Annotated[int, Meta(ge=1)] | None = None
    status: ModelState | None = None

    def admit(self, model: Model) -> bool:
        return (
            (self.family is None or model.family == self.family)
            and (self.capability is None or self.capability in model.capabilities)
            and (self.max_context is None or model.max_context >= self.max_context)
            and (self.status is None or model.status == self.status)
        )


FILTERS = (
    Parameter(name="family", place="query", description="The model's family, such as `chronos-bolt`."),
    Parameter(name="capability", place="query", description="A word of `capabilities`, such as `multivariate`."),
    Parameter(
        name="max_context", place="query", type=Annotated[int, Meta(ge=1)], description="The context needed, at least."
    ),
    Parameter(name="status", place="query", type=ModelState, description="How the model stands on this machine."),
)
MODEL_ID = Parameter(name="id", place="path", description="An id or alias; its slash may be sent raw or as `%2F`.")


def model_of(info: ModelInfo) -> Model:
    """The wire's view of a model."""
    card, status = info.card, info.status
    shared = {name: getattr(card, name) for name in Model.__struct_fields__ if hasattr(card, name)}
    return Model(
        **{**shared, "aliases": info.aliases},
        owned_by=card.provider,
        status=status.state,
        status_reason=status.reason,
        retry_after_s=status.retry_after_s,
        memory_bytes=status.memory_bytes,
        pinned=status.pinned,
    )


class Models:
    """Endpoints over the service's models."""

    def __init__(self, service: ForecastService) -> None:
        self._service = service

    async def list_with_ids(self, request: Request) -> Response:
        models = self._all(_caller(request))
        return _json(ModelListWithIds(data=models, models=tuple(m.id for m in models)))

    async def list_filtered(self, request: Request) -> Response:
        filters = _filters(request)
        models = self._all(_caller(request))
        return _json(ModelList(data=tuple(m for m in models if filters.admit(m))))

    async def read(self, request: Request) -> Response:
        return self._one(request, self._service.model(_name(request), _caller(request)))

    async def load(self, request: Request) -> Response:
        return self._one(request, await self._service.load_model(_name(request), _caller(request)))

    async def unload(self, request: Request) -> Response:
        return self._one(request, await self._service.unload_model(_name(request), _caller(request)))

    async def pin(self, request: Request) -> Response:
        return self._one(request, self._service.pin_model(_name(request), True, _caller(request)))

    async def unpin(self, request: Request) -> Response:
        return self._one(request, self._service.pin_model(_name(request), False, _caller(request)))

    def _all(self, caller: Caller) -> tuple[Model, ...]:
        return tuple(model_of(info) for info in self._service.models(caller))

    def _one(self, request: Request, info: ModelInfo) -> Response:
        exchanges.of(request.scope).model = info.card.id
        return _json(model_of(info))


def endpoints(models: Models, render_error: RenderError) -> list[Endpoint]:
    """The list of this module's endpoints; actions stand before the card, whose id may hold slashes."""

    def action(name: str, respond: Callable[[Request], Awaitable[Response]], summary: str) -> Endpoint:
        return Endpoint(
            method="POST",
            path=f"/api/models/{{id:path}}/{name}",
            respond=respond,
            render_error=render_error,
            role="operator",
            parameters=(MODEL_ID,),
            documentation=Documentation(summary=summary, tag="operators", response=Model),
        )

    def reading(
        path: str,
        respond: Callable[[Request], Awaitable[Response]],
        response: type,
        summary: str,
        *parameters: Parameter,
    ) -> Endpoint:
        return Endpoint(
            method="GET",
            path=path,
            respond=respond,
            render_error=render_error,
            parameters=parameters,
            documentation=Documentation(summary=summary, tag="models", response=response),
        )

    return [
        reading("/v1/models", models.list_with_ids, ModelListWithIds, "Every model, with ids"),
        reading("/api/models", models.list_filtered, ModelList, "Every model that meets the filters", *FILTERS),
        action("load", models.load, "Load a model now"),
        action("unload", models.unload, "Drop a model from memory"),
        action("pin", models.pin, "Keep a model from eviction"),
        action("unpin", models.unpin, "Let a model be evicted again"),
        reading("/api/models/{id:path}", models.read, Model, "One model's card and status", MODEL_ID),
    ]


def _caller(request: Request) -> Caller:
    return exchanges.of(request.scope).caller


def _name(request: Request) -> str:
    name: str = request.path_params["id"]
    return name


def _filters(request: Request) -> Filters:
    """The filters of a query; INVALID_ARGUMENT for one that does not exist or cannot be."""
    sent = dict(request.query_params)
    for name in sent:
        if name not in Filters.__struct_fields__:
            near = difflib.get_close_matches(name, Filters.__struct_fields__, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(Filters.__struct_fields__)}"
            raise GatewayError(Code.INVALID_ARGUMENT, f"There is no filter {name[:64]!r}; {hint}")
    try:
        return msgspec.convert(sent, Filters, strict=False)
    except msgspec.ValidationError as exc:
        raise GatewayError(Code.INVALID_ARGUMENT, f"A filter cannot be read: {exc}") from None


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)
