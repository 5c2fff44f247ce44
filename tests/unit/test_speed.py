"""The table of speed: its figures are those of a run, and a row says whether it holds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.benchmark.load import FORMS, MARK, Body, mixed_lengths, walk
from tests.benchmark.targets import PLACE, Report, Row, between_marks, section, table

ROOT = Path(__file__).parents[2]
RUNS = sorted((ROOT / PLACE).glob("*.json"))


def row(relation: str, target: float, measured: float) -> Row:
    return msgspec.convert(
        {"what": "requests", "relation": relation, "target": target, "measured": measured, "unit": "times"}, Row
    )


@pytest.mark.parametrize(
    ("relation", "measured", "holds"),
    [(">=", 2.0, True), (">=", 1.99, False), ("<=", 2.0, True), ("<=", 2.01, False), (">", 2.0, False)],
)
def test_a_row_holds_at_its_target(relation: str, measured: float, holds: bool) -> None:
    found = row(relation, 2.0, measured)
    assert found.holds is holds
    assert ("falls short" in table([found])) is not holds


def test_the_readme_shows_the_newest_run() -> None:
    assert RUNS, "there is no run to show: make bench"
    assert between_marks((ROOT / "README.md").read_text()) == section(RUNS[-1])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.stem)
def test_a_run_says_where_it_was_made_and_has_its_plot(run: Path) -> None:
    report = msgspec.json.decode(run.read_bytes(), type=Report)
    assert {"processor", "cores", "python", "commit", "torch"} <= report.machine.keys()
    assert run.with_suffix(".svg").is_file()


@pytest.mark.parametrize("form", FORMS)
def test_no_two_requests_of_a_load_are_the_same(form: str) -> None:
    body = Body("POST / HTTP/1.1\r\n", FORMS[form]([walk(32, seed=1)]))
    sent = [body.next(number) for number in range(1000)]
    assert len(set(sent)) == len(sent)
    for request in (sent[0], sent[-1]):
        head, _, content = request.partition(b"\r\n\r\n")
        assert int(head.rpartition(b"content-length: ")[2]) == len(content)
        msgspec.json.decode(content)
        assert str(MARK).encode() not in content


def test_mixed_lengths_are_what_they_are_called() -> None:
    lengths = mixed_lengths()
    assert min(lengths) >= 32 and max(lengths) <= 2048 and len(set(lengths)) > 20
