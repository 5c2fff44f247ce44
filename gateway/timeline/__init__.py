"""The calendar: where every observation and forecast step of a series stands in time.

A `Start` and a `Frequency` make a `Grid`; observation i of a series stands at index i of its grid, the first forecast
step at the number of rows sent. Everything is reckoned in the start's own offset from UTC, on the proleptic Gregorian
calendar, in the years 1 to 9999, with integers: no time zone is guessed and no calendar library is asked.
"""

from gateway.timeline.frequency import Frequency, parse_frequency, season
from gateway.timeline.grid import Grid
from gateway.timeline.inference import Departure, Inference, departures, infer_frequency
from gateway.timeline.stamps import Form, Stamps, Start, TimelineError, parse_stamps, parse_start, render

__all__ = [
    "Departure",
    "Form",
    "Frequency",
    "Grid",
    "Inference",
    "Stamps",
    "Start",
    "TimelineError",
    "departures",
    "infer_frequency",
    "parse_frequency",
    "parse_stamps",
    "parse_start",
    "render",
    "season",
]
