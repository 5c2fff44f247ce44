"""Results of jobs as streams: a chunk is fetched, written and forgotten before the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.dialects.base import Call, Operation
from gateway.dialects.canonical import job_lines
from gateway.dialects.canonical.media import Format
from gateway.jobs import Slice
from gateway.pacing import paced

if TYPE_CHECKING:
    from gateway.dialects.canonical.result_tables import TableWriter

Item = TypeVar("Item")


async def begun(items: AsyncIterator[Item]) -> AsyncIterator[Item] | None:
    """The same items once the first is there, so that what is wrong is said before an answer begins; None: none."""
    first = await anext(items, None)
    return None if first is None else _after(first, items)


async def _after(first: Item, items: AsyncIterator[Item]) -> AsyncIterator[Item]:
    yield first
    async for one in items:
        yield one


async def lines(call: Call, slices: AsyncIterator[Slice], operation: Operation[Any, Any]) -> AsyncIterator[bytes]:
    """One output a line, with its index."""
    async for one in slices:
        members = await paced(job_lines.members(call, one.answer, one.first, operation, Format.JSON))
        yield b"\n".join((*members, b""))


async def table(slices: AsyncIterator[Slice]) -> AsyncIterator[bytes]:
    """A Parquet file of forecasts, a row group a slice; NOT_ACCEPTABLE for a result that is none."""
    from gateway.dialects.canonical.result_tables import TableWriter, forecast_of

    writer: TableWriter | None = None
    async for one in slices:
        writer = writer or TableWriter(forecast_of(one.answer).quantile_levels)
        yield await asyncio.to_thread(writer.add, one.answer, one.first)
    if writer is not None:
        yield await asyncio.to_thread(writer.end)
