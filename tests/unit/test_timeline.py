"""The calendar, rule by rule as the contract states them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from gateway.timeline import (
    Form,
    Grid,
    Stamps,
    TimelineError,
    departures,
    infer_frequency,
    parse_frequency,
    parse_stamps,
    parse_start,
    render,
    season,
)


def stamps(start: str, frequency: str, first: int = 0, count: int = 4) -> list[str]:
    """Canonical stamps, midnights of UTC as bare dates."""
    texts = Grid(parse_start(start), parse_frequency(frequency)).stamps(first, count)
    return [t.removesuffix("T00:00:00Z") for t in texts]


# Starts


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("2026-01-01", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00-00:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00+05:30", "2026-01-01T00:00:00+05:30"),
        ("2026-01-01T00:00:00+0530", "2026-01-01T00:00:00+05:30"),
        ("2026-01-01T00:00-03", "2026-01-01T00:00:00-03:00"),
        ("2026-01-01T12:34", "2026-01-01T12:34:00Z"),
        ("2026-01-01T12", "2026-01-01T12:00:00Z"),
        ("2026-01-01 12:34:56", "2026-01-01T12:34:56Z"),
        ("2026-01-01t12:34:56z", "2026-01-01T12:34:56Z"),
        ("20260101", "2026-01-01T00:00:00Z"),
        ("20260101T123456Z", "2026-01-01T12:34:56Z"),
        ("2026-03", "2026-03-01T00:00:00Z"),
        ("2026", "2026-01-01T00:00:00Z"),
        ("2026-01-01T12:34:56.5Z", "2026-01-01T12:34:56.500Z"),
        ("2026-01-01T12:34:56,123456Z", "2026-01-01T12:34:56.123456Z"),
        ("2026-01-01T12:34:56.1234567Z", "2026-01-01T12:34:56.123456700Z"),
        ("2026-01-01T12:34:56.123456789Z", "2026-01-01T12:34:56.123456789Z"),
        ("2026-01-01T12:34:56.1230000000000Z", "2026-01-01T12:34:56.123Z"),
        ("2026-01-01T12:34.5", "2026-01-01T12:34:30Z"),
        ("2026-01-01T12.25", "2026-01-01T12:15:00Z"),
        ("2026-02-28T24:00:00", "2026-03-01T00:00:00Z"),
        ("0001-01-01", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_an_iso_date_or_date_time_is_a_start(text: str, canonical: str) -> None:
    assert Grid(parse_start(text), parse_frequency("D")).stamps(0, 1) == (canonical,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-W10-1", "week date"),
        ("2026W101T00:00Z", "week date"),
        ("2026-060", "ordinal date"),
        ("2026060T00:00:00Z", "ordinal date"),
        ("2026-02-29", "not a day of the calendar"),
        ("2026-13-01", "not a day of the calendar"),
        ("0000-01-01", "not a day of the calendar"),
        ("2026-01-01T25:00:00Z", "no clock shows"),
        ("2026-01-01T24:00:01Z", "no clock shows"),
        ("2026-01-01T23:60:00Z", "no clock shows"),
        ("2026-01-01T23:59:60Z", "no clock shows"),
        ("2026-01-01T00:00:00+24:00", "offset"),
        ("2026-01-01T00:00:00.1234567891Z", "finer than a nanosecond"),
        ("9999-12-31T24:00:00Z", "after the year 9999"),
        ("2026-01-01Z", "not an ISO 8601"),
        ("2026-01T00:00", "not an ISO 8601"),
        ("2026-01-01T00:00:00 Europe/Paris", "not an ISO 8601"),
        ("2026-1-1", "not an ISO 8601"),
        ("202601", "not an ISO 8601"),
        ("2026-01-01T12:3456", "not an ISO 8601"),
        ("01/02/2026", "not an ISO 8601"),
        ("1767225600", "not an ISO 8601"),
        (" 2026-01-01", "not an ISO 8601"),
        ("２０２６-01-01", "not an ISO 8601"),
        ("now", "not an ISO 8601"),
        ("", "not an ISO 8601"),
        ("2026-01-01" + "0" * 100_000, "not an ISO 8601"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(TimelineError, match=reason) as caught:
        parse_start(text)
    assert len(caught.value.sentence) < 200


# Frequencies


@pytest.mark.parametrize(
    ("spellings", "alias"),
    [
        ("h H 1h 1H +1h 60min 60T 3600s", "h"),
        ("min MIN Min T 1T 60s", "min"),
        ("15min 15T 15MIN 0.25h .25H", "15min"),
        ("s S", "s"),
        ("ms L Ms mS", "ms"),
        ("us U US", "us"),
        ("ns N NS", "ns"),
        ("90min 1h30min 1h30T 1.5h 0.5h1h", "90min"),
        ("D 1D d 24h", "D"),
        ("36h 1.5D 1D12h 1h1D11h", "36h"),
        ("M ME 1M me", "ME"),
        ("MS", "MS"),
        ("Q QE Q-DEC QE-DEC q-dec", "QE-DEC"),
        ("QS QS-JAN", "QS-JAN"),
        ("Y A YE Y-DEC A-DEC YE-DEC", "YE-DEC"),
        ("YS AS AS-JAN YS-JAN", "YS-JAN"),
        ("HYE HYE-DEC", "HYE-DEC"),
        ("BM BME", "BME"),
        ("BQ BQE BQ-DEC BQE-DEC", "BQE-DEC"),
        ("BA BY BYE BA-DEC BYE-DEC", "BYE-DEC"),
        ("BAS BYS BAS-JAN", "BYS-JAN"),
        ("W W-SUN 1W w", "W-SUN"),
        ("2W-MON 2w-mon", "2W-MON"),
        ("SM SME SM-15", "SME-15"),
        ("CBM CBME", "CBME"),
        ("bh BH", "bh"),
        ("2cbh 2CBH", "2cbh"),
    ],
)
def test_old_and_new_spellings_are_one_frequency(spellings: str, alias: str) -> None:
    assert {parse_frequency(s) for s in spellings.split()} == {parse_frequency(alias)}
    assert parse_frequency(alias).alias == alias


def test_spaces_stand_where_pandas_lets_them() -> None:
    assert parse_frequency(" 1 h 30 min ") == parse_frequency("90min")


@pytest.mark.parametrize("text", ["m", "1m", "15m", "1h15m"])
def test_m_is_refused_because_it_is_two_things(text: str) -> None:
    with pytest.raises(TimelineError, match="'min' or 'ME'"):
        parse_frequency(text)


@pytest.mark.parametrize("text", ["0D", "0h", "-1D", "-2ME", "0B", "0.0h", "-1h2min", "0h0min", "-0.5h"])
def test_a_multiple_must_be_greater_than_zero(text: str) -> None:
    with pytest.raises(TimelineError, match="greater than zero"):
        parse_frequency(text)


@pytest.mark.parametrize("text", ["1.5ME", "0.5W", "2.0B", "1.5MS", "1.bh"])
def test_only_fixed_units_take_fractions(text: str) -> None:
    with pytest.raises(TimelineError, match="take fractions"):
        parse_frequency(text)


def test_only_fixed_units_add_up_and_to_whole_nanoseconds() -> None:
    with pytest.raises(TimelineError, match="added up"):
        parse_frequency("1W2D")
    with pytest.raises(TimelineError, match="nanoseconds"):
        parse_frequency("0.3ns")


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("daily", "D"), ("2 days", "D"), ("hourly", "h"), ("hours", "h"), ("minutes", "min"), ("5mins", "min"),
        ("monthly", "ME"), ("quarter", "QE"), ("annual", "YE"), ("week", "W"), ("sec", "s"), ("BMM", "BME"),
        ("QEE", "QE"), ("W-SUNDAY", "W-SUN"), ("Q-DEZ", "QE-DEC"), ("WOM-5FRI", "WOM-4FRI"), ("WOM-3FRY", "WOM-3FRI"),
        ("D-MON", "D"), ("MS-JAN", "MS"), ("SM-31", "SME-15"), ("1h-30min", "h"), (".h", "h"), ("1/2h", "h"), ("", "D"),
    ],
)  # fmt: skip
def test_an_unknown_alias_is_refused_with_the_nearest_known(text: str, nearest: str) -> None:
    with pytest.raises(TimelineError, match=f"nearest known one is '{nearest}'"):
        parse_frequency(text)


def test_a_long_text_is_refused_in_a_short_sentence() -> None:
    with pytest.raises(TimelineError) as caught:
        parse_frequency("9" * 5000 + "D")
    assert len(caught.value.sentence) < 200


# Months, quarters and years


def test_month_ends_follow_the_grid() -> None:
    assert stamps("2026-01-31", "M") == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]
    assert stamps("2026-02-28", "ME") == ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert stamps("2024-02-29", "Y") == ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28"]
    assert stamps("2023-02-28", "Y", 1, 1) == ["2024-02-29"]
    assert stamps("2025-12-31", "Q") == ["2025-12-31", "2026-03-31", "2026-06-30", "2026-09-30"]


def test_a_last_day_stays_on_last_days_whatever_the_alias() -> None:
    assert stamps("2026-01-31", "MS") == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]
    assert stamps("2026-01-31", "Q") == ["2026-01-31", "2026-04-30", "2026-07-31", "2026-10-31"]


def test_any_other_start_keeps_its_phase_counted_from_the_start() -> None:
    assert stamps("2026-01-30", "ME") == ["2026-01-30", "2026-02-28", "2026-03-30", "2026-04-30"]
    assert stamps("2024-02-28", "M") == ["2024-02-28", "2024-03-28", "2024-04-28", "2024-05-28"]
    assert stamps("2026-01-15", "MS") == ["2026-01-15", "2026-02-15", "2026-03-15", "2026-04-15"]
    assert stamps("2026-03-01", "M") == ["2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01"]
    assert stamps("2023-08-29", "QS", 0, 3) == ["2023-08-29", "2023-11-29", "2024-02-29"]
    assert stamps("2026-05-05", "YE-DEC", 0, 2) == ["2026-05-05", "2027-05-05"]
    assert stamps("2026-01-31T10:00:00Z", "2M", 1, 1) == ["2026-03-31T10:00:00Z"]


def test_the_last_day_is_that_of_the_start_s_own_offset() -> None:
    in_india = "2026-02-01T02:00:00+05:30"  # January 31 in UTC
    assert stamps(in_india, "M", 1, 1) == ["2026-03-01T02:00:00+05:30"]
    assert stamps("2026-01-31T20:30:00Z", "M", 1, 1) == ["2026-02-28T20:30:00Z"]


def test_business_months_follow_their_grid() -> None:
    assert stamps("2026-01-30", "BM") == ["2026-01-30", "2026-02-27", "2026-03-31", "2026-04-30"]
    assert stamps("2026-01-01", "BMS") == ["2026-01-01", "2026-02-02", "2026-03-02", "2026-04-01"]
    assert stamps("2026-03-31", "BQ", 0, 3) == ["2026-03-31", "2026-06-30", "2026-09-30"]
    assert stamps("2022-01-03", "BAS", 0, 3) == ["2022-01-03", "2023-01-02", "2024-01-01"]


def test_business_months_off_their_grid_keep_the_phase_on_weekdays() -> None:
    assert stamps("2026-01-15", "BM") == ["2026-01-15", "2026-02-13", "2026-03-13", "2026-04-15"]
    assert stamps("2026-01-31", "BM") == ["2026-01-30", "2026-02-27", "2026-03-31", "2026-04-30"]
    # The 1st on a weekend: back would leave the month.
    assert stamps("2026-01-01", "BQS-FEB", 0, 4) == ["2026-01-01", "2026-04-01", "2026-07-01", "2026-10-01"]
    assert stamps("2026-05-01", "BQS", 0, 3) == ["2026-05-01", "2026-08-03", "2026-11-02"]
    # A last weekday that is no quarter's end is off the grid of quarters, and no last day either.
    assert stamps("2026-01-30", "BQ", 0, 3) == ["2026-01-30", "2026-04-30", "2026-07-30"]


def test_plain_months_know_no_last_days() -> None:
    grid = Grid(parse_start("2025-02-28"), parse_frequency("M").plain_months())
    assert grid.stamps(1, 1) == ("2025-03-28T00:00:00Z",)
    assert Grid(parse_start("2025-01-31"), grid.frequency).stamps(1, 1) == ("2025-02-28T00:00:00Z",)
    assert parse_frequency("D").plain_months() == parse_frequency("D")


# Days and less


def test_weeks_are_seven_days_from_the_start() -> None:
    assert stamps("2026-03-04", "W") == ["2026-03-04", "2026-03-11", "2026-03-18", "2026-03-25"]
    assert stamps("2026-03-04", "2W-MON", 1, 1) == ["2026-03-18"]


def test_business_days_from_a_weekend_begin_on_monday() -> None:
    assert stamps("2026-03-07T10:00:00Z", "B", 0, 2) == ["2026-03-09T10:00:00Z", "2026-03-10T10:00:00Z"]
    assert stamps("2026-03-08", "2B", 0, 3) == ["2026-03-09", "2026-03-11", "2026-03-13"]
    assert stamps("2026-03-06", "B") == ["2026-03-06", "2026-03-09", "2026-03-10", "2026-03-11"]


def test_exotic_aliases_off_their_grid_begin_at_the_start() -> None:
    assert stamps("2026-03-07", "C") == ["2026-03-07", "2026-03-09", "2026-03-10", "2026-03-11"]
    assert stamps("2026-01-10", "SM") == ["2026-01-10", "2026-01-15", "2026-01-31", "2026-02-15"]
    assert stamps("2026-01-10", "SMS") == ["2026-01-10", "2026-01-15", "2026-02-01", "2026-02-15"]
    assert stamps("2026-01-10", "WOM-3FRI") == ["2026-01-10", "2026-01-16", "2026-02-20", "2026-03-20"]
    assert stamps("2026-01-10", "CBM", 0, 3) == ["2026-01-10", "2026-01-30", "2026-02-27"]
    assert stamps("2026-01-10", "LWOM-SUN", 0, 3) == ["2026-01-10", "2026-01-25", "2026-02-22"]


def test_business_hours_open_at_nine_and_close_at_seventeen() -> None:
    friday = ["2026-03-06T15:30:00Z", "2026-03-06T16:30:00Z", "2026-03-09T09:30:00Z", "2026-03-09T10:30:00Z"]
    assert stamps("2026-03-06T15:30:00Z", "bh") == friday
    assert stamps("2026-03-06T16:00:00Z", "bh", 1, 1) == ["2026-03-09T09:00:00Z"]
    assert stamps("2026-03-07T12:00:00.5Z", "bh", 0, 2) == ["2026-03-07T12:00:00.500Z", "2026-03-09T09:00:00Z"]


def test_fixed_units_cross_a_change_of_clocks_in_their_own_offset() -> None:
    before = "2026-03-29T00:30:00+01:00"  # Paris sprang forward at 02:00; the offset stays as sent
    assert stamps(before, "h", 1, 3) == [f"2026-03-29T0{h}:30:00+01:00" for h in (1, 2, 3)]
    assert stamps(before, "D", 1, 1) == ["2026-03-30T00:30:00+01:00"]


def test_a_fraction_stands_where_a_stamp_has_one() -> None:
    assert stamps("2026-01-01", "500ms", 0, 3) == ["2026-01-01", "2026-01-01T00:00:00.500Z", "2026-01-01T00:00:01Z"]
    assert stamps("2026-01-01T00:00:00.25Z", "D", 1, 1) == ["2026-01-02T00:00:00.250Z"]
    assert stamps("2026-01-01", "us", 1, 1) == ["2026-01-01T00:00:00.000001Z"]
    assert stamps("2026-01-01", "ns", 999_999_999, 2) == ["2026-01-01T00:00:00.999999999Z", "2026-01-01T00:00:01Z"]


# Bounds and counts


def test_forecasts_start_after_the_rows_sent() -> None:
    assert stamps("2026-03-01T00:00:00Z", "D", 6, 12) == [f"2026-03-{d:02}" for d in range(7, 19)]
    assert stamps("2026-03-01", "D", 5, 0) == []


@pytest.mark.parametrize(
    ("start", "frequency", "inside"),
    [
        ("9999-12-29", "D", 3), ("9999-12-31T22:00:00Z", "h", 2), ("9990-12-31", "Y", 10), ("9999-10-31", "M", 3),
        ("9999-12-30", "B", 2), ("9999-11-30", "BM", 2), ("9999-12-01", "SM", 3), ("9999-12-31T16:00:00Z", "bh", 1),
        ("9999-12-31T23:59:59.999999998Z", "ns", 2), ("9999-06-30", "99999999999999999999D", 1),
        ("9999-06-30", "99999999999999999999ME", 1), ("9999-12-31T23:00:00-11:00", "h", 1),
    ],
)  # fmt: skip
def test_a_grid_that_passes_the_year_9999_is_refused(start: str, frequency: str, inside: int) -> None:
    grid = Grid(parse_start(start), parse_frequency(frequency))
    assert len(grid.stamps(0, inside)) == inside
    for first, count in ((0, inside + 1), (inside, 1), (10**15, 3)):
        with pytest.raises(TimelineError, match="year 9999"):
            grid.stamps(first, count)


def test_the_first_years_have_their_calendar() -> None:
    assert stamps("0001-01-31", "M", 1, 1) == ["0001-02-28"]
    assert stamps("0001-01-01", "B", 4, 2) == ["0001-01-05", "0001-01-08"]  # a Monday, by the Gregorian rule
    assert stamps("0001-01-06", "BM", 0, 2) == ["0001-01-05", "0001-02-06"]
    assert stamps("0001-01-01", "W", 1, 1) == ["0001-01-08"]


def test_seconds_are_those_of_the_stamps_own_clock() -> None:
    seconds = Grid(parse_start("1970-01-01T02:00:00.75+05:30"), parse_frequency("h")).seconds(0, 2)
    assert seconds.dtype == np.int64
    assert seconds.tolist() == [7200, 10800]


# Seasons


@pytest.mark.parametrize(
    ("frequency", "steps"),
    [
        ("s", 60), ("min", 1440), ("5min", 288), ("10min", 144), ("15min", 96), ("30min", 48), ("h", 24), ("D", 7),
        ("B", 5), ("W", 52), ("M", 12), ("Q", 4), ("Y", 1),
        ("10s", 6), ("2h", 12), ("6h", 4), ("90min", 16), ("2W", 26), ("W-MON", 52), ("2M", 6), ("4ME", 3), ("2Q", 2),
        ("MS", 12), ("BM", 12), ("QS-FEB", 4), ("BQ", 4), ("HYE", 2), ("AS", 1), ("C", 5), ("SM", 24), ("WOM-1MON", 12),
        ("0.5h", 48), ("60min", 24), ("60s", 1440), ("24h", 7), ("7D", 52), ("3M", 4), ("12M", 1),  # other spellings
        ("5h", 1), ("2D", 1), ("7min", 1), ("5M", 1), ("2B", 1), ("3Y", 1), ("ms", 1), ("1.5s", 1),  # no whole season
        (None, 1),
    ],
)  # fmt: skip
def test_season_by_frequency(frequency: str | None, steps: int) -> None:
    assert season(frequency, 10_000) == steps
    assert season(frequency, 2 * steps) == steps
    assert season(frequency, 2 * steps - 1) == 1


# Forms


@pytest.mark.parametrize(
    ("text", "frequency", "following"),
    [
        ("2026-01-31", "M", "2026-02-28"),
        ("2026-01-31", "h", "2026-01-31T01:00"),
        ("2026-01-31 00:00:00", "D", "2026-02-01 00:00:00"),
        ("2026-01-31T00:00", "30s", "2026-01-31T00:00:30"),
        ("2026-01-31T00:00:00.000Z", "D", "2026-02-01T00:00:00.000Z"),
        ("2026-01-31T00:00:00+00:00", "D", "2026-02-01T00:00:00+00:00"),
        ("2026-01-31T00:00:00.5+05:30", "ms", "2026-01-31T00:00:00.501+05:30"),
        ("2026-01", "M", "2026-02"),
        ("1999", "Y", "2000"),
        ("1999", "M", "1999-02"),
    ],
)
def test_stamps_can_be_answered_in_the_form_sent(text: str, frequency: str, following: str) -> None:
    start = parse_start(text)
    assert Grid(start, parse_frequency(frequency)).stamps(1, 1, start.form) == (following,)


def test_a_form_can_ask_for_digits() -> None:
    grid = Grid(parse_start("2026-01-01"), parse_frequency("D"))
    assert grid.stamps(0, 1, Form(digits=6)) == ("2026-01-01T00:00:00.000000Z",)
    assert render(Stamps(np.array([], dtype=np.int64), np.array([], dtype=np.int64)), Form()) == ()


# Stamps that came without a frequency


def found(*texts: str) -> tuple[str | None, list[tuple[int, str]]]:
    inference = infer_frequency(parse_stamps(texts))
    return (
        inference.frequency.alias if inference.frequency else None,
        [(d.row, d.kind) for d in inference.departures],
    )


@pytest.mark.parametrize(
    ("start", "frequency", "alias"),
    [
        ("2026-01-01", "D", "D"), ("2026-01-05", "B", "B"), ("2026-01-07", "W", "W-WED"), ("2026-01-01", "h", "h"),
        ("2026-01-01", "15min", "15min"), ("2026-01-01", "250ms", "250ms"), ("2026-01-31", "M", "ME"),
        ("2026-01-01", "M", "MS"), ("2026-01-15", "M", "MS"), ("2026-01-30", "BM", "BME"), ("2026-02-02", "BMS", "BMS"),
        ("2026-03-31", "Q", "QE-DEC"), ("2026-01-01", "QS", "QS-JAN"), ("2026-02-01", "QS-FEB", "QS-FEB"),
        ("2026-12-31", "Y", "YE-DEC"), ("1949", "YS", "YS-JAN"), ("2026-01-01", "2D", "2D"),
        ("2026-01-01", "30D", "30D"), ("2026-01-02", "28D", "4W-FRI"), ("9999-01-31", "M", "ME"),
    ],
)  # fmt: skip
def test_a_frequency_is_found_in_stamps(start: str, frequency: str, alias: str) -> None:
    texts = Grid(parse_start(start), parse_frequency(frequency)).stamps(0, 12)
    assert found(*texts) == (alias, [])


def test_months_as_long_as_each_other_are_still_months() -> None:
    assert found("2026-07-01", "2026-08-01", "2026-09-01") == ("MS", [])


@pytest.mark.parametrize(
    ("texts", "alias"),
    [
        ("2025-06-30 2025-07-30 2025-08-30 2025-09-30", "MS"),
        ("2025-02-28 2025-03-28 2025-04-28", "MS"),
        ("2024-02-29 2024-03-29 2024-04-29 2024-05-29", "MS"),
        ("2025-06-30 2025-09-30 2025-12-30 2026-03-30", "QS-JUN"),
        ("2025-06-30 2025-07-31 2025-08-31", "ME"),
        ("2025-04-30 2025-06-30", "2ME"),
    ],
)
def test_a_day_of_the_month_may_be_the_last_one_of_the_first(texts: str, alias: str) -> None:
    """Without `plain_months` a start on a last day stays on last days."""
    stamps = parse_stamps(texts.split())
    inference = infer_frequency(stamps, plain_months=True)
    assert inference.frequency is not None
    assert (inference.frequency.alias, inference.departures) == (alias, ())
    on_last_days = alias.endswith("E")
    assert (inference.frequency == parse_frequency(alias)) is on_last_days
    assert (not infer_frequency(stamps).departures) is on_last_days


def test_gaps_duplicates_disorder_and_strays_are_told_with_their_rows() -> None:
    days = [f"2026-01-{d:02}" for d in range(1, 21)]
    assert found(*days[:5], *days[8:]) == ("D", [(5, "gap")])
    assert found(*days[:5], *days[4:]) == ("D", [(5, "duplicate")])
    assert found(*days[:5], days[6], days[5], *days[7:]) == ("D", [(5, "gap"), (6, "backwards"), (7, "gap")])
    assert found(*days[:5], "2026-01-05T12:00", *days[5:]) == ("D", [(5, "off_grid")])

    gap = infer_frequency(parse_stamps([*days[:5], *days[8:]])).departures[0]
    assert (gap.missing, gap.sentence) == (3, "3 stamps are missing before 2026-01-09")


def test_stamps_with_no_frequency_in_common_have_none() -> None:
    frequency, rows = found("2026-01-01", "2026-01-02", "2026-01-05", "2026-01-11", "2026-01-25", "2026-03-02")
    assert frequency is None
    assert rows
    assert found("2026-01-01") == (None, [])
    assert found() == (None, [])
    assert found("2026-01-01", "2026-01-01") == (None, [(1, "duplicate")])
    assert departures(parse_stamps(()), parse_frequency("D")) == ()


def test_stamps_are_compared_in_the_first_one_s_offset() -> None:
    """A clock that sprang forward: the hours are regular, the offset is not."""
    assert found("2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00") == ("h", [])
    with pytest.raises(TimelineError) as caught:
        parse_stamps(["2026-01-01T00:00:00-12:00", "0001-01-01T00:00:00+12:00"])
    assert caught.value.row == 1


def test_stamps_can_be_held_against_a_frequency_that_was_sent() -> None:
    days = parse_stamps([f"2026-01-{d:02}" for d in range(1, 6)])
    assert departures(days, parse_frequency("24h")) == ()
    assert [d.kind for d in departures(days, parse_frequency("h"))] == ["gap"] * 4
    assert departures(days, parse_frequency("h"))[0].missing == 23
    assert [d.row for d in departures(days, parse_frequency("2D"))] == [1, 3]
    far = parse_stamps(["0001-01-01T00:00:00.5", "9999-12-31T00:00:00.5"])
    assert departures(far, parse_frequency("500ns"))[0].missing == (3652058 * 86400 * 2_000_000) - 1


def test_a_bad_stamp_is_told_with_its_row() -> None:
    with pytest.raises(TimelineError, match="not a day of the calendar") as caught:
        parse_stamps(["2026-01-01", "2026-01-32"])
    assert caught.value.row == 1


def test_the_calendar_needs_numpy_only() -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}; import gateway.timeline; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "dateutil", "msgspec", "torch", "scipy"} & set(run.stdout.split())


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-02-29", "2024-02-29 00:00:00", "2024-02-29T23:59:59Z"],
        ["0001-01-01T00:00:00", "9999-12-31T23:59:59Z"],
        ["0000-01-01T00:00:00"],
        ["2023-02-29"],
        ["2024-01-01T24:00:00"],
        ["2024-01-01T00:00:60Z"],
        ["2024-01-01Z"],
        ["2024-01-01\n2024-01-02"],
        ["2024-01-01T00:00:00", "2024-01-01T00:00:00+01:00"],
        ["2024-01-01T00:00:00.5"],
        ["２０２４-01-01"],
    ],
)
def test_stamps_read_at_once_are_those_read_one_by_one(texts):
    """Plain stamps of UTC go a faster way: to the same points, and to the same refusals."""

    def one_by_one():
        return [(s.seconds - s.offset_minutes * 60, s.nanos) for s in map(parse_start, texts)]

    try:
        expected = one_by_one()
    except TimelineError as error:
        with pytest.raises(TimelineError) as caught:
            parse_stamps(texts)
        assert caught.value.sentence == error.sentence
    else:
        found = parse_stamps(texts)
        offset = parse_start(texts[0]).offset_minutes * 60
        assert [(s - offset, n) for s, n in zip(found.seconds.tolist(), found.nanos.tolist(), strict=True)] == expected
