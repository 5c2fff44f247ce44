"""Judge the search for anomalies on NAB's labelled series: `python -m evaluation.anomalies --data FOLDER`.

Each file goes through the gateway's own service, one step ahead. A labelled window is found if any alarm lies in it;
windows that end before the scored rows are not counted. Beside it stands a seasonal-naive z-score, the difference from
one season before in standard deviations of all such differences so far, with the threshold in each file that gives it
exactly as many alarms; and, over all files, the same score with the one threshold that gives as many in their sum.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from catalog.card import CARDS, Catalog, load_cards
from evaluation.datasets import Values
from gateway import timeline
from gateway.domain import AnomalyRequest, Caller, ForecastRequest, Parameters, SeriesAnomalies, SeriesInput
from gateway.engine import Engine
from gateway.service import ForecastService
from gateway.service.anomalies import detect_anomalies
from gateway.settings import EngineSettings

Marks = npt.NDArray[np.bool_]

HOURLY = ("ambient_temperature_system_failure", "exchange-2_cpc_results")  # the others step by five minutes
SENSITIVITIES = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
DEFAULT = 3.0
DEADLINE_S = 3600.0


@dataclass(frozen=True)
class Labelled:
    """One file: its values, and the rows of each labelled window."""

    name: str
    values: Values
    start: str
    frequency: str
    windows: tuple[Marks, ...]

    @property
    def season(self) -> int:
        return timeline.season(self.frequency, len(self.values))


@dataclass(frozen=True)
class Found:
    """How alarms stand to labels in some rows."""

    points: int  # scored
    quiet: int  # of them outside all windows
    windows: int
    hit: int
    alarms: int
    false: int  # alarms outside all windows

    def __add__(self, other: Found) -> Found:
        return Found(*(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    @property
    def counts(self) -> tuple[int, ...]:
        return self.points, self.quiet, self.windows, self.hit, self.alarms, self.false

    @property
    def false_per_1000(self) -> float:
        return 1000 * self.false / max(1, self.quiet)


def labelled(folder: Path) -> Iterator[Labelled]:
    """Every file of `folder`/nab, with the windows as they were published."""
    windows: dict[str, list[tuple[str, str]]] = json.loads((folder / "nab" / "windows.json").read_text())
    for file, spans in windows.items():
        with (folder / "nab" / file).open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        stamps = np.array([row["timestamp"] for row in rows], dtype="M8[s]")
        name = Path(file).stem
        yield Labelled(
            name=name,
            values=np.array([float(row["value"]) for row in rows]),
            start=rows[0]["timestamp"].replace(" ", "T"),
            frequency="h" if name in HOURLY else "5min",
            windows=tuple((stamps >= np.datetime64(a)) & (stamps <= np.datetime64(b)) for a, b in spans),
        )


def found(file: Labelled, scores: Values, alarms: Marks) -> Found:
    """Compare `alarms` with the labels, on the rows that have a score."""
    scored = ~np.isnan(scores)
    inside = np.any(file.windows, axis=0) if file.windows else np.zeros(len(scored), dtype=bool)
    windows = [window for window in file.windows if (window & scored).any()]
    return Found(
        points=int(scored.sum()),
        quiet=int((scored & ~inside).sum()),
        windows=len(windows),
        hit=sum(bool((window & alarms).any()) for window in windows),
        alarms=int(alarms.sum()),
        false=int((alarms & ~inside).sum()),
    )


def highest(scores: Values, count: int) -> Marks:
    """The `count` rows of the highest scores, the earlier where they tie; NaN is never one."""
    marks = np.zeros(len(scores), dtype=bool)
    marks[np.argsort(-np.nan_to_num(scores, nan=-1.0), kind="stable")[:count]] = True
    return marks


def seasonal_z(values: Values, season: int, first: int) -> Values:
    """|z| of the difference from one season before, NaN before row `first`. `values` has no gap."""
    differences = values[season:] - values[:-season]
    counts = np.arange(1, len(differences) + 1)
    means = np.cumsum(differences) / counts
    deviations = np.sqrt(np.maximum(np.cumsum(differences**2) / counts - means**2, 0.0))
    scores = np.full(len(values), np.nan)
    begin = max(first, season + 2)  # two differences before it
    past = np.arange(begin, len(values)) - season - 1
    scores[begin:] = np.abs(differences[past + 1] - means[past]) / np.maximum(deviations[past], 1e-12)
    scores[first:begin] = 0.0
    return scores


async def z_scores(files: Sequence[Labelled], model: str, weights: Path, cache: Path | None) -> dict[str, Values]:
    """|z| of every row by the gateway's service, NaN where not scored; from `cache` what is there."""
    catalog = Catalog(load_cards(CARDS))
    scores: dict[str, Values] = {}
    engine = Engine(catalog, EngineSettings(workers=1, weights_dir=str(weights), load_wait_s=60.0))
    await engine.start()
    try:
        service = ForecastService(catalog, engine)
        for file in files:
            kept = cache / f"{model.replace('/', '_')}.{file.name}.npy" if cache else None
            if kept is not None and kept.exists():
                scores[file.name] = np.load(kept)
                continue
            scores[file.name] = await _z_scores(service, file, model)
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.save(kept, scores[file.name])
    finally:
        await engine.stop(0.0)
    return scores


async def _z_scores(service: ForecastService, file: Labelled, model: str) -> Values:
    asked = ForecastRequest(
        model=model,
        series=(SeriesInput(target=file.values[:, None], start=file.start),),
        parameters=Parameters(prediction_length=1, frequency=file.frequency),
    )
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    report = await detect_anomalies(service, AnomalyRequest(forecast=asked), caller=Caller(), deadline=deadline)
    output = report.outputs[0]
    if not isinstance(output, SeriesAnomalies):
        raise SystemExit(f"{file.name}: {output.sentence}")
    scores: Values = np.abs(output.z_score[:, 0])
    return scores


def compared(file: Labelled, scores: Values, sensitivity: float) -> tuple[Found, Found]:
    """What `sensitivity` finds, and what the seasonal-naive z-score finds with as many alarms."""
    alarms = np.nan_to_num(scores) > sensitivity
    baseline = _baseline(file, scores)
    return found(file, scores, alarms), found(file, scores, highest(baseline, int(alarms.sum())))


def with_one_threshold(files: Sequence[Labelled], scores: Mapping[str, Values], alarms: int) -> Found:
    """What the seasonal-naive z-score finds with as many alarms over all files, wherever they fall."""
    baselines = [_baseline(file, scores[file.name]) for file in files]
    marks = highest(np.concatenate(baselines), alarms)
    ends = np.cumsum([len(baseline) for baseline in baselines])[:-1]
    parts = zip(files, baselines, np.split(marks, ends), strict=True)
    return _sum(found(file, baseline, part) for file, baseline, part in parts)


def _baseline(file: Labelled, scores: Values) -> Values:
    """The rival's scores of the rows that have one of ours."""
    first = int(np.argmin(np.isnan(scores)))
    return np.where(np.isnan(scores), np.nan, seasonal_z(file.values, file.season, first))


def table(files: Sequence[Labelled], scores: Mapping[str, Values]) -> str:
    """Markdown: every file at the default sensitivity, then all files at each sensitivity."""
    lines = [
        "| file | points | alarms | windows found | false alarms a 1,000 | seasonal naive: found | false a 1,000 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_row(file.name, *compared(file, scores[file.name], DEFAULT)) for file in files]
    lines.append(_row("**all**", *_summed(files, scores, DEFAULT)))
    lines += [
        "",
        f"| sensitivity, all files{lines[0].removeprefix('| file')} found with one threshold |",
        f"{lines[1]}--:|",
    ]
    for sensitivity in SENSITIVITIES:
        ours, theirs = _summed(files, scores, sensitivity)
        shared = with_one_threshold(files, scores, ours.alarms)
        lines.append(f"{_row(f'{sensitivity:g}', ours, theirs)} {shared.hit}/{shared.windows} |")
    return "\n".join(lines) + "\n"


def _summed(files: Sequence[Labelled], scores: Mapping[str, Values], sensitivity: float) -> tuple[Found, Found]:
    pairs = [compared(file, scores[file.name], sensitivity) for file in files]
    return _sum(ours for ours, _ in pairs), _sum(theirs for _, theirs in pairs)


def _sum(parts: Iterable[Found]) -> Found:
    return sum(parts, Found(0, 0, 0, 0, 0, 0))


def _row(name: str, ours: Found, theirs: Found) -> str:
    cells = [name, ours.points, ours.alarms, f"{ours.hit}/{ours.windows}", f"{ours.false_per_1000:.1f}"]
    cells += [f"{theirs.hit}/{theirs.windows}", f"{theirs.false_per_1000:.1f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Read the command line, judge and report."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.anomalies", description=__doc__)
    parser.add_argument("--model", default="bolt-nano")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("~/.cache/forecast-gateway"), help="weights folder")
    parser.add_argument("--cache", type=Path, help="folder that keeps the scores of each file for another run")
    options = parser.parse_args()
    files = list(labelled(options.data))
    scores = asyncio.run(z_scores(files, options.model, options.weights.expanduser(), options.cache))
    print(table(files, scores))


if __name__ == "__main__":
    main()
