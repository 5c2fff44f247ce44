"""Which series run next, and the worker processes that run them."""

from gateway.engine.batcher import Observer, Outcome
from gateway.engine.engine import Engine, EngineSnapshot, WorkerSnapshot
from gateway.engine.models import ModelStatus, standing

__all__ = ["Engine", "EngineSnapshot", "ModelStatus", "Observer", "Outcome", "WorkerSnapshot", "standing"]
