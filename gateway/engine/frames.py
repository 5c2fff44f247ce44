"""What the gateway and a worker process say to each other.

A frame is a length of four bytes, then one message as msgpack; arrays travel as their raw bytes. Both ends are of one
release on one machine, so frames carry no version and floats keep the byte order they have in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from adapters.base import Device, Series, SeriesForecast
from catalog.card import ModelCard

_LENGTH = struct.Struct("!I")


class Message(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Anything that is sent."""


class Begin(Message, frozen=True, kw_only=True):
    """To the worker, first: what it computes on, and a library to import before anyone waits for it."""

    device: Device
    library: str | None


class Load(Message, frozen=True, kw_only=True):
    """To the worker: hold a model; answered by Loaded or LoadFailed."""

    card: ModelCard
    folders: dict[str, str]
    identify: bool = False  # tell what it is, which takes reading its files once more
    shared: str | None = None  # a file for the weights, of which all workers shall use one copy


class Unload(Message, frozen=True, kw_only=True):
    """To the worker: hold a model no longer."""

    model: str


class Task(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One call of an adapter."""

    model: str
    series: tuple[Series, ...]


class Run(Message, frozen=True, kw_only=True):
    """To the worker: a cut; each task is answered by Done, in order."""

    cut: int
    tasks: tuple[Task, ...]


class Skip(Message, frozen=True, kw_only=True):
    """To the worker: nobody waits for this task of the cut any more; it is answered by Done without results."""

    cut: int
    task: int


class Begun(Message, frozen=True, kw_only=True):
    """From the worker, first: it is ready to load models."""

    device: Device  # what it was told, or a CPU where there is no such device
    seconds: float  # since the process started


class Loaded(Message, frozen=True, kw_only=True):
    """From the worker: it holds a model, which has answered a first forecast."""

    model: str
    seconds: float
    memory_bytes: int
    shared_bytes: int = 0  # of them in the file that all workers use
    identity: bytes = b""  # of `gateway.engine.identity`; empty: not asked for, or its files changed meanwhile


class LoadFailed(Message, frozen=True, kw_only=True):
    """From the worker: it cannot hold a model, for a reason that is safe to show."""

    model: str
    reason: str


class Done(Message, frozen=True, kw_only=True):
    """From the worker: a result for each series of a task, in order; a sentence where a series failed."""

    cut: int
    task: int
    results: tuple[SeriesForecast | str, ...]
    compute_s: float


ToWorker = Begin | Load | Unload | Run | Skip
FromWorker = Begun | Loaded | LoadFailed | Done


def encode(message: Message) -> bytearray:
    """One frame."""
    frame = bytearray(_LENGTH.size)
    _encoder.encode_into(message, frame, _LENGTH.size)
    _LENGTH.pack_into(frame, 0, len(frame) - _LENGTH.size)
    return frame


class FrameReader:
    """Bytes in, whole frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> Iterator[bytes]:
        """The bodies of the frames that `data` completes."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            body = start + _LENGTH.size
            end = body + _LENGTH.unpack_from(self._buffer, start)[0]
            if len(self._buffer) < end:
                break
            yield bytes(memoryview(self._buffer)[body:end])
            start = end
        del self._buffer[:start]


def decode_to_worker(body: bytes) -> ToWorker:
    """The message of a frame that the gateway sent; its arrays cannot be written to."""
    return _to_worker.decode(body)


def decode_from_worker(body: bytes) -> FromWorker:
    """The message of a frame that a worker sent; its arrays cannot be written to."""
    return _from_worker.decode(body)


def array_out(value: object) -> tuple[str, tuple[int, ...], memoryview]:
    """An array as msgpack carries it; for an encoder's hook."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, np.ascontiguousarray(value).data
    raise NotImplementedError(f"{type(value)} does not travel")


def array_in(kind: type, value: Any) -> object:
    """An array from what `array_out` made of it; it cannot be written to. For a decoder's hook."""
    dtype, shape, data = value
    return np.frombuffer(data, dtype).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=array_out)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker, dec_hook=array_in)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker, dec_hook=array_in)
