"""What lies in a job's blobs, by name: the plan, the head (its work without members), chunks of work, and results."""

from __future__ import annotations

from typing import get_args

import msgspec
import numpy as np

from gateway.domain import Answer, BatchRequest, SeriesInput, Work
from gateway.errors import Code, GatewayError
from gateway.jobs import codec
from gateway.jobs.blobs import Blobs
from gateway.jobs.chunks import Chunk, Plan, with_members
from gateway.pacing import paced

PLAN, HEAD = "plan", "head"

_WORK, _ANSWER = get_args(Work), get_args(Answer)


def work_name(chunk: int) -> str:
    return f"work-{chunk}"


def result_name(chunk: int, ticket: int) -> str:
    return f"result-{chunk}-{ticket}"


async def write_plan(blobs: Blobs, job: str, head: Work, chunks: list[Chunk]) -> None:
    """Write what belongs to the whole job, once its chunks are there."""
    await blobs.write(job, HEAD, await paced(codec.encode(with_members(head, ()))))
    await blobs.write(job, PLAN, msgspec.msgpack.encode(Plan(codec.VERSION, tuple(chunks))))


async def read_plan(blobs: Blobs, job: str) -> Plan:
    """A stored plan. Raises GatewayError: NOT_FOUND, INTERNAL for another version."""
    content = await blobs.read(job, PLAN)
    try:
        plan = msgspec.msgpack.decode(content, type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise GatewayError(Code.INTERNAL, "The plan of this job cannot be read.") from None
    if plan.version != codec.VERSION:
        raise GatewayError(Code.INTERNAL, f"This job was planned by another release (version {plan.version}).")
    return plan


async def work_of(content: bytes) -> Work:
    """The work of a chunk. Raises GatewayError INTERNAL where it cannot be read."""
    work: Work = await paced(codec.decode(content, _WORK))
    return work


async def answer_of(content: bytes) -> Answer:
    """The answer to a chunk. Raises GatewayError INTERNAL where it cannot be read."""
    answer: Answer = await paced(codec.decode(content, _ANSWER))
    return answer


async def work_or_blanks(blobs: Blobs, job: str, chunk: int, count: int, error: GatewayError) -> Work:
    """The work of a chunk; where it cannot be read, the same of `count` blank members, to be answered by errors."""
    try:
        return await work_of(await blobs.read(job, work_name(chunk)))
    except GatewayError:
        head = await work_of(await blobs.read(job, HEAD))
    if isinstance(head, BatchRequest):
        return with_members(head, (error,) * count)
    return with_members(head, (SeriesInput(target=np.empty((0, 1))),) * count)
