"""What an answer of this dialect needs of its request; it travels as metadata, which nobody else reads."""

from __future__ import annotations

from dataclasses import dataclass

Levels = tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer needs of its request."""

    levels: Levels | None  # as sent; None: none were
    notices: tuple[str, ...]  # what was asked and is not done
    contributions: bool = False  # the client fails where this key is asked for and absent


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the observations of one series lie in `y`."""

    first: int


def quantiles_of(level: int | float) -> tuple[float, float]:
    """The quantiles that a prediction interval of `level` percent lies between."""
    half = level / 200
    return round(0.5 - half, 10), round(0.5 + half, 10)
