"""Series as matrices: channels to rows and back, ragged rows padded to one matrix, gaps filled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from adapters.base import Array, Series, SeriesFailure

UNOBSERVED = SeriesFailure("A channel has no observed value among the most recent observations that the model can use.")


def channel_rows(series: Sequence[Series]) -> list[Array]:
    """Every channel of every series as one row (time,), in order; views: never write to them."""
    return [row for one in series for row in one.target]


def by_series(rows: Array, series: Sequence[Series]) -> list[Array]:
    """The reverse of `channel_rows`: (all channels, ...) -> one (channels, ...) a series; views of `rows`.

    Raises ValueError when there are more or fewer rows than channels.
    """
    channels = [len(one.target) for one in series]
    if len(rows) != sum(channels):
        raise ValueError(f"{len(rows)} rows for series of {sum(channels)} channels")
    return [rows[end - own : end] for own, end in zip(channels, accumulate(channels), strict=True)]


def observed(series: Series, steps: int) -> bool:
    """Whether every channel has an observed value among its last `steps`; one that has not is `UNOBSERVED`."""
    latest = series.target[:, -1:].ravel().tolist()
    if latest and not any(map(math.isnan, latest)):  # as of nearly every series
        return True
    return bool((~np.isnan(series.target[:, -steps:])).any(axis=1).all())


def left_padded(rows: Sequence[Array], width: int | None = None) -> Array:
    """Rows of any length as one (rows, width) matrix: the last values to the right, NaN before them.

    `width` defaults to the longest row; longer rows keep their last `width` values. A new array.
    """
    if width is None:
        width = max((len(row) for row in rows), default=0)
    matrix = np.full((len(rows), width), np.nan)
    for i, row in enumerate(rows):
        kept = row[-width:] if width else row[:0]
        matrix[i, width - len(kept) :] = kept
    return matrix


def passes(lengths: npt.NDArray[np.intp], budget: int, shortest: int = 1) -> Iterator[npt.NDArray[np.intp]]:
    """Indices of the rows to run together, so that rows x longest stays within `budget` and padding is small.

    Rows of one pass have lengths between two powers of two; all up to `shortest` are one class. A row longer than
    the budget runs alone.
    """
    classes: dict[int, list[int]] = {}
    sizes: list[int] = lengths.tolist()  # as Python's numbers: a pass of one row shall not wait for twenty array calls
    for i, size in enumerate(sizes):
        classes.setdefault((max(size, shortest) - 1).bit_length(), []).append(i)
    for _, members in sorted(classes.items()):
        members.sort(key=sizes.__getitem__)
        rows_at_once = max(1, budget // sizes[members[-1]])
        count = -(-len(members) // rows_at_once)
        ends = [len(members) * part // count for part in range(count + 1)]
        for start, end in pairwise(ends):
            yield np.array(members[start:end], dtype=np.intp)


def without_leading_gap(row: Array) -> Array:
    """`row` (time,) from its first observed value on; a view, empty when nothing is observed."""
    known = ~np.isnan(row)
    return row[int(known.argmax()) :] if known.any() else row[:0]


def filled(row: Array) -> Array:
    """`row` (time,) with gaps interpolated linearly and its ends continued flat; a new array.

    A row without any observed value stays NaN.
    """
    missing = np.isnan(row)
    out = np.array(row, dtype=np.float64)
    if missing.any() and not missing.all():
        steps = np.arange(len(row))
        out[missing] = np.interp(steps[missing], steps[~missing], row[~missing])
    return out
