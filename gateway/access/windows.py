"""Sliding windows, counted in one process. Pure: the caller brings the time.

A window of W seconds is cut into n slices, and what is used is the sum of the slices that the last W seconds touch,
the oldest one whole. So any W seconds admit at most the limit, and never more; capacity returns at most one slice
late. Unlike a log of single requests this weighs (tokens), can be given back, and takes as little room for a million
a minute as for a hundred.

Why no library: `limits` and `pyrate-limiter` take one window in one round trip each, so that a request which a second
window refuses is already counted in the first, and neither gives back what a failed run had been charged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Unit = Literal["requests", "series", "tokens"]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A span over which something is counted: one of the four below, told apart by identity."""

    name: str
    unit: Unit
    seconds: int
    slices: int

    @property
    def slice_s(self) -> float:
        return self.seconds / self.slices


MINUTE = Window("minute", "requests", 60, 120)
HOUR = Window("hour", "requests", 3600, 120)
SERIES_DAY = Window("series-day", "series", 86400, 96)
TOKENS_DAY = Window("tokens-day", "tokens", 86400, 96)


# Tuples: each request meets them anew, and they are made and hashed several times as fast as dataclasses.
class Rule(NamedTuple):
    """At most `limit` within any span of `window`."""

    window: Window
    limit: int


class Standing(NamedTuple):
    """How far a rule is used up."""

    rule: Rule
    used: int
    reset_s: float  # until the oldest part that is used comes back; 0: nothing is used

    @property
    def remaining(self) -> int:
        return max(0, self.rule.limit - self.used)


class Verdict(NamedTuple):
    """What became of a request: taken from every rule, or from none."""

    standings: tuple[Standing, ...]
    exceeded: Rule | None = None
    retry_after_s: float | None = None  # None: waiting does not help, it asks for more than the whole limit
    slices: tuple[int, ...] = ()  # one a rule: where it was counted, to be given back there


class Windows:
    """The counts of every caller of one process."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[int, int]] = {}
        self._swept = 0.0

    def take(self, subject: str, rules: Sequence[Rule], amounts: Mapping[Unit, int], now: float) -> Verdict:
        """Count `amounts` against every rule, or against none where one would be exceeded; `now` is unix seconds."""
        if now - self._swept > MINUTE.seconds:
            self._sweep(now)
        standings, slices = [], []
        exceeded: Rule | None = None
        retry_after_s: float | None = 0.0
        for rule in rules:
            counts, current = self._live(subject, rule.window, now)
            used, asked = sum(counts.values()), amounts.get(rule.window.unit, 0)
            standings.append(Standing(rule, used, reset_in_s(counts, rule.window, now)))
            slices.append(current)
            if used + asked > rule.limit:
                wait_s = free_in_s(counts, rule, asked, now)
                if exceeded is None or wait_s is None or (retry_after_s is not None and wait_s > retry_after_s):
                    exceeded, retry_after_s = rule, wait_s
        if exceeded is not None:
            return Verdict(tuple(standings), exceeded, retry_after_s)
        for i, rule in enumerate(rules):
            asked = amounts.get(rule.window.unit, 0)
            if asked:
                counts = self._counts.setdefault((subject, rule.window.name), {})
                counts[slices[i]] = counts.get(slices[i], 0) + asked
                standings[i] = Standing(rule, sum(counts.values()), reset_in_s(counts, rule.window, now))
        return Verdict(tuple(standings), slices=tuple(slices))

    def give_back(
        self, subject: str, rules: Sequence[Rule], slices: Sequence[int], amounts: Mapping[Unit, int]
    ) -> None:
        """Take back what `take` counted in these slices."""
        for rule, slot in zip(rules, slices, strict=True):
            counts = self._counts.get((subject, rule.window.name), {})
            if slot in counts:
                counts[slot] = max(0, counts[slot] - amounts.get(rule.window.unit, 0))

    def _live(self, subject: str, window: Window, now: float) -> tuple[dict[int, int], int]:
        """The slices that the window still touches, and the current one; forgets the older ones."""
        current = slice_of(window, now)
        counts = self._counts.get((subject, window.name))
        if counts is None:
            return {}, current
        for old in [s for s in counts if s < current - window.slices]:
            del counts[old]
        return counts, current

    def _sweep(self, now: float) -> None:
        """Forget callers of whom nothing is counted any more."""
        self._swept = now
        windows = {w.name: w for w in (MINUTE, HOUR, SERIES_DAY, TOKENS_DAY)}
        for subject, name in list(self._counts):
            counts, _ = self._live(subject, windows[name], now)
            if not counts:
                del self._counts[subject, name]


def slice_of(window: Window, now: float) -> int:
    """The number of the slice that `now` lies in."""
    return math.floor(now / window.slice_s)


def ends_in_s(slot: int, window: Window, now: float) -> float:
    """Seconds until a slice no longer counts."""
    return max(0.0, (slot + window.slices + 1) * window.slice_s - now)


def reset_in_s(counts: Mapping[int, int], window: Window, now: float) -> float:
    used = [s for s, count in counts.items() if count]
    return ends_in_s(min(used), window, now) if used else 0.0


def free_in_s(counts: Mapping[int, int], rule: Rule, asked: int, now: float) -> float | None:
    """Seconds until `asked` fits, if nothing more comes; None where it never does."""
    if asked > rule.limit:
        return None
    used = sum(counts.values())
    for slot in sorted(counts):
        used -= counts[slot]
        if used + asked <= rule.limit:
            return ends_in_s(slot, rule.window, now)
    return 0.0
