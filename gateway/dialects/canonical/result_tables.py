"""Results as Parquet: forecasts as a tidy table, one row a series, step and channel.

The module imports pyarrow, as `job_tables` does: when the first such table is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from gateway.dialects.canonical.metadata import Echo
from gateway.domain import Answer, Array, EnsembleForecast, Forecast, Metadata, SeriesError, SeriesForecast
from gateway.errors import Code, GatewayError


class _ItemId(msgspec.Struct):
    item_id: str | int | float | None = None


class _Sink(io.RawIOBase):
    """Takes what the writer writes until it is drained."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(piece))
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at

    def drained(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class TableWriter:
    """Forecasts as a Parquet file, a row group a chunk: one row a series, step and channel."""

    def __init__(self, levels: tuple[float, ...]) -> None:
        names = [f"q{level:g}" for level in levels]
        self._levels = names
        self._schema = pa.schema(
            [
                ("index", pa.int64()),
                ("item_id", pa.string()),
                ("step", pa.int32()),
                ("timestamp", pa.string()),
                ("channel", pa.int32()),
                ("mean", pa.float64()),
                *((name, pa.float64()) for name in names),
                ("error", pa.string()),
            ]
        )
        self._sink = _Sink()
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    def add(self, answer: Answer, first: int) -> bytes:
        """The bytes of a file that a chunk adds; runs in a thread. Raises NOT_ACCEPTABLE for what is no forecast."""
        chunk = _Rows(len(self._levels))
        for index, output in enumerate(forecast_of(answer).outputs, first):
            chunk.add(index, output)
        if chunk.rows:
            self._writer.write_table(chunk.table(self._schema))
        return self._sink.drained()

    def end(self) -> bytes:
        """The last bytes of the file."""
        self._writer.close()
        return self._sink.drained()


class _Rows:
    """The rows of some outputs, column by column."""

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._numbers: list[npt.NDArray[np.int64]] = []  # index, step and channel; (3, rows) each, -1 for none
        self._values: list[Array] = []  # mean and levels; (1 + levels, rows) each, NaN for none
        self._texts: tuple[list[str | None], ...] = ([], [], [])  # item id, timestamp and error
        self.rows = 0

    def add(self, index: int, output: SeriesForecast | SeriesError) -> None:
        """One row a step and channel of a forecast, one row for a series that failed."""
        item = _item_id(output.metadata)
        if isinstance(output, SeriesError):
            self._append(np.array([[index], [-1], [-1]]), np.full((1 + self._levels, 1), np.nan))
            self._tell(item, (None,), output.sentence)
            return
        horizon, channels = output.mean.shape
        count = horizon * channels
        steps, places = np.repeat(np.arange(1, horizon + 1), channels), np.tile(np.arange(channels), horizon)
        values = np.concatenate([output.mean.reshape(1, count), output.quantiles.reshape(-1, count)])
        self._append(np.stack([np.full(count, index), steps, places]), values)
        stamps = output.timestamps or (None,) * horizon
        self._tell(item, stamps if channels == 1 else [s for s in stamps for _ in range(channels)], None)

    def _append(self, numbers: npt.NDArray[np.int64], values: Array) -> None:
        self._numbers.append(numbers)
        self._values.append(values)
        self.rows += values.shape[1]

    def _tell(self, item: str | None, times: Sequence[str | None], error: str | None) -> None:
        for texts, of_rows in zip(self._texts, ([item] * len(times), times, [error] * len(times)), strict=True):
            texts.extend(of_rows)

    def table(self, schema: pa.Schema) -> pa.Table:
        numbers, values = np.concatenate(self._numbers, axis=1), np.concatenate(self._values, axis=1)
        index, step, channel = (pa.array(row, mask=row < 0) for row in numbers)
        item, time, error = (pa.array(texts, pa.string()) for texts in self._texts)
        found = [pa.array(row, from_pandas=True) for row in values]
        columns = [index, item, step.cast(pa.int32()), time, channel.cast(pa.int32()), *found, error]
        return pa.table(columns, schema=schema)


def forecast_of(answer: Answer) -> Forecast:
    """The forecast that a table can hold."""
    if isinstance(answer, EnsembleForecast):
        return answer.forecast
    if not isinstance(answer, Forecast):
        told = "Results of this type are served as application/json and application/x-ndjson, not as Parquet."
        raise GatewayError(Code.NOT_ACCEPTABLE, told)
    return answer


def _item_id(metadata: Metadata) -> str | None:
    if not isinstance(metadata, Echo):
        return None
    try:
        found = metadata.form.decode(metadata.content, _ItemId).item_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if found is None else str(found)
