"""The targets of speed, each as a row: what is measured, what is asked of it, what was found.

    python -m tests.benchmark.targets benchmarks/DATE-MACHINE.json README.md

writes the table of a run between the README's marks.
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

PLACE = "benchmarks"  # where runs are kept, seen from the README
BEGIN, END = "<!-- speed: make bench -->", "<!-- /speed -->"

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


def section(file: Path) -> str:
    """What stands between the README's marks: the run's machine, table and plot."""
    report = msgspec.json.decode(file.read_bytes(), type=Report)
    held = sum(row.holds for row in report.rows)
    about = report.machine
    commit = str(about["commit"])[:8]
    return (
        f"{held} of {len(report.rows)} hold on {about['cores']} cores of an {about['processor']}, {report.date}, "
        f"commit `{commit}` ([all figures]({PLACE}/{file.name})):\n\n"
        f"{table(report.rows)}\n![measured over target]({PLACE}/{file.stem}.svg)\n"
    )


def between_marks(document: str) -> str:
    """The part of `document` that a run writes."""
    found = re.search(f"{re.escape(BEGIN)}\n(.*?){re.escape(END)}", document, re.DOTALL)
    if found is None:
        raise ValueError(f"there is no {BEGIN} ... {END}")
    return found[1]


def main() -> None:
    run, readme = Path(sys.argv[1]), Path(sys.argv[2])
    document = readme.read_text()
    before, _, rest = document.partition(f"{BEGIN}\n")
    between_marks(document)  # both marks are there
    readme.write_text(f"{before}{BEGIN}\n{section(run)}{END}{rest.partition(END)[2]}")


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
