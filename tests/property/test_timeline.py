"""The calendar against pandas: the contract's rules written down once more, on pandas' own offsets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import example, given, settings
from pandas.tseries import offsets
from pandas.tseries.frequencies import to_offset

from gateway.timeline import (
    Grid,
    Start,
    TimelineError,
    departures,
    infer_frequency,
    parse_frequency,
    parse_stamps,
    parse_start,
)

Offset = Callable[[int], pd.DateOffset]
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

FIXED = {
    "W": timedelta(weeks=1), "W-WED": timedelta(weeks=1), "w-sun": timedelta(weeks=1),
    "D": timedelta(days=1), "d": timedelta(days=1), "H": timedelta(hours=1), "h": timedelta(hours=1),
    "T": timedelta(minutes=1), "min": timedelta(minutes=1), "MIN": timedelta(minutes=1),
    "1h30min": timedelta(hours=1.5), "S": timedelta(seconds=1), "s": timedelta(seconds=1),
    "L": timedelta(milliseconds=1), "ms": timedelta(milliseconds=1),
    "U": timedelta(microseconds=1), "us": timedelta(microseconds=1),
}  # fmt: skip

# alias -> months of one step, and pandas' grid where the start is on it
MONTHLY: dict[str, tuple[int, Offset]] = {
    **dict.fromkeys(("M", "ME"), (1, offsets.MonthEnd)),
    **dict.fromkeys(("MS",), (1, offsets.MonthBegin)),
    **dict.fromkeys(("Q", "QE", "Q-DEC", "QE-DEC", "q-dec"), (3, lambda n: offsets.QuarterEnd(n, startingMonth=12))),
    **dict.fromkeys(("QS", "QS-JAN"), (3, lambda n: offsets.QuarterBegin(n, startingMonth=1))),
    **dict.fromkeys(("Q-NOV", "QE-NOV"), (3, lambda n: offsets.QuarterEnd(n, startingMonth=11))),
    **dict.fromkeys(("A", "Y", "YE", "A-DEC", "Y-DEC", "YE-DEC"), (12, lambda n: offsets.YearEnd(n, month=12))),
    **dict.fromkeys(("AS", "YS", "AS-JAN", "YS-JAN"), (12, lambda n: offsets.YearBegin(n, month=1))),
    **dict.fromkeys(("A-FEB", "YE-FEB"), (12, lambda n: offsets.YearEnd(n, month=2))),
}
BUSINESS_MONTHLY: dict[str, tuple[int, Offset]] = {
    **dict.fromkeys(("BM", "BME"), (1, offsets.BMonthEnd)),
    **dict.fromkeys(("BMS", "bms"), (1, offsets.BMonthBegin)),
    **dict.fromkeys(("BQ", "BQE", "BQE-DEC"), (3, lambda n: offsets.BQuarterEnd(n, startingMonth=12))),
    **dict.fromkeys(("BQ-JAN", "BQE-JAN"), (3, lambda n: offsets.BQuarterEnd(n, startingMonth=1))),
    **dict.fromkeys(("BQS", "BQS-JAN"), (3, lambda n: offsets.BQuarterBegin(n, startingMonth=1))),
    **dict.fromkeys(("BA", "BY", "BYE", "BA-DEC"), (12, lambda n: offsets.BYearEnd(n, month=12))),
    **dict.fromkeys(("BAS", "BYS", "BAS-JAN"), (12, lambda n: offsets.BYearBegin(n, month=1))),
    **dict.fromkeys(("BAS-JUN", "BYS-JUN"), (12, lambda n: offsets.BYearBegin(n, month=6))),
}
if hasattr(offsets, "HalfYearEnd"):  # pandas 3
    MONTHLY["HYE"] = (6, lambda n: offsets.HalfYearEnd(n, startingMonth=12))
    MONTHLY["HYS"] = (6, lambda n: offsets.HalfYearBegin(n, startingMonth=1))
    BUSINESS_MONTHLY["BHYE-FEB"] = (6, lambda n: offsets.BHalfYearEnd(n, startingMonth=2))
    BUSINESS_MONTHLY["BHYS"] = (6, lambda n: offsets.BHalfYearBegin(n, startingMonth=1))

# alias -> pandas' addition to any start, which is both "at start" and "on pandas' grid after it"
ADDED: dict[str, Offset] = {
    **dict.fromkeys(("SM", "SME", "SM-15"), lambda n: offsets.SemiMonthEnd(n, day_of_month=15)),
    **dict.fromkeys(("SM-1", "SME-1"), lambda n: offsets.SemiMonthEnd(n, day_of_month=1)),
    "SME-27": lambda n: offsets.SemiMonthEnd(n, day_of_month=27),
    **dict.fromkeys(("SMS", "SMS-15"), lambda n: offsets.SemiMonthBegin(n, day_of_month=15)),
    "SMS-2": lambda n: offsets.SemiMonthBegin(n, day_of_month=2),
    "WOM-3FRI": lambda n: offsets.WeekOfMonth(n, week=2, weekday=4),
    "WOM-1MON": lambda n: offsets.WeekOfMonth(n, week=0, weekday=0),
    "LWOM-SUN": lambda n: offsets.LastWeekOfMonth(n, weekday=6),
    "C": offsets.CustomBusinessDay,
    **dict.fromkeys(("CBM", "CBME"), offsets.CustomBusinessMonthEnd),
    "CBMS": offsets.CustomBusinessMonthBegin,
    **dict.fromkeys(("bh", "BH"), offsets.BusinessHour),
    **dict.fromkeys(("cbh", "CBH"), offsets.CustomBusinessHour),
    "RE-L-DEC-MON": lambda n: offsets.FY5253(n, variation="last", startingMonth=12, weekday=0),
    "RE-N-AUG-SAT": lambda n: offsets.FY5253(n, variation="nearest", startingMonth=8, weekday=5),
    "REQ-L-JAN-SAT-4": lambda n: offsets.FY5253Quarter(
        n, variation="last", startingMonth=1, weekday=5, qtr_with_extra_week=4
    ),
    "REQ-N-DEC-SUN-1": lambda n: offsets.FY5253Quarter(
        n, variation="nearest", startingMonth=12, weekday=6, qtr_with_extra_week=1
    ),
}


def by_phase(start: pd.Timestamp, months: int) -> pd.Timestamp:
    """`start` and some months, clipped; last days stay last days."""
    moved = start + pd.DateOffset(months=months)
    return moved + offsets.MonthEnd(0) if start.is_month_end else moved


def to_weekday(stamp: pd.Timestamp) -> pd.Timestamp:
    """The weekday at or before; forward where that leaves the month."""
    back = offsets.BDay().rollback(stamp)
    return back if back.month == stamp.month else offsets.BDay().rollforward(stamp)


def reference(start: datetime, alias: str, n: int, indices: range) -> Iterator[datetime]:
    """Where observations stand, by the contract and pandas."""
    stamp = pd.Timestamp(start)
    for i in indices:
        if alias in FIXED:
            yield start + FIXED[alias] * n * i
        elif alias in MONTHLY or alias in BUSINESS_MONTHLY:
            months, offset = (MONTHLY | BUSINESS_MONTHLY)[alias]
            if offset(1).is_on_offset(stamp):
                yield stamp + offset(n * i)
            else:
                moved = by_phase(stamp, months * n * i)
                yield to_weekday(moved) if alias in BUSINESS_MONTHLY else moved
        elif alias in ("B", "b"):
            yield offsets.BDay().rollforward(stamp) + offsets.BDay(n * i)
        else:
            one = ADDED[alias](1)
            if one.is_on_offset(stamp) or not i:
                yield stamp + ADDED[alias](n * i) if i else stamp
            else:
                first = one.rollforward(stamp)
                yield first + ADDED[alias](n * (i - 1)) if i > 1 else first


def written(stamp: datetime) -> str:
    """The canonical form, less the offset."""
    text = stamp.strftime("%Y-%m-%dT%H:%M:%S")
    digits = 0 if stamp.microsecond == 0 else 3 if stamp.microsecond % 1000 == 0 else 6
    return text + (f".{stamp.microsecond:06}"[: digits + 1] if digits else "")


ALIASES = (*FIXED, *MONTHLY, *BUSINESS_MONTHLY, "B", "b", *ADDED)


DAY = timedelta(days=1)


def first_of_next_month(stamp: datetime) -> datetime:
    return (stamp.replace(day=28) + 4 * DAY).replace(day=1)


def first_weekday(stamp: datetime) -> datetime:
    first = stamp.replace(day=1)
    return first + max(7 - first.weekday(), 0) % 7 * DAY if first.weekday() > 4 else first


def last_weekday(stamp: datetime) -> datetime:
    last = first_of_next_month(stamp) - DAY
    return last - max(last.weekday() - 4, 0) * DAY


PLACES: dict[str, Callable[[datetime], datetime]] = {
    "any day": lambda stamp: stamp,
    "midnight": lambda stamp: stamp.replace(hour=0, minute=0, second=0, microsecond=0),
    "opening": lambda stamp: stamp.replace(hour=9, minute=0, second=0, microsecond=0),
    "closing": lambda stamp: stamp.replace(hour=17, minute=0, second=0, microsecond=0),
    "first day": lambda stamp: stamp.replace(day=1),
    "last day": lambda stamp: first_of_next_month(stamp) - DAY,
    "first weekday": first_weekday,
    "last weekday": last_weekday,
}


def starts() -> st.SearchStrategy[datetime]:
    """Starts as clients have them: any moment, and more often than chance the days where grids turn."""
    moments = st.datetimes(datetime(1800, 1, 1), datetime(2080, 1, 1))
    return st.builds(lambda moment, place: PLACES[place](moment), moments, st.sampled_from(sorted(PLACES)))


@settings(max_examples=2000, deadline=None)
@given(
    start=starts(),
    alias=st.sampled_from(ALIASES),
    n=st.sampled_from((1, 1, 1, 2, 3, 5)),
    first=st.integers(0, 24),
    offset=st.sampled_from(("", "Z", "+05:30", "-11:00")),
)
@example(start=datetime(2026, 1, 31), alias="M", n=1, first=0, offset="Z")
@example(start=datetime(2024, 2, 29), alias="A-FEB", n=1, first=0, offset="")
@example(start=datetime(2026, 8, 1), alias="BMS", n=1, first=0, offset="")
def test_stamps_are_those_of_the_rules_on_pandas(start: datetime, alias: str, n: int, first: int, offset: str) -> None:
    frequency = alias if n == 1 or alias == "1h30min" else f"{n}{alias}"
    n = 1 if alias == "1h30min" else n
    grid = Grid(parse_start(written(start) + offset), parse_frequency(frequency))
    wanted = list(reference(start, alias, n, range(first, first + 6)))
    assert list(grid.stamps(first, 6)) == [written(w) + (offset or "Z") for w in wanted]
    assert grid.seconds(first, 6).tolist() == [(w.to_pydatetime() - EPOCH) // SECOND for w in map(pd.Timestamp, wanted)]


EPOCH, SECOND = datetime(1970, 1, 1), timedelta(seconds=1)
ERA_S = 146_097 * 86_400  # 400 Gregorian years, after which dates and weekdays come again


@settings(max_examples=400, deadline=None)
@given(start=starts(), alias=st.sampled_from(ALIASES), eras=st.integers(-4, 19), first=st.integers(0, 40))
def test_every_era_has_the_same_calendar(start: datetime, alias: str, eras: int, first: int) -> None:
    """pandas' bounds are not ours: year 123 and year 9723 follow the rules of 1723."""
    frequency = parse_frequency(alias)
    here = Start((start - EPOCH) // SECOND, start.microsecond * 1000)
    there = Start(here.seconds + eras * ERA_S, here.nanos)
    moved = Grid(there, frequency).seconds(first, 5) - eras * ERA_S
    assert moved.tolist() == Grid(here, frequency).seconds(first, 5).tolist()


# fmt: off
SPELLINGS = (
    "H", "T", "MIN", "S", "L", "U", "N", "M", "Q", "Y", "A", "BM", "BQ", "BA", "BY", "AS", "BAS", "SM", "CBM", "BH",
    "CBH", "h", "min", "s", "ms", "us", "ns", "ME", "QE", "YE", "BME", "BQE", "BYE", "HYE", "BHYE", "SME", "CBME", "bh",
    "cbh", "D", "W", "B", "C", "MS", "QS", "HYS", "YS", "BMS", "BQS", "BHYS", "BYS", "SMS", "CBMS", "WOM", "LWOM", "RE",
    "REQ", "Min", "Ms", "mS", "US", "NS", "d", "w", "b", "me", "qs", "a",
)
# fmt: on
SUFFIXES = (
    "",
    *(f"-{s}" for s in (*MONTHS, *WEEKDAYS, "sun", "dec", "1", "15", "16", "27", "28")),
    "-3FRI",
    "-5FRI",
    "-N-DEC-MON",
    "-L-JAN-SAT",
    "-N-DEC-MON-1",
    "-L-JAN-SAT-4",
    "-FOO",
)  # fmt: skip
MULTIPLES = ("", "1", "2", "15", "+3", "2 ", " ", "0", "-1", "1.5", ".5", "1.", "007")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_alias_that_pandas_parses_is_parsed(spelling: str) -> None:
    """The installed pandas decides what an alias is; negative, zero and `m` apart."""
    accepted = 0
    for multiple in MULTIPLES:
        for suffix in SUFFIXES:
            alias = f"{multiple}{spelling}{suffix}"
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    known = to_offset(alias)
            except (ValueError, OverflowError):
                continue
            if known.n <= 0:
                with pytest.raises(TimelineError):
                    parse_frequency(alias)
            else:
                parse_frequency(alias)
                accepted += 1
    assert accepted or pd.__version__ >= "2.2" or spelling in "ME QE YE BME BQE BYE SME CBME HYE HYS BHYE BHYS me LWOM"


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=12) | st.from_regex(r"[+-]?[0-9]{0,3}[A-Za-z]{1,4}(-[A-Z]{3})?", fullmatch=True))
def test_any_text_is_a_frequency_or_a_sentence(text: str) -> None:
    try:
        frequency = parse_frequency(text)
    except TimelineError as exc:
        assert exc.sentence.endswith(".")
    else:
        assert parse_frequency(frequency.alias) == frequency, "the new spelling is known and means the same"


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(max_size=30)
    | st.datetimes().map(datetime.isoformat)
    | st.from_regex(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}(:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,10})?)?)?)?Z?", fullmatch=True
    )
)
def test_any_text_is_a_start_or_a_sentence(text: str) -> None:
    try:
        start = parse_start(text)
    except TimelineError as exc:
        assert exc.sentence.endswith(".")
    else:
        (canonical,) = Grid(start, parse_frequency("D")).stamps(0, 1)
        again = parse_start(canonical)
        assert (again.seconds, again.nanos) == (start.seconds, start.nanos)


@settings(max_examples=300, deadline=None)
@given(
    start=starts(),
    alias=st.sampled_from(
        ("s", "15min", "h", "6h", "D", "3D", "B", "W", "2W", "M", "MS", "Q", "QS", "Y", "YS", "BM", "BMS")
    ),
    row=st.integers(1, 38),
    length=st.integers(1, 38),
)
def test_a_frequency_and_a_gap_are_found_in_stamps(start: datetime, alias: str, row: int, length: int) -> None:
    if alias in ("B", "BM", "BMS"):  # off their grid, their first stamp is no place to reckon from
        start = first_weekday(start) if alias == "BMS" else last_weekday(start)
    grid = Grid(parse_start(written(start)), parse_frequency(alias))
    texts = list(grid.stamps(0, 40))
    found = infer_frequency(parse_stamps(texts))
    assert found.departures == ()
    assert found.frequency is not None
    assert Grid(grid.start, found.frequency).stamps(0, 90) == grid.stamps(0, 90)

    length = min(length, 39 - row)
    del texts[row : row + length]
    (gap,) = departures(parse_stamps(texts), grid.frequency)
    assert (gap.row, gap.kind, gap.missing) == (row, "gap", length)
