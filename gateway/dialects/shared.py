"""Paths that more than one wire format has, each with the one answer that serves them all.

A path that two dialects share stands here and in neither of them; a test fails on any other clash. The paths below are
served while at least one of their dialects is. `GET /` and `GET /v1/models` are shared too, but with the gateway's own
pages and lists, which answer them for everyone: `http/pages.py` and `http/models.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.dialects.base import Call, Documentation, Kind, Operation, Reply, Steps
from gateway.dialects.kserve import render
from gateway.dialects.kserve.types import SentenceBody
from gateway.domain import ModelInfo

NIXTLA_CLIENT = "nixtla-client-version"  # the header by which that client is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One path and the dialects that have it."""

    operation: Operation[Any, Any]
    dialects: frozenset[str]


class NixtlaModel(msgspec.Struct, frozen=True):
    """A model as Nixtla's client lists it."""

    name: str


class Names(msgspec.Struct, frozen=True):
    """The models: as objects for Nixtla's client, as names for KServe's."""

    models: list[str | NixtlaModel]


def _nothing(call: Call) -> Steps[None]:
    yield from ()


def _names(call: Call, models: tuple[ModelInfo, ...]) -> Reply:
    """The models for whoever asks: Nixtla's client says who it is, everyone else is KServe's."""
    ids = [m.card.id for m in models]
    body = Names([NixtlaModel(i) if NIXTLA_CLIENT in call.headers else i for i in ids])
    return Reply(body=msgspec.json.encode(body), headers={"vary": NIXTLA_CLIENT})


SHARED: tuple[Shared, ...] = (
    Shared(
        operation=Operation(
            method="GET",
            path="/v2/models",
            kind=Kind.MODELS,
            parse=_nothing,
            render=_names,
            render_error=render.sentence,
            documentation=Documentation(
                summary="Names of all models, for KServe's clients and Nixtla's",
                description=f"With the header `{NIXTLA_CLIENT}`, each name is an object.",
                tag="kserve",
                response=Names,
                error=SentenceBody,
            ),
        ),
        dialects=frozenset({"kserve", "nixtla"}),
    ),
)


def operations(enabled: Collection[str], table: tuple[Shared, ...] = SHARED) -> tuple[Operation[Any, Any], ...]:
    """The shared paths that one of the dialects `enabled` has."""
    return tuple(shared.operation for shared in table if not shared.dialects.isdisjoint(enabled))
