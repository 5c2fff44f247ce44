"""`forecast-gateway forecast FILE`: forecast every series of a CSV, TSV or Parquet file.

Offline the models run in workers of this command; with `--url` a running gateway is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.options import add_settings, resolve_settings

if TYPE_CHECKING:
    from gateway.client import Json
    from gateway.domain import Array
    from gateway.tables import Reading, TableSeries

DEFAULT_NAME = "default"  # every gateway's alias of its default model
CHUNK_SERIES = 64  # series of one request: enough to fill a batch, few enough to show progress
CHUNK_CELLS = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The forecast of one series of the file, or why there is none."""

    series: TableSeries
    mean: Array | None  # (horizon, channels)
    quantiles: Array | None  # (levels, horizon, channels)
    notices: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked of every series."""

    model: str | None
    horizon: int
    levels: tuple[float, ...]
    frequency: str | None

    def stamps(self, series: TableSeries) -> tuple[str, ...] | None:
        """Times of the horizon of one series, written as its file writes them."""
        from gateway import timeline

        if not series.stamps or self.frequency is None:
            return None
        start = timeline.parse_start(series.stamps[0])
        grid = timeline.Grid(start, timeline.parse_frequency(self.frequency))
        return grid.stamps(len(series.target), self.horizon, start.form)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "forecast",
        help="forecast every series of a CSV, TSV or Parquet file",
        description="Forecast every series of a file. Columns are found by themselves where their names or contents "
        "tell; gaps, repeated times and disorder are reported with their rows and mended only with --repair.",
    )
    parser.add_argument("file", type=Path, help="CSV, TSV or Parquet file, one row a time (and series)")
    parser.add_argument("--model", help="model id or alias (default: the gateway's default model)")
    parser.add_argument("--horizon", type=int, required=True, metavar="N", help="steps to forecast")
    parser.add_argument("--time", metavar="COLUMN", help="column of times")
    parser.add_argument("--target", metavar="COLUMN[,COLUMN]", help="column to forecast; several: channels")
    parser.add_argument("--id", metavar="COLUMN", help="column that tells the series apart")
    parser.add_argument("--freq", metavar="ALIAS", help="frequency (D, h, 15min, ME, ...; default: found in the times)")
    parser.add_argument("--time-format", metavar="FORMAT", help="form of the times, such as '%%d.%%m.%%Y'")
    parser.add_argument("--future", type=Path, metavar="FILE", help="covariates over the horizon, same column names")
    parser.add_argument("--quantiles", default="0.1,0.5,0.9", metavar="Q,Q,...", help="levels (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="tidy CSV or Parquet (default: FILE.forecast.csv)")
    parser.add_argument("--plot", type=Path, metavar="FILE.html", help="a plot that needs no network")
    parser.add_argument("--repair", action="store_true", help="fill gaps, sort times, keep the last of equal times")
    parser.add_argument("--url", help="ask this gateway instead of running the model here")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="file that holds the key for --url")
    parser.add_argument(
        "--jobs",
        action="store_true",
        help="with --url: send the file as one job; run again after an interruption, it goes on where it was",
    )
    add_settings(parser, "engine")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from gateway import tables

    # A worker that ends as its loop closes is reaped twice; asyncio's word about that is nobody's concern here.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    out = args.out or args.file.with_name(f"{args.file.stem}.forecast.csv")
    if args.jobs and not args.url:
        print("forecast-gateway: --jobs needs the gateway that does them: --url http://...", file=sys.stderr)
        return 2
    try:
        _check_outputs(args, out)
        job, reading = _read(args)
    except (tables.TableError, ValueError) as exc:
        print(f"forecast-gateway: {exc}", file=sys.stderr)
        return 2
    if not _report(reading, repair=args.repair):
        return 2
    if args.jobs:
        from gateway.cli import bulk

        results = bulk.forecast(args, job, reading.series)
    else:
        results = asyncio.run(_forecast(args, job, reading.series))
    from gateway.cli.output import write_plot, write_table

    write_table(out, reading, job, results)
    say(f"wrote {out}")
    if args.plot:
        write_plot(args.plot, reading, job, results)
        say(f"wrote {args.plot}")
    failed = [r for r in results if r.error is not None]
    for r in failed[:10]:
        say(f"failed: {r.series.id or 'the series'}: {r.error}")
    for sentence, count in Counter(n for r in results for n in r.notices).items():
        say(f"note ({count} series): {sentence}")
    return 1 if failed else 0


def say(line: str) -> None:
    """Tell the person, apart from what a pipe reads."""
    print(line, file=sys.stderr)


def _check_outputs(args: argparse.Namespace, out: Path) -> None:
    """Refuse before the work what could not be written after it, or would overwrite what is read."""
    inputs = {p.resolve() for p in (args.file, args.future) if p is not None}
    for path in (p for p in (out, args.plot) if p is not None):
        if path.resolve() in inputs:
            raise ValueError(f"{path} is an input and would be overwritten; name another file with --out or --plot")
        if not os.access(path.resolve().parent, os.W_OK) or path.is_dir():
            raise ValueError(f"{path} cannot be written: {path.resolve().parent} is no folder that can be written to")
    if out.suffix not in {".csv", ".parquet"}:
        raise ValueError(f"--out {out}: the file's ending is .csv or .parquet")


def _read(args: argparse.Namespace) -> tuple[Job, Reading]:
    from gateway import tables

    try:
        levels = tuple(sorted({float(q) for q in args.quantiles.split(",") if q.strip()}))
    except ValueError:
        raise ValueError(f"--quantiles are numbers such as 0.1,0.5,0.9, not {args.quantiles!r}") from None
    if any(not 0 < q < 1 for q in levels):
        raise ValueError("--quantiles are levels between 0 and 1")
    if args.horizon < 1:
        raise ValueError("--horizon is at least 1")
    table = tables.read_table(args.file)
    targets = tuple(t.strip() for t in args.target.split(",")) if args.target else ()
    roles = tables.find_roles(table, time=args.time, targets=targets, id=args.id)
    reading = tables.read_series(
        table,
        roles,
        future=tables.read_table(args.future) if args.future else None,
        frequency=args.freq,
        time_format=args.time_format,
        horizon=args.horizon,
        repair=args.repair,
    )
    job = Job(model=args.model, horizon=args.horizon, levels=levels, frequency=reading.frequency)
    return job, reading


def _report(reading: Reading, *, repair: bool) -> bool:
    """Say what was found; False where doubts are left that only --repair may mend."""
    roles = reading.roles
    columns = [f"target {', '.join(roles.targets)}"]
    columns += [f"time {roles.time} ({reading.frequency or 'no frequency'})"] if roles.time else ["no time column"]
    columns += [f"id {roles.id}"] if roles.id else []
    say(f"{len(reading.series)} series: {'; '.join(columns)}")
    if reading.unused:
        say(f"not used: {', '.join(reading.unused)} (--target for channels, --future for covariates)")
    for problem in reading.problems:
        say(f"{'mended' if repair and problem.repair else 'problem'}: {problem.sentence}")
        if problem.repair:
            say(f"  --repair {problem.repair}" if not repair else f"  {problem.repair}")
    return all(repair and p.repair for p in reading.problems)


def _chunks(series: Sequence[TableSeries]) -> Iterator[list[TableSeries]]:
    """Series in requests of bounded size, in order."""
    chunk: list[TableSeries] = []
    cells = 0
    for s in series:
        if chunk and (len(chunk) == CHUNK_SERIES or cells + s.target.size > CHUNK_CELLS):
            yield chunk
            chunk, cells = [], 0
        chunk.append(s)
        cells += s.target.size
    if chunk:
        yield chunk


async def _forecast(args: argparse.Namespace, job: Job, series: Sequence[TableSeries]) -> list[Result]:
    """Every series in order, with a bar on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[Result] = []
    run_chunks = _online(args, job, series) if args.url else _offline(args, job, series)
    from rich.console import Console

    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("forecasting", total=len(series))
        async for chunk in run_chunks:
            results += chunk
            progress.advance(bar, len(chunk))
    return results


async def _offline(args: argparse.Namespace, job: Job, series: Sequence[TableSeries]) -> AsyncIterator[list[Result]]:
    """Run the model in workers of this process."""
    from gateway.app import build
    from gateway.domain import Caller, Forecast, ForecastRequest, Parameters, SeriesForecast, SeriesInput
    from gateway.errors import Code, GatewayError

    parts = build(resolve_settings(args))
    caller = Caller(id="cli")
    service = parts.service
    loop = asyncio.get_running_loop()
    await parts.engine.start()
    try:
        model = job.model or service.default_card().id
        say(f"loading {model}")
        await service.load_model(model, caller)
        for chunk in _chunks(series):
            request = ForecastRequest(
                model=model,
                series=tuple(
                    SeriesInput(
                        target=s.target,
                        start=s.stamps[0] if s.stamps else None,
                        past_covariates=s.past,
                        future_covariates=s.future,
                    )
                    for s in chunk
                ),
                parameters=Parameters(
                    prediction_length=job.horizon, frequency=job.frequency, quantile_levels=job.levels
                ),
            )
            try:
                answer = await service.forecast(request, caller=caller, deadline=loop.time() + 3600)
            except GatewayError as exc:
                if exc.code is not Code.MODEL_FAILED:
                    raise
                yield [failure(s, exc.sentence) for s in chunk]
                continue
            assert isinstance(answer, Forecast)  # no dry run was asked
            yield [
                Result(
                    series=s,
                    mean=o.mean,
                    quantiles=o.quantiles,
                    notices=tuple(n.sentence for n in o.notices),
                )
                if isinstance(o, SeriesForecast)
                else failure(s, o.sentence)
                for s, o in zip(chunk, answer.outputs, strict=True)
            ]
    finally:
        await parts.engine.stop(grace_s=1.0)


def failure(series: TableSeries, reason: str) -> Result:
    return Result(series=series, mean=None, quantiles=None, notices=(), error=reason)


async def _online(args: argparse.Namespace, job: Job, series: Sequence[TableSeries]) -> AsyncIterator[list[Result]]:
    """Ask a running gateway."""
    import httpx
    import numpy as np

    from gateway.client import Client, ClientError
    from gateway.errors import Code, GatewayError

    key = args.api_key_file.read_text().strip() if args.api_key_file else None
    with Client(args.url, api_key=key, timeout_s=600.0) as client:
        for chunk in _chunks(series):
            try:
                answer = await asyncio.to_thread(
                    client.forecast,
                    job.model or DEFAULT_NAME,
                    [series_body(s) for s in chunk],
                    prediction_length=job.horizon,
                    parameters={
                        "quantile_levels": list(job.levels),
                        **({"frequency": job.frequency} if job.frequency else {}),
                    },
                )
            except httpx.HTTPError as exc:
                raise GatewayError(Code.UNAVAILABLE, f"{args.url} does not answer: {exc}") from None
            except ClientError as exc:
                code = Code(exc.code) if exc.code in set(Code) else Code.INTERNAL
                raise GatewayError(code, f"{args.url}: {exc.sentence}") from None
            yield [
                failure(s, o.error.error)
                if o.error is not None
                else Result(
                    series=s,
                    mean=np.array(o.mean),
                    quantiles=np.array([q.values for q in o.quantile_predictions]),
                    notices=tuple(o.notices),
                )
                for s, o in zip(chunk, answer.outputs, strict=True)
            ]


def series_body(s: TableSeries) -> dict[str, Json]:
    """One series as the contract's JSON: NaN becomes null."""
    import numpy as np

    def nullable(values: Array) -> list[Json]:
        holes = values.astype(object)
        holes[np.isnan(values)] = None
        listed: list[Json] = holes.tolist()
        return listed

    body: dict[str, Json] = {"target": nullable(s.target)}
    if s.stamps:
        body["start"] = s.stamps[0]
    if s.past:
        body["past_covariates"] = {n: nullable(v) for n, v in s.past.items()}
        body["future_covariates"] = {n: v.tolist() for n, v in s.future.items()}
    return body
