"""The targets of speed, each as a row: what is measured, what is asked of it, what was found."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

Relation = Literal[">=", "<=", ">"]
HOLDS: Mapping[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, ">": operator.gt}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure beside its target."""

    what: str
    relation: Relation
    target: float
    measured: float
    unit: str  # "times", "ms", "s" or "MB"

    @property
    def holds(self) -> bool:
        return HOLDS[self.relation](self.measured, self.target)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run on one machine."""

    date: str
    machine: dict[str, str | int]
    rows: tuple[Row, ...]
    details: dict[str, object]


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| what | target | measured | |", "|---|--:|--:|---|"]
    for row in rows:
        asked = f"{row.relation} {_number(row.target)} {row.unit}".replace(">=", "≥").replace("<=", "≤")
        verdict = "" if row.holds else "falls short"
        lines.append(f"| {row.what} | {asked} | {_number(row.measured)} {row.unit} | {verdict} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
