"""`POST /v1/timeseries/forecast`: body to one request an input, so that each succeeds and fails alone."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from gateway.dialects import fastapi, numbers
from gateway.dialects.base import Call, Steps
from gateway.dialects.canonical import walk
from gateway.dialects.canonical.envelope import Envelope
from gateway.dialects.canonical.media import Format
from gateway.dialects.fastapi import Problem, SchemaError
from gateway.dialects.kserve.types import FREQUENCIES, UNIVARIATE, InputBody, OptionsBody, RequestBody, RequestEnvelope
from gateway.domain import MAX_SERIES, Array, BatchRequest, ForecastRequest, Parameters, SeriesInput
from gateway.errors import Code, Fault, GatewayError, Place
from gateway.timeline import Form, Grid, Start, TimelineError, parse_frequency, parse_start, render

KNOWN = ("model", "inputs", "options", "metadata")
MAX_LEVELS = 99  # as in the canonical contract
_LETTERS = {letter: letter for letter in FREQUENCIES.values()}
_NAMED = " or ".join(f"'{name}'" for pair in FREQUENCIES.items() for name in pair)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One input as its output echoes it."""

    body: InputBody
    start: str | None  # of the forecast
    flat: bool  # answered as a list of numbers, not of rows


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer echoes of a request, and the order of its quantiles."""

    model: str
    sent: tuple[Sent, ...]
    quantiles: tuple[float, ...]  # as sent, repeats included
    extras: Mapping[str, Raw]  # metadata and unknown properties


def forecast(call: Call) -> Steps[BatchRequest]:
    """One request an input. Raises SchemaError, and INVALID_ARGUMENT for faults of the options."""
    body, found = yield from fastapi.read(call, RequestEnvelope, RequestBody)
    options = _options(found.whole(body.options))
    _check(body, options)
    extras = _extras(found)
    levels = tuple(options.quantiles or ())
    parameters = {
        name: Parameters(prediction_length=options.horizon, frequency=name, quantile_levels=tuple(sorted(set(levels))))
        for name in FREQUENCIES.values()
    }
    requests: list[ForecastRequest | GatewayError] = []
    sent: list[Sent] = []
    problems: list[Problem] = []
    for i, one in enumerate(body.inputs):
        alias = frequency_of(one.frequency)
        if alias is None:
            problems.append(Problem(("inputs", i, "frequency"), "choice", _NAMED))
            continue
        echo = Sent(body=one, start=None, flat=one.type == UNIVARIATE)
        try:
            target = yield from _target(found.whole(one.series), one.type, ("inputs", i, "series"))
            start = _start(one.start_timestamp, i)
            begin = _forecast_start(start, alias, len(target), i)
            echo = Sent(body=one, start=begin, flat=echo.flat)
            series = SeriesInput(target=target, start=one.start_timestamp)
            requests.append(ForecastRequest(model=body.model, series=(series,), parameters=parameters[alias]))
        except SchemaError as error:
            problems += error.problems
        except GatewayError as error:
            requests.append(error)
        sent.append(echo)
        yield
    if problems:
        raise SchemaError(tuple(problems))
    asked = Asked(model=body.model, sent=tuple(sent), quantiles=levels, extras=extras)
    return BatchRequest(requests=tuple(requests), metadata=asked)


def frequency_of(text: str) -> str | None:
    """pandas' alias of a frequency: words in any case, single letters as they are; None for what is neither."""
    return _LETTERS.get(text) or FREQUENCIES.get(text.lower())


def _options(raw: Raw) -> OptionsBody:
    try:
        return msgspec.json.decode(raw, type=OptionsBody, strict=False)
    except msgspec.ValidationError:
        problems = tuple(fastapi.problems_of(walk.untyped(raw, Format.JSON), OptionsBody, ("options",)))
        raise SchemaError(problems or (Problem(("options",), "object"),)) from None


def _extras(found: Envelope) -> dict[str, Raw]:
    """What is echoed: metadata, and every property that is not known."""
    fields = msgspec.json.decode(found.content, type=dict[str, Raw])
    extras = {name: found.whole(raw) for name, raw in fields.items() if name not in KNOWN}
    if "metadata" in fields:
        metadata = found.whole(fields["metadata"])
        if bytes(metadata)[:1] not in (b"{", b"n"):
            raise SchemaError((Problem(("metadata",), "object"),))
        extras = {"metadata": metadata, **extras}
    return extras


def _check(body: RequestEnvelope, options: OptionsBody) -> None:
    """Faults of the request as a whole: those of its options, and its number of series."""
    faults = []
    if not 1 <= options.horizon < 2**31:
        faults.append(Fault(("parameters", "prediction_length"), f"Invalid horizon: {options.horizon}"))
    faults += [
        Fault(("parameters", "quantile_levels"), f"Invalid quantile: {level}, expected one between 0 and 1")
        for level in options.quantiles or ()
        if not 0.0 < level < 1.0
    ]
    if len(set(options.quantiles or ())) > MAX_LEVELS:
        faults.append(Fault(("parameters", "quantile_levels"), f"Expected at most {MAX_LEVELS} quantiles"))
    if not body.inputs:
        faults.append(Fault(("inputs",), "Expected at least one series, got none"))
    if len(body.inputs) > MAX_SERIES:
        faults.append(Fault(("inputs",), f"More than the {MAX_SERIES} series that one call takes: split them"))
    if faults:
        raise GatewayError.invalid(*faults)


def _target(raw: Raw, kind: str, place: Place) -> Steps[Array]:
    """The series as `(time, channels)`. Raises SchemaError, and INVALID_ARGUMENT for what this input alone fails of."""
    if not numbers.is_nested(raw):
        target = (yield from numbers.flat(raw, place)).reshape(-1, 1)
    else:
        try:
            target = yield from numbers.rows(raw, place)
        except numbers.RaggedError as exc:
            raise GatewayError.invalid(Fault(place, str(exc))) from None
    if not target.size:
        raise GatewayError.invalid(Fault(place, "Expected at least one observation, got an empty series"))
    if kind == UNIVARIATE and target.shape[1] > 1:
        told = f"A {UNIVARIATE} has one value a step, not {target.shape[1]}"
        raise GatewayError(Code.INVALID_ARGUMENT, told, faults=(Fault((*place[:2], "type"), told),))
    return target


def _start(text: str | None, item: int) -> Start | None:
    try:
        return parse_start(text) if text is not None else None
    except TimelineError as exc:
        raise GatewayError.invalid(Fault(("inputs", item, "start"), exc.sentence)) from None


def _forecast_start(start: Start | None, alias: str, rows: int, item: int) -> str | None:
    """The stamp after the last observation, months by plain addition from the first one."""
    if start is None:
        return None
    grid = Grid(start, parse_frequency(alias).plain_months())
    try:
        return render(grid.at(rows, 1), Form(offset=start.form.offset or "Z"))[0]
    except TimelineError as exc:
        raise GatewayError.invalid(Fault(("inputs", item, "start"), exc.sentence)) from None
