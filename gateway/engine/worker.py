"""The process that owns a device: reads frames, holds models, forecasts. `python -m gateway.engine.worker FD PARENT`.

It has one thread, imports a model library only when a model of it is loaded, and ends with the gateway: at the end of
its input, or by the parent-death signal where it is busy.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import math
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from adapters.base import Adapter, Array, Batch, Device, Sampling, Series, SeriesFailure, SeriesForecast, describe
from adapters.loading import load
from catalog.card import ModelCard
from gateway.engine import identity, machine
from gateway.engine.frames import (
    Begin,
    Begun,
    Done,
    FrameReader,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Run,
    Skip,
    Task,
    ToWorker,
    Unload,
    decode_to_worker,
    encode,
)

log = logging.getLogger("worker")

PR_SET_PDEATHSIG = 1
WARM_UP_LENGTH = 64
WARM_UP_HORIZON = 8


class Worker:
    """Serves one gateway until it hangs up."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = FrameReader()
        self._inbox: deque[ToWorker] = deque()
        self._skipped: set[tuple[int, int]] = set()
        self._adapters: dict[str, Adapter] = {}
        self._device = Device()

    def serve(self) -> None:
        """Answer messages in order until the end of input."""
        while (message := self._next()) is not None:
            match message:
                case Run():
                    self._run(message)
                case Load():
                    self._send(self._load(message))
                case Unload():
                    self._unload(message.model)
                case Begin():
                    self._begin(message)
                case Skip():
                    pass  # it came after its task had begun

    def _begin(self, message: Begin) -> None:
        self._device = message.device
        if message.library is not None:
            self._prepare(message.library)
        self._send(Begun(device=self._device, seconds=_seconds_since_start()))

    def _prepare(self, library: str) -> None:
        """Import what takes seconds before anyone waits for it, and see whether it can use the device."""
        try:
            module = importlib.import_module(library)
        except ImportError as exc:
            log.error("%s cannot be imported: %s", library, exc)  # each load will say so to those who ask
            return
        if self._device.gpu and not module.cuda.is_available():
            log.warning("this %s has no CUDA: computing on the CPU", library)
            self._device = replace(self._device, name="cpu")

    def _load(self, message: Load) -> Message:
        card = message.card
        started, before = time.perf_counter(), machine.rss_bytes(os.getpid())
        folders = {k: Path(f) for k, f in message.folders.items()}
        try:
            lie = identity.stamps(card, folders) if message.identify else None
            adapter = load(card, folders, self._device)
            shared = _shared(adapter, Path(message.shared)) if message.shared is not None else 0
            answer = forecast(adapter, (first_series(card),))[0]
            known = identity.identity(card, folders, self._device) if lie is not None else b""
            if lie is not None and identity.stamps(card, folders) != lie:
                known = b""  # files were replaced meanwhile: nobody knows which of them were loaded
        except Exception as exc:
            log.exception("cannot load %s", card.id)
            told = str(exc) if isinstance(exc, (ValueError, ImportError)) else type(exc).__name__
            return LoadFailed(model=card.id, reason=told)
        if isinstance(answer, SeriesFailure):
            adapter.close()
            return LoadFailed(model=card.id, reason=f"its first forecast failed: {answer.reason}")
        self._adapters[card.id] = adapter
        _tidy()
        memory = max(0, machine.rss_bytes(os.getpid()) - before)
        return Loaded(
            model=card.id,
            seconds=time.perf_counter() - started,
            memory_bytes=memory,
            shared_bytes=shared,
            identity=known,
        )

    def _unload(self, model: str) -> None:
        adapter = self._adapters.pop(model, None)
        if adapter is not None:
            adapter.close()
            del adapter
            gc.unfreeze()
            _tidy()

    def _run(self, message: Run) -> None:
        for number, task in enumerate(message.tasks):
            self._listen()
            skipped = (message.cut, number) in self._skipped
            started = time.perf_counter()
            results = [] if skipped else self._forecast(task)
            self._send(
                Done(
                    cut=message.cut,
                    task=number,
                    results=tuple(r.reason if isinstance(r, SeriesFailure) else r for r in results),
                    compute_s=time.perf_counter() - started,
                )
            )
        self._skipped.clear()

    def _forecast(self, task: Task) -> list[SeriesForecast | SeriesFailure]:
        adapter = self._adapters.get(task.model)
        if adapter is None:
            return [SeriesFailure("The model is not loaded.")] * len(task.series)
        return forecast(adapter, task.series)

    # -- frames ---

    def _next(self) -> ToWorker | None:
        while not self._inbox:
            data = self._connection.recv(1 << 20)
            if not data:
                return None
            self._take_in(data)
        return self._inbox.popleft()

    def _listen(self) -> None:
        """Take in what has come meanwhile, without waiting."""
        while select.select([self._connection], [], [], 0)[0]:
            data = self._connection.recv(1 << 20)
            if not data:
                sys.exit(0)  # nobody is left to forecast for
            self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        for body in self._reader.feed(data):
            message = decode_to_worker(body)
            if isinstance(message, Skip):
                self._skipped.add((message.cut, message.task))
            else:
                self._inbox.append(message)

    def _send(self, message: Message) -> None:
        self._connection.sendall(encode(message))


def forecast(adapter: Adapter, series: Sequence[Series]) -> list[SeriesForecast | SeriesFailure]:
    """One result a series, whatever the adapter does: a batch that raises is tried again in halves.

    So a poison series fails alone, and a batch too large for the device's memory is still forecast.
    """
    try:
        results = adapter.predict(Batch(tuple(series))).series
        if len(results) != len(series):
            raise ValueError(f"{len(results)} results for {len(series)} series")
    except Exception as exc:
        if len(series) == 1:
            log.exception("a series failed: %s", describe(series))
            return [SeriesFailure(f"The model failed on this series ({type(exc).__name__}).")]
        log.warning("%s failed (%s): trying halves", describe(series), type(exc).__name__)
        middle = len(series) // 2
        return forecast(adapter, series[:middle]) + forecast(adapter, series[middle:])
    return [checked(*pair) for pair in zip(series, results, strict=True)]


def checked(series: Series, result: SeriesForecast | SeriesFailure) -> SeriesForecast | SeriesFailure:
    """`result` if it can be delivered for `series`: of the right shape, every number finite, paths only if asked."""
    if isinstance(result, SeriesFailure):
        return result
    steps = (series.horizon, series.target.shape[0])
    if result.point.shape != steps or result.quantiles.shape != (len(series.levels), *steps):
        return SeriesFailure("The model returned a forecast of the wrong shape.")
    if not (
        _finite(result.point) and _finite(result.quantiles) and (result.samples is None or _finite(result.samples))
    ):
        return SeriesFailure("The model returned numbers that are not finite.")
    if result.samples is not None and series.sampling is not None and not series.sampling.returned:
        return replace(result, samples=None)
    return result


def _finite(values: Array) -> bool:
    # What is not finite makes the sum of squares so too: one quick call where numbers are not huge as well.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def first_series(card: ModelCard) -> Series:
    """A small series that any model of `card` can forecast, to warm it up and to know that it answers."""
    length = min(card.max_context, WARM_UP_LENGTH)
    horizon = min(card.native_horizon or card.max_horizon, WARM_UP_HORIZON)
    channels = max(1, len(card.channel_names))
    wave = 100.0 + np.sin(np.arange(length) * (2 * np.pi / 12))
    return Series(
        target=np.tile(wave, (channels, 1)),
        horizon=horizon,
        levels=card.default_quantile_levels,
        season=12,
        stamps=np.arange(length + horizon, dtype=np.int64) * 3600,
        sampling=Sampling(count=2, seed=0) if card.sampling.native else None,
    )


def _shared(adapter: Adapter, file: Path) -> int:
    """Use the weights that every worker uses; how many bytes these are."""
    from adapters.sharing import share  # imports torch, which only its models need

    try:
        return share(adapter, file)
    except OSError as exc:
        log.warning("these weights are not shared: %s", exc)
        return 0


def _tidy() -> None:
    """Give back what was dropped, and let no later collection look at what stays, such as a library's own objects."""
    gc.collect()
    gc.freeze()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)  # the worker's environment lets malloc keep what is free


def _seconds_since_start() -> float:
    """Age of this process by the machine's clock ticks."""
    try:
        born = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return time.process_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - born / os.sysconf("SC_CLK_TCK")


def _die_with(parent: int) -> None:
    """Let no worker outlive its gateway, not even one that computes when the gateway is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(0)


def main() -> None:
    descriptor, parent = (int(a) for a in sys.argv[1:3])
    _die_with(parent)
    # The gateway decides when work ends: a signal to the whole group is for the gateway alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    with socket.socket(fileno=descriptor) as connection:
        Worker(connection).serve()


if __name__ == "__main__":
    main()
