"""The frequency of stamps that came without one, and the rows where stamps leave a frequency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gateway.timeline.frequency import DAY_NS, MONTHS, WEEKDAYS, Frequency, fixed, parse_frequency
from gateway.timeline.rules import is_last_day, month_and_day
from gateway.timeline.stamps import DAY_S, SECOND_NS, Form, Integers, Stamps, Start, render

Truths = npt.NDArray[np.bool_]

_MONTH_NS = 28 * DAY_NS  # no two stamps of a monthly series are closer


@dataclass(frozen=True, slots=True)
class Departure:
    """A row whose stamp does not follow from the row before."""

    row: int
    kind: Literal["gap", "duplicate", "backwards", "off_grid"]
    sentence: str
    missing: int = 0  # stamps that a gap lacks


@dataclass(frozen=True, slots=True)
class Inference:
    """What stamps say of their frequency."""

    frequency: Frequency | None  # that of most rows; None where most have none in common
    departures: tuple[Departure, ...]  # from it, or from the nearest there is; none: the stamps are regular


def infer_frequency(stamps: Stamps, *, plain_months: bool = False) -> Inference:
    """The frequency that leaves the fewest rows unexplained. Needs two different stamps.

    With `plain_months`, a series that starts on the last day of a month and does not stay on last days may have that
    day of each month; its frequency is one of `Frequency.plain_months`.
    """
    best: tuple[Frequency, tuple[Departure, ...]] | None = None
    for candidate in _candidates(stamps, plain_months):
        found = departures(stamps, candidate)
        if best is None or len(found) < len(best[1]):
            best = candidate, found
        if not found:
            break
    if best is None:
        return Inference(None, _repeats(stamps))
    frequency, found = best
    return Inference(frequency if 2 * len(found) < len(stamps) else None, found)


def departures(stamps: Stamps, frequency: Frequency) -> tuple[Departure, ...]:
    """Rows that leave the grid of `frequency` anchored at the earliest stamp: gaps, duplicates, disorder, strays."""
    if len(stamps) == 0:
        return ()
    earliest = _sorted(stamps)
    anchor = Start(int(earliest.seconds[0]), int(earliest.nanos[0]))
    rows = np.arange(len(stamps))
    if _equal(frequency.step.at(anchor, rows), stamps).all():
        return ()
    positions, on_grid = _positions(stamps, anchor, frequency)
    kept = rows[on_grid]
    moves = dict(zip(kept[1:].tolist(), np.diff(positions[on_grid]).tolist(), strict=True))
    return tuple(_departures(stamps, frequency, moves, rows[~on_grid].tolist()))


def _departures(stamps: Stamps, frequency: Frequency, moves: dict[int, int], strays: list[int]) -> Iterator[Departure]:
    """One departure a row that strays from the grid or does not move on it by one."""
    odd = sorted([row for row, move in moves.items() if move != 1] + strays)
    chosen = np.array(odd, dtype=np.int64)
    texts = render(Stamps(stamps.seconds[chosen], stamps.nanos[chosen]), Form(offset="", unit="D"))
    for row, text in zip(odd, texts, strict=True):
        move = moves.get(row)
        if move is None:
            yield Departure(row, "off_grid", f"{text} is not a step of the frequency {frequency.alias}")
        elif move == 0:
            yield Departure(row, "duplicate", f"{text} stands there twice")
        elif move < 0:
            yield Departure(row, "backwards", f"{text} is earlier than the row before")
        else:
            are = "stamp is" if move == 2 else "stamps are"
            yield Departure(row, "gap", f"{move - 1} {are} missing before {text}", move - 1)


def _positions(stamps: Stamps, anchor: Start, frequency: Frequency) -> tuple[Integers, Truths]:
    """Index on the grid of the last point not after each stamp, and whether the stamp is that point."""
    step = frequency.step
    low = np.zeros(len(stamps), dtype=np.int64)
    span = int(stamps.seconds.max()) - anchor.seconds + 1
    high = np.full(len(stamps), span * SECOND_NS // step.least_ns + 2)
    while (high - low).max() > 1:
        middle = (low + high) // 2
        points = step.at(anchor, middle)
        reached = points.seconds < stamps.seconds
        reached |= (points.seconds == stamps.seconds) & (points.nanos <= stamps.nanos)
        low, high = np.where(reached, middle, low), np.where(reached, high, middle)
    return low, _equal(step.at(anchor, low), stamps)


def _candidates(stamps: Stamps, plain_months: bool) -> Iterator[Frequency]:
    """Frequencies that the commonest step of the sorted stamps may be, the likeliest first."""
    ordered = _sorted(stamps)
    if len(ordered) < 2:
        return
    step = _commonest(np.diff(ordered.seconds), np.diff(ordered.nanos))
    if step >= _MONTH_NS and step % DAY_NS == 0:
        months = ordered.seconds.view("M8[s]").astype("M8[M]").view(np.int64)
        moves = np.diff(months)
        if moves.any():
            day = int(ordered.seconds[0]) // DAY_S
            by = _commonest(moves[moves > 0])
            yield from _monthly(day, by, is_last=is_last_day(day))
            if plain_months and is_last_day(day):
                yield next(_monthly(day, by, is_last=False)).plain_months()
    if step % (7 * DAY_NS) == 0:
        weeks = step // (7 * DAY_NS)
        weekday = WEEKDAYS[(int(ordered.seconds[0]) // DAY_S + 3) % 7]
        yield parse_frequency(f"{weeks}W-{weekday}")
        return
    yield fixed(step)
    if step == DAY_NS:
        yield parse_frequency("B")


def _monthly(day: int, months: int, *, is_last: bool) -> Iterator[Frequency]:
    """Month, quarter or year aliases of a series that starts on `day` and mostly moves by `months`.

    `is_last`: the start is taken for the last day of its month.
    """
    month = month_and_day(day)[0] % 12
    period, size = next((p, s) for p, s in (("Y", 12), ("Q", 3), ("M", 1)) if months % s == 0)
    multiple = months // size
    for business in ("", "B"):
        for side in "ES" if is_last else "SE":
            # Quarters are named by December or January where they can be, as pandas' defaults are.
            default = 11 if side == "E" else 0
            anchor = default if period == "Q" and (month - default) % 3 == 0 else month
            suffix = "" if period == "M" else f"-{MONTHS[anchor]}"
            if business or side == ("E" if is_last else "S"):
                yield parse_frequency(f"{multiple}{business}{period}{side}{suffix}")


def _commonest(seconds: Integers, nanos: Integers | None = None) -> int:
    """The commonest difference in nanoseconds (without `nanos`: as it is), the smallest of those that tie."""
    if nanos is None or not nanos.any():
        values, counts = np.unique(seconds, return_counts=True)
        commonest = int(values[counts.argmax()])
        return commonest if nanos is None else commonest * SECOND_NS
    steps: Counter[int] = Counter(s * SECOND_NS + n for s, n in zip(seconds.tolist(), nanos.tolist(), strict=True))
    return min(steps, key=lambda step: (-steps[step], step))


def _sorted(stamps: Stamps) -> Stamps:
    """The different stamps in order of time."""
    order = np.lexsort((stamps.nanos, stamps.seconds))
    seconds, nanos = stamps.seconds[order], stamps.nanos[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(seconds) != 0) | (np.diff(nanos) != 0)
    return Stamps(seconds[new], nanos[new])


def _equal(a: Stamps, b: Stamps) -> Truths:
    equal: Truths = (a.seconds == b.seconds) & (a.nanos == b.nanos)
    return equal


def _repeats(stamps: Stamps) -> tuple[Departure, ...]:
    """Departures of stamps that are all the same."""
    texts = render(stamps, Form(offset="", unit="D"))
    return tuple(Departure(row, "duplicate", f"{texts[row]} stands there twice") for row in range(1, len(stamps)))
