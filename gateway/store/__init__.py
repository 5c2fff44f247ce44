"""Redis: the one place that knows its keys and speaks to it."""

from gateway.store.connection import Redis, connect, masked
from gateway.store.forecasts import ForecastStore
from gateway.store.jobs import JobRecord, JobStore, Open, Taken
from gateway.store.news import News

__all__ = ["ForecastStore", "JobRecord", "JobStore", "News", "Open", "Redis", "Taken", "connect", "masked"]
