"""Logging: one line an event to stderr, JSON for machines or readable on a terminal.

What is logged of a request is listed in `http/middleware.py`: never a body, a query, a header's value or a key. The
standard library's loggers, uvicorn's among them, end in the same lines.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from typing import Literal

import msgspec
import structlog
from structlog.typing import EventDict, Processor

LogFormat = Literal["auto", "json", "console"]


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Set up structlog and the standard library for this process; `auto` is readable on a terminal, else JSON."""
    readable = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [structlog.processors.add_log_level, _stamped]
    ending: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if readable
        else [structlog.processors.format_exc_info, _json]
    )
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,  # every request writes a line
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(threshold, logging.INFO))
    # Their lines about starting and stopping are ours to tell.
    logging.getLogger("uvicorn").setLevel(max(threshold, logging.WARNING))


def _stamped(logger: object, method: str, event: EventDict) -> EventDict:
    """Say when, in UTC to the microsecond."""
    now = time.time_ns()
    event["timestamp"] = f"{_second(now // 10**9)}.{now // 1000 % 10**6:06d}Z"
    return event


@functools.lru_cache(maxsize=1)
def _second(number: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(number))


def _json(logger: object, method: str, event: EventDict) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()
