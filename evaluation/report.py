"""What an evaluation writes: JSON, a Markdown table, and a page of forecasts against truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evaluation.accuracy import Accuracy, aggregate
from evaluation.datasets import Values, Window

BASELINE = "seasonal-naive"
Results = Mapping[str, Mapping[str, Accuracy]]  # model -> data set -> accuracy
Example = tuple[str, Window, Values]  # data set, window, (levels, horizon) quantiles


def table(results: Results) -> str:
    """Markdown: a row a data set, WQL and MASE relative to the baseline and coverage for every model."""
    baseline = results[BASELINE]
    models = [name for name in results if name != BASELINE] or [BASELINE]
    lines = ["| data set | windows | " + " | ".join(f"{m} WQL | MASE | 80% coverage" for m in models) + " |"]
    lines.append("|---|--:|" + "--:|" * 3 * len(models))
    for name, base in baseline.items():
        cells = [
            f"{a.wql / base.wql:.3f} | {a.mase / base.mase:.3f} | {a.coverage:.0%}"
            for a in (results[m][name] for m in models)
        ]
        lines.append(f"| {name} | {base.windows} | {' | '.join(cells)} |")
    sums = [aggregate(results[m], baseline) for m in models]
    cells = [f"**{s.wql:.3f}** | **{s.mase:.3f}** | {s.coverage:.0%}" for s in sums]
    lines.append(f"| **geometric mean** | {sum(a.windows for a in baseline.values())} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def document(results: Results) -> str:
    """JSON of every figure, absolute and aggregated."""
    baseline = results[BASELINE]
    return json.dumps(
        {
            model: {
                "data_sets": {name: asdict(accuracy) for name, accuracy in sets.items()},
                "relative_to_seasonal_naive": asdict(aggregate(sets, baseline)),
            }
            for model, sets in results.items()
        },
        indent=2,
    )


def figures(folder: Path) -> dict[str, dict[str, Accuracy]]:
    """What an earlier evaluation wrote to `folder`; nothing if there was none."""
    file = folder / "accuracy.json"
    if not file.exists():
        return {}
    models = json.loads(file.read_text())
    return {m: {name: Accuracy(**a) for name, a in found["data_sets"].items()} for m, found in models.items()}


def page(examples: Sequence[Example], title: str, columns: int = 3) -> go.Figure:
    """Small plots of the context's end, the truth, the median and the central 80%."""
    rows = -(-len(examples) // columns)
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=[name for name, _, _ in examples])
    for i, (_, window, values) in enumerate(examples):
        place = {"row": i // columns + 1, "col": i % columns + 1, "mode": "lines"}
        past = window.context[-5 * len(window.actual) :]
        ahead = np.arange(len(window.actual))
        figure.add_scatter(x=np.arange(-len(past), 0), y=past, line_color="#555", **place)
        figure.add_scatter(x=ahead, y=values[0], line_width=0, **place)
        figure.add_scatter(x=ahead, y=values[-1], line_width=0, fill="tonexty", fillcolor="#9cf", **place)
        figure.add_scatter(x=ahead, y=window.actual, line_color="#555", **place)
        figure.add_scatter(x=ahead, y=values[len(values) // 2], line_color="#05c", **place)
    return figure.update_layout(title=title, height=260 * rows, showlegend=False, template="plotly_white")


def write(results: Results, examples: Mapping[str, Sequence[Example]], folder: Path) -> None:
    """All three into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "accuracy.json").write_text(document(results) + "\n")
    (folder / "accuracy.md").write_text(table(results))
    for model, shown in examples.items():
        page(shown, model).write_html(folder / f"{model.replace('/', '_')}.html", include_plotlyjs=True)
