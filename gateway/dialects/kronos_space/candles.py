"""Candles: open, high, low and close of every step, with volume and amount where they are known.

They come from a caller of `/predict_custom`, or from a source of market data: klines as exchanges' APIs write them, or
a CSV file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import Raw

from gateway.dialects import bodies
from gateway.dialects.base import Steps
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.chronos2_server import stamps as calendars
from gateway.domain import Array
from gateway.errors import Fault, GatewayError
from gateway.timeline import Frequency, Grid, Stamps, TimelineError, infer_frequency, parse_frequency, parse_start
from gateway.timeline import render as rendered

PRICES = ("open", "high", "low", "close")
FEWEST = 2  # candles, which tell their step
KEPT = 1024  # candles of the market that are looked at: a file may hold years
MILLISECONDS = 1000
_TIMES = ("timestamp", "timestamps", "open_time", "time", "date", "datetime")  # a CSV file's column, in any case
_KLINE = 6  # fields of a kline that are read: open time, open, high, low, close, volume; the eighth is the amount
_AMOUNT = 7


class CandleError(ValueError):
    """Market data that is none; the message says what is wrong with it."""


class OhlcvBody(msgspec.Struct, frozen=True, kw_only=True):
    """Candles as callers send them: one list a column."""

    timestamps: Raw
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw = Raw(b"null")
    amount: Raw = Raw(b"null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candles:
    """A history of evenly spaced candles, `(time,)` each."""

    start: str  # of the first candle, ISO 8601
    frequency: str  # pandas' alias
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array | None = None
    amount: Array | None = None

    def __len__(self) -> int:
        return len(self.close)

    @property
    def columns(self) -> dict[str, Array]:
        """Every column that is known, by name, in the order that models of candles have them."""
        known = {"volume": self.volume, "amount": self.amount}
        return {**{name: getattr(self, name) for name in PRICES}, **{n: c for n, c in known.items() if c is not None}}

    def stamps(self) -> tuple[str, ...]:
        """When each candle opens."""
        return self._grid.stamps(0, len(self))

    def last(self, count: int) -> Candles:
        """The most recent candles."""
        return self._part(max(0, len(self) - count), len(self))

    def completed(self, now_s: float) -> Candles:
        """Without the last candle, if its time is not over at `now_s`, in unix seconds."""
        end = int(self._grid.seconds(len(self), 1)[0])
        return self._part(0, len(self) - 1) if end > now_s else self

    @property
    def _grid(self) -> Grid:
        return Grid(parse_start(self.start), parse_frequency(self.frequency))

    def _part(self, first: int, end: int) -> Candles:
        if (first, end) == (0, len(self)):
            return self
        start = self._grid.stamps(first, 1)[0]
        cut = {name: column[first:end] for name, column in self.columns.items()}
        return Candles(start=start, frequency=self.frequency, **cut)


# -- of a caller ---

_DECODER = msgspec.json.Decoder(OhlcvBody)


def sent(content: bytes) -> Steps[Candles]:
    """The candles of an object that a caller sent. Raises GatewayError with places in that object."""
    return (yield from bodies.told(content, _sent(content)))


def _sent(content: bytes) -> Steps[Candles]:
    body, envelope = yield from bodies.decoded(content, _DECODER)
    close = yield from _column(body.close, envelope, "close")
    if len(close) < FEWEST:
        raise GatewayError.invalid(Fault(("close",), f"Expected at least {FEWEST} candles, got {len(close)}"))
    columns: dict[str, Array] = {}
    for name in ("open", "high", "low", "volume", "amount"):
        raw: Raw = getattr(body, name)
        if bytes(raw) != b"null" or name in PRICES:
            columns[name] = yield from _column(raw, envelope, name)
            if len(columns[name]) != len(close):
                told = f"Expected {len(close)} values, one for each of close, got {len(columns[name])}"
                raise GatewayError.invalid(Fault((name,), told))
    if "volume" not in columns:
        columns.pop("amount", None)  # as the reference has it: no volume, no amount
    calendar = yield from calendars.of_stamps(envelope.whole(body.timestamps), None, len(close), ("timestamps",))
    assert calendar.start is not None, "it has stamps"
    if calendar.plain_months:
        raise GatewayError.invalid(Fault(("timestamps",), "Expected candles that stay on the last days of months"))
    return Candles(start=calendar.start, frequency=calendar.frequency, close=close, **columns)


def _column(raw: Raw, envelope: Envelope, name: str) -> Steps[Array]:
    found = yield from bodies.numbers(raw, envelope, (name,))
    missing = np.isnan(found)
    if missing.any():
        raise GatewayError.invalid(Fault((name, int(missing.argmax())), "Expected a number, got null", "type_error"))
    return found


# -- of the market ---


def of_klines(content: bytes) -> Candles:
    """Candles of the usual klines: `[[open time in ms, "open", "high", "low", "close", "volume", ...], ...]`."""
    try:
        rows = msgspec.json.decode(content, type=list[list[float | str]], strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CandleError("it is no JSON list of klines") from None
    return _of_rows(_numbers(row, i) for i, row in enumerate(rows))


def _numbers(row: Sequence[float | str], i: int) -> list[float]:
    if len(row) < _KLINE:
        raise CandleError(f"kline {i} has {len(row)} fields, not {_KLINE} or more")
    kept = [*row[:_KLINE], *row[_AMOUNT : _AMOUNT + 1]]
    try:
        return [float(value) for value in kept]
    except ValueError:
        raise CandleError(f"kline {i} holds what is no number") from None


def of_csv(content: bytes) -> Candles:
    """Candles of a CSV file: a column of times, ISO 8601 or in ms, and the columns' names as they are here."""
    try:
        table = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        head = [name.strip().lower() for name in next(table, [])]
    except (UnicodeDecodeError, csv.Error):
        raise CandleError("it is no CSV file") from None
    time = next((head.index(name) for name in _TIMES if name in head), None)
    missing = [name for name in (*PRICES, "volume") if name not in head]
    if time is None or missing:
        lacks = ", ".join((["timestamp"] if time is None else []) + missing)
        raise CandleError(f"its first line names no column {lacks}")
    names = [*PRICES, "volume", *(["amount"] if "amount" in head else [])]
    places = [head.index(name) for name in names]
    return _of_rows(_csv_rows(table, time, places))


def _csv_rows(table: Iterator[list[str]], time: int, places: Sequence[int]) -> Iterator[list[float]]:
    try:
        for i, row in enumerate(table, start=2):
            if row:
                try:
                    yield [_milliseconds(row[time]), *(float(row[place]) for place in places)]
                except (ValueError, IndexError):
                    raise CandleError(f"its line {i} is no candle") from None
    except csv.Error:
        raise CandleError("it is no CSV file") from None


def _milliseconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        start = parse_start(text.strip())
        return start.seconds * MILLISECONDS + start.nanos / 1e6


def _of_rows(rows: Iterator[list[float]]) -> Candles:
    """Candles of rows of equal length: time in ms, prices, volume, and perhaps amount."""
    found = list(rows)
    if len(found) < FEWEST:
        raise CandleError(f"it holds {len(found)} candles, and {FEWEST} are needed")
    width = min(map(len, found))
    table = np.array([row[:width] for row in found], dtype=np.float64)
    if not np.isfinite(table).all():
        raise CandleError("it holds a number that is not finite")
    table = table[np.argsort(table[:, 0], kind="stable")][-KEPT:]
    milliseconds = table[:, 0].astype(np.int64)
    times = Stamps(milliseconds // MILLISECONDS, milliseconds % MILLISECONDS * 1_000_000)
    frequency, start = _calendar(times)
    amount = table[:, 6] if width > 6 else None
    return Candles(
        start=start,
        frequency=frequency.alias,
        **dict(zip((*PRICES, "volume"), table[:, 1:6].T, strict=True)),
        amount=amount,
    )


def _calendar(times: Stamps) -> tuple[Frequency, str]:
    """The step of most candles, and the start from which as many steps end at the last candle.

    An exchange that stood still leaves a gap; what counts is when the last candle was.
    """
    try:
        inferred = infer_frequency(times).frequency
        if inferred is None:
            raise CandleError("its candles are not evenly spaced")
        last = rendered(Stamps(times.seconds[-1:], times.nanos[-1:]), parse_start("2024-01-01T00:00:00Z").form)[0]
        back = Grid(parse_start(last), inferred).stamps(1 - len(times), 1)[0]
    except TimelineError as exc:
        raise CandleError(str(exc)) from None
    return inferred, back
