"""`forecast-gateway forecast FILE --jobs`: a file as one job of a running gateway.

The job has a key made of the file's content and of what is asked. So the same command, run again after an
interruption, finds its job where it stands, and a job that is over gives its result at once.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from gateway.cli.jobs import bar, connected, follow, span

if TYPE_CHECKING:
    from gateway.cli.forecast import Job, Result
    from gateway.client import Client, IndexedOutput, Json
    from gateway.client import Job as Handed
    from gateway.tables import TableSeries

AGAIN = ("failed", "cancelled", "expired")  # a job that ended so is not taken up, but handed in anew
TIMEOUT_S = 600.0


def forecast(args: argparse.Namespace, job: Job, series: Sequence[TableSeries]) -> list[Result]:
    """The forecast of every series, in order."""
    with connected(args.url, args.api_key_file, timeout_s=TIMEOUT_S) as client:
        handed = _hand_in(client, args, job, series)
        try:
            if not handed.over:
                handed = follow(client, handed.id)
            if handed.status in AGAIN:
                _stop(handed)
            return list(_results(client, handed, series))
        except KeyboardInterrupt:
            _say(f"The job {handed.id} goes on. The same command takes it up again; to stop it:")
            _say(f"  forecast-gateway jobs cancel {handed.id} --url {args.url}")
            raise


def _hand_in(client: Client, args: argparse.Namespace, job: Job, series: Sequence[TableSeries]) -> Handed:
    """The job of this file: a new one, or the one that an earlier run of the same command left."""
    from rich.console import Console

    head = _head(job)
    digest = _digest(args, head)
    for attempt in range(1, 100):
        console = Console(stderr=True)
        with bar(console, stays=False) as progress:
            task = progress.add_task("sending", total=len(series), failed="")
            inputs = _inputs(series, partial(progress.advance, task))
            handed = client.upload(head, inputs, idempotency_key=f"{digest}-{attempt}")
        if handed.status not in AGAIN:
            break
    if handed.over:
        _say(f"job {handed.id}: done {span(_age(handed))} ago")
    elif handed.progress.done:
        _say(f"job {handed.id}: taken up again at {handed.progress.done:,} of {handed.progress.total:,}")
    else:
        _say(f"job {handed.id}")
    return handed


def _age(handed: Handed) -> float:
    return time.time() - (handed.finished or handed.created)


def _head(job: Job) -> dict[str, Json]:
    from gateway.cli.forecast import DEFAULT_NAME

    parameters: dict[str, Json] = {"prediction_length": job.horizon, "quantile_levels": list(job.levels)}
    if job.frequency:
        parameters["frequency"] = job.frequency
    return {"type": "forecast", "request": {"model": job.model or DEFAULT_NAME, "parameters": parameters}}


def _digest(args: argparse.Namespace, head: Mapping[str, Json]) -> str:
    """What makes two runs of the command the same."""
    import msgspec

    told = hashlib.sha256(msgspec.json.encode(head, order="deterministic"))
    options = (args.time, args.target, args.id, args.time_format, args.repair)
    told.update(repr(options).encode())
    for path in (args.file, args.future):
        if path is not None:
            with path.open("rb") as file:
                told.update(hashlib.file_digest(file, "sha256").digest())
    return told.hexdigest()[:40]


def _inputs(series: Sequence[TableSeries], sent: Callable[[], None]) -> Iterator[Mapping[str, Json]]:
    from gateway.cli.forecast import series_body

    for one in series:
        body = series_body(one)
        if one.id:
            body["item_id"] = one.id
        yield body
        sent()


def _results(client: Client, handed: Handed, series: Sequence[TableSeries]) -> Iterator[Result]:
    from rich.console import Console

    with bar(Console(stderr=True), stays=False) as progress:
        task = progress.add_task("fetching", total=len(series), failed="")
        for output in _all_outputs(client, handed.id, len(series)):
            progress.advance(task)
            yield _result(series[output.index], output)


def _all_outputs(client: Client, id: str, count: int) -> Iterator[IndexedOutput]:
    """Every output; a connection that breaks is made again where it was."""
    import httpx

    at = failures = 0
    while at < count:
        try:
            before = at
            for output in client.results(id, offset=at):
                yield output
                at = output.index + 1
                failures = 0
            if at == before:
                from gateway.errors import Code, GatewayError

                raise GatewayError(Code.UNAVAILABLE, f"The result of job {id} ends at {at} of {count}.")
        except httpx.TransportError:
            failures += 1
            if failures > 5:
                raise


def _result(series: TableSeries, output: IndexedOutput) -> Result:
    import numpy as np

    from gateway.cli.forecast import Result, failure

    if output.error is not None:
        return failure(series, output.error.error)
    return Result(
        series=series,
        mean=np.array(output.mean),
        quantiles=np.array([q.values for q in output.quantile_predictions]),
        notices=tuple(output.notices),
    )


def _stop(handed: Handed) -> None:
    from gateway.cli.jobs import ending
    from gateway.errors import Code, GatewayError

    raise GatewayError(Code.MODEL_FAILED, f"job {ending(handed)}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
