"""The Kronos space: candles in, probabilities and paths out, over Gradio's protocol.

A call is an event: it is handed in (`Kind.JOIN`), worked on beside, and its end is read from a stream (`Kind.WATCH`).
What a session hears is rendered message by message, each a server-sent event. `gateway/http/gradio.py` holds the
sessions and runs the events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.dialects.base import Call, Dialect, Documentation, Example, Kind, Operation, Reply, Steps
from gateway.dialects.guide import Guide
from gateway.dialects.kronos_space import calls, documents, messages
from gateway.dialects.kronos_space.examples import ANSWERS, JOIN, ODD
from gateway.dialects.kronos_space.messages import MEDIA_TYPE, Message

CANNOT_CACHE = {"cache-control": "no-store"}


def _frame(shape: Callable[[Message], bytes]) -> Callable[[Call, Message], Reply]:
    def render(call: Call, message: Message) -> Reply:
        return Reply(body=shape(message), media_type=MEDIA_TYPE, headers=CANNOT_CACHE)

    return render


def _operation(
    method: str,
    path: str,
    kind: Kind,
    parse: Callable[[Call], Steps[Any]],
    render: Callable[[Call, Any], Reply],
    summary: str,
    examples: tuple[Example, ...] = (),
) -> Operation[Any, Any]:
    return Operation(
        method=method,
        path=path,
        kind=kind,
        parse=parse,
        render=render,
        render_error=calls.error,
        documentation=Documentation(summary=summary, examples=examples, listed=False),
    )


DIALECT = Dialect(
    name="kronos-space",
    operations=(
        _operation(
            "POST",
            "/gradio_api/queue/join",
            Kind.JOIN,
            calls.join,
            calls.joined,
            "Hand in an event, as Gradio's clients do",
            JOIN,
        ),
        _operation(
            "GET",
            "/gradio_api/queue/data",
            Kind.WATCH,
            calls.listen,
            _frame(messages.data),
            "The messages of a session, as server-sent events",
        ),
        # before `call/{name}`, whose stream has the same shape
        _operation(
            "POST",
            "/gradio_api/call/v2/{name}",
            Kind.JOIN,
            calls.call_by_name,
            calls.joined,
            "Hand in an event with its arguments by name",
        ),
        _operation(
            "GET",
            "/gradio_api/call/v2/{name}/{event_id}",
            Kind.WATCH,
            calls.listen_to_event,
            _frame(messages.named),
            "What came out of it",
        ),
        _operation(
            "POST",
            "/gradio_api/call/{name}",
            Kind.JOIN,
            calls.call,
            calls.joined,
            "Hand in an event with curl: arguments by position, defaults for those left out",
        ),
        _operation(
            "GET",
            "/gradio_api/call/{name}/{event_id}",
            Kind.WATCH,
            calls.listen_to_event,
            _frame(messages.named),
            "What came out of it: shown are bodies handed in, and the data of the event complete",
            ANSWERS,
        ),
        _operation(
            "POST",
            "/gradio_api/cancel",
            Kind.LEAVE,
            calls.cancel,
            calls.done,
            "Withdraw an event",
        ),
        _operation(
            "POST",
            "/gradio_api/reset",
            Kind.SESSION,
            calls.nothing,
            calls.done,
            "Nothing: events are withdrawn with /gradio_api/cancel",
        ),
        _operation(
            "GET",
            "/config",
            Kind.SESSION,
            calls.nothing,
            documents.config,
            "The space's components, for Gradio's clients",
        ),
        _operation(
            "GET",
            "/gradio_api/info",
            Kind.SESSION,
            calls.nothing,
            documents.info,
            "The functions and their parameters",
        ),
        _operation(
            "GET",
            "/gradio_api/startup-events",
            Kind.SESSION,
            calls.nothing,
            documents.no_startup_events,
            "Whether something runs before the first call: no",
        ),
    ),
    guide=Guide(
        title="Kronos space",
        summary="The Gradio space that forecasts BTC/USDT with Kronos: `/predict_api`, `/predict`, `/predict_all` and "
        "`/predict_custom`, for `gradio_client`, `@gradio/client` and curl.",
        moving=(
            'Give the client this gateway\'s URL: `Client("http://127.0.0.1:8000/")`. Calls of `predict` stay as they '
            "are.",
            "`/predict_api`, `/predict` and `/predict_all` forecast the market, and need a source of candles in the "
            "settings: `market_data_url` under `[market_data]`, a URL that answers with hourly klines as exchanges "
            "write them (361 or more: 360 are used, and the last may be incomplete), or `market_data_file`, a CSV file "
            "with the columns timestamp, open, high, low, close and volume. It is read at each call. `/predict_custom` "
            "needs none.",
            "Fetch the weights of a Kronos with `forecast-gateway pull NeoQuasar/Kronos-mini`, as the space has it. "
            "Until they are there, the default model draws the paths; `model` in the answer says which did.",
            'Where keys are in use, send one: `Client(url, headers={"X-API-Key": key})` or `Client(url, token=key)` in '
            "Python; `{ token: key }` in JavaScript.",
        ),
        supported=(
            "`align_to_hour` (default true: the last candle is left out while its hour is not over), `hour_idx` 1 to "
            "24; 24 hours, 30 paths, temperature 1.0, top_p 0.95, the last 360 candles.",
            "`/predict_custom(ohlcv_data, pred_len=24, sample_count=30, temperature=1.0, top_p=0.95, hour_idx=24)`: "
            "an object or its JSON text; `volume` and `amount` may be left out, and an amount "
            "without volume is read past; any even spacing, not only hours.",
            "`upside_probability` is the share of paths whose close lies strictly above the last close used. The plot "
            'is `{"type": "plotly", "plot": "<json>"}`.',
            "Beside the space's own keys: `model`, `seed`, `last_close`, `timestamps` and `notices`. With that `seed`, "
            "`/v1/forecast` draws the same paths.",
            "A model that knows no candles forecasts the close as one series, and for `/predict_all` beside it the "
            "gap from close to open, the shadow above and the one below, and the volume. Each path puts its candles "
            "together again from its own closes, shadows and volume not below 0: high is never below open or close, "
            "low never above. Kronos' candles stay as it draws them.",
            "A session's work is withdrawn when its client goes, or says so by `/gradio_api/cancel`. Results that "
            "nobody fetches are dropped after 5 minutes.",
        ),
        unsupported=(
            "Sessions live in the memory of one gateway: several behind a load balancer need the same one for a "
            "session, by address or cookie.",
            "The page of the space, uploads, and `/gradio_api/run`, which Gradio's clients do not use here.",
            "`temperature` and `top_p` do nothing where the model draws its paths by copula; a notice says so.",
            "Arguments that are left out at the end have their defaults, where Gradio fails; an unknown `fn_index` or "
            "name is a 404, where it fails too.",
            "Candles have to be evenly spaced and without null.",
        ),
        odd=ODD,
    ),
)
