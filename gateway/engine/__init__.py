"""Which series run next, and the worker processes that run them."""

from gateway.engine.batcher import Observer, Outcome
from gateway.engine.engine import Engine, EngineSnapshot, WorkerSnapshot
from gateway.engine.models import standing

__all__ = ["Engine", "EngineSnapshot", "Observer", "Outcome", "WorkerSnapshot", "standing"]
