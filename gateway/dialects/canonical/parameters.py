"""Parameters of a body to the domain's, and the rules between them that no type can state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from msgspec import UNSET

from gateway.dialects.canonical.types import ParametersBody
from gateway.domain import Parameters
from gateway.errors import Fault, Place

ALIASES = {"freq": "frequency", "quantiles": "quantile_levels", "horizon": "prediction_length"}


def faults(sent: ParametersBody, place: Place = ("parameters",)) -> Iterator[Fault]:
    """What is wrong with parameters whose types are right."""
    for alias, name in ALIASES.items():
        one, other = getattr(sent, alias), getattr(sent, name)
        if one is not None and other not in (None, UNSET) and one != other:
            yield Fault((*place, alias), f"{alias} is an alias of {name} and differs from it; send one of them")
    if sent.prediction_length is UNSET and sent.horizon is None:
        yield Fault((*place, "prediction_length"), "Field required", "missing")
    for name in ("quantile_levels", "quantiles"):
        yield from _order_faults(getattr(sent, name) or (), (*place, name))
    for name in ("sensitivity", "temperature"):  # msgpack has numbers that are not finite
        number = getattr(sent, name)
        if number is not None and not math.isfinite(number):
            yield Fault((*place, name), "must be a finite number")


def _order_faults(levels: tuple[float, ...], place: Place) -> Iterator[Fault]:
    for i, (lower, level) in enumerate(pairwise(levels), start=1):
        if level == lower:
            yield Fault((*place, i), f"{level!r} is there twice")
        elif level < lower:
            yield Fault((*place, i), f"levels must ascend, and {level!r} follows {lower!r}")


def horizon_of(sent: ParametersBody) -> int | None:
    """Steps asked for under either name."""
    return sent.horizon if sent.prediction_length is UNSET else sent.prediction_length


def read(sent: ParametersBody) -> Parameters:
    """Parameters without `faults`, aliases resolved."""
    horizon = horizon_of(sent)
    assert horizon is not None, "a missing horizon is a fault"
    levels = sent.quantiles if sent.quantile_levels is None else sent.quantile_levels
    return Parameters(
        prediction_length=horizon,
        frequency=sent.freq if sent.frequency is None else sent.frequency,
        quantile_levels=levels,
        num_samples=sent.num_samples,
        context_length=sent.context_length,
        sensitivity=sent.sensitivity,
        temperature=sent.temperature,
        top_p=sent.top_p,
        top_k=sent.top_k,
        seed=sent.seed,
        cross_learning=bool(sent.cross_learning),
        sample_method=sent.sample_method,
        dry_run=bool(sent.dry_run),
    )
