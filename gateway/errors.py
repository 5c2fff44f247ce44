"""What can go wrong, in the gateway's own words.

Codes are for programs, sentences for people, faults for places in a body. HTTP numbers live in `http/problems.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

MAX_FAULTS = 20  # places told at once: enough to mend a body in one round, short enough to read

FaultType = Literal["missing", "type_error", "value_error", "unknown_field"]
Place = tuple[str | int, ...]


class Code(StrEnum):
    """Every code a caller can meet. MALFORMED is INVALID_ARGUMENT on the wire: a body that does not parse."""

    MALFORMED = "MALFORMED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    CONFLICT = "CONFLICT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    INTERNAL = "INTERNAL"
    MODEL_FAILED = "MODEL_FAILED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong place of a request. `loc` is in the domain's words: ("inputs", 3, "target", 17)."""

    loc: Place
    msg: str
    type: FaultType = "value_error"


class GatewayError(Exception):
    """An answer other than a forecast: code, a sentence that is safe to show, places, and when to try again."""

    def __init__(
        self,
        code: Code,
        sentence: str,
        *,
        faults: tuple[Fault, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.faults = faults[:MAX_FAULTS]
        self.retry_after_s = retry_after_s

    @classmethod
    def invalid(cls, *faults: Fault) -> GatewayError:
        """INVALID_ARGUMENT for one or more places; the sentence is the first one with its place."""
        first = faults[0]
        place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first.loc).lstrip(".")
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return cls(Code.INVALID_ARGUMENT, f"{place}: {first.msg}{more}" if place else first.msg, faults=faults)
