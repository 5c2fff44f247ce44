"""Batches: many forecasts in one call, each of which succeeds and fails alone."""

from __future__ import annotations

import asyncio

import structlog

from gateway.domain import MAX_REQUESTS, BatchAnswer, BatchRequest, Caller, Forecast, ForecastPlan, ForecastRequest
from gateway.errors import Code, GatewayError
from gateway.service.forecasts import ForecastService

log = structlog.get_logger(__name__)


async def batch(service: ForecastService, request: BatchRequest, *, caller: Caller, deadline: float) -> BatchAnswer:
    """Run every request of a batch, 64 side by side; `deadline` is in seconds of the running loop's clock.

    Never raises GatewayError: each failure, its own deadline included, is the result of its request.
    """
    # All at once, the last of a thousand requests would be refused because of the first: the queue is full of them.
    places = asyncio.Semaphore(MAX_REQUESTS)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_alone(service, asked, caller, deadline, places)) for asked in request.requests]
    return BatchAnswer(results=tuple(task.result() for task in tasks), metadata=request.metadata)


async def _alone(
    service: ForecastService,
    request: ForecastRequest | GatewayError,
    caller: Caller,
    deadline: float,
    places: asyncio.Semaphore,
) -> Forecast | ForecastPlan | GatewayError:
    """One forecast, or the error it ended in, a bug of ours included: its neighbours are to have their answers."""
    if isinstance(request, GatewayError):
        return request
    try:
        async with places:
            return await service.forecast(request, caller=caller, deadline=deadline)
    except GatewayError as error:
        return error
    except Exception:
        log.exception("batched_request_failed", model=request.model)
        return GatewayError(Code.INTERNAL, "This is a bug of the gateway; the log holds it.")
