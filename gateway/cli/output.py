"""What `forecast-gateway forecast` writes: a tidy table and a plot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet

if TYPE_CHECKING:
    from gateway.cli.forecast import Job, Result
    from gateway.tables import Reading

PLOTTED = 20  # series in one plot: more is a page that nobody reads
HISTORY = 3  # seasons of the horizon shown before the forecast


def write_table(path: Path, reading: Reading, job: Job, results: Sequence[Result]) -> None:
    """One row a series, step and channel: id, time (or step), channel where there are several, mean, q0.1, ..."""
    roles = reading.roles
    columns: dict[str, list[object]] = {}
    for r in results:
        if r.mean is None or r.quantiles is None:
            continue
        stamps = job.stamps(r.series)
        for t in range(job.horizon):
            for c, target in enumerate(roles.targets):
                row: dict[str, object] = {}
                if roles.id is not None:
                    row[roles.id] = r.series.id
                if stamps is not None:
                    row[roles.time or "time"] = stamps[t]
                else:
                    row["step"] = t + 1
                if len(roles.targets) > 1:
                    row["channel"] = target
                row["mean"] = float(r.mean[t, c])
                for k, level in enumerate(job.levels):
                    row[f"q{level:g}"] = float(r.quantiles[k, t, c])
                for name, value in row.items():
                    columns.setdefault(name, []).append(value)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))


def write_plot(path: Path, reading: Reading, job: Job, results: Sequence[Result]) -> None:
    """History, forecast and the band of the outermost levels; plotly lies in the file, so that it needs no network."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    shown = [r for r in results if r.mean is not None][:PLOTTED]
    panels = [(r, c) for r in shown for c in range(len(reading.roles.targets))]
    titles = [_title(r, c, reading) for r, c in panels]
    figure = make_subplots(rows=max(1, len(panels)), cols=1, subplot_titles=titles)
    for row, (r, c) in enumerate(panels, start=1):
        assert r.mean is not None and r.quantiles is not None  # `shown` holds forecasts only
        rows = len(r.series.target)
        first = max(0, rows - max(HISTORY * job.horizon, 48))
        known: list[str] | list[int] = list(r.series.stamps) or list(range(1, rows + 1))
        stamps = job.stamps(r.series)
        ahead: list[str] | list[int] = list(stamps) if stamps else list(range(rows + 1, rows + 1 + job.horizon))
        history = r.series.target[first:, c].tolist()
        legend = row == 1
        if len(job.levels) > 1:
            low, high = r.quantiles[0, :, c].tolist(), r.quantiles[-1, :, c].tolist()
            band = f"{job.levels[0]:g} to {job.levels[-1]:g}"
            figure.add_scatter(
                x=ahead + ahead[::-1],
                y=high + low[::-1],
                fill="toself",
                fillcolor="rgba(37, 99, 235, 0.2)",
                line={"width": 0},
                hoverinfo="skip",
                name=band,
                legendgroup="band",
                showlegend=legend,
                row=row,
                col=1,
            )
        figure.add_trace(
            go.Scatter(
                x=known[first:],
                y=history,
                name="history",
                legendgroup="history",
                line={"color": "#334155", "width": 1.6},
                showlegend=legend,
            ),
            row=row,
            col=1,
        )
        figure.add_trace(
            go.Scatter(
                x=ahead,
                y=r.mean[:, c].tolist(),
                name="forecast",
                legendgroup="forecast",
                line={"color": "#2563eb", "width": 2.2},
                showlegend=legend,
            ),
            row=row,
            col=1,
        )
    figure.update_layout(
        template="plotly_white",
        height=max(420, 300 * len(panels)),
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "x": 1, "xanchor": "right", "yanchor": "bottom"},
        margin={"l": 60, "r": 24, "t": 72, "b": 40},
    )
    figure.write_html(path, include_plotlyjs=True, full_html=True)


def _title(r: Result, channel: int, reading: Reading) -> str:
    names = [r.series.id] if r.series.id else []
    if len(reading.roles.targets) > 1 or not names:
        names.append(reading.roles.targets[channel])
    return " ".join(names)
