"""Uploads: bodies of any length, read as they come and never held whole.

Lines are read from the socket as fast as the series are taken; a Parquet file lies on disk while it is read, since its
index stands at its end.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.types import Receive

from gateway.dialects.base import Call
from gateway.dialects.canonical import job_lines, jobs
from gateway.dialects.canonical.job_lines import Forecasts, Lines
from gateway.domain import ForecastRequest, JobOrder, SeriesInput
from gateway.errors import MAX_FAULTS, Code, Fault, GatewayError, Place
from gateway.http.body import ClientLeftError
from gateway.http.compression import Collected, decoder
from gateway.pacing import SLICE_S, paced

if TYPE_CHECKING:
    from gateway.dialects.canonical.job_tables import TableReader

IDLE_S = 60.0  # without one byte, an upload is given up
WRITTEN_BYTES = 1024 * 1024  # of a file at once
_OWN = (("lines",), ("rows",))  # where faults begin that were found here
LINES_AFTER = 10_000  # lines read on after a first fault, to find more


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an upload may take."""

    max_bytes: int  # decoded
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A forecast job whose series are still coming."""

    order: JobOrder
    head: ForecastRequest
    series: AsyncIterator[SeriesInput]
    at: Callable[[int], Place]  # where a series stands, by its index

    def placed(self, error: GatewayError) -> GatewayError:
        """An error, at the places of its series in the upload and of its head in the first line."""
        if not error.faults or error.faults[0].loc[:1] in _OWN:
            return error
        faults = tuple(Fault(self._place(f.loc), f.msg, f.type) for f in error.faults)
        if error.code is Code.INVALID_ARGUMENT:
            return GatewayError.invalid(*faults)
        return GatewayError(error.code, error.sentence, faults=faults, retry_after_s=error.retry_after_s)

    def _place(self, loc: Place) -> Place:
        if loc[:1] == ("inputs",) and len(loc) > 1 and isinstance(loc[1], int):
            return (*self.at(loc[1]), *loc[2:])
        return ("request", *loc)


async def pieces(headers: Mapping[str, str], receive: Receive, bounds: Bounds) -> AsyncIterator[bytes]:
    """The decoded body, piece by piece.

    Raises PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, MALFORMED, DEADLINE_EXCEEDED and ClientLeftError.
    """
    out = Collected(bounds.max_bytes)
    decoding = decoder(headers.get("content-encoding", ""), out)
    until = asyncio.get_running_loop().time() + bounds.timeout_s
    more = True
    while more:
        try:
            async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + IDLE_S)):
                message = await receive()
        except TimeoutError:
            raise GatewayError(Code.DEADLINE_EXCEEDED, "The upload stopped, or took too long as a whole.") from None
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        for _ in decoding.feed(message.get("body", b"")):
            while out.pieces:
                yield out.pieces.pop(0)
        more = message.get("more_body", False)
        await asyncio.sleep(0)
    decoding.finish()
    while out.pieces:
        yield out.pieces.pop(0)


# -- lines ---


async def lines(body: AsyncIterator[bytes], call: Call, forecast: Forecasts, operations: jobs.Operations) -> Upload:
    """An NDJSON upload whose first line has been read; raises GatewayError with the faults of that line."""
    numbered = _numbered(body)
    first = await anext(numbered, None)
    if first is None:
        raise GatewayError(Code.MALFORMED, "The upload is empty; its first line holds type and request.")
    order, head = await paced(job_lines.first(*first, call, operations))
    series = _Lines(numbered, head.parameters.prediction_length, forecast)
    return Upload(order=order, head=head, series=series.read(), at=series.place)


async def _numbered(body: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    cutter = Lines()
    async for piece in body:
        for line in cutter.feed(piece):
            yield line
    for line in cutter.rest():
        yield line


class _Lines:
    """The lines after the first, as series."""

    def __init__(self, numbered: AsyncIterator[tuple[int, bytes]], horizon: int, forecast: Forecasts) -> None:
        self._numbered = numbered
        self._horizon = horizon
        self._forecast = forecast
        self._numbers = array("L")  # of the lines of the series

    def place(self, index: int) -> Place:
        """The line of a series."""
        return ("lines", self._numbers[index])

    async def read(self) -> AsyncIterator[SeriesInput]:
        """Every series; after a first faulty line none, and in the end the error with the faults of all lines read."""
        faults: list[Fault] = []
        code = Code.INVALID_ARGUMENT
        after = 0
        rested = time.perf_counter()
        async for number, line in self._numbered:
            after += bool(faults)
            if len(faults) >= MAX_FAULTS or after > LINES_AFTER:
                break
            try:
                one = await paced(job_lines.one_series(line, number, self._horizon, self._forecast))
            except GatewayError as error:
                faults += error.faults
                code = Code.MALFORMED if error.code is Code.MALFORMED else code
            else:
                self._numbers.append(number)
                if not faults:
                    yield one
            if time.perf_counter() - rested > SLICE_S:
                await asyncio.sleep(0)
                rested = time.perf_counter()
        if faults:
            told = GatewayError.invalid(*faults)
            raise GatewayError(code, told.sentence, faults=told.faults)
        if not self._numbers:
            raise GatewayError.invalid(Fault(("lines",), "An upload holds at least one series after its first line"))


# -- tables ---


@asynccontextmanager
async def table(
    body: AsyncIterator[bytes], call: Call, folder: Path, operations: jobs.Operations
) -> AsyncIterator[Upload]:
    """A Parquet upload, on disk below `folder` as long as the block runs."""
    from gateway.dialects.canonical.job_tables import TableReader, query_of

    query = query_of(call.query)
    await asyncio.to_thread(partial(folder.mkdir, parents=True, exist_ok=True))
    with tempfile.TemporaryFile(dir=folder) as file:  # without a name, so that no crash leaves it behind
        held: list[bytes] = []
        size = 0
        async for piece in body:
            held.append(piece)
            size += len(piece)
            if size >= WRITTEN_BYTES:
                await asyncio.to_thread(file.writelines, held)
                held, size = [], 0
        await asyncio.to_thread(file.writelines, held)
        await asyncio.to_thread(file.flush)
        reader = await asyncio.to_thread(TableReader, file, query)
        first = await asyncio.to_thread(reader.batch)
        if first is None or not first.num_rows:
            raise GatewayError(Code.INVALID_ARGUMENT, "The table holds no rows.")
        order, head = await paced(job_lines.head(reader.head(reader.infer(first)), call, operations))
        reader.follow(head.parameters.frequency)
        series = _Rows(reader, first)
        yield Upload(order=order, head=head, series=series.read(), at=lambda index: ("series", index))


class _Rows:
    """The rows of a table, as series."""

    def __init__(self, reader: TableReader, first: object) -> None:
        self._reader = reader
        self._batch: object = first

    async def read(self) -> AsyncIterator[SeriesInput]:
        """Every series up to a first faulty one, and in the end the error with the faults of all rows read."""
        reader, batch = self._reader, self._batch
        while True:
            for one in await paced(reader.series(batch)):
                yield one
            if batch is None or len(reader.faults) >= MAX_FAULTS:
                break
            batch = await asyncio.to_thread(reader.batch)
        if reader.faults:
            raise GatewayError.invalid(*reader.faults)
