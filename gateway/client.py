"""A small client of the canonical contract: `Client(url).forecast(model, inputs, prediction_length=12)`.

Work that outlives a call is a job: `client.upload(head, inputs)`, `client.watch(id)`, `client.results(id)`.

Imports httpx and msgspec only, so that a pipeline can call a gateway without installing one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx
import msgspec

EVENTS_TIMEOUT_S = 60.0  # of silence: heartbeats come every 15 s
PIECE_BYTES = 64 * 1024  # of an upload
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


class _Secret(msgspec.Struct):
    secret: str


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


class BatchError(msgspec.Struct, frozen=True):
    """Why one request of a batch has no forecast, and the wrong places of it."""

    error: str
    code: str = "UNKNOWN"
    detail: list[dict[str, object]] = []


class BatchItem(msgspec.Struct, frozen=True):
    """`result` where `ok`, else `error`."""

    ok: bool
    result: ForecastAnswer | None = None
    error: BatchError | None = None


class _Batch(msgspec.Struct):
    data: list[BatchItem]


class RankedModel(msgspec.Struct, frozen=True):
    """One candidate of an ensemble and what became of it."""

    model: str
    rank: int
    score: float | None
    weight: float
    status: str
    error: str | None = None


class EnsembleAnswer(msgspec.Struct, frozen=True):
    """A blend, and how its candidates did."""

    ensemble_result: ForecastAnswer
    ranked_results: list[RankedModel]
    scoring_metric: str
    usage: dict[str, int]
    latency_ms: float


class BacktestWindow(msgspec.Struct, frozen=True):
    """One fold of one series."""

    cutoff: int
    metrics: dict[str, float | None]
    mean: list[list[float]] = []
    quantile_predictions: list[QuantilePrediction] = []
    actuals: list[list[float | None]] = []
    timestamps: list[str] | None = None


class BacktestOutput(msgspec.Struct, frozen=True):
    """Every fold of one series; `error` is set where it failed alone."""

    windows: list[BacktestWindow] = []
    metrics: dict[str, float | None] = {}
    notices: list[str] = []
    metadata: dict[str, object] | None = None
    error: SeriesError | None = None


class BacktestAnswer(msgspec.Struct, frozen=True):
    """How good a model's forecasts were."""

    id: str
    model: str
    outputs: list[BacktestOutput]
    metrics: dict[str, float | None]
    usage: dict[str, int]
    latency_ms: float


class Anomaly(msgspec.Struct, frozen=True):
    """One value that its past did not lead to expect."""

    index: int
    channel: int
    value: float
    expected: float
    lower: float
    upper: float
    z_score: float
    timestamp: str | None = None


class AnomalyOutput(msgspec.Struct, frozen=True):
    """The anomalies of one series; `error` is set where it failed alone."""

    anomalies: list[Anomaly] = []
    is_anomaly: list[list[bool | None]] = []
    scored_from: int = 0
    notices: list[str] = []
    metadata: dict[str, object] | None = None
    error: SeriesError | None = None


class AnomalyAnswer(msgspec.Struct, frozen=True):
    """What was found in all series."""

    id: str
    model: str
    outputs: list[AnomalyOutput]
    total_points: int
    num_anomalies: int
    usage: dict[str, int]
    latency_ms: float


class Progress(msgspec.Struct, frozen=True):
    """How far a job is."""

    done: int = 0
    total: int = 0
    failed: int = 0


class Job(msgspec.Struct, frozen=True):
    """A job as it stands. Times are seconds since 1970."""

    id: str
    type: str
    status: str
    progress: Progress
    created: float
    started: float | None = None
    finished: float | None = None
    error: SeriesError | None = None
    result_url: str | None = None
    model: str | None = None
    priority: int = 0
    deadline: float | None = None
    usage: dict[str, int] = {}

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in ("queued", "running")


class JobPage(msgspec.Struct, frozen=True):
    """Some jobs, the newest first."""

    data: list[Job]
    next: str | None = None


class IndexedOutput(Output, frozen=True):
    """One output of a long result, and which it is."""

    index: int = 0


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

    def batch(self, requests: Sequence[Mapping[str, Json]]) -> list[BatchItem]:
        """Make up to 64 forecasts, each a request object of the contract that succeeds or fails alone."""
        body = msgspec.json.encode({"requests": requests})
        return msgspec.json.decode(self._post("/v1/forecast/batch", body), type=_Batch).data

    def ensemble(
        self,
        inputs: Sequence[Mapping[str, Json]],
        *,
        prediction_length: int,
        models: Sequence[str] | None = None,
        parameters: Mapping[str, Json] | None = None,
        controls: Mapping[str, Json] | None = None,
    ) -> EnsembleAnswer:
        """Blend the models that forecast held-out ends best; `controls` are budget, windows, weighting and the like."""
        merged = {**(parameters or {}), "prediction_length": prediction_length}
        body = msgspec.json.encode({**(controls or {}), "models": models, "inputs": inputs, "parameters": merged})
        return msgspec.json.decode(self._post("/v1/forecast/ensemble", body), type=EnsembleAnswer)

    def backtest(
        self,
        model: str,
        inputs: Sequence[Mapping[str, Json]],
        *,
        prediction_length: int,
        windows: int = 1,
        step: int | None = None,
        metrics: Sequence[str] | None = None,
        parameters: Mapping[str, Json] | None = None,
    ) -> BacktestAnswer:
        """Forecast held-out ends of each series and score them."""
        merged = {**(parameters or {}), "prediction_length": prediction_length}
        sent = {"model": model, "inputs": inputs, "parameters": merged, "windows": windows}
        body = msgspec.json.encode({**sent, "step": step, "metrics": metrics})
        return msgspec.json.decode(self._post("/v1/backtest", body), type=BacktestAnswer)

    def detect_anomalies(
        self,
        model: str,
        inputs: Sequence[Mapping[str, Json]],
        *,
        sensitivity: float = 3.0,
        parameters: Mapping[str, Json] | None = None,
    ) -> AnomalyAnswer:
        """Find the values that their past did not lead to expect; a higher sensitivity finds fewer."""
        merged = {**(parameters or {}), "sensitivity": sensitivity}
        body = msgspec.json.encode({"model": model, "inputs": inputs, "parameters": merged})
        return msgspec.json.decode(self._post("/v1/detect-anomalies", body), type=AnomalyAnswer)

    # -- jobs ---

    def submit(
        self,
        type: str,
        request: Mapping[str, Json],
        *,
        idempotency_key: str | None = None,
        priority: int | None = None,
        deadline_s: float | None = None,
        callback_url: str | None = None,
    ) -> Job:
        """Hand in a job: any request of the contract, `type` saying which. With a key it can be sent again safely."""
        more = {"priority": priority, "deadline_s": deadline_s, "callback_url": callback_url}
        order = {"type": type, "request": request, **{k: v for k, v in more.items() if v is not None}}
        headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
        return msgspec.json.decode(self._post("/v1/jobs", msgspec.json.encode(order), headers), type=Job)

    def upload(
        self, head: Mapping[str, Json], inputs: Iterable[Mapping[str, Json]], *, idempotency_key: str | None = None
    ) -> Job:
        """Hand in a forecast of any number of series, sent as they come.

        `head` is the order: {"type": "forecast", "request": {"model": ..., "parameters": {...}}}. It is not retried.
        """
        headers = {"content-type": "application/x-ndjson"}
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        answer = self._http.post("/v1/jobs", content=_lines(head, inputs), headers=headers)
        if not answer.is_success:
            raise _error(answer)
        return msgspec.json.decode(answer.content, type=Job)

    def job(self, id: str) -> Job:
        """One job as it stands."""
        return msgspec.json.decode(self._get(f"/v1/jobs/{id}", {"result": "false"}), type=Job)

    def jobs(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """The caller's jobs, the newest first."""
        query = {"status": status, "type": type, "limit": limit, "cursor": cursor}
        return msgspec.json.decode(
            self._get("/v1/jobs", {k: str(v) for k, v in query.items() if v is not None}), type=JobPage
        )

    def cancel(self, id: str) -> Job:
        """Stop a job; what is done stays readable."""
        return msgspec.json.decode(self._post(f"/v1/jobs/{id}/cancel", b""), type=Job)

    def delete(self, id: str) -> None:
        """Forget a job and its result."""
        answer = self._http.delete(f"/v1/jobs/{id}")
        if not answer.is_success:
            raise _error(answer)

    def watch(self, id: str) -> Iterator[Job]:
        """The job as it stands, and then at each change, the last time when it is over.

        A connection that breaks is made again; raises ClientError, and httpx.TransportError after `retries` in a row.
        """
        failures = 0
        while True:
            try:
                with self._http.stream("GET", f"/v1/jobs/{id}/events", timeout=EVENTS_TIMEOUT_S) as answer:
                    if not answer.is_success:
                        answer.read()
                        raise _error(answer)
                    for line in answer.iter_lines():
                        if line.startswith("data: "):
                            failures = 0
                            job = msgspec.json.decode(line[6:], type=Job)
                            yield job
                            if job.over:
                                return
            except httpx.TransportError:
                failures += 1
                if failures > self._retries:
                    raise
            except ClientError as error:
                failures += 1
                if error.status not in RETRIED or failures > self._retries:
                    raise
            time.sleep(min(5.0, 0.5 * 2.0**failures))

    def results(self, id: str, *, offset: int = 0) -> Iterator[IndexedOutput]:
        """The outputs of a forecast job from `offset` on, in order, as they come over the wire."""
        decode = msgspec.json.Decoder(IndexedOutput).decode
        headers = {"accept": "application/x-ndjson"}
        query = {"offset": str(offset)}
        with self._http.stream("GET", f"/v1/jobs/{id}/result", params=query, headers=headers) as answer:
            if not answer.is_success:
                answer.read()
                raise _error(answer)
            for line in answer.iter_lines():
                if line:
                    yield decode(line)

    def webhook_secret(self) -> str:
        """The secret that the signatures of the caller's callbacks are made with."""
        return msgspec.json.decode(self._get("/api/account/webhook-secret", {}), type=_Secret).secret

    # -- calls ---

    def _post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        sent = {"content-type": "application/json", **(headers or {})}
        return self._call(lambda: self._http.post(path, content=body, headers=sent))

    def _get(self, path: str, query: Mapping[str, str]) -> bytes:
        return self._call(lambda: self._http.get(path, params=query))

    def _call(self, send: Callable[[], httpx.Response]) -> bytes:
        for attempt in range(self._retries + 1):
            answer = send()
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


def _lines(head: Mapping[str, Json], inputs: Iterable[Mapping[str, Json]]) -> Iterator[bytes]:
    """An upload, in pieces of some size."""
    held = [msgspec.json.encode(head)]
    size = len(held[0])
    for one in inputs:
        held.append(msgspec.json.encode(one))
        size += len(held[-1])
        if size >= PIECE_BYTES:
            yield b"\n".join((*held, b""))
            held, size = [], 0
    yield b"\n".join(held)


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
