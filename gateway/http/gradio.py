"""The Kronos space over HTTP: what an event does, and the streams that tell of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.dialects.base import Call, Kind, Operation
from gateway.dialects.kronos_space import functions, paths, results
from gateway.dialects.kronos_space.calls import Cancelled, Listening
from gateway.dialects.kronos_space.functions import Order, Question
from gateway.dialects.kronos_space.messages import MEDIA_TYPE, Message, Output
from gateway.domain import Forecast
from gateway.errors import Code, GatewayError
from gateway.http import exchange as exchanges
from gateway.http.body import ClientLeftError, client_present
from gateway.http.exchange import Exchange
from gateway.http.gradio_events import Events
from gateway.http.operations import Handler, in_time
from gateway.http.routing import Endpoint, call_of
from gateway.market_data import MarketData
from gateway.pacing import paced
from gateway.service import ForecastService
from gateway.service.candle_models import candle_model

UNTYPICAL = (("temperature", 1.0), ("top_p", 0.95))  # the defaults, of which nobody asked anything


class Space:
    """The functions of the space over a gateway's forecasts."""

    def __init__(
        self,
        service: ForecastService,
        forecast: Handler,
        market: MarketData,
        over: Callable[[Exchange], None],
        *,
        model: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`forecast` is the call of the service that every dialect makes; `over` settles an exchange."""
        self._service = service
        self._forecast = forecast
        self._market = market
        self._model = model
        self._clock = clock
        self.events = Events(self._answer, over)

    def handlers(self) -> dict[Kind, Handler]:
        """The calls of the queue."""

        async def join(order: Order, exchange: Exchange) -> str:
            return self.events.join(order, exchange)

        async def leave(event: Cancelled, exchange: Exchange) -> None:
            self.events.cancel(exchange.caller.id, event.session, event.event_id)

        return {Kind.JOIN: join, Kind.LEAVE: leave}

    async def _answer(self, order: Order, exchange: Exchange) -> Output:
        """Work on one event."""
        started = time.perf_counter()
        data = await in_time(self._output(order, exchange), exchange)
        duration = time.perf_counter() - started
        return Output(data=data, duration=duration, average_duration=duration)

    async def _output(self, order: Order, exchange: Exchange) -> list[results.Plot | results.Result]:
        question = await paced(functions.question(order))
        if question.candles is None:
            question = question.of_market(await self._market.candles(), self._clock())
        assert question.candles is not None, "sent, or the market's"
        found = candle_model(self._service, exchange.caller, self._model)
        if found.status.state in ("loadable", "loading"):  # an event can wait where a request cannot
            exchange.model = found.card.id
            async with _until(exchange.deadline):
                await self._service.load_model(found.card.id, exchange.caller)
        request = paths.request(question, question.candles, found.card)
        forecast: Forecast = await self._forecast(request, exchange)
        said = _unused(question, request.parameters.temperature is None, request.parameters.top_p is None)
        return results.output(question, question.candles, forecast, said)


def _unused(question: Question, temperature: bool, top_p: bool) -> list[str]:
    """A sentence on controls that the model does not have, where they were asked for."""
    unused = {"temperature": temperature, "top_p": top_p}
    names = [name for name, usual in UNTYPICAL if unused[name] and getattr(question, name) != usual]
    return [f"The model that drew the paths does not take {' and '.join(names)}."] if names else []


@contextlib.asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise GatewayError(Code.DEADLINE_EXCEEDED, "The deadline passed before the model was loaded.") from None


# -- streams ---


class Stream(Response):
    """Messages as server-sent events. Watches its reader: whoever goes is heard of at once, not at the next message."""

    def __init__(self, incoming: AsyncGenerator[Message, None], frame: Callable[[Message], bytes]) -> None:
        super().__init__(media_type=MEDIA_TYPE, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._incoming = incoming
        self._frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def body(content: bytes, more: bool) -> None:
            await send({"type": "http.response.body", "body": content, "more_body": more})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with contextlib.suppress(ClientLeftError):
            async with contextlib.aclosing(self._incoming), client_present(receive):
                async for message in self._incoming:
                    content = self._frame(message)
                    if content:
                        await body(content, True)
            await body(b"", False)


def endpoints(operations: Iterable[Operation[Any, Any]], space: Space) -> list[Endpoint]:
    """The streams among a dialect's operations."""
    return [_stream(operation, space.events) for operation in operations]


def _stream(operation: Operation[Any, Any], events: Events) -> Endpoint:
    async def respond(request: Request) -> Response:
        call = call_of(request)
        wanted: Listening = await paced(operation.parse(call))
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE)  # who looks must not read a message away
        caller = exchanges.of(request.scope).caller
        incoming = events.listen(caller.id, session=wanted.session, event=wanted.event_id)
        return Stream(incoming, lambda message: _frame(operation, call, message))

    return Endpoint(
        method=operation.method,
        path=operation.path,
        respond=respond,
        render_error=operation.render_error,
        counted=False,  # the event is what uses the gateway, not who listens
        documentation=operation.documentation,
    )


def _frame(operation: Operation[Any, Any], call: Call, message: Message) -> bytes:
    body = operation.render(call, message).body
    assert isinstance(body, bytes), "a message is rendered whole"
    return body
