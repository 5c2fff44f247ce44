"""Parquet in and out: tidy tables to series and forecasts to tidy tables."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from gateway.dialects.canonical import job_tables
from gateway.dialects.canonical.job_tables import TableReader, query_of
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.metadata import Echo
from gateway.dialects.canonical.result_tables import TableWriter, forecast_of
from gateway.domain import BatchAnswer, Forecast, SeriesError, SeriesForecast, SeriesInput, Usage
from gateway.errors import Code, GatewayError
from gateway.pacing import at_once

DAYS = np.arange("2026-01-01", "2026-01-11", dtype="datetime64[D]")


def write(path: Path, metadata: dict[str, str] | None = None, **columns: object) -> Path:
    pyarrow.parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def read(path: Path, **query: str) -> tuple[TableReader, list[SeriesInput]]:
    reader = TableReader(path, query_of(list(query.items())))
    batch = reader.batch()
    assert batch is not None
    reader.follow(json.loads(reader.head(reader.infer(batch)))["request"]["parameters"].get("frequency"))
    found: list[SeriesInput] = []
    while batch is not None:
        found += at_once(reader.series(batch))
        batch = reader.batch()
    return reader, [*found, *at_once(reader.series(None))]


def metadata_of(one: SeriesInput) -> object:
    assert isinstance(one.metadata, Echo)
    return json.loads(one.metadata.content)


def test_a_tidy_table_is_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a series lies in several batches."""
    monkeypatch.setattr(job_tables, "BATCH_ROWS", 7)
    ids, days, values = np.repeat(["a", "b", "c"], 10), np.tile(DAYS, 3), np.arange(30.0)
    path = write(tmp_path / "x.parquet", item_id=ids, timestamp=days, y=values, other=values)
    reader, found = read(path, model="m", prediction_length="2")
    assert [one.target[:, 0].tolist() for one in found] == values.reshape(3, 10).tolist()
    assert [metadata_of(one) for one in found] == [{"item_id": "a"}, {"item_id": "b"}, {"item_id": "c"}]
    assert {one.start for one in found} == {"2026-01-01T00:00:00Z"}
    assert reader.faults == []


@pytest.mark.parametrize("form", ["datetime64[s]", "datetime64[us]", "datetime64[ns]", "text"])
def test_times_are_read_in_every_form(tmp_path: Path, form: str) -> None:
    days = [str(d) for d in DAYS] if form == "text" else DAYS.astype(form)
    _, (one,) = read(write(tmp_path / "x.parquet", ds=days, y=np.arange(10)), model="m", prediction_length="2")
    assert one.start == "2026-01-01T00:00:00Z"


def test_the_order_is_in_the_query(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", t=DAYS, a=np.arange(10.0), b=np.arange(10.0))
    query = {"model": "m", "prediction_length": "3", "quantile_levels": "0.1, 0.9", "priority": "2", "target": "a,b"}
    reader, (one,) = read(path, time="t", **query)
    parameters = {"prediction_length": 3, "frequency": "D", "quantile_levels": [0.1, 0.9]}
    order = {"type": "forecast", "request": {"model": "m", "parameters": parameters}, "priority": 2}
    assert json.loads(reader.head("D")) == order
    assert one.target.shape == (10, 2)


def test_or_in_the_file(tmp_path: Path) -> None:
    order = {"type": "forecast", "request": {"model": "m", "parameters": {"prediction_length": 2}}}
    path = write(tmp_path / "x.parquet", {"forecast_gateway": json.dumps(order)}, ds=DAYS, y=np.arange(10.0))
    reader, _ = read(path)
    order["request"]["parameters"]["frequency"] = "D"  # type: ignore[index]
    assert json.loads(reader.head("D")) == order


def faults(path: Path, **query: str) -> list[tuple[str | int, ...]]:
    reader, _ = read(path, model="m", prediction_length="2", **query)
    return [f.loc for f in reader.faults]


def test_faults_name_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    ten, gap = np.arange(10.0), DAYS.copy()
    gap[5:] += 1
    assert faults(write(path, ds=gap, y=ten), frequency="D") == [("rows", 6, "ds")]
    assert faults(write(path, item_id=list("aaaaabbbba"), y=ten)) == [("rows", 10)]
    assert faults(write(path, y=np.where(ten == 3, np.inf, ten))) == [("rows", 4, "y")]
    assert faults(write(path, y=pa.array([None] * 10, pa.float64()))) == [("rows", 1, "y")]
    assert faults(write(path, item_id=pa.array([None] * 10, pa.string()), y=ten)) == [("rows", 1, "item_id")]


@pytest.mark.parametrize(
    ("query", "words"),
    [({"target": "nope"}, "nope"), ({}, "target="), ({"target": "name"}, "numbers"), ({"priority": "x"}, "priority"),
     ({"nope": "1"}, "nope")],
)  # fmt: skip
def test_a_query_that_cannot_be_says_so(tmp_path: Path, query: dict[str, str], words: str) -> None:
    path = write(tmp_path / "x.parquet", name=["x"] * 10, a=np.arange(10.0), b=np.arange(10.0))
    with pytest.raises(GatewayError) as caught:
        read(path, model="m", prediction_length="2", **query)
    assert words in caught.value.sentence


def test_what_is_no_parquet_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(GatewayError) as caught:
        TableReader(tmp_path / "x.parquet", query_of([]))
    assert caught.value.code is Code.MALFORMED


# -- out ---


def forecast(*outputs: SeriesForecast | SeriesError) -> Forecast:
    return Forecast(
        id="x",
        created=1,
        model="m",
        model_revision="1",
        provider="p",
        point="mean",
        horizon=2,
        quantile_levels=(0.1, 0.9),
        input_points=1,
        outputs=outputs,
        usage=Usage(),
        latency_ms=1.0,
    )


def test_forecasts_are_a_tidy_table() -> None:
    mean = np.array([[1.0, 2.0], [3.0, 4.0]])
    good = SeriesForecast(
        mean=mean,
        quantiles=np.stack([mean - 1, mean + 1]),
        timestamps=("2026-01-01", "2026-01-02"),
        metadata=Echo(Format.JSON, b'{"item_id": "a"}'),
    )
    bad = SeriesError(code=Code.MODEL_FAILED, sentence="told to")
    writer = TableWriter((0.1, 0.9))
    content = writer.add(forecast(good), 5) + writer.add(forecast(bad), 6) + writer.end()
    rows = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    shared = {"index": 5, "item_id": "a", "error": None}
    assert rows == [
        {**shared, "step": 1, "timestamp": "2026-01-01", "channel": 0, "mean": 1.0, "q0.1": 0.0, "q0.9": 2.0},
        {**shared, "step": 1, "timestamp": "2026-01-01", "channel": 1, "mean": 2.0, "q0.1": 1.0, "q0.9": 3.0},
        {**shared, "step": 2, "timestamp": "2026-01-02", "channel": 0, "mean": 3.0, "q0.1": 2.0, "q0.9": 4.0},
        {**shared, "step": 2, "timestamp": "2026-01-02", "channel": 1, "mean": 4.0, "q0.1": 3.0, "q0.9": 5.0},
        {"index": 6, "item_id": None, "step": None, "timestamp": None, "channel": None, "mean": None, "q0.1": None,
         "q0.9": None, "error": "told to"},
    ]  # fmt: skip


def test_what_is_no_forecast_is_no_table() -> None:
    with pytest.raises(GatewayError) as caught:
        forecast_of(BatchAnswer(results=()))
    assert caught.value.code is Code.NOT_ACCEPTABLE
