"""Who asks, and what they may."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

import msgspec


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. Work of two callers is never shared, cached or shown to the other."""

    id: str = "anonymous"  # of the key: what work, jobs, limits and usage belong to
    name: str = ""  # for people
    models: tuple[str, ...] = ("*",)  # globs of catalog ids
    admin: bool = False  # sees and changes what belongs to others

    def may_use(self, model: str) -> bool:
        """Whether a catalog id is among the models of this caller."""
        return _any_matches(self.models, model)


class Consumption(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that a caller made in the minute and the month of UTC that run, and how many it may; None: any."""

    minute: int = 0
    minute_limit: int | None = None
    month: int = 0
    month_limit: int | None = None


@lru_cache(maxsize=4096)
def _any_matches(patterns: tuple[str, ...], model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)
