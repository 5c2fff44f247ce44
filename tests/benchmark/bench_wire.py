"""What the canonical wire costs: `python -m tests.benchmark.bench_wire [OUT.json]`.

Decode and encode of one call, beside the plain ways of doing it, in one process on one thread. The ways take turns, so
that a machine that slows down slows all of them; the least of each is told, in the thread's own time, so that what
others do on the machine counts little. Nothing is asserted. `large_body` tells the two figures that have targets.

What was tried to read a target `[[1.2345],...]`, in microseconds for 24, 512 and 2,048 rows, alternating:

    simdjson into a buffer, its shape from what is left without numbers     4.2    25    96    taken
    brackets out, msgspec, np.array, its shape checked                      6.5    51   199    what it replaced
    brackets out, msgspec, np.array or array.array, unchecked               2.5    40   167
    brackets out, orjson, array.array, unchecked                            2.5    37   157
    orjson of lists of lists, np.array                                      5.4   106   460
    msgspec of lists of lists, np.array                                     8.8   118   503
    np.fromstring, brackets out                                             6.7   123   495
    split at commas, np.array(bytes).astype                                 9.5   179   742

pysimdjson has wheels up to Python 3.13; without it, and for rows of several widths, msgspec's lists of lists are read.
To write 96 numbers, orjson takes 6.3 us from the array and msgspec with tolist 9.6 (6,144 numbers: 695 and 813): the
difference is about that of one more encode beside the body's, so that it was not worth a second encoder.
"""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from adapters.base import Series
from adapters.base import SeriesForecast as Computed
from catalog import ModelCard
from gateway.app import catalog_of
from gateway.dialects.base import Call
from gateway.dialects.canonical import FORECAST, decode, render
from gateway.dialects.canonical.types import ForecastRequestBody
from gateway.domain import (
    Caller,
    Forecast,
    ForecastPlan,
    ForecastRequest,
    Parameters,
    SeriesForecast,
    SeriesInput,
    Usage,
)
from gateway.engine import Outcome, frames
from gateway.errors import GatewayError
from gateway.http.body import joined
from gateway.pacing import at_once, paced
from gateway.service import ForecastService
from gateway.settings import Settings
from tests.benchmark.load import MODEL

ROUNDS = 15
HORIZON, LEVELS = 24, (0.1, 0.5, 0.9)
MSGPACK = {"content-type": "application/msgpack"}
SIZES = {
    "1 x 512": (1, 512, 1),
    "64 x 2048": (64, 2048, 1),
    "64 x 2048 x 3": (64, 2048, 3),
    "1000 x 2048": (1000, 2048, 1),
}


def request_of(series: int, rows: int, channels: int, gaps: float = 0.0) -> dict[str, object]:
    """A request as clients make it: prices of four decimals, `gaps` of them missing."""
    rng = np.random.default_rng(0)

    def target() -> list[list[float | None]]:
        values = np.round(rng.normal(100, 20, (rows, channels)), 4)
        holes = rng.random((rows, channels)) < gaps
        return [[None if h else float(v) for v, h in zip(*row, strict=True)] for row in zip(values, holes, strict=True)]

    inputs = [{"start": "2026-03-01", "target": target(), "metadata": {"item_id": f"s{i}"}} for i in range(series)]
    parameters = {"prediction_length": HORIZON, "frequency": "h", "quantile_levels": LEVELS}
    return {"model": MODEL, "inputs": inputs, "parameters": parameters}


def answer_of(series: int, channels: int) -> Forecast:
    rng = np.random.default_rng(1)
    stamps = tuple(f"2026-03-{d:02}T00:00:00Z" for d in range(1, HORIZON + 1))

    def output() -> SeriesForecast:
        # As models give them: float32, handed on as float64.
        values = rng.normal(100, 20, (len(LEVELS), HORIZON, channels)).astype(np.float32).astype(np.float64)
        return SeriesForecast(mean=values[1], quantiles=values, timestamps=stamps)

    return Forecast(
        id="0",
        created=0,
        model="m",
        model_revision="r",
        provider="p",
        point="median",
        horizon=HORIZON,
        quantile_levels=LEVELS,
        input_points=0,
        outputs=tuple(output() for _ in range(series)),
        usage=Usage(),
        latency_ms=1.0,
    )


def call_of(body: bytes, headers: Mapping[str, str] | None = None) -> Call:
    return Call(method="POST", path="/v1/forecast", body=body, headers=headers or {})


def rendered(call: Call, answer: Forecast) -> bytes:
    body = render.forecast(call, answer).body
    return body if isinstance(body, bytes) else b"".join(body)


def longest_step(call: Call) -> float:
    """Milliseconds of the longest step of a decode, refused or not: how long another request may wait for it."""
    steps, longest = decode.forecast(call), 0.0
    while True:
        began = time.thread_time()
        try:
            next(steps)
        except (StopIteration, GatewayError):
            return max(longest, (time.thread_time() - began) * 1e3)
        longest = max(longest, (time.thread_time() - began) * 1e3)


def plain_types(body: bytes) -> list[np.ndarray]:
    """The documented types decoded at once, then arrays: what is simple to write."""
    request = msgspec.json.decode(body, type=ForecastRequestBody)
    return [np.array(s.target, dtype=np.float64) for s in request.inputs]


def plain_json(body: bytes) -> list[np.ndarray]:
    return [np.array(s["target"], dtype=np.float64) for s in json.loads(body)["inputs"]]


def least(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each way, the least of `rounds` turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.thread_time()
            way()
            best[name] = min(best[name], (time.thread_time() - began) * 1e3)
    return best


# -- a large body ---


class Instant:
    """An engine whose model takes no time: series and results cross to a worker and back, and nothing is computed."""

    async def run(self, card: ModelCard, series: Sequence[Series], *, deadline: float) -> Outcome:
        task = frames.Task(model=card.id, series=tuple(series))
        run = frames.decode_to_worker(bytes(frames.encode(frames.Run(cut=0, tasks=(task,)))[4:]))
        assert isinstance(run, frames.Run)
        results = tuple(self._result(one) for one in run.tasks[0].series)
        done = frames.decode_from_worker(
            bytes(frames.encode(frames.Done(cut=0, task=0, results=results, compute_s=0.0))[4:])
        )
        assert isinstance(done, frames.Done)
        return Outcome(results=tuple(r for r in done.results if not isinstance(r, str)))

    def _result(self, series: Series) -> Computed:
        quantiles = np.broadcast_to(
            series.target[:, -series.horizon :].T, (len(series.levels), series.horizon, len(series.target))
        )
        return Computed(point=quantiles[1], quantiles=quantiles)


def large_body(series: int = 64, rows: int = 2048, rounds: int = 12) -> dict[str, float]:
    """Milliseconds of one large body beside the model: as the gateway takes it, and with pydantic's types.

    Both plan, cross to the worker and back, and answer the same; what they do not share is how bytes become arrays and
    arrays bytes.
    """
    call = call_of(json.dumps(request_of(series, rows, 1), separators=(",", ":")).encode())
    service = ForecastService(catalog_of(Settings()), Instant())
    ours, with_pydantic = _ours(service), _with_pydantic(service)
    best = {"ms": float("inf"), "pydantic_ms": float("inf")}
    with asyncio.Runner() as runner:
        for _ in range(rounds):
            for name, way in (("ms", ours), ("pydantic_ms", with_pydantic)):
                began = time.thread_time()
                runner.run(way(call))
                best[name] = min(best[name], (time.thread_time() - began) * 1e3)
    return {name: round(ms, 2) for name, ms in best.items()} | {
        "over_pydantic": round(best["ms"] / best["pydantic_ms"], 3)
    }


def _answered(service: ForecastService, asked: ForecastRequest) -> Any:
    return service.forecast(asked, caller=Caller(), deadline=asyncio.get_running_loop().time() + 60)


def _ours(service: ForecastService) -> Callable[[Call], Any]:
    """The path of a request from its body to that of its answer."""

    async def way(call: Call) -> bytes:
        answer = await _answered(service, await paced(FORECAST.parse(call)))
        body = FORECAST.render(call, answer).body
        assert not isinstance(body, bytes)
        parts: list[bytes] = []

        def made() -> Any:
            for part in body:
                parts.append(part)
                yield

        await paced(made())
        return await joined(parts)

    return way


def _with_pydantic(service: ForecastService) -> Callable[[Call], Any]:
    """The same with the types that most services are written with."""
    import pydantic  # of no use to the gateway, and slow to import

    class Input(pydantic.BaseModel):
        target: list[list[float | None]]
        start: str | None = None
        metadata: dict[str, Any] | None = None

    class Controls(pydantic.BaseModel):
        prediction_length: int
        frequency: str | None = None
        quantile_levels: tuple[float, ...]

    class Request(pydantic.BaseModel):
        model: str
        inputs: list[Input]
        parameters: Controls

    class Quantile(pydantic.BaseModel):
        level: float
        values: list[list[float]]

    class Output(pydantic.BaseModel):
        mean: list[list[float]]
        quantile_predictions: list[Quantile]
        timestamps: list[str] | None
        metadata: dict[str, Any] | None

    class Answer(pydantic.BaseModel):
        id: str
        model: str
        outputs: list[Output]

    def output(made: SeriesForecast) -> Output:
        quantiles = [
            Quantile(level=level, values=values.tolist()) for level, values in zip(LEVELS, made.quantiles, strict=True)
        ]
        stamps = None if made.timestamps is None else list(made.timestamps)
        return Output(
            mean=made.mean.tolist(), quantile_predictions=quantiles, timestamps=stamps, metadata=made.metadata
        )

    async def way(call: Call) -> bytes:
        sent = Request.model_validate_json(call.body)
        parameters = Parameters(**sent.parameters.model_dump())
        series = tuple(
            SeriesInput(target=np.array(one.target, dtype=np.float64), start=one.start, metadata=one.metadata)
            for one in sent.inputs
        )
        asked = ForecastRequest(model=sent.model, series=series, parameters=parameters)
        answer: Forecast | ForecastPlan = await _answered(service, asked)
        assert isinstance(answer, Forecast)
        outputs = [output(made) for made in answer.outputs if isinstance(made, SeriesForecast)]
        return Answer(id=answer.id, model=answer.model, outputs=outputs).model_dump_json().encode()

    return way


# -- its parts ---


def measure(size: tuple[int, int, int]) -> dict[str, float]:
    series, rows, channels = size
    content = request_of(series, rows, channels)
    spaced = json.dumps(content).encode()
    compact = json.dumps(content, separators=(",", ":")).encode()
    gappy = json.dumps(request_of(series, rows, channels, gaps=0.1), separators=(",", ":")).encode()
    packed = msgspec.msgpack.encode(content)
    refused, malformed = compact[:-2] + b',"x":1}}', compact[:-2] + b',"x":NaN}}'
    answer = answer_of(series, channels)
    call, packed_call = call_of(compact), call_of(packed, MSGPACK)
    rounds = max(3, ROUNDS * 64 // max(series, 64))
    found = least(
        {
            "decode": lambda: at_once(decode.forecast(call)),
            "decode, spaced": lambda: at_once(decode.forecast(call_of(spaced))),
            "decode, 10% null": lambda: at_once(decode.forecast(call_of(gappy))),
            "decode, msgpack": lambda: at_once(decode.forecast(packed_call)),
            "  the documented types at once": lambda: plain_types(compact),
            "  json.loads": lambda: plain_json(compact),
            "encode": lambda: rendered(call, answer),
            "encode, msgpack": lambda: rendered(packed_call, answer),
        },
        rounds,
    )
    calls = {
        "JSON": call,
        "spaced": call_of(spaced),
        "msgpack": packed_call,
        "refused": call_of(refused),
        "malformed": call_of(malformed),
    }
    found |= {f"longest step, {name}": min(longest_step(one) for _ in range(3)) for name, one in calls.items()}
    return found | {"body, MB": len(compact) / 1e6, "answer, MB": len(rendered(call, answer)) / 1e6}


def main() -> None:
    table = {name: measure(size) for name, size in SIZES.items()}
    names = list(next(iter(table.values())))
    print(f"{'milliseconds':36}" + "".join(f"{size:>16}" for size in table))
    for name in names:
        print(f"{name:36}" + "".join(f"{row[name]:16.3f}" for row in table.values()))
    large = large_body()
    print(
        f"64 x 2048, all but the model: {large['ms']} ms; with pydantic's types {large['pydantic_ms']} ms, "
        f"{large['over_pydantic']} of which ours is"
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    versions = {"python": platform.python_version(), "msgspec": msgspec.__version__, "numpy": np.__version__}
    facts = {"machine": platform.processor() or platform.machine(), "commit": commit, "versions": versions}
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_bytes(
            msgspec.json.format(msgspec.json.encode({**facts, "milliseconds": table, "large body": large}))
        )


if __name__ == "__main__":
    main()
