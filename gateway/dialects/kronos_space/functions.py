"""The space's four functions: their parameters, and what a caller asks with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
from msgspec import Raw

from gateway.dialects.base import Steps
from gateway.dialects.kronos_space import candles
from gateway.dialects.kronos_space.candles import Candles
from gateway.errors import Code, Fault, GatewayError

OHLCV = "ohlcv_data"
HORIZON = 24  # hours that the market's functions forecast
PATHS = 30
LOOKBACK = 360  # candles of the market that a forecast is made from


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a function, as a page of the space would show it."""

    name: str
    label: str
    kind: Literal["checkbox", "slider", "json"]
    default: bool | float | None = None  # None: it has to be sent
    least: float = 0
    most: float = 0
    step: float = 1

    @property
    def whole(self) -> bool:
        """Whether it counts something."""
        return self.step == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function: its position among the others is its `fn_index`."""

    name: str
    label: str
    parameters: tuple[Parameter, ...]
    plots: bool = False  # answers a plot before the result
    samples: bool = False  # answers every path of every column

    @property
    def own_candles(self) -> bool:
        """Whether the caller sends the candles; else they are the market's."""
        return self.parameters[0].name == OHLCV


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call of a function as it was handed in; its arguments are read when its turn comes."""

    function: Function
    session: str | None  # whose messages tell of it; None: it has a session of its own
    values: Mapping[str, Raw]  # arguments by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a function."""

    function: Function
    candles: Candles | None = None  # None: the market's
    align_to_hour: bool = True
    hour_idx: int = HORIZON
    pred_len: int = HORIZON
    sample_count: int = PATHS
    temperature: float = 1.0
    top_p: float = 0.95

    def of_market(self, found: Candles, now_s: float) -> Question:
        """The question with the market's candles: the last of them, without one whose hour is not over if so asked."""
        kept = found.completed(now_s) if self.align_to_hour else found
        return replace(self, candles=kept.last(LOOKBACK))


_ALIGN = Parameter(name="align_to_hour", label="Hourly Aligned", kind="checkbox", default=True)


def _slider(name: str, label: str, least: float, most: float, default: float, step: float = 1) -> Parameter:
    return Parameter(name=name, label=label, kind="slider", default=default, least=least, most=most, step=step)


_MARKET = (_ALIGN, _slider("hour_idx", "Hour Index", 1, HORIZON, HORIZON))

FUNCTIONS: tuple[Function, ...] = (
    Function(name="predict", label="With Plot", parameters=_MARKET, plots=True),
    Function(name="predict_api", label="Fast API", parameters=_MARKET),
    Function(name="predict_all", label="Detail API", parameters=_MARKET, samples=True),
    Function(
        name="predict_custom",
        label="Custom Data",
        parameters=(
            Parameter(name=OHLCV, label="OHLCV Data (JSON)", kind="json"),
            _slider("pred_len", "Prediction Length", 1, 48, 24),
            _slider("sample_count", "Sample Count", 1, 100, 30),
            _slider("temperature", "Temperature", 0.1, 2, 1.0, 0.1),
            _slider("top_p", "Top P", 0.1, 1, 0.95, 0.05),
            _slider("hour_idx", "Hour Index", 1, 48, 24),
        ),
    ),
)
_BY_NAME = {function.name: function for function in FUNCTIONS}


def named(name: str) -> Function:
    """The function of an `api_name`; raises NOT_FOUND."""
    found = _BY_NAME.get(name.removeprefix("/"))
    if found is None:
        known = ", ".join(f"/{f.name}" for f in FUNCTIONS)
        raise GatewayError(Code.NOT_FOUND, f"There is no function {name[:64]!r} here; known: {known}.")
    return found


def positional(function: Function, values: Sequence[Raw]) -> dict[str, Raw]:
    """Arguments by name; those that are too many are read past, as Gradio does."""
    return {parameter.name: value for parameter, value in zip(function.parameters, values, strict=False)}


# -- reading arguments ---


def question(order: Order) -> Steps[Question]:
    """What an order asks. Raises GatewayError with the parameters' names as places."""
    read: dict[str, bool | float] = {}
    faults: list[Fault] = []
    known = {parameter.name: parameter for parameter in order.function.parameters}
    for name in order.values:
        if name not in known:
            msg = f"There is no such parameter; known: {', '.join(known)}"
            faults.append(Fault((name[:64],), msg, "unknown_field"))
    for name, parameter in known.items():
        if parameter.kind != "json":
            value = _read(parameter, order.values.get(name))
            if isinstance(value, Fault):
                faults.append(value)
            else:
                read[name] = value
    faults += _relations(read)
    if faults:
        raise GatewayError.invalid(*faults)
    asked = msgspec.convert(read, _Numbers)
    return Question(
        function=order.function,
        candles=(yield from _candles(order.values.get(OHLCV))) if order.function.own_candles else None,
        align_to_hour=asked.align_to_hour,
        hour_idx=asked.hour_idx,
        pred_len=asked.pred_len,
        sample_count=asked.sample_count,
        temperature=asked.temperature,
        top_p=asked.top_p,
    )


class _Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """All arguments but the candles, typed."""

    align_to_hour: bool = True
    hour_idx: int = HORIZON
    pred_len: int = HORIZON
    sample_count: int = PATHS
    temperature: float = 1.0
    top_p: float = 0.95


def _read(parameter: Parameter, raw: Raw | None) -> bool | float | Fault:
    """One argument, its default where it was not sent or is null, or what is wrong with it."""
    place = (parameter.name,)
    assert parameter.default is not None, "only candles have to be sent"
    if raw is None or bytes(raw) == b"null":
        return parameter.default
    value = msgspec.json.decode(raw)
    if parameter.kind == "checkbox":
        return value if isinstance(value, bool) else Fault(place, "Expected true or false", "type_error")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return Fault(place, "Expected a number", "type_error")
    if value < parameter.least:
        return Fault(place, f"Value {value:g} is less than minimum value {parameter.least:g}.")
    if value > parameter.most:
        return Fault(place, f"Value {value:g} is greater than maximum value {parameter.most:g}.")
    if parameter.whole and value != int(value):
        return Fault(place, f"Expected a whole number, got {value:g}")
    return int(value) if parameter.whole else float(value)


def _relations(read: Mapping[str, bool | float]) -> Iterator[Fault]:
    if "pred_len" in read and "hour_idx" in read and read["hour_idx"] > read["pred_len"]:
        told = f"Value {read['hour_idx']:g} is greater than pred_len, {read['pred_len']:g}: nothing is forecast there."
        yield Fault(("hour_idx",), told)


def _candles(raw: Raw | None) -> Steps[Candles]:
    """The candles of an object, or of its JSON as a text."""
    content = b"null" if raw is None else bytes(raw).strip()
    if content.startswith(b'"'):
        content = msgspec.json.decode(content, type=str).encode().strip()
    if content in (b"null", b""):
        raise GatewayError.invalid(Fault((OHLCV,), "Expected candles", "missing"))
    try:
        return (yield from candles.sent(content))
    except GatewayError as error:
        raise _below(error) from None


def _below(error: GatewayError) -> GatewayError:
    """An error in the candles, told at their place among the arguments."""
    if error.code is Code.MALFORMED:
        told = error.sentence.replace("The body", "It", 1)
        return GatewayError.invalid(Fault((OHLCV,), told))
    return GatewayError.invalid(*(Fault((OHLCV, *fault.loc), fault.msg, fault.type) for fault in error.faults))
