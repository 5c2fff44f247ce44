"""The figure of a forecast as plotly's JSON, written by hand: the gateway's process imports no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.dialects.kronos_space.candles import Candles

if TYPE_CHECKING:
    from gateway.dialects.kronos_space.results import Summary

SHOWN = 168  # candles of history: a week of hours
BLUE, ORANGE, BAND, NONE = "#1f77b4", "#ff7f0e", "rgba(255,127,14,0.2)", "rgba(0,0,0,0)"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    color: str


class Trace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a figure, or the edge of a band."""

    type: str = msgspec.field(default_factory=lambda: "scatter")  # always written
    mode: str = msgspec.field(default_factory=lambda: "lines")
    name: str
    x: Sequence[str]
    y: list[float]
    line: Line
    fill: str | None = None
    fillcolor: str | None = None
    showlegend: bool = True


class Title(msgspec.Struct, frozen=True):
    text: str


class Axis(msgspec.Struct, frozen=True):
    title: Title


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    title: Title
    xaxis: Axis
    yaxis: Axis
    hovermode: str


class Figure(msgspec.Struct, frozen=True):
    data: list[Trace]
    layout: Layout


def figure(candles: Candles, timestamps: Sequence[str], predictions: Summary, *, title: str) -> str:
    """The close so far, the mean of the paths, and the band between the lowest and the highest of them."""
    shown = candles.last(SHOWN)
    stamps, last = shown.stamps(), float(shown.close[-1])
    ahead = [stamps[-1], *timestamps]  # the lines begin where the history ends

    def edge(name: str, values: list[float], fill: str | None) -> Trace:
        return Trace(
            name=name, x=ahead, y=[last, *values], line=Line(color=NONE), fill=fill, fillcolor=BAND, showlegend=False
        )

    traces = [
        Trace(name="Close", x=stamps, y=shown.close.tolist(), line=Line(color=BLUE)),
        edge("Highest path", predictions.max, None),
        edge("Lowest path", predictions.min, "tonexty"),
        Trace(name="Mean forecast", x=ahead, y=[last, *predictions.mean], line=Line(color=ORANGE)),
    ]
    layout = Layout(
        title=Title(title), xaxis=Axis(Title("Time (UTC)")), yaxis=Axis(Title("Price (USDT)")), hovermode="x unified"
    )
    return msgspec.json.encode(Figure(traces, layout)).decode()
