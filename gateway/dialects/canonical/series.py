"""One series of a body to the domain's, with every fault of its arrays and of the relations between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from gateway.dialects.base import Steps
from gateway.dialects.canonical import arrays, metadata, sliced, slices, walk
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.media import Format, Wire
from gateway.dialects.canonical.metadata import Echo
from gateway.dialects.canonical.parameters import NONE
from gateway.dialects.canonical.types import ABSENT, Name, SeriesEnvelope
from gateway.domain import Array, CovariateValues, SeriesInput
from gateway.errors import MAX_FAULTS, Fault, Place

MAX_COVARIATES = 1000  # of a series, each way: every one is a regressor, and a thousand take a second to decode
MAX_CHANNELS = 10_000
_NUMBER, _NAME = msgspec.inspect.type_info(float), msgspec.inspect.type_info(Name)
_UNREAD = np.empty((0, 0))  # stands for a target with faults of its own
Covariates = dict[str, CovariateValues]
_NO_COVARIATES: Mapping[str, CovariateValues] = {}
_NO_STATICS: Mapping[str, float] = {}


def read(
    sent: SeriesEnvelope, body: Envelope, wire: Wire, horizon: int | None, place: Place
) -> Steps[tuple[SeriesInput, list[Fault]]]:
    """A series of `body`, to be used where there are no faults. `horizon` None: unknown for a fault of its own.

    Raises msgspec.DecodeError where an array is not well formed.
    """
    faults: list[Fault] = []
    form = wire.asked
    target = yield from _target(body.whole(sent.target), form, (*place, "target"), faults)
    past, future, static, channels = _NO_COVARIATES, _NO_COVARIATES, _NO_STATICS, None
    if sent.past_covariates is not ABSENT:
        past = yield from _covariates(sent.past_covariates, body, form, (*place, "past_covariates"), faults)
    if sent.future_covariates is not ABSENT:
        future = yield from _covariates(sent.future_covariates, body, form, (*place, "future_covariates"), faults)
    if sent.static_covariates is not ABSENT:
        static = yield from _statics(sent.static_covariates, form, (*place, "static_covariates"), faults)
    if sent.channels is not ABSENT:
        channels = yield from _channels(body.whole(sent.channels), form, (*place, "channels"), faults)
    found = SeriesInput(
        target=target,
        start=sent.start,
        past_covariates=past,
        future_covariates=future,
        static_covariates=static,
        channels=channels,
        metadata=echo(body.whole(sent.metadata), wire, place, faults, sent.item_id),
    )
    faults += islice(relations(found, horizon, place), MAX_FAULTS)
    return found, faults


def echo(sent: Raw, wire: Wire, place: Place, faults: list[Fault], item_id: str | int | None = None) -> Echo | None:
    """Metadata to answer with, in the form of the answer; None where none was sent."""
    content = bytes(sent)
    if content and not metadata.is_object(content, wire.asked):
        faults.append(Fault((*place, "metadata"), "Expected an object", "type_error"))
        return None
    if item_id is not None:
        try:
            content = metadata.with_item_id(content, item_id, wire.asked)
        except ValueError as exc:
            faults.append(Fault((*place, "item_id"), str(exc)))
    if not content:
        return None
    try:
        return Echo(wire.answered, metadata.carried(content, wire.asked, wire.answered))
    except ValueError as exc:
        faults.append(Fault((*place, "metadata"), str(exc)))
        return None


def _target(raw: Raw, form: Format, place: Place, faults: list[Fault]) -> Steps[Array]:
    try:
        return (yield from arrays.matrix(raw, form))
    except msgspec.ValidationError as exc:
        found = yield from sliced.target(bytes(raw), form, place)
        faults += walk.found(found, exc, place)
        return _UNREAD


def _covariates(sent: Raw, body: Envelope, form: Format, place: Place, faults: list[Fault]) -> Steps[Covariates]:
    read: Covariates = {}
    parts = yield from _members(bytes(sent), form, place, faults)
    for name, part in parts.items():
        if len(faults) >= MAX_FAULTS:
            break
        raw = body.whole(part)
        try:
            read[name] = yield from arrays.values(raw, form)
        except msgspec.ValidationError as exc:
            at = (*place, walk.shown(name))
            found = yield from sliced.covariate(bytes(raw), form, at)
            faults += walk.found(found, exc, at)
        yield
    return read


def _statics(sent: Raw, form: Format, place: Place, faults: list[Fault]) -> Steps[dict[str, float]]:
    read: dict[str, float] = {}
    parts = yield from _members(bytes(sent), form, place, faults)
    for name, part in parts.items():
        try:
            read[name] = form.decode(part, float)
        except msgspec.ValidationError as exc:
            at, noun = (*place, walk.shown(name)), walk.noun_of(part, form)
            if noun in walk.NUMBERS:
                faults += walk.found(walk.faults_of(walk.untyped(part, form), _NUMBER, at), exc, at)
            else:
                faults.append(Fault(at, f"Expected a number, got {noun}", "type_error"))
    return read


def _members(content: bytes, form: Format, place: Place, faults: list[Fault]) -> Steps[dict[str, Raw]]:
    """The members of an object of covariates, none of them read; a name that is there twice counts once."""
    read: dict[str, Raw] = {}
    if content in NONE:
        return read
    if (noun := walk.noun_of(content, form)) != "an object":
        faults.append(Fault(place, f"Expected an object, got {noun}", "type_error"))
        return read
    count = 0
    for piece in slices.of_object(content, form):
        members = form.decode(piece, dict[Any, Raw]) if piece else {}
        count += len(members)
        for name, part in members.items():
            if not isinstance(name, str):
                msg = f"Expected a string as name, got {walk.noun(name)}"
                faults.append(Fault((*place, walk.shown(repr(name))), msg, "type_error"))
            elif len(read) <= MAX_COVARIATES:
                read[name] = part
        if len(content) > len(piece):
            yield
    if len(read) > MAX_COVARIATES:
        faults.append(Fault(place, f"Expected at most {MAX_COVARIATES} covariates, got {count}"))
        return {}
    return read


def _channels(raw: Raw, form: Format, place: Place, faults: list[Fault]) -> Steps[tuple[str, ...] | None]:
    content = bytes(raw)
    if content in NONE:
        return None
    if (noun := walk.noun_of(content, form)) != "an array":
        faults.append(Fault(place, f"Expected an array, got {noun}", "type_error"))
        return None
    read: list[str] = []
    wrong: list[Fault] = []
    for piece in slices.of_array(content, form):
        try:
            read += form.decode(piece, list[Name]) if piece else []
        except msgspec.ValidationError as exc:
            names = walk.untyped(piece, form)
            assert isinstance(names, list)
            told = (f for i, n in enumerate(names, len(read)) for f in walk.faults_of(n, _NAME, (*place, i)))
            wrong = walk.found(told, exc, place)
        if wrong or len(read) > MAX_CHANNELS:
            break
        if len(content) > len(piece):
            yield
    if len(read) > MAX_CHANNELS:
        wrong = [Fault(place, f"Expected at most {MAX_CHANNELS} names")]
    faults += wrong
    return None if wrong else tuple(read)


def relations(series: SeriesInput, horizon: int | None, place: Place) -> Iterator[Fault]:
    """What is wrong between the arrays of a series, and with the cells of each, whatever the model."""
    rows, width = series.target.shape
    if rows:
        missing = np.isnan(series.target)
        empty = np.flatnonzero(missing.all(axis=0)).tolist() if np.count_nonzero(missing) >= rows else []
        for channel in empty:
            which = "The target" if width == 1 else f"Channel {channel}"
            yield Fault((*place, "target"), f"{which} has no observed value")
        yield from _past_faults(series.past_covariates, rows, (*place, "past_covariates"))
        if series.channels is not None and len(series.channels) != width:
            msg = f"Expected one name a channel: {width}, got {len(series.channels)}"
            yield Fault((*place, "channels"), msg)
    if series.channels is not None and len(set(series.channels)) != len(series.channels):
        yield Fault((*place, "channels"), "A name is there twice")
    yield from _future_faults(series.future_covariates, horizon, (*place, "future_covariates"))
    for name, number in series.static_covariates.items():
        if not math.isfinite(number):  # msgpack has such numbers
            yield Fault((*place, "static_covariates", walk.shown(name)), "must be a finite number")


def _past_faults(covariates: Mapping[str, CovariateValues], rows: int, place: Place) -> Iterator[Fault]:
    for name, values in covariates.items():
        if len(values) != rows:
            msg = f"Expected as many values as target rows: {rows}, got {len(values)}"
            yield Fault((*place, walk.shown(name)), msg)


def _future_faults(covariates: Mapping[str, CovariateValues], horizon: int | None, place: Place) -> Iterator[Fault]:
    for name, values in covariates.items():
        at = (*place, walk.shown(name))
        if horizon is not None and len(values) < horizon:
            msg = f"Expected a value for each of the {horizon} steps of prediction_length, got {len(values)}"
            yield Fault(at, msg)
        missing = [v is None for v in values] if isinstance(values, tuple) else np.isnan(values)
        for i in np.flatnonzero(missing).tolist():
            yield Fault((*at, i), "null is not allowed: the value of a future covariate must be known")
