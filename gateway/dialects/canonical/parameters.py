"""Parameters of a body to the domain's, and the rules between them that no type can state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from msgspec import UNSET, Raw, Struct

from gateway.dialects.canonical import walk
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.types import ParametersBody
from gateway.domain import Parameters
from gateway.errors import Fault, GatewayError, Place

ALIASES = {"freq": "frequency", "quantiles": "quantile_levels", "horizon": "prediction_length"}
PLACE: Place = ("parameters",)

NONE = (b"", b"null", b"\xc0")  # what stands for a field that was not sent
_NOTHING: frozenset[str] = frozenset()
LONGEST = 64 * 1024  # bytes of all parameters: a hundred levels and a hundred names take a tenth


class Gathered(Struct, frozen=True):
    """`parameters` and the controls that stood beside it, as one object."""

    content: bytes
    beside: frozenset[str]
    clashes: tuple[Fault, ...]

    def relocated(self, faults: Iterable[Fault]) -> list[Fault]:
        """Faults of the one object at the places where the caller wrote."""
        return [*self.clashes, *(self._told(f) for f in faults)]

    def _told(self, fault: Fault) -> Fault:
        inside = len(fault.loc) > 1 and fault.loc[0] == PLACE[0] and fault.loc[1] in self.beside
        return Fault(fault.loc[1:], fault.msg, fault.type) if inside else fault


def gathered(parameters: Raw, beside: Mapping[str, Raw], form: Format) -> Gathered:
    """Both as one object.

    Raises msgspec.ValidationError where `parameters` was sent and is no object, GatewayError for more than any holds.
    """
    content = bytes(parameters)
    sent = {name: raw for name, raw in beside.items() if bytes(raw) not in NONE}
    if len(content) + sum(len(bytes(raw)) for raw in sent.values()) > LONGEST:
        raise GatewayError.invalid(Fault(PLACE, f"Expected at most {LONGEST} bytes of parameters"))
    if content in NONE:
        return Gathered(form.encode(sent), frozenset(sent), ())
    if not sent:
        return Gathered(content, _NOTHING, ())
    inside = form.decode(parameters, dict[str, Raw])
    clashes = tuple(
        Fault((name,), f"differs from parameters.{name}; send one of them")
        for name, raw in sent.items()
        if bytes(inside.get(name, Raw(b""))) not in NONE and not _equal(raw, inside[name], form)
    )
    return Gathered(form.encode({**inside, **sent}), frozenset(sent), clashes)


def _equal(one: Raw, other: Raw, form: Format) -> bool:
    return walk.untyped(one, form) == walk.untyped(other, form)


def faults(sent: ParametersBody, default_horizon: int | None = None, place: Place = PLACE) -> Iterator[Fault]:
    """What is wrong with parameters whose types are right."""
    for alias, name in ALIASES.items():
        one, other = getattr(sent, alias), getattr(sent, name)
        if one is not None and other not in (None, UNSET) and one != other:
            yield Fault((*place, alias), f"{alias} is an alias of {name} and differs from it; send one of them")
    if horizon_of(sent, default_horizon) is None:
        yield Fault((*place, "prediction_length"), "Field required", "missing")
    for name in ("quantile_levels", "quantiles"):
        yield from _order_faults(getattr(sent, name) or (), (*place, name))
    for name in sent.__struct_fields__:
        value = getattr(sent, name)
        if isinstance(value, float) and not math.isfinite(value):  # msgpack has such numbers
            yield Fault((*place, name), "must be a finite number")


def _order_faults(levels: tuple[float, ...], place: Place) -> Iterator[Fault]:
    for i, (lower, level) in enumerate(pairwise(levels), start=1):
        if level == lower:
            yield Fault((*place, i), f"{level!r} is there twice")
        elif level < lower:
            yield Fault((*place, i), f"levels must ascend, and {level!r} follows {lower!r}")


def horizon_of(sent: ParametersBody, default: int | None = None) -> int | None:
    """Steps asked for under either name."""
    if sent.prediction_length is not UNSET:
        return sent.prediction_length
    return default if sent.horizon is None else sent.horizon


def read(sent: ParametersBody, default_horizon: int | None = None) -> Parameters:
    """Parameters without `faults`, aliases resolved."""
    horizon = horizon_of(sent, default_horizon)
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
