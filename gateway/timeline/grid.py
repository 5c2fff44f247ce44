"""The grid of a series: start and frequency together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway.timeline.frequency import Frequency
from gateway.timeline.stamps import LAST_SECOND, SECOND_NS, Form, Integers, Stamps, Start, TimelineError, render


@dataclass(frozen=True, slots=True)
class Grid:
    """Observation i of a series stands at index i; the forecast of a series of n rows at n, n + 1, ..."""

    start: Start
    frequency: Frequency

    def at(self, first: int, count: int) -> Stamps:
        """The points `first` to `first + count - 1`. Raises TimelineError where they pass the year 9999."""
        step = self.frequency.step
        farthest = self.start.seconds + (first + count - 1) * step.least_ns // SECOND_NS if count else 0
        if farthest <= LAST_SECOND:
            stamps = step.at(self.start, np.arange(first, first + count))
            if count == 0 or stamps.seconds[-1] <= LAST_SECOND:
                return stamps
        raise TimelineError("The timestamps would pass the year 9999.")

    def stamps(self, first: int, count: int, form: Form | None = None) -> tuple[str, ...]:
        """The points as text, by default in the canonical form. Raises as `at`."""
        return render(self.at(first, count), form or self.start.canonical)

    def seconds(self, first: int, count: int) -> Integers:
        """The points as seconds since 1970 on the clock of the start's offset, (count,). Raises as `at`."""
        return self.at(first, count).seconds
