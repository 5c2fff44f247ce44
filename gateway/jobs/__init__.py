"""Work that outlives the call that brought it, on a queue that outlives its workers."""

from gateway.jobs.jobs import JobPage, Jobs, Slice
from gateway.jobs.pool import JobPool

__all__ = ["JobPage", "JobPool", "Jobs", "Slice"]
