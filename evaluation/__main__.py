"""Judge models on real series: `python -m evaluation MODEL ... --data FOLDER --out FOLDER`.

A model is a name of the catalog, or several joined by "+", whose quantiles are averaged. Seasonal naive is always
judged too, since every figure is relative to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import track

from evaluation.accuracy import Accuracy, measure
from evaluation.datasets import DATA_SETS, Window
from evaluation.forecasters import Forecaster, forecaster
from evaluation.report import BASELINE, Example, figures, table, write


def judge(
    predict: Forecaster, windows: dict[str, list[Window]], name: str
) -> tuple[dict[str, Accuracy], list[Example]]:
    """Accuracy on every data set, and one example of each."""
    accuracy: dict[str, Accuracy] = {}
    examples: list[Example] = []
    for data_set in track(DATA_SETS, description=name, console=Console(stderr=True)):
        chosen = windows[data_set.name]
        quantiles = predict(chosen, data_set.season)
        accuracy[data_set.name] = measure(chosen, quantiles, data_set.season)
        examples.append((data_set.name, chosen[len(chosen) // 2], quantiles[len(chosen) // 2]))
    return accuracy, examples


def spaced(windows: list[Window], most: int | None) -> list[Window]:
    """At most `most` of `windows`, evenly spaced."""
    if most is None or len(windows) <= most:
        return windows
    return [windows[i * len(windows) // most] for i in range(most)]


def main() -> None:
    """Read the command line, judge and report."""
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="folder for accuracy.json, accuracy.md and the plots")
    parser.add_argument("--weights", type=Path, default=Path("~/.cache/forecast-gateway"), help="weights folder")
    parser.add_argument("--context", type=int, default=2048, help="observations that a model may see")
    parser.add_argument("--most", type=int, metavar="N", help="windows of a data set, evenly spaced; default: all")
    parser.add_argument("--keep", action="store_true", help="do not judge again what OUT holds the figures of")
    options = parser.parse_args()
    windows = {d.name: spaced(list(d.rolling(options.data, options.context)), options.most) for d in DATA_SETS}
    names = [BASELINE, *(m for m in options.models if m != BASELINE)]
    results = figures(options.out) if options.keep and options.out else {}
    examples = {}
    for name in [n for n in names if n not in results]:
        predict = forecaster(name, options.weights.expanduser())
        results[name], examples[name] = judge(predict, windows, name)
    print(table(results))
    if options.out:
        write(results, examples, options.out)


if __name__ == "__main__":
    main()
