"""The query arguments of a call for predictions, with the statuses that DataRobot answers for each."""

from __future__ import annotations

import re

import msgspec

from gateway import timeline
from gateway.dialects.base import Call
from gateway.dialects.datarobot.errors import refused_argument, unreadable_argument
from gateway.timeline.stamps import Start

_BARE_OFFSET = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")  # a "+" that was sent as it is and arrived as a space
_EXPLANATIONS = ("maxExplanations", "maxNgramExplanations")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a table, beside what its deployment says."""

    forecast_point: Start | None = None
    first: Start | None = None  # of bulk predictions: timestamps from here ...
    end: Start | None = None  # ... to before here
    relaxed: bool = False  # values that should be known in advance may be missing
    passthrough: tuple[str, ...] = ()  # columns that are answered as they were sent
    every_column: bool = False  # all of them are


def read(call: Call) -> Query:
    """The query of a call. Raises GatewayError."""
    sent = dict(call.query)
    for name in _EXPLANATIONS:
        if sent.get(name, "0") != "0":
            raise refused_argument(name, "prediction explanations are not computed here; send 0 or leave it out")
    if sent.get("explanationAlgorithm", "xemp").lower() != "xemp":
        raise refused_argument("explanationAlgorithm", "prediction explanations are not computed here")
    point, first, end = (_time(sent, n) for n in ("forecastPoint", "predictionsStartDate", "predictionsEndDate"))
    if (first is None) != (end is None):
        missing = "predictionsEndDate" if end is None else "predictionsStartDate"
        raise refused_argument(missing, "predictionsStartDate and predictionsEndDate must be sent together")
    if point is not None and first is not None:
        raise refused_argument("forecastPoint", "cannot be sent with predictionsStartDate and predictionsEndDate")
    if first is not None and end is not None and utc(end) <= utc(first):
        raise refused_argument("predictionsEndDate", "must be after predictionsStartDate")
    every = sent.get("passthroughColumnsSet")
    if every not in (None, "all"):
        raise refused_argument("passthroughColumnsSet", "can only be 'all'")
    return Query(
        forecast_point=point,
        first=first,
        end=end,
        relaxed=_bool(sent, "relaxKnownInAdvanceFeaturesCheck"),
        passthrough=tuple(dict.fromkeys(v for n, v in call.query if n == "passthroughColumns")),
        every_column=every == "all",
    )


class PageAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a list that is asked for."""

    offset: int = 0
    limit: int = 0  # 0: all that follow


def page(call: Call) -> PageAsked:
    """`limit` and `offset` of a list. Raises GatewayError."""
    sent = dict(call.query)
    return PageAsked(offset=_count(sent, "offset"), limit=_count(sent, "limit"))


def _count(sent: dict[str, str], name: str) -> int:
    text = sent.get(name, "0")
    if not re.fullmatch("[0-9]{1,9}", text):
        raise refused_argument(name, "value can't be converted to int, or is below 0")
    return int(text)


def utc(stamp: Start) -> tuple[int, int]:
    """A point in time as UTC seconds and nanoseconds."""
    return stamp.seconds - 60 * stamp.offset_minutes, stamp.nanos


def _time(sent: dict[str, str], name: str) -> Start | None:
    text = sent.get(name)
    if text is None:
        return None
    try:
        return timeline.parse_start(_BARE_OFFSET.sub("+", text.strip()))
    except timeline.TimelineError:
        raise unreadable_argument(name, f"Invalid RFC 3339 datetime string: {text[:64]}") from None


def _bool(sent: dict[str, str], name: str) -> bool:
    text = sent.get(name, "false").lower()
    if text not in ("true", "false"):
        raise refused_argument(name, "value can't be converted to Bool")
    return text == "true"
