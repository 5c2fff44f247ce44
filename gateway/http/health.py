"""Whether the gateway lives, whether it is ready, and how it stands."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import psutil  # type: ignore[import-untyped]
from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.dialects.base import Documentation
from gateway.domain import GatewayStatus, ModelState
from gateway.engine import Engine, EngineSnapshot
from gateway.errors import Code, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.routing import Endpoint, RenderError
from gateway.jobs import Jobs
from gateway.service import ForecastService

JSON = "application/json"


@dataclass(slots=True)
class Readiness:
    """Ready once the default model has answered a forecast; until then, why not."""

    ready: bool = False
    reason: str = "The gateway is starting."
    since: float = field(default_factory=time.time)


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct, frozen=True):
    """Forecasts are served."""

    status: Literal["ready"] = "ready"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Alive, and whether ready."""

    status: Literal["ok"] = "ok"
    ready: bool
    reason: str
    version: str


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Resident bytes."""

    gateway_bytes: int
    workers_bytes: int


class ModelStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How one model stands."""

    id: str
    status: ModelState
    reason: str
    memory_bytes: int | None
    pinned: bool


class JobWorker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker that takes chunks of jobs."""

    name: str
    host: str
    pid: int
    slots: int
    busy: int
    embedded: bool  # in a gateway's process, on its engine


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole gateway at a glance."""

    version: str
    ready: bool
    reason: str
    uptime_s: float
    memory: Memory
    engine: EngineSnapshot
    job_workers: tuple[JobWorker, ...]  # on every machine that shares the Redis; none where it is away
    models: tuple[ModelStanding, ...]


class Probes:
    """Endpoints for people and machines that watch the gateway."""

    def __init__(self, service: ForecastService, engine: Engine, readiness: Readiness, jobs: Jobs) -> None:
        self._service = service
        self._jobs = jobs
        self._engine = engine
        self._readiness = readiness

    def standing(self) -> GatewayStatus:
        """How the gateway stands now, for wire formats with probes of their own."""
        return GatewayStatus(
            ready=self._readiness.ready,
            reason=self._readiness.reason,
            version=__version__,
            default_model=self._service.default_card().id,
            device=self._engine.device,
            time=time.time(),
        )

    async def live(self, request: Request) -> Response:
        return _json(Alive())

    async def ready(self, request: Request) -> Response:
        if not self._readiness.ready:
            raise GatewayError(Code.UNAVAILABLE, self._readiness.reason, retry_after_s=1.0)
        return _json(Ready())

    async def health(self, request: Request) -> Response:
        return _json(Health(ready=self._readiness.ready, reason=self._readiness.reason, version=__version__))

    async def status(self, request: Request) -> Response:
        snapshot = self._engine.snapshot()
        models = self._service.models(exchanges.of(request.scope).caller)
        return _json(
            SystemStatus(
                version=__version__,
                ready=self._readiness.ready,
                reason=self._readiness.reason,
                uptime_s=round(time.time() - self._readiness.since, 3),
                memory=Memory(
                    gateway_bytes=psutil.Process(os.getpid()).memory_info().rss,
                    workers_bytes=sum(w.rss_bytes for w in snapshot.workers),
                ),
                engine=snapshot,
                job_workers=await self._job_workers(),
                models=tuple(
                    ModelStanding(
                        id=m.card.id,
                        status=m.status.state,
                        reason=m.status.reason,
                        memory_bytes=m.status.memory_bytes,
                        pinned=m.status.pinned,
                    )
                    for m in models
                ),
            )
        )

    async def _job_workers(self) -> tuple[JobWorker, ...]:
        try:
            beats = await self._jobs.workers()
        except GatewayError:  # jobs are away, and the rest stands
            return ()
        return tuple(
            JobWorker(name=b.name, host=b.host, pid=b.pid, slots=b.slots, busy=b.busy, embedded=b.embedded)
            for b in beats
        )


def endpoints(probes: Probes, render_error: RenderError) -> list[Endpoint]:
    """The list of this module's endpoints."""
    found = (
        ("/livez", probes.live, Alive, "Whether the process answers", ()),
        ("/readyz", probes.ready, Ready, "Whether the default model has answered a forecast", (Code.UNAVAILABLE,)),
        ("/healthz", probes.health, Health, "Alive, and whether ready", ()),
        ("/api/system/status", probes.status, SystemStatus, "Version, queue, workers, models and memory", ()),
    )
    return [
        Endpoint(
            method="GET",
            path=path,
            respond=respond,
            render_error=render_error,
            role="caller" if path.startswith("/api/") else "public",
            counted=False,
            documentation=Documentation(summary=summary, tag="system", response=response, codes=codes),
        )
        for path, respond, response, summary, codes in found
    ]


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)
