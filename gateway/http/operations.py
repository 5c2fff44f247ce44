"""The operations of dialects as endpoints: body in, parse, call of the service, render, answer out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.base import Kind, Operation, Steps
from gateway.domain import (
    AnomalyReport,
    AnomalyRequest,
    Backtest,
    BacktestRequest,
    BatchAnswer,
    BatchRequest,
    Caller,
    Consumption,
    Deployment,
    EnsembleForecast,
    EnsembleRequest,
    Forecast,
    ForecastPlan,
    ForecastRequest,
    GatewayStatus,
    ModelInfo,
    SeriesError,
    Usage,
    Work,
)
from gateway.errors import Code, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.body import DEPARTURE, Bounds, client_present, joined, read_body
from gateway.http.exchange import Exchange
from gateway.http.routing import Endpoint, Parameter, call_of
from gateway.pacing import paced
from gateway.service import ForecastService, anomalies, backtests, batches, ensembles
from gateway.service.ensembles import Backtester
from gateway.settings import ServerSettings

LATE_S = 1.0  # the service answers for its deadline itself; this much later its silence is a fault of ours

Charge = Callable[[Exchange, Work, ForecastService], Awaitable[None]]

# A call of the service; what it takes and gives is fixed by its Kind.
Handler = Callable[[Any, Exchange], Awaitable[Any]]

DEADLINE_HEADER = Parameter(
    name="x-request-timeout-ms",
    place="header",
    type=float,
    description="Milliseconds after which the answer is of no use to the caller; the server's own limit holds too.",
)


def handlers(
    service: ForecastService,
    standing: Callable[[], GatewayStatus],
    backtester: Backtester | None = None,
    charge: Charge | None = None,
    consumption: Callable[[Exchange], Awaitable[Consumption]] | None = None,
) -> dict[Kind, Handler]:
    """The calls of the service that operations can make.

    `standing` tells how the gateway stands now; `backtester` is where ensembles try their candidates; `charge` takes
    what a run may use from its caller's limits, or refuses; `consumption` tells how much a caller has used.
    """

    async def forecast(asked: ForecastRequest, exchange: Exchange) -> Forecast | ForecastPlan:
        exchange.model = service.card(asked.model, exchange.caller).id
        answer = await service.forecast(asked, caller=exchange.caller, deadline=exchange.deadline)
        if isinstance(answer, Forecast):
            _record(exchange, answer)
        return answer

    async def batch(asked: BatchRequest, exchange: Exchange) -> BatchAnswer:
        answer = await batches.batch(service, asked, caller=exchange.caller, deadline=exchange.deadline)
        made = [r for r in answer.results if isinstance(r, Forecast)]
        exchange.usage = sum((r.usage for r in made), Usage())
        exchange.series = sum(_delivered(r.outputs) for r in made)
        exchange.cached = bool(made) and all(r.cached for r in made)
        if made:
            exchange.model = made[0].model if len({r.model for r in made}) == 1 else ""
            exchange.queue_ms = round(max(r.queue_ms for r in made), 3)
            exchange.compute_ms = round(sum(r.compute_ms for r in made), 3)
        return answer

    async def backtest(asked: BacktestRequest, exchange: Exchange) -> Backtest:
        exchange.model = service.card(asked.forecast.model, exchange.caller).id
        answer = await backtests.backtest(service, asked, caller=exchange.caller, deadline=exchange.deadline)
        _record(exchange, answer)
        return answer

    async def detect(asked: AnomalyRequest, exchange: Exchange) -> AnomalyReport:
        exchange.model = service.card(asked.forecast.model, exchange.caller).id
        answer = await anomalies.detect_anomalies(service, asked, caller=exchange.caller, deadline=exchange.deadline)
        _record(exchange, answer)
        return answer

    async def ensemble(asked: EnsembleRequest, exchange: Exchange) -> EnsembleForecast:
        exchange.model = "ensemble"
        answer = await ensembles.ensemble(
            service, asked, caller=exchange.caller, deadline=exchange.deadline, backtester=backtester
        )
        exchange.usage = answer.usage
        exchange.series = _delivered(answer.forecast.outputs)
        return answer

    async def models(asked: None, exchange: Exchange) -> tuple[ModelInfo, ...]:
        return service.models(exchange.caller)

    async def model(asked: str, exchange: Exchange) -> ModelInfo:
        found = service.model(asked, exchange.caller)
        exchange.model = found.card.id
        return found

    async def status(asked: None, exchange: Exchange) -> GatewayStatus:
        return standing()

    async def usage(asked: None, exchange: Exchange) -> Consumption:
        return await consumption(exchange) if consumption is not None else Consumption()

    async def session(asked: None, exchange: Exchange) -> Caller:
        return exchange.caller

    def charged(run: Handler) -> Handler:
        async def charged_run(asked: Work, exchange: Exchange) -> object:
            if charge is not None:
                await charge(exchange, asked, service)
            return await run(asked, exchange)

        return charged_run

    return {
        Kind.FORECAST: charged(forecast),
        Kind.BATCH: charged(batch),
        Kind.BACKTEST: charged(backtest),
        Kind.ANOMALIES: charged(detect),
        Kind.ENSEMBLE: charged(ensemble),
        Kind.MODELS: models,
        Kind.MODEL: model,
        Kind.STATUS: status,
        Kind.USAGE: usage,
        Kind.SESSION: session,
    }


def _record(exchange: Exchange, answer: Forecast | Backtest | AnomalyReport) -> None:
    """What headers, log, metrics and ledger say of an answer."""
    exchange.queue_ms, exchange.compute_ms = round(answer.queue_ms, 3), round(answer.compute_ms, 3)
    exchange.usage, exchange.series = answer.usage, _delivered(answer.outputs)
    exchange.cached = isinstance(answer, Forecast) and answer.cached


def _delivered(outputs: Sequence[object]) -> int:
    """How many series have a result."""
    return sum(not isinstance(output, SeriesError) for output in outputs)


def endpoints(
    operations: Iterable[Operation[Any, Any]],
    calls: Mapping[Kind, Handler],
    settings: ServerSettings,
    deployments: Callable[[], Mapping[str, Deployment]] = dict,
) -> list[Endpoint]:
    """Every operation as an endpoint; KeyError for a kind that `calls` lacks."""
    return [_endpoint(operation, calls[operation.kind], settings, deployments) for operation in operations]


def _endpoint(
    operation: Operation[Any, Any],
    handler: Handler,
    settings: ServerSettings,
    deployments: Callable[[], Mapping[str, Deployment]],
) -> Endpoint:
    async def respond(request: Request) -> Response:
        exchange = exchanges.of(request.scope)
        exchange.deadline = asyncio.get_running_loop().time() + timeout_s(exchange.headers, settings)
        body = b""
        if request.method not in ("GET", "HEAD"):
            body = await read_body(
                exchange.headers, request.receive, limit=settings.max_body_bytes, deadline=exchange.deadline
            )
        call = call_of(request, body, deployments())
        try:
            departure = request.scope["state"].get(DEPARTURE)
            async with client_present(request.receive, exchange.deadline + LATE_S, departure) as bounds:
                asked = await paced(operation.parse(call))
                answer = await handler(asked, exchange)
                bounds.extend()  # the answer is there: it is written out, however long
                reply = operation.render(call, answer)
                content = reply.body
                if not isinstance(content, bytes):
                    content = await joined(await paced(_parts(content)))
        except TimeoutError:
            raise late() from None
        return Response(content, reply.status, headers=reply.headers, media_type=reply.media_type)

    return Endpoint(
        method=operation.method,
        path=operation.path,
        respond=respond,
        render_error=operation.render_error,
        role="public" if operation.public else "caller",
        parameters=(DEADLINE_HEADER,),
        documentation=operation.documentation,
    )


async def in_time(answer: Awaitable[Any], exchange: Exchange) -> Any:
    """`answer`, or DEADLINE_EXCEEDED."""
    try:
        with Bounds(exchange.deadline + LATE_S):
            return await answer
    except TimeoutError:
        raise late() from None


def late() -> GatewayError:
    """What a caller is told whose answer did not come."""
    return GatewayError(Code.DEADLINE_EXCEEDED, "The deadline passed before the answer was there.")


def _parts(parts: Iterable[bytes]) -> Steps[list[bytes]]:
    """The parts of a body, made one by one."""
    made = []
    for part in parts:
        made.append(part)
        yield
    return made


def timeout_s(headers: Mapping[str, str], settings: ServerSettings) -> float:
    """Seconds that a request may take: what it asks for, up to the server's bound, or the server's own."""
    text = headers.get("x-request-timeout-ms")
    if text is None:
        return settings.request_timeout_s
    try:
        asked = float(text) / 1e3
    except ValueError:
        asked = math.nan
    if not asked > 0:
        raise GatewayError(
            Code.INVALID_ARGUMENT, "The header x-request-timeout-ms must be a positive number of milliseconds."
        )
    return min(asked, settings.max_request_timeout_s)
