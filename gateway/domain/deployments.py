"""Deployments: tables of a known layout, and the model that forecasts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.settings import DeploymentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One deployment, by the id that its callers name."""

    id: str
    settings: DeploymentSettings
    origin: Literal["file", "database"] = "file"

    @property
    def label(self) -> str:
        """What people call it."""
        return self.settings.label or self.id
