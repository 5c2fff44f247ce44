"""Files as series: columns found, doubts told with the rows of the file, and mended only when asked."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from gateway.tables import TableError, find_roles, read_series, read_table


def read(path, targets=(), time=None, id=None, future=None, **options):
    table = read_table(path)
    roles = find_roles(table, time=time, targets=targets, id=id)
    return read_series(table, roles, future=read_table(future) if future else None, **options)


@pytest.fixture
def csv(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


MONTHLY = "ds,y\n2020-01-01,1\n2020-02-01,2\n2020-03-01,\n2020-04-01,4\n"


def test_columns_frequency_and_empty_cells(csv):
    reading = read(csv(MONTHLY))
    assert (reading.roles.time, reading.roles.targets, reading.frequency) == ("ds", ("y",), "MS")
    np.testing.assert_array_equal(reading.series[0].target[:, 0], [1, 2, np.nan, 4])
    assert reading.series[0].stamps[0] == "2020-01-01"
    assert reading.problems == ()


def test_tabs_semicolons_and_a_byte_order_mark(csv):
    assert read(csv(MONTHLY.replace(",", "\t"), "data.tsv")).frequency == "MS"
    assert read(csv(MONTHLY.replace(",", ";"))).frequency == "MS"
    assert read(csv("\ufeff" + MONTHLY)).roles.time == "ds"


def test_parquet_keeps_its_types(tmp_path):
    path = tmp_path / "data.parquet"
    times = pa.array([0, 3600, 7200], pa.timestamp("s"))
    pyarrow.parquet.write_table(pa.table({"when": times, "id": [7, 7, 7], "y": [1.5, None, 3.0]}), path)
    reading = read(path)
    assert (reading.frequency, reading.series[0].id) == ("h", "7")
    np.testing.assert_array_equal(reading.series[0].target[:, 0], [1.5, np.nan, 3])


def test_series_are_told_apart_by_id_in_order_of_appearance(csv):
    reading = read(csv("id,ds,y\nb,2020-01-01,1\na,2020-01-01,10\nb,2020-01-02,2\na,2020-01-02,20\n"))
    assert [s.id for s in reading.series] == ["b", "a"]
    assert reading.series[1].target.tolist() == [[10], [20]]


def test_several_targets_are_channels(csv):
    reading = read(csv("ds,a,b\n2020-01-01,1,2\n2020-01-02,3,4\n"), targets=("a", "b"))
    assert reading.series[0].target.tolist() == [[1, 2], [3, 4]]


def test_a_target_that_cannot_be_guessed_is_asked_for(csv):
    with pytest.raises(TableError, match="--target with one of 'a', 'b'"):
        read(csv("ds,a,b\n2020-01-01,1,2\n"))
    with pytest.raises(TableError, match="no column 'c'"):
        read(csv("ds,a,b\n2020-01-01,1,2\n"), targets=("c",))


GAPPED = "ds,y\n2020-01-01,1\n2020-01-02,2\n2020-01-05,5\n2020-01-06,6\n2020-01-07,7\n2020-01-08,8\n"


def test_gaps_are_told_with_their_rows_and_filled_when_asked(csv):
    (problem,) = read(csv(GAPPED)).problems
    assert problem.rows == (4,)
    assert problem.sentence == "2 times are missing before row 4"
    (series,) = read(csv(GAPPED), repair=True).series
    np.testing.assert_array_equal(series.target[:, 0], [1, 2, np.nan, np.nan, 5, 6, 7, 8])
    assert series.stamps[2] == "2020-01-03"


def test_repeated_and_backward_times_are_told_and_mended_when_asked(csv):
    text = "ds,y\n2020-01-03,3\n2020-01-02,2\n2020-01-01,0\n2020-01-01,1\n2020-01-04,4\n2020-01-05,5\n"
    found = {p.sentence for p in read(csv(text)).problems}
    assert found == {"times stand more than once at row 5", "times run backwards at rows 3, 4"} or len(found) == 3
    (series,) = read(csv(text), repair=True).series
    assert series.target[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert series.stamps == ("2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04", "2020-01-05")


def test_a_file_that_runs_newest_first_is_mended_by_sorting(csv):
    text = "ds,y\n" + "".join(f"2020-01-{d:02d},{d}\n" for d in range(20, 0, -1))
    reading = read(csv(text), repair=True)
    assert reading.frequency == "D"
    assert reading.series[0].target[:, 0].tolist() == list(range(1, 21))


def test_times_without_a_frequency_are_told_and_not_mended(csv):
    text = "ds,y\n2020-01-01,1\n2020-01-02,2\n2020-01-09,3\n2020-03-11,4\n2020-03-30,5\n"
    (problem,) = read(csv(text)).problems
    assert "--freq" in problem.sentence and problem.repair == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ds,y\n2020-01-01,1\n2020-01-02,two\n", ["row 3", "'y'", "'two'"]),
        ("ds,y\n2020-01-01,1\n01.02.2020,2\n", ["row 3", "'01.02.2020'", "--time-format"]),
        ("ds,y\n2020-01-01,1\n2020-01-02,inf\n", ["row 3", "'inf'"]),
        ("id,ds,y\na,2020-01-01,1\n,2020-01-02,2\n", ["row 3", "id"]),
        ("ds,y\n2020-01-01,\n2020-01-02,\n", ["no value"]),
        ("", ["empty"]),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(csv, text, words):
    with pytest.raises(TableError) as caught:
        read(csv(text))
    assert all(w in str(caught.value) for w in words), str(caught.value)


def test_other_forms_of_time(csv):
    text = "ds,y\n31.01.2020,1\n29.02.2020,2\n31.03.2020,3\n"
    assert read(csv(text), time_format="%d.%m.%Y").frequency == "ME"
    assert read(csv("ds,y\n2020Q1,1\n2020Q2,2\n2020Q3,3\n")).frequency == "QS-JAN"
    assert read(csv("year,y\n1990,1\n1991,2\n1992,3\n")).frequency == "YS-JAN"


def test_future_covariates_need_their_past_and_the_whole_horizon(csv):
    past = csv("ds,y,price\n2020-01-01,1,5\n2020-01-02,2,6\n")
    reading = read(past, future=csv("ds,price\n2020-01-03,7\n2020-01-04,8\n", "future.csv"), horizon=2)
    assert reading.series[0].past["price"].tolist() == [5, 6]
    assert reading.series[0].future["price"].tolist() == [7, 8]
    shuffled = csv("ds,price\n2020-01-04,8\n2020-01-03,7\n2020-01-09,1\n", "future.csv")
    assert read(past, future=shuffled, horizon=2).series[0].future["price"].tolist() == [7, 8]
    with pytest.raises(TableError, match="no row for 2020-01-03T00:00:00, step 1 of the horizon"):
        read(past, future=csv("ds,price\n2021-01-03,7\n2021-01-04,8\n", "future.csv"), horizon=2)
    with pytest.raises(TableError, match="no row for 2020-01-04T00:00:00, step 2 of the horizon"):
        read(past, future=csv("ds,price\n2020-01-03,7\n", "future.csv"), horizon=2)
    with pytest.raises(TableError, match="'promo'"):
        read(past, future=csv("ds,promo\n2020-01-03,7\n", "future.csv"))
    with pytest.raises(TableError, match="row 3, column 'price' is empty"):
        read(past, future=csv("ds,price\n2020-01-03,7\n2020-01-04,\n", "future.csv"), horizon=2)


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes("ds,größe\n2020-01-01,1\n".encode("latin-1"))
    with pytest.raises(TableError, match=r"data\.csv is not UTF-8"):
        read(path)
