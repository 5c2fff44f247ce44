"""A model as callers see it: its card, and how it stands on this machine."""

from __future__ import annotations

from typing import Literal

import msgspec

from catalog import ModelCard

ModelState = Literal["ready", "loading", "loadable", "unavailable"]


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a model stands on this machine."""

    state: ModelState
    reason: str = ""
    retry_after_s: float | None = None
    memory_bytes: int | None = None
    pinned: bool = False


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A card and how the model stands on this machine."""

    card: ModelCard
    aliases: tuple[str, ...]
    status: ModelStatus


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway itself stands."""

    ready: bool  # the default model has answered a forecast
    reason: str  # why it is not ready
    version: str
    default_model: str  # catalog id
    device: str  # that neural models run on
    time: float  # now, in unix seconds
