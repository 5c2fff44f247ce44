"""A walk over the history of series: every block forecast from the context before it, in calls of many blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from catalog import ModelCard
from gateway.domain import (
    Array,
    Caller,
    Forecast,
    ForecastRequest,
    Notice,
    SeriesError,
    SeriesForecast,
    SeriesInput,
    Usage,
)
from gateway.ensemble.backtest import as_known
from gateway.ensemble.seasons import Usual
from gateway.errors import Code, GatewayError
from gateway.pacing import paced
from gateway.planning import Steps, notice
from gateway.service.forecasts import ForecastService

CALL_BLOCKS = 256  # that the engine is given at a time: many batches' worth, and others' work runs in between
CALL_VALUES = 1_000_000  # that the contexts of one call hold at most: 8 MB
SIDE_BY_SIDE = 2  # calls, so that workers are busy while blocks are cut and answers put in place


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that are forecast together from the context before them."""

    of: History
    cut: int  # the first row
    rows: int


@dataclass(slots=True)
class History:
    """One series, what its blocks are forecast from, and what became of them."""

    source: SeriesInput
    item: int
    quantiles: Array  # (levels, time, channels): of each row by its own block, NaN where there is none
    read: SeriesInput  # what the model reads of `source`
    usual: Usual | None = None  # what `read` is relative to
    error: SeriesError | None = None  # nothing can be forecast, or the first block that failed
    failed: list[Block] = field(default_factory=list)
    forecast: int = 0  # blocks
    general: list[Notice] = field(default_factory=list)  # what is true of the whole series
    _said: dict[tuple[str, tuple[str, ...]], tuple[int, Notice]] = field(default_factory=dict)  # blocks, and the last

    @classmethod
    def of(cls, source: SeriesInput, item: int, levels: int) -> History:
        """A history of which nothing is forecast yet."""
        return cls(source, item, np.full((levels, *source.target.shape), np.nan), source)

    def relative_to(self, usual: Usual) -> None:
        """Let the model read values relative to their place in the season from now on."""
        self.usual = usual
        self.read = replace(self.source, target=usual.relative(self.source.target))

    def blocks(self, first: int, rows: int) -> Iterator[Block]:
        """The blocks from row `first` on that hold a value; the last may be shorter."""
        target = self.source.target
        for cut in range(first, len(target), rows):
            if not np.isnan(target[cut : cut + rows]).all():
                yield Block(self, cut, min(rows, len(target) - cut))

    def say(self, *notices: Notice) -> None:
        """Keep what is said of one block: each once, and of how many."""
        for said in notices:
            key = said.code, said.names
            count, _ = self._said.get(key, (0, said))
            self._said[key] = count + 1, replace(said, item=self.item)

    def notices(self) -> tuple[Notice, ...]:
        """What was said of the series and of its blocks, and of how many where not of all."""
        found = list(self.general)
        for count, said in self._said.values():
            some = count < self.forecast and said.code in OF_BLOCKS
            sentence = f"In {count} of {self.forecast} blocks: {said.sentence}" if some else said.sentence
            found.append(replace(said, sentence=sentence))
        if self.failed and self.error is not None:
            block = self.failed[0]
            more = f" Nor were {len(self.failed) - 1} more." if len(self.failed) > 1 else ""
            detail = f"rows {block.cut} to {block.cut + block.rows - 1}: {self.error.sentence}{more}"
            found.append(notice("window_failed", self.item, detail=detail))
        return tuple(found)

    def fail(self, block: Block, error: SeriesError) -> None:
        self.failed.append(block)
        self.error = self.error or replace(error, notices=())


# Notices that are true of one block and perhaps not of the next.
OF_BLOCKS = {
    "values_imputed",
    "covariates_constant",
    "covariates_too_few_rows",
    "covariates_without_gain",
    "covariates_by_regression",
    "covariates_unknown_ahead",
}


class Scan:
    """Forecasts blocks of any histories of one request, and counts what it took."""

    def __init__(
        self, service: ForecastService, asked: ForecastRequest, card: ModelCard, caller: Caller, deadline: float
    ) -> None:
        """`asked` has the parameters of every call; its context_length, which is set, becomes `context`."""
        assert asked.parameters.context_length is not None
        self._service = service
        self._asked = asked
        self._card = card
        self._caller = caller
        self._deadline = deadline
        self.context: int = asked.parameters.context_length
        self._begun = False
        self.usage = Usage()
        self.queue_ms = 0.0
        self.compute_ms = 0.0

    async def run(self, blocks: Iterable[Block]) -> None:
        """Forecast `blocks` into their histories; cancelling withdraws the work. Raises GatewayError."""
        calls = self._calls(blocks)
        first = next(calls, None)
        if first is None:
            return
        await self._call(first)  # by itself: a model that loads, or a full queue, refuses the request at once
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(SIDE_BY_SIDE):
                    group.create_task(self._work(calls))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    def values_read(self, block: Block) -> int:
        """Values of the target in the context of `block`."""
        channels: int = block.of.source.target.shape[1]
        return min(block.cut, self.context) * channels

    def _calls(self, blocks: Iterable[Block]) -> Iterator[list[Block]]:
        """Blocks of one length in calls that are small enough to be held at once."""
        open_calls: dict[int, list[Block]] = {}  # by length: only the last blocks of series are shorter
        values: dict[int, int] = {}
        for block in blocks:
            call = open_calls.setdefault(block.rows, [])
            size = self.values_read(block)
            if call and (len(call) >= CALL_BLOCKS or values[block.rows] + size > CALL_VALUES):
                yield call
                call = open_calls[block.rows] = []
            values[block.rows] = (values[block.rows] if call else 0) + size
            call.append(block)
        yield from open_calls.values()

    async def _work(self, calls: Iterator[list[Block]]) -> None:
        for call in calls:
            await self._call(call)

    async def _call(self, blocks: list[Block]) -> None:
        """Forecast blocks of one length."""
        known = await paced(self._known(blocks))
        kept = [(block, channels) for block, (_, channels) in zip(blocks, known, strict=True) if channels]
        series = tuple(one for one, channels in known if channels)
        if not series:
            return
        request = replace(
            self._asked,
            series=series,
            parameters=replace(self._asked.parameters, prediction_length=blocks[0].rows),
        )
        answer = await self._patiently(request)
        self._begun = True
        self.usage += answer.usage
        self.queue_ms += answer.queue_ms
        self.compute_ms += answer.compute_ms
        await paced(_put(kept, answer))

    async def _patiently(self, request: ForecastRequest) -> Forecast:
        """The answer; a queue that fills up while we are at it is waited for until the deadline."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                answer = await self._service.attempt(request, caller=self._caller, deadline=self._deadline)
            except GatewayError as exc:
                if exc.code is not Code.UNAVAILABLE or exc.retry_after_s is None or not self._begun:
                    raise
                await asyncio.sleep(max(0.0, min(exc.retry_after_s, self._deadline - loop.time())))
            else:
                assert isinstance(answer, Forecast)  # no dry run
                return answer

    def _known(self, blocks: Sequence[Block]) -> Steps[list[tuple[SeriesInput, tuple[int, ...]]]]:
        """Each block's series as it was known before the block, and the channels that can be forecast."""
        known = []
        for block in blocks:
            before, unknown = as_known(*self._near(block), block.rows)
            if unknown:
                block.of.say(notice("covariates_unknown_ahead", block.of.item, unknown))
            known.append(self._observed(before))
            yield
        return known

    def _near(self, block: Block) -> tuple[SeriesInput, int]:
        """The part of a history that a block is forecast from or tested on, and where the block begins in it."""
        read, first = block.of.read, max(0, block.cut - self.context)
        if self._card.calendar_features:  # stamps are counted from the start of the whole series
            return read, block.cut
        rows = slice(first, block.cut + block.rows)
        near = replace(
            read,
            target=read.target[rows],
            start=None,  # nobody reads it: spare the stamps of every block
            past_covariates={name: values[rows] for name, values in read.past_covariates.items()},
        )
        return near, block.cut - first

    def _observed(self, before: SeriesInput) -> tuple[SeriesInput, tuple[int, ...]]:
        """`before` with only the channels that have a value among the rows that are read."""
        seen = ~np.isnan(before.target[-self.context :])
        channels = tuple(np.flatnonzero(seen.any(axis=0)).tolist())
        if len(channels) == before.target.shape[1]:
            return before, channels
        if not channels or self._card.channel_names:  # a candle without its price is none
            return before, ()
        return replace(before, target=before.target[:, channels]), channels


def _put(blocks: Sequence[tuple[Block, tuple[int, ...]]], answer: Forecast) -> Steps[None]:
    """Put the quantiles of every block into its history."""
    for (block, channels), output in zip(blocks, answer.outputs, strict=True):
        history, rows = block.of, slice(block.cut, block.cut + block.rows)
        if isinstance(output, SeriesForecast):
            history.forecast += 1
            history.say(*output.notices)
            found = history.quantiles[:, rows]
            found[:, :, channels] = output.quantiles
            if history.usual is not None:
                history.quantiles[:, rows] = history.usual.absolute(found, rows)
        else:
            history.fail(block, output)
        yield
