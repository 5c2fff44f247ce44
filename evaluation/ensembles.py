"""Judge ensembles on real series: `python -m evaluation.ensembles --data FOLDER --out FOLDER`.

Every candidate forecasts every window, and so does the gateway's own ensemble, which backtests the candidates on the
end of what they may see, weighs and blends them, with no look at the values that all are then compared with. Series
that begin at one time are one request. Forecasts are kept in OUT, so that another weighting is judged without running
a model again.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
from rich.console import Console
from rich.progress import track

from catalog.card import CARDS, Catalog, load_cards
from evaluation.accuracy import LEVELS, Accuracy, aggregate, measure
from evaluation.datasets import DATA_SETS, Competition, DataSet, Values, Window
from evaluation.remembered import RememberingEngine
from evaluation.report import BASELINE
from gateway.domain import (
    Caller,
    EnsembleForecast,
    EnsembleRequest,
    Forecast,
    ForecastRequest,
    Parameters,
    ScoringMetric,
    Selection,
    SeriesForecast,
    SeriesInput,
    Weighting,
)
from gateway.service import ForecastService, ensembles
from gateway.settings import EngineSettings

CANDIDATES = ("bolt-nano", "seasonal-naive", "auto-ets", "auto-theta", "dynamic-theta")
FREQUENCIES = {1: None, 4: "Q", 7: "D", 12: "M", 24: "h", 48: "30min", 288: "5min"}  # by season
PATIENCE_S = 3600.0  # of one call: what is judged here is accuracy, on a machine that may be busy
ENSEMBLE = "ensemble"

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """The windows of one data set, in the requests that are made of them."""

    data_set: DataSet | Competition
    requests: tuple[tuple[Window, ...], ...]

    @property
    def windows(self) -> list[Window]:
        return [window for request in self.requests for window in request]

    @property
    def parameters(self) -> Parameters:
        return Parameters(
            prediction_length=self.data_set.horizon,
            frequency=FREQUENCIES[self.data_set.season],
            quantile_levels=LEVELS,
        )


@dataclass
class Standing:
    """How a candidate stood in the ensembles of one data set, a number a request."""

    ranks: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Judged:
    """What was found of one data set."""

    accuracy: dict[str, Accuracy]  # of each candidate and of the ensemble
    standing: dict[str, Standing]


def tasks(folder: Path, context: int, most: int | None) -> list[Task]:
    """Every data set with about `most` windows, evenly spaced in time, or over series where all begin at once."""
    found = []
    for data_set in DATA_SETS:
        origins: dict[int, list[Window]] = defaultdict(list)
        for window in data_set.rolling(folder, context):
            origins[window.origin].append(window)
        together = list(origins.values())
        if len(together) == 1:
            requests = [spaced(together[0], most)]
        else:
            requests = spaced(together, None if most is None else max(1, most // max(map(len, together))))
        found.append(Task(data_set, tuple(tuple(request) for request in requests)))
    return found


def spaced(items: Sequence[T], most: int | None) -> list[T]:
    """At most `most` of `items`, evenly spaced."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


# -- forecasts ---


@asynccontextmanager
async def service_of(file: Path) -> AsyncIterator[ForecastService]:
    """The gateway's own service, over an engine that keeps its forecasts in `file`."""
    settings = EngineSettings(
        workers=1,
        statistical_workers=1,
        load_wait_s=PATIENCE_S,
        batch_timeout_s=PATIENCE_S,
        max_queue_s=PATIENCE_S,
        default_model=BASELINE,
    )
    catalog = Catalog(load_cards(CARDS))
    engine = RememberingEngine(catalog, settings)
    engine.keep_in(file)
    await engine.start()
    try:
        yield ForecastService(catalog, engine)
    finally:
        await engine.stop(5.0)


async def judge(service: ForecastService, task: Task, candidates: Sequence[str], how: EnsembleRequest) -> Judged:
    """Accuracy of `candidates`, and of the ensemble of them that is made as `how` says."""
    quantiles: dict[str, list[Values]] = defaultdict(list)
    standing: dict[str, Standing] = defaultdict(Standing)
    for windows in task.requests:
        series = tuple(SeriesInput(target=window.context[:, None]) for window in windows)
        for model in candidates:
            asked = ForecastRequest(model=model, series=series, parameters=task.parameters)
            made = await service.forecast(asked, caller=Caller(), deadline=_late())
            assert isinstance(made, Forecast)
            quantiles[model] += _quantiles(made)
        answer = await ensembles.ensemble(
            service,
            EnsembleRequest(
                models=tuple(candidates),
                series=series,
                parameters=task.parameters,
                budget_s=PATIENCE_S,
                windows=how.windows,
                weighting=how.weighting,
                scoring_metric=how.scoring_metric,
                max_models=how.max_models,
                selection=how.selection,
            ),
            caller=Caller(),
            deadline=_late(),
        )
        quantiles[ENSEMBLE] += _quantiles(answer.forecast)
        _note(standing, answer)
    season = task.data_set.season
    accuracy = {model: measure(task.windows, values, season) for model, values in quantiles.items()}
    return Judged(accuracy, standing)


def _late() -> float:
    return asyncio.get_running_loop().time() + 2 * PATIENCE_S


def _quantiles(forecast: Forecast) -> Iterator[Values]:
    for output in forecast.outputs:
        assert isinstance(output, SeriesForecast), output.sentence
        yield output.quantiles[:, :, 0]


def _note(standing: dict[str, Standing], answer: EnsembleForecast) -> None:
    for ranked in answer.ranked:
        name = ranked.model.rpartition("/")[2]
        standing[name].ranks.append(ranked.rank)
        standing[name].weights.append(ranked.weight)


# -- the table ---


def table(found: Mapping[str, Judged], candidates: Sequence[str]) -> str:
    """Markdown: true errors relative to seasonal naive, then mean rank in the backtests / mean weight in the blends."""
    names = [*candidates, ENSEMBLE]
    lines = ["| data set | windows | " + " | ".join(f"{n} MASE | WQL" for n in names) + " |"]
    lines.append("|---|--:|" + "--:|--:|" * len(names))
    for data_set, judged in found.items():
        base = judged.accuracy[BASELINE]
        cells = [f"{a.mase / base.mase:.3f} | {a.wql / base.wql:.3f}" for a in (judged.accuracy[n] for n in names)]
        lines.append(f"| {data_set} | {base.windows} | {' | '.join(cells)} |")
    figures = {name: {d: j.accuracy[name] for d, j in found.items()} for name in names}
    means = {name: aggregate(figures[name], figures[BASELINE]) for name in names}
    ranks = true_ranks(found, names)
    total = sum(j.accuracy[BASELINE].windows for j in found.values())
    cells = [f"**{means[n].mase:.3f}** | **{means[n].wql:.3f}**" for n in names]
    lines.append(f"| **geometric mean** | {total} | {' | '.join(cells)} |")
    cells = [f"{ranks[n]['mase']:.2f} | {ranks[n]['wql']:.2f}" for n in names]
    lines.append(f"| mean rank | | {' | '.join(cells)} |")
    lines += ["", "Mean rank in the backtests and mean weight in the blend:", ""]
    lines += ["| data set | " + " | ".join(candidates) + " |", "|---|" + "--:|" * len(candidates)]
    for data_set, judged in found.items():
        cells = [f"{np.mean(s.ranks):.1f} / {np.mean(s.weights):.2f}" for s in (judged.standing[n] for n in candidates)]
        lines.append(f"| {data_set} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", verdict(found, candidates)]) + "\n"


def true_ranks(found: Mapping[str, Judged], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean place of each by MASE and by WQL over the data sets; 1 is the best, ties share."""
    places: dict[str, dict[str, float]] = {name: {} for name in names}
    for metric in ("mase", "wql"):
        for name in names:
            better = [
                sum(getattr(j.accuracy[other], metric) < getattr(j.accuracy[name], metric) for other in names)
                + 0.5 * sum(getattr(j.accuracy[o], metric) == getattr(j.accuracy[name], metric) for o in names)
                for j in found.values()
            ]
            places[name][metric] = 0.5 + float(np.mean(better))
    return places


def verdict(found: Mapping[str, Judged], candidates: Sequence[str]) -> str:
    """The ensemble against the best single candidate in hindsight, and against everybody's mean rank."""
    names = [*candidates, ENSEMBLE]
    figures = {name: {d: j.accuracy[name] for d, j in found.items()} for name in names}
    means = {name: aggregate(figures[name], figures[BASELINE]) for name in names}
    said = []
    for metric in ("mase", "wql"):
        best = min(candidates, key=lambda n: getattr(means[n], metric))
        ratio = getattr(means[ENSEMBLE], metric) / getattr(means[best], metric)
        said.append(f"{metric.upper()} {ratio:.3f} times that of {best}")
    both = {name: float(np.sqrt(means[name].mase * means[name].wql)) for name in names}
    best = min(candidates, key=lambda n: both[n])
    said.append(f"both together {both[ENSEMBLE] / both[best]:.3f} times those of {best}")
    ranks = {name: float(np.mean(list(places.values()))) for name, places in true_ranks(found, names).items()}
    second = min(candidates, key=lambda n: ranks[n])
    return (
        f"The ensemble against the best candidate in hindsight: {'; '.join(said)}. "
        f"Mean rank {ranks[ENSEMBLE]:.2f}; of the best candidate ({second}) {ranks[second]:.2f}."
    )


async def run(options: argparse.Namespace, folder: Path) -> str:
    """Judge every data set; the table."""
    how = EnsembleRequest(
        models=None,
        series=(),
        parameters=Parameters(prediction_length=1),
        windows=options.windows,
        weighting=options.weighting,
        scoring_metric=options.metric,
        max_models=options.max_models,
        selection=options.selection,
    )
    candidates = [*options.models, *([BASELINE] if BASELINE not in options.models else [])]
    found = {}
    async with service_of(folder / "forecasts.sqlite") as service:
        asked = tasks(options.data, options.context, options.most)
        for task in track(asked, description="data sets", console=Console(stderr=True)):
            found[task.data_set.name] = await judge(service, task, candidates, how)
    return table(found, candidates)


def main() -> None:
    """Read the command line, judge and print."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.ensembles", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=CANDIDATES, help="aliases of the catalog")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="folder for ensembles.md and the forecasts that are kept")
    parser.add_argument("--context", type=int, default=2048, help="observations that a model may see")
    parser.add_argument("--most", type=int, metavar="N", help="windows of a data set, evenly spaced; default: all")
    parser.add_argument("--windows", type=int, default=1, help="folds of the backtest")
    parser.add_argument("--weighting", choices=get_args(Weighting), default="inverse_score")
    parser.add_argument("--metric", choices=get_args(ScoringMetric), default="smape")
    parser.add_argument("--selection", choices=get_args(Selection), default="global")
    parser.add_argument("--max-models", type=int, default=3)
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        text = asyncio.run(run(options, options.out))
        (options.out / "ensembles.md").write_text(text)
    else:
        with tempfile.TemporaryDirectory() as folder:
            text = asyncio.run(run(options, Path(folder)))
    print(text)


if __name__ == "__main__":
    main()
