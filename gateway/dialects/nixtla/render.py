"""Answers to bodies: flat lists, series by series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.dialects import bodies, notices
from gateway.dialects.base import Call, Reply, wire_code
from gateway.dialects.nixtla import types as wire
from gateway.dialects.nixtla.asked import Asked, Rows, quantiles_of
from gateway.domain import (
    AnomalyReport,
    Array,
    Backtest,
    Caller,
    Consumption,
    Forecast,
    ModelInfo,
    Notice,
    SeriesAnomalies,
    SeriesBacktest,
    SeriesError,
    SeriesForecast,
)
from gateway.errors import Code, GatewayError, Place

T = TypeVar("T")
Numbers = npt.NDArray[Any]

_NAMES: dict[Place, Place] = {
    ("parameters", "prediction_length"): ("h",),
    ("parameters", "frequency"): ("freq",),
    ("parameters", "quantile_levels"): ("level",),
    ("parameters", "cross_learning"): ("multivariate",),
    ("inputs",): ("series",),
    ("windows",): ("n_windows",),
    ("step",): ("step_size",),
}


def forecasts(call: Call, answer: Forecast) -> Reply:
    """`mean` and `intervals`, flat and series by series."""
    outputs = [_delivered(i, output, SeriesForecast) for i, output in enumerate(answer.outputs)]
    asked = _asked(answer.metadata)
    quantiles = _Quantiles(answer.quantile_levels, [output.quantiles for output in outputs])

    def parts() -> Iterator[bytes]:
        yield b'{"mean":'
        yield from _flat(output.mean[:, 0] for output in outputs)
        yield from _intervals(asked, quantiles)
        yield b',"weights_x":null' + (b',"feature_contributions":null' if asked.contributions else b"")
        yield _tokens(answer.usage.input_tokens, answer.usage.output_tokens) + b"}"

    return _reply(parts(), asked, (n for output in outputs for n in output.notices))


def cross_validations(call: Call, answer: Backtest) -> Reply:
    """Blocks of `h` rows, one a window; `idxs` says where in `y` each row lies."""
    outputs = [_delivered(i, output, SeriesBacktest) for i, output in enumerate(answer.outputs)]
    asked = _asked(answer.metadata)
    windows = [(output, window) for output in outputs for window in output.windows]
    quantiles = _Quantiles(answer.quantile_levels, [_there(window.quantiles) for _, window in windows])
    sizes = [len(output.windows) * answer.horizon for output in outputs]

    def parts() -> Iterator[bytes]:
        yield b'{"mean":'
        yield from _flat(_there(window.mean)[:, 0] for _, window in windows)
        yield b',"sizes":' + msgspec.json.encode(sizes) + b',"idxs":'
        steps = np.arange(answer.horizon)
        yield from _flat((_first(output.metadata) + window.cutoff + steps for output, window in windows))
        yield from _intervals(asked, quantiles)
        yield b',"weights_x":null' + _tokens(answer.usage.input_tokens, answer.usage.output_tokens) + b"}"

    return _reply(parts(), asked, (n for output in outputs for n in output.notices))


def anomalies(call: Call, answer: AnomalyReport) -> Reply:
    """The rows that were scored, the last ones of each series; a row that could not be is null, and no anomaly."""
    outputs = [_delivered(i, output, SeriesAnomalies) for i, output in enumerate(answer.outputs)]
    asked = _asked(answer.metadata)
    scored = [output.scored_from for output in outputs]
    quantiles = _Quantiles(
        answer.quantile_levels, [_there(o.quantiles)[:, first:] for o, first in zip(outputs, scored, strict=True)]
    )

    def parts() -> Iterator[bytes]:
        yield b'{"mean":'
        yield from _flat((o.expected[o.scored_from :, 0] for o in outputs), missing=True)
        yield b',"sizes":' + msgspec.json.encode([len(o.values) - o.scored_from for o in outputs])
        yield b',"anomaly":'
        assert asked.levels, "parse asks for one"
        lo, hi = (quantiles.of(q) for q in quantiles_of(asked.levels[0]))
        yield from _flat(
            (_outside(o.values[o.scored_from :, 0], low, high) for o, low, high in zip(outputs, lo, hi, strict=True))
        )
        yield from _intervals(asked, quantiles, missing=True)
        yield b',"weights_x":null' + _tokens(answer.usage.input_tokens, answer.usage.output_tokens) + b"}"

    return _reply(parts(), asked, (n for output in outputs for n in output.notices))


def _outside(values: Array, low: Array, high: Array) -> Numbers:
    return (values < low) | (values > high)  # NaN is neither


class _Quantiles(msgspec.Struct, frozen=True):
    """Quantiles of all series, or of all windows: (levels, time, 1) each."""

    levels: tuple[float, ...]
    values: Sequence[Array]

    def of(self, level: float) -> Iterator[Array]:
        """The values of one level, series by series."""
        at = self.levels.index(level)
        return (values[at, :, 0] for values in self.values)


def _intervals(asked: Asked, quantiles: _Quantiles, *, missing: bool = False) -> Iterator[bytes]:
    """`"intervals"`, with the levels printed as they were sent; null where none were."""
    if not asked.levels:
        yield b',"intervals":null'
        return
    opening = b',"intervals":{'
    for level in dict.fromkeys(asked.levels):
        for name, quantile in zip(("lo", "hi"), quantiles_of(level), strict=True):
            yield opening + msgspec.json.encode(f"{name}-{level}") + b":"
            yield from _flat(quantiles.of(quantile), missing=missing)
            opening = b","
    yield b"}"


def _flat(arrays: Iterable[Numbers], *, missing: bool = False) -> Iterator[bytes]:
    """Arrays one after the other as one list, each a step; `missing` lets NaN pass as null."""
    opening = b"["
    for array in arrays:
        if not missing and not np.isfinite(array).all():
            raise GatewayError(Code.INTERNAL, "The forecast holds a number that is not finite.")
        if array.size:
            yield opening + msgspec.json.encode(array.tolist())[1:-1]
            opening = b","
    yield b"]" if opening == b"," else b"[]"


def _tokens(read: int, written: int) -> bytes:
    return b',"input_tokens":%d,"output_tokens":%d,"finetune_tokens":0' % (read, written)


def _delivered(item: int, output: object, kind: type[T]) -> T:
    """The output of a series; flat lists have no place for a series that failed, so that it fails the call."""
    if isinstance(output, SeriesError):
        raise GatewayError(output.code, f"Series {item}: {output.sentence}")
    assert isinstance(output, kind)
    return output


def _there(array: Array | None) -> Array:
    assert array is not None, "it was asked for"
    return array


def _asked(metadata: object) -> Asked:
    assert isinstance(metadata, Asked), "metadata of this dialect is what its parse made"
    return metadata


def _first(metadata: object) -> int:
    assert isinstance(metadata, Rows), "metadata of this dialect is what its parse made"
    return metadata.first


def _reply(parts: Iterator[bytes], asked: Asked, said: Iterable[Notice]) -> Reply:
    return Reply(body=parts, headers=notices.header(said, *asked.notices))


def sizes(call: Call, model: ModelInfo) -> Reply:
    """What the client may cut its history to: the whole context, which loses nothing."""
    card = model.card
    found = wire.ModelSizes(card.max_context, card.native_horizon or card.max_horizon)
    return Reply(body=msgspec.json.encode(wire.ModelParameters(found)))


def valid(call: Call, caller: Caller) -> Reply:
    """The key was admitted, or none is needed."""
    return Reply(body=msgspec.json.encode(wire.Detail("This key is valid.")))


def usage(call: Call, used: Consumption) -> Reply:
    """Requests of the caller, by minute and month."""
    body = wire.Usage(wire.Used(used.minute, used.minute_limit), wire.Used(used.month, used.month_limit))
    return Reply(body=msgspec.json.encode(body))


def error(call: Call, problem: GatewayError, status: int) -> Reply:
    """The client prints the whole body and reads `detail`."""
    problem = bodies.in_words_of(problem, _NAMES)
    failure = wire.Failure(
        detail=problem.sentence,
        code=wire_code(problem.code),
        request_id=call.request_id,
        details=[wire.Place(loc=list(f.loc), msg=f.msg, type=f.type) for f in problem.faults],
    )
    return Reply(status=status, body=msgspec.json.encode(failure))
