"""Work that outlives the call that brought it, on a queue that outlives its workers."""

from gateway.jobs.jobs import JobPage, Jobs, Slice

__all__ = ["JobPage", "Jobs", "Slice"]
