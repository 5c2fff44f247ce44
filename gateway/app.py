"""The one place that wires the parts together.

An application is a value built from plain lists: endpoints, middleware and a lifespan. Nothing here imports a model
library; those live in the engine's worker processes.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import math
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from catalog import Catalog, load_cards, merged
from catalog.card import CARDS
from gateway import __version__, tracing
from gateway.access import pepper
from gateway.deployments import Deployments, StoredDeployments
from gateway.dialects import canonical, chronos2_server, datarobot, kronos_space, kserve, nixtla, sagemaker, shared
from gateway.dialects.base import Dialect, Kind, Operation
from gateway.dialects.canonical import examples
from gateway.dialects.canonical.render import error as render_error
from gateway.dialects.canonical.types import ErrorBody
from gateway.domain import Caller, ForecastRequest, Parameters, SeriesInput
from gateway.engine import Engine
from gateway.errors import Code, GatewayError
from gateway.http import account, dialect_pages, gradio, health, job_routes, models, openapi, operations, pages, usage
from gateway.http.account import Account
from gateway.http.accounts import Accounts, open_accounts
from gateway.http.application import Application
from gateway.http.compression import CompressionMiddleware
from gateway.http.consumption import consumption_by
from gateway.http.exchange import Exchange
from gateway.http.health import Probes, Readiness
from gateway.http.idempotency import AnswersInMemory, Entry, Promise
from gateway.http.jobs import JobEndpoints, deferrable
from gateway.http.metrics import Metrics
from gateway.http.middleware import ExchangeMiddleware, settle
from gateway.http.models import Models
from gateway.http.protocol import BoundedProtocol
from gateway.http.routing import Endpoint, routes
from gateway.http.uploads import Bounds
from gateway.http.usage import UsageEndpoints
from gateway.jobs import JobPool
from gateway.jobs.webhooks import Webhooks
from gateway.logs import configure_logging
from gateway.market_data import MarketData
from gateway.service import ForecastCache, ForecastService
from gateway.settings import DialectSettings, EngineSettings, Resolved, ServerSettings, Settings, SettingsError
from gateway.store import ForecastStore
from gateway.web import pages as web_pages
from gateway.web import reading

DEFAULT_MODEL = "forecast-gateway/bolt-nano"  # of a gateway whose operator names none: the best of those in the package

# The wire formats of other systems, each on as long as the settings do not say otherwise.
DIALECTS: tuple[Dialect, ...] = (
    kserve.DIALECT,
    chronos2_server.DIALECT,
    datarobot.DIALECT,
    nixtla.DIALECT,
    sagemaker.DIALECT,
    kronos_space.DIALECT,
)

KEEP_ALIVE_S = 75  # longer than load balancers keep an idle connection, so that they close it and not we
RETRY_S = 5.0  # between two attempts to have the default model answer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a gateway is made of, on any wire or none."""

    settings: Settings
    catalog: Catalog
    metrics: Metrics
    engine: Engine
    service: ForecastService
    forecasts: ForecastStore | None  # that gateways share
    deployments: Deployments
    pool: JobPool
    webhooks: Webhooks


def catalog_of(settings: Settings) -> Catalog:
    """The packaged cards with the operator's tables, aliases and default over them; `default` is an alias too."""
    cards = merged(load_cards(CARDS), settings.models)
    default = settings.engine.default_model or DEFAULT_MODEL
    return Catalog(cards, {"default": default, **settings.aliases}, default)


def build(resolved: Resolved) -> Parts:
    """Make the parts; nothing runs before `engine.start`."""
    settings = resolved.settings
    catalog = catalog_of(settings)
    metrics = Metrics()
    engine = Engine(catalog, settings.engine, metrics)
    forecasts = _shared(settings.engine, metrics)
    service = ForecastService(catalog, engine, cache=_cache(settings.engine, forecasts, metrics))
    pool = JobPool(service, catalog, settings, ensembles=True, embedded=True, forecasts=forecasts)
    return Parts(
        settings=settings,
        catalog=catalog,
        metrics=metrics,
        engine=engine,
        service=service,
        forecasts=forecasts,
        deployments=Deployments(settings.deployments),
        pool=pool,
        webhooks=Webhooks(
            pool.jobs,
            lambda: pepper.read(settings.server.data_dir, settings.server.key_pepper),
            allow_private=settings.jobs.webhook_allow_private,
        ),
    )


def _cache(engine: EngineSettings, shared: ForecastStore | None, metrics: Metrics) -> ForecastCache | None:
    return ForecastCache(engine.cache_mb << 20, shared, metrics) if engine.cache_mb else None


def _shared(engine: EngineSettings, metrics: Metrics) -> ForecastStore | None:
    if not engine.cache_shared_s:
        return None
    if not engine.cache_mb:
        raise SettingsError("cache_shared_s: forecasts that are shared are kept here too, so it needs cache_mb.")
    return ForecastStore(lives_s=engine.cache_shared_s, max_bytes=engine.cache_mb << 20, observer=metrics)


def create_app(resolved: Resolved) -> Starlette:
    """The gateway as an ASGI application, with an engine of its own that runs as long as its lifespan."""
    return assemble(build(resolved))


def assemble(parts: Parts) -> Starlette:
    """The application over parts that were made already. Opens the database of the installation."""
    readiness = Readiness()
    accounts = open_accounts(parts.settings, parts.metrics)
    _check_address(parts.settings.server, accounts)
    parts.pool.account(accounts)
    app = Application(
        routes=routes(_endpoints(parts, accounts, readiness), accounts.access, render_error),
        middleware=_middleware(parts.metrics, accounts, parts.settings.server),
        lifespan=_lifespan(parts, accounts, readiness),
    )
    app.router.redirect_slashes = False  # a POST that is redirected arrives as something else
    return app


def _endpoints(parts: Parts, accounts: Accounts, readiness: Readiness) -> list[Endpoint]:
    """Everything that is served, the busiest first."""
    server = parts.settings.server
    dialects = enabled(parts.settings.dialects)
    probes = Probes(parts.service, parts.engine, readiness, parts.pool.jobs)
    consumption = consumption_by(accounts.database, accounts.ledger)
    calls = operations.handlers(parts.service, probes.standing, parts.pool.jobs.backtest, accounts.charge, consumption)
    space = _space(parts, accounts, calls[Kind.FORECAST])
    calls |= space.handlers()
    theirs = operations_of(dialects)
    later = _job_endpoints(parts, accounts)
    at_once = operations.endpoints(canonical.OPERATIONS, calls, server)
    memory = AnswersInMemory()
    promise = Promise(lambda: parts.pool.jobs.kept(Entry) or memory, server)
    described = [
        *(deferrable(operation, e, later) for operation, e in zip(canonical.OPERATIONS, at_once, strict=True)),
        *operations.endpoints([o for o in theirs if o.kind is not Kind.WATCH], calls, server, parts.deployments.all),
        *gradio.endpoints([o for o in theirs if o.kind is Kind.WATCH], space),
        *health.endpoints(probes, render_error),
        *models.endpoints(Models(parts.service), render_error),
        *usage.endpoints(_usage(parts.settings, accounts), render_error),
        parts.metrics.endpoint(render_error),
    ]
    described = [
        *map(promise.over, described),
        *job_routes.endpoints(later, render_error, examples.JOBS),
        # their answers hold keys, which are kept nowhere, not even for a repeated call
        *account.endpoints(Account(accounts.ring, accounts.sessions, accounts.access), render_error),
    ]
    return [
        *described,
        *openapi.endpoints(described, ErrorBody, render_error),
        *pages.endpoints(parts.service.default_card().id, render_error),
        *dialect_pages.endpoints(dialects, render_error),
        *web_pages.endpoints(render_error),
        *reading.endpoints(render_error),
    ]


def _job_endpoints(parts: Parts, accounts: Accounts) -> JobEndpoints:
    server, bounds = parts.settings.server, parts.settings.jobs
    return JobEndpoints(
        jobs=parts.pool.jobs,
        operations=canonical.JOBS,
        server=server,
        bounds=Bounds(max_bytes=bounds.max_upload_bytes, timeout_s=bounds.upload_timeout_s),
        uploads_dir=Path(server.data_dir).expanduser() / "uploads",
        webhooks=parts.webhooks,
        service=parts.service,
        accounts=accounts,
    )


def _space(parts: Parts, accounts: Accounts, forecast: operations.Handler) -> gradio.Space:
    """The functions of the Kronos space, whose events are requests of their own."""

    def over(exchange: Exchange) -> None:
        settle(exchange, parts.metrics)
        accounts.request_over(exchange)

    chosen = parts.settings.dialects.candle_model
    if chosen and parts.catalog.get(chosen) is None:
        raise SettingsError(f"candle_model: there is no model {chosen!r} in the catalog.")
    return gradio.Space(parts.service, forecast, MarketData(parts.settings.market_data), over, model=chosen)


def _usage(settings: Settings, accounts: Accounts) -> UsageEndpoints:
    return UsageEndpoints(
        accounts.database, accounts.ledger, accounts.ring.keys, ledger_days=settings.ledger.ledger_days
    )


def enabled(settings: DialectSettings) -> tuple[Dialect, ...]:
    """The dialects that are served. Raises SettingsError for a name that none has."""
    names = [dialect.name for dialect in DIALECTS]
    for name in settings.disabled_dialects:
        if name not in names:
            raise SettingsError(f"disabled_dialects: there is no {name!r}; known: {', '.join(names)}")
    return tuple(dialect for dialect in DIALECTS if dialect.name not in settings.disabled_dialects)


def operations_of(dialects: Sequence[Dialect]) -> tuple[Operation[Any, Any], ...]:
    """Every path of `dialects`, those that they share once."""
    own = [operation for dialect in dialects for operation in dialect.operations]
    return (*shared.operations([dialect.name for dialect in dialects]), *own)


def _middleware(metrics: Metrics, accounts: Accounts, server: ServerSettings) -> list[Middleware]:
    """The layers around every endpoint, the outermost first."""
    layers = [
        Middleware(ExchangeMiddleware, metrics=metrics, render_error=render_error, when_over=accounts.request_over)
    ]
    if server.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=server.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=[
                    "x-request-id",
                    "server-timing",
                    "location",
                    "idempotency-replayed",
                    "retry-after",
                    "ratelimit-limit",
                    "ratelimit-remaining",
                    "ratelimit-reset",
                ],
            )
        )
    layers.append(Middleware(CompressionMiddleware))
    return layers


# -- lifespan ---


def _lifespan(
    parts: Parts, accounts: Accounts, readiness: Readiness
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with accounts.running():
            await parts.engine.start()
            parts.pool.start()
            beside = [
                asyncio.create_task(_prove(parts.service, readiness)),
                asyncio.create_task(parts.deployments.watch(StoredDeployments(accounts.database))),
                asyncio.create_task(parts.webhooks.run()),
            ]
            try:
                yield
            finally:
                readiness.ready, readiness.reason = False, "The gateway is stopping."
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                await parts.pool.stop(parts.settings.server.shutdown_grace_s / 2)
                await parts.engine.stop(parts.settings.server.shutdown_grace_s)

    return lifespan


async def _prove(service: ForecastService, readiness: Readiness) -> None:
    """Load the default model and have it answer one forecast, however often that takes."""
    card = service.default_card()
    prober = Caller(id=f"readiness.{secrets.token_hex(8)}")  # nobody else's kept forecast answers for the engine here
    request = ForecastRequest(
        model=card.id,
        series=(SeriesInput(target=np.arange(8.0).reshape(8, 1)),),
        parameters=Parameters(prediction_length=1),
    )
    while True:
        try:
            readiness.reason = f"{card.id} is loading."
            await service.load_model(card.id, prober)
            readiness.reason = f"{card.id} has not answered its first forecast yet."
            deadline = asyncio.get_running_loop().time() + RETRY_S * 12
            await service.forecast(request, caller=prober, deadline=deadline)
        except GatewayError as error:
            readiness.reason = error.sentence
            log.warning("default_model_not_ready", model=card.id, reason=error.sentence)
            await asyncio.sleep(error.retry_after_s or RETRY_S)
        else:
            readiness.ready, readiness.reason = True, ""
            log.info("ready", model=card.id)
            return


# -- serving ---


def serve(resolved: Resolved) -> None:
    """Serve until SIGINT or SIGTERM, then finish what was accepted. Raises GatewayError where the address is taken."""
    server = resolved.settings.server
    configure_logging(server.log_level, server.log_format)
    if server.otlp_endpoint:
        tracing.configure(server.otlp_endpoint, __version__)
    _make_folder(server.data_dir)
    listener = _listen(server.host, server.port)
    app = create_app(resolved)
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(server.shutdown_grace_s),
    )
    _announce(server, listener)
    _settle_garbage()
    # uvicorn raises the signal again when it has stopped in good order; SIGTERM has done its work by then.
    signal.signal(signal.SIGTERM, lambda *_: None)
    http = uvicorn.Server(config)
    app.state.stopping = lambda: http.should_exit
    http.run(sockets=[listener])
    tracing.shutdown()
    log.info("stopped")


def _settle_garbage() -> None:
    """Have the collector look rarely, and only at what requests leave: at its usual pace it takes 5% of a busy core.

    What is there now stays: without that, every collection that a large body sets off would walk all modules (80 ms).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; bound before anything else starts, so that a taken port fails at once and says so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        sentence = f"Cannot listen on {host}:{port}: {reason}. Choose another with --host and --port."
        raise GatewayError(Code.UNAVAILABLE, sentence) from None


def _make_folder(data_dir: str) -> None:
    """Make the data folder; one that cannot be used is said at once, not when something is first kept."""
    folder = Path(data_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        sentence = f"The data folder {folder} cannot be used: {exc.strerror}. Choose another with --data-dir."
        raise GatewayError(Code.UNAVAILABLE, sentence) from None


def _announce(server: ServerSettings, listener: socket.socket) -> None:
    """Tell a person where the gateway is, with a line that works."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{reachable}:{port}"
    body = (
        '{"model": "seasonal-naive", "inputs": [{"target": [[110], [113], [108], [116]]}], '
        '"parameters": {"prediction_length": 3}}'
    )
    print(
        f"Forecast Gateway {__version__} on {url}\n"
        f"  pages: {url}/docs  {url}/metrics\n"
        f"  try:   curl -s {url}/v1/forecast -H 'content-type: application/json' -d '{body}'",
        flush=True,
    )


def _check_address(server: ServerSettings, accounts: Accounts) -> None:
    """Raise UNAUTHENTICATED where others could reach a gateway that knows nobody, and nobody said that they may."""
    if server.allow_anonymous or _is_loopback(server.host) or accounts.ring.keys.version()[1]:
        return
    raise GatewayError(
        Code.UNAUTHENTICATED,
        f"{server.host} is an address that others can reach, and there is no key yet. Make one with\n"
        f"  forecast-gateway keys create --data-dir {server.data_dir} --name NAME --admin\n"
        "or serve everyone with --allow-anonymous.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
