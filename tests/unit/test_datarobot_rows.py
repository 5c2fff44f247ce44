"""Tables of every form, and the times in them, to the windows that are predicted."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gateway.dialects.base import Call
from gateway.dialects.datarobot import parse, render, rows, times
from gateway.dialects.datarobot.windows import Window, unit_of
from gateway.domain import Deployment, ForecastRequest
from gateway.errors import Code, GatewayError
from gateway.pacing import at_once
from gateway.settings import DeploymentSettings
from gateway.timeline import parse_frequency

FORM = "multipart/form-data; boundary=edge"


def call(body: bytes | str, content_type: str = "", *query: tuple[str, str], **settings: Any) -> Call:
    table = {"target": "y", "date": "t", **settings}
    return Call(
        method="POST",
        path="/",
        path_params={"id": "d"},
        query=query,
        headers={"content-type": content_type},
        body=body.encode() if isinstance(body, str) else body,
        deployments={"d": Deployment(id="d", settings=DeploymentSettings(**table))},
    )


def table_of(body: bytes | str, content_type: str = "") -> dict[str, list[rows.Cell]]:
    return dict(at_once(rows.table(call(body, content_type), None)).columns)


def part(name: str, content: str, *headers: str) -> str:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    return "--edge\r\n" + "\r\n".join([disposition, *headers]) + f"\r\n\r\n{content}\r\n"


def parsed(*args: Any, **settings: Any) -> ForecastRequest:
    return at_once(parse.predictions(call(*args, **settings)))


def refused(*args: Any, **settings: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        parsed(*args, **settings)
    return caught.value


def windows(request: ForecastRequest) -> list[Window]:
    found = [series.metadata for series in request.series]
    assert all(isinstance(w, Window) for w in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("t,y\n1,a\n2,\n", "text/csv"),
        ("\ufefft,y\r\n1,a\r\n\r\n2,NA\r\n", "text/csv; charset=UTF-8"),
        ('"t","y"\n"1","a"\n"2",""', "text/csv; encoding=utf-8"),
        ('[{"t":"1","y":"a"},{"t":"2","y":null}]', "application/json"),
        ('[{"t":"1","y":"a"},{"t":"2"}]', "text/plain"),
        ('{"data":[{"t":"1","y":"a"},{"t":"2","y":" "}]}', ""),
        (part("note", "x") + part("file", "t,y\n1,a\n2,\n") + "--edge--\r\n", FORM),
        (part("other", "t,y\n1,a\n2,\n", "Content-Type: text/csv") + "--edge--", FORM.replace("edge", '"edge"')),
    ],
)
def test_one_table_in_every_form(body: str, content_type: str) -> None:
    if "other" in body:
        with pytest.raises(GatewayError, match="no part named 'file'"):
            table_of(body, content_type)
        body = body.replace('name="other"', 'name="other"; filename="rows.csv"')
    assert table_of(body, content_type) == {"t": ["1", "2"], "y": ["a", None]}


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        ("t,y\n1\n", "text/csv", Code.MALFORMED),
        ('t,y\n"1,2\n', "text/csv", Code.MALFORMED),
        (b"t,y\n1,\xff\n", "text/csv", Code.MALFORMED),
        ("t,y\n1,2\n", "text/csv; charset=klingon", Code.UNSUPPORTED_MEDIA_TYPE),
        ("t,y\n1,2\n", "application/x-parquet", Code.UNSUPPORTED_MEDIA_TYPE),
        ("t,y\n1,2\n", FORM, Code.MALFORMED),
        ("t,y\n1,2\n", "multipart/form-data", Code.MALFORMED),
        (part("file", part("file", "t"), f"Content-Type: {FORM}") + "--edge--", FORM, Code.MALFORMED),
        ("{}", "application/json", Code.INVALID_ARGUMENT),
        ("[[1]]", "application/json", Code.INVALID_ARGUMENT),
        ("[" * 5000, "application/json", Code.INVALID_ARGUMENT),
        ("  \n", "", Code.MALFORMED),
    ],
)
def test_what_is_no_table_is_refused(body: bytes | str, content_type: str, code: Code) -> None:
    with pytest.raises(GatewayError) as caught:
        table_of(body, content_type)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ("T;y\n1;2\n", "'T;y'"),
        ("T,y,z\n1,2,3\n", "'T', 'y', 'z'"),
        ('[{"T":"1","y":2},{"z":3}]', "'T', 'y', 'z'"),
        (",".join(f"c{i}" for i in range(25)) + "\n" + "," * 24, "'c19' and 5 more"),
    ],
)
def test_a_missing_column_is_told_beside_all_that_were_sent(body: str, columns: str) -> None:
    error = refused(body)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.sentence.startswith("The column 't' is missing. The data has the columns 'T" if "T" in body else "The")
    assert error.sentence.endswith(f"{columns}.")


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-01-31", "2024-02-29"],
        ["2024-01-31T00", "2024-02-29 00:00"],
        ["2024-01-31T00:00:00Z", "2024-02-29T00:00:00Z"],
        ["2024-01-31T05:30:00+05:30", "2024-02-28T19:00:00-05:00"],
        ["2024-01-31T00:00:00.000000Z", "20240229"],
        ["1/31/2024", "2/29/2024"],
        ["01/31/24", "02/29/24"],
        ["31.01.2024", "29.02.2024"],
        ["2024/01/31", "2024/02/29"],
        ["31-Jan-2024", "29-Feb-2024"],
    ],
)
def test_times_in_every_form(cells: list[str]) -> None:
    found = at_once(times.read("t", cells, None))
    utc = [t[:10] for t in found.utc(np.arange(2))]
    assert utc == ["2024-01-31", "2024-02-29"]


@pytest.mark.parametrize("cell", ["2024-02-30", "2024-13-01", "24:00", "NaT", "now", "", "2024-01-01T25:00:00", None])
def test_a_time_that_is_none_is_told_beside_the_form_of_the_others(cell: str | None) -> None:
    with pytest.raises(GatewayError, match="does not match the original format %Y-%m-%d") as caught:
        at_once(times.read("t", ["2024-01-01", cell], None))
    assert caught.value.code is Code.MALFORMED


@pytest.mark.parametrize(
    ("alias", "unit"),
    [
        ("D", "day(s)"),
        ("B", "day(s)"),
        ("h", "hour(s)"),
        ("15min", "step(s)"),
        ("2D", "step(s)"),
        ("W-MON", "week(s)"),
        ("ME", "month(s)"),
        ("MS", "month(s)"),
        ("BME", "month(s)"),
        ("QE-DEC", "quarter(s)"),
        ("YS-JAN", "year(s)"),
    ],
)
def test_units_of_the_history_that_is_needed(alias: str, unit: str) -> None:
    assert unit_of(parse_frequency(alias)) == unit


CSV = "t,s,y\n" + "".join(f"2024-01-{i:02},a,{i if i < 6 else ''}\n" for i in range(1, 9))


def test_rows_without_a_target_behind_the_last_one_with_a_target_are_predicted() -> None:
    request = parsed(CSV + "2024-01-03,b,9\n2024-01-01,b,7\n2024-01-04,b,\n", series_id="s", window_end=2)
    a, b = windows(request)
    assert (a.series_id, a.rows, a.distances, a.point) == ("a", (5, 6), (1, 2), "2024-01-05T00:00:00Z")
    assert a.timestamps == ("2024-01-06T00:00:00.000000Z", "2024-01-07T00:00:00.000000Z")
    assert (b.rows, b.distances) == ((10,), (1,))
    assert request.parameters.prediction_length == 2
    assert request.parameters.frequency == "D"
    assert request.series[1].target[:, 0].tolist()[::2] == [7.0, 9.0]
    assert np.isnan(request.series[1].target[1, 0])  # a day without a row
    assert [s.start for s in request.series] == ["2024-01-01T00:00:00Z"] * 2


@pytest.mark.parametrize("settings", [{}, {"frequency": "M"}])
def test_each_series_stays_on_its_day_of_the_month(settings: dict[str, str]) -> None:
    """Both start on the last day of a month; one goes on on that day, one on last days."""
    days = {
        "a": "2025-06-30 2025-07-30 2025-08-30 2025-09-30 2025-10-30",
        "b": "2025-06-30 2025-07-31 2025-08-31 2025-10-31",
    }
    body = "t,s,y\n" + "".join(f"{t},{s},{1 if t < '2025-10' else ''}\n" for s, ts in days.items() for t in ts.split())
    a, b = windows(parsed(body, series_id="s", window_end=2, **settings))
    assert (a.distances, a.timestamps) == ((1,), ("2025-10-30T00:00:00.000000Z",))
    assert (b.distances, b.timestamps) == ((2,), ("2025-10-31T00:00:00.000000Z",))


@pytest.mark.parametrize(
    "query",
    [
        (),
        (("forecastPoint", "2024-01-05"),),
        (("predictionsStartDate", "2024-01-05"), ("predictionsEndDate", "2024-01-09")),
    ],
)
def test_a_series_without_history_does_not_disappear(query: tuple[tuple[str, str], ...]) -> None:
    body = CSV + "2024-01-06,b,\n2024-01-07,b,\n"
    error = refused(body, "text/csv", *query, series_id="s", window_end=3)
    assert (error.code, "'b'" in error.sentence) == (Code.INVALID_ARGUMENT, True)
    alone = refused("t,s,y\n2024-01-06,b,\n2024-01-07,b,\n", "text/csv", *query, series_id="s", window_end=3)
    assert (alone.code, alone.sentence) == (Code.MALFORMED, "No valid output rows")


def test_a_series_that_nothing_is_asked_of_is_no_fault() -> None:
    body = CSV + "2024-01-20,b,1\n2024-01-21,b,\n"
    found = windows(parsed(body, "text/csv", ("forecastPoint", "2024-01-05"), series_id="s", window_end=3))
    assert [w.series_id for w in found] == ["a"]


def test_the_window_of_a_deployment_begins_where_it_says() -> None:
    (window,) = windows(parsed(CSV, window_start=2, window_end=3))
    assert window.distances == (2, 3)


def test_what_is_known_in_advance_goes_with_its_steps() -> None:
    body = "t,y,k,w\n" + "".join(f"2024-01-{i:02},{i if i < 6 else ''},{10 * i},{'ab'[i % 2]}\n" for i in range(1, 8))
    (series,) = parsed(body, known_in_advance=("k", "w")).series
    assert list(series.past_covariates["k"]) == [10, 20, 30, 40, 50]
    assert list(series.future_covariates["k"]) == [60, 70]
    assert series.past_covariates["w"] == ("b", "a", "b", "a", "b")
    assert series.future_covariates["w"] == ("a", "b")


def test_a_range_takes_every_point_with_enough_history() -> None:
    dates = (("predictionsStartDate", "2024-01-04"), ("predictionsEndDate", "2024-01-06T00:00:00Z"))
    found = windows(parsed(CSV, "text/csv", *dates, window_end=2, history=2))
    assert [(w.point[8:10], w.rows, w.distances) for w in found] == [
        ("02", (3,), (2,)),
        ("03", (3, 4), (1, 2)),
        ("04", (4,), (1,)),
    ]


def test_too_many_points_are_refused_before_they_are_made() -> None:
    days = (np.datetime64("1900-01-01") + np.arange(11_000)).astype(str)
    body = "t,y\n" + "".join(f"{day},1\n" for day in days)
    dates = (("predictionsStartDate", "1900-01-01"), ("predictionsEndDate", "2000-01-01"))
    assert refused(body, "text/csv", *dates).code is Code.INVALID_ARGUMENT


def page(*asked: tuple[str, str]) -> dict[str, Any]:
    settings = DeploymentSettings(target="y", date="t")
    known = {name: Deployment(id=name, settings=settings) for name in "abc"}
    path = "/api/v2/deployments/"
    listing = Call(method="GET", path=path, query=asked, base_url="http://here", deployments=known)
    at_once(parse.listed(listing))
    body = render.deployments(listing, None).body
    assert isinstance(body, bytes)
    found = json.loads(body)
    return {**found, "data": [one["id"] for one in found["data"]]}


def test_a_list_comes_in_the_pages_asked_for() -> None:
    at = "http://here/api/v2/deployments/?order_by=label&limit=2&offset="
    asked = (("order_by", "label"), ("limit", "2"))
    assert page() == {"count": 3, "next": None, "previous": None, "data": ["a", "b", "c"]}
    assert page(*asked) == {"count": 2, "next": f"{at}2", "previous": None, "data": ["a", "b"]}
    assert page(*asked, ("offset", "2")) == {"count": 1, "next": None, "previous": f"{at}0", "data": ["c"]}
    assert page(*asked, ("offset", "100"))["next"] is None
    assert page(*asked, ("offset", "100"))["data"] == []
    assert page(("offset", "1"))["data"] == ["b", "c"]


@pytest.mark.parametrize("asked", [("limit", "-1"), ("limit", "all"), ("offset", ""), ("offset", "1.5")])
def test_a_page_that_cannot_be_is_refused(asked: tuple[str, str]) -> None:
    with pytest.raises(GatewayError) as caught:
        page(asked)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_the_only_deployment_needs_no_name() -> None:
    unnamed = call(CSV)
    unnamed = Call(method="POST", path="/", body=unnamed.body, deployments=unnamed.deployments)
    assert len(at_once(parse.predictions(unnamed)).series) == 1
