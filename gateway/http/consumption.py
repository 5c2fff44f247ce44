"""How many requests a caller made of late, for wire formats that answer no more than that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from gateway.access.windows import MINUTE
from gateway.database import Database
from gateway.domain import Consumption
from gateway.http.exchange import Exchange
from gateway.usage import queries
from gateway.usage.ledger import Ledger
from gateway.usage.queries import Question, Span


def consumption_by(
    database: Database, ledger: Ledger, *, clock: Callable[[], float] = time.time
) -> Callable[[Exchange], Awaitable[Consumption]]:
    """What the caller of an exchange made of the gateway, as the ledger has it."""

    def requests(key_id: str, start: datetime, end_ms: int) -> int:
        span = Span(start_ms=int(start.timestamp() * 1000), end_ms=end_ms)
        return queries.answer(database, Question(span=span, only={"key": (key_id,)})).totals.requests

    async def consumed(exchange: Exchange) -> Consumption:
        await ledger.flush()
        now = datetime.fromtimestamp(clock(), UTC)
        minute = now.replace(second=0, microsecond=0)
        end_ms = int(now.timestamp() * 1000) + 1
        caller = exchange.caller.id
        rules = exchange.grant.quota.requests if exchange.grant is not None else ()
        return Consumption(
            minute=await asyncio.to_thread(requests, caller, minute, end_ms),
            minute_limit=next((rule.limit for rule in rules if rule.window is MINUTE), None),
            month=await asyncio.to_thread(requests, caller, minute.replace(day=1, hour=0, minute=0), end_ms),
        )

    return consumed
