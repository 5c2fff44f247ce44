"""A small client of the canonical contract: `Client(url).forecast(model, inputs, prediction_length=12)`.

Imports httpx and msgspec only, so that a pipeline can call a gateway without installing one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx
import msgspec

RETRIED = frozenset({429, 503, 504})
Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


class ClientError(Exception):
    """An answer that is not a forecast: the gateway's sentence, its code, HTTP status and places."""

    def __init__(self, status: int, code: str, sentence: str, detail: Sequence[Mapping[str, object]] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.detail = tuple(detail)


class _Problem(msgspec.Struct):
    error: str = ""
    code: str = "UNKNOWN"
    detail: list[dict[str, object]] = []


class QuantilePrediction(msgspec.Struct, frozen=True):
    """Values of one quantile level, `[time][channel]`."""

    level: float
    values: list[list[float]]


class SeriesError(msgspec.Struct, frozen=True):
    """Why one series has no forecast."""

    error: str
    code: str = "UNKNOWN"


class Output(msgspec.Struct, frozen=True):
    """The forecast of one series; `error` is set where it failed alone."""

    mean: list[list[float]] = []
    quantile_predictions: list[QuantilePrediction] = []
    samples: list[list[list[float]]] | None = None
    timestamps: list[str] | None = None
    notices: list[str] = []
    metadata: dict[str, object] | None = None
    error: SeriesError | None = None


class ForecastAnswer(msgspec.Struct, frozen=True):
    """The parts of an answer that most callers read."""

    id: str
    model: str
    prediction_length: int
    quantile_levels: list[float]
    outputs: list[Output]
    usage: dict[str, int]
    latency_ms: float


class Client:
    """Calls one gateway. Overload and loading are retried as the gateway asks, up to `retries` times."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 60.0, retries: int = 5) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)
        self._retries = retries

    def forecast(
        self,
        model: str,
        inputs: Sequence[Mapping[str, Json]],
        *,
        prediction_length: int,
        parameters: Mapping[str, Json] | None = None,
    ) -> ForecastAnswer:
        """Forecast `inputs`, each a series object of the contract. Raises ClientError."""
        merged = {**(parameters or {}), "prediction_length": prediction_length}
        body = msgspec.json.encode({"model": model, "inputs": inputs, "parameters": merged})
        return msgspec.json.decode(self._post("/v1/forecast", body), type=ForecastAnswer)

    def _post(self, path: str, body: bytes) -> bytes:
        for attempt in range(self._retries + 1):
            answer = self._http.post(path, content=body, headers={"content-type": "application/json"})
            if answer.is_success:
                return answer.content
            if answer.status_code not in RETRIED or attempt == self._retries:
                break
            time.sleep(_retry_after(answer, attempt))
        raise _error(answer)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _retry_after(answer: httpx.Response, attempt: int) -> float:
    """Seconds to wait: what the gateway says, else 0.5, 1, 2, ... up to 30."""
    try:
        return min(30.0, float(answer.headers["retry-after"]))
    except (KeyError, ValueError):
        return min(30.0, 0.5 * 2.0**attempt)


def _error(answer: httpx.Response) -> ClientError:
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.DecodeError:
        return ClientError(answer.status_code, "UNKNOWN", f"HTTP {answer.status_code} from {answer.url}")
    return ClientError(answer.status_code, problem.code, problem.error, problem.detail)
