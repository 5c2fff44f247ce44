"""What is known of one HTTP exchange so far: written by endpoints, read by headers, log and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec
from starlette.types import Scope

from gateway.access.limits import Grant
from gateway.domain import Caller, Usage, new_id
from gateway.errors import Code, GatewayError

MAX_ID_LENGTH = 128
UNMATCHED = "unmatched"  # the endpoint of a path that no route has: one label, whatever callers probe for


NOBODY_YET = Caller()
NOTHING = Usage()


def anything(endpoint: str) -> bool:
    """What callers without a key may call."""
    return True


class Exchange(msgspec.Struct, kw_only=True, eq=False):
    """One request and what became of it. Never holds a payload or a secret."""

    request_id: str
    headers: Mapping[str, str]  # names in lower case
    received: float = msgspec.field(default_factory=time.perf_counter)
    deadline: float = 0.0  # seconds of the running loop's clock
    caller: Caller = NOBODY_YET
    endpoint: str = UNMATCHED  # the route's template
    model: str = ""  # a catalog id; never a name that only the caller knows
    code: str = "OK"
    status: int = 0  # 0: nothing was sent
    queue_ms: float | None = None
    compute_ms: float | None = None
    usage: Usage = NOTHING
    series: int = 0  # forecast, and delivered
    cached: bool = False
    counted: bool = False  # whether it is use of the gateway: it then has a row in the ledger
    grant: Grant | None = None  # before the limits of its caller
    may_call: Callable[[str], bool] = anything  # whether its key reaches a route
    job: str = ""  # id of the job that it handed in
    queued: bool = False  # it handed in an event, which has its grant and its row in the ledger
    named: bool = False  # whether the request id is the caller's own, which may come twice
    over: bool = False  # it was counted and written down

    @property
    def delivered(self) -> bool:
        """Whether the caller has got what was asked for; nothing else has tokens."""
        return self.code == "OK" and 200 <= self.status < 300

    def check_endpoint(self, endpoint: str) -> None:
        """Raise PERMISSION_DENIED for a route's template that the key of this exchange does not reach."""
        if not self.may_call(endpoint):
            raise GatewayError(Code.PERMISSION_DENIED, f"This key may not use {endpoint}.")

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.received

    @property
    def server_timing(self) -> str:
        """The `server-timing` header: milliseconds in the queue, in the model and in all."""
        queue = "" if self.queue_ms is None else f"queue;dur={self.queue_ms:.3f}, "
        compute = "" if self.compute_ms is None else f"compute;dur={self.compute_ms:.3f}, "
        return f"{queue}{compute}total;dur={self.elapsed_s * 1e3:.3f}"


def begin(scope: Scope) -> Exchange:
    """Open the exchange of a request and keep it in its scope."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    sent = _sent_id(headers)
    exchange = Exchange(request_id=sent or new_id(), headers=headers, named=sent is not None)
    scope.setdefault("state", {})["exchange"] = exchange
    return exchange


def of(scope: Scope) -> Exchange:
    """The exchange that `begin` opened."""
    exchange: Exchange = scope["state"]["exchange"]
    return exchange


def _sent_id(headers: Mapping[str, str]) -> str | None:
    """The caller's id if it is safe to echo and to log."""
    if "x-request-id" not in headers:
        return None
    sent = headers["x-request-id"].strip()
    if 0 < len(sent) <= MAX_ID_LENGTH and sent.isascii() and sent.isprintable():
        return sent
    return None
