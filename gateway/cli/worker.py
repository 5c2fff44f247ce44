"""`forecast-gateway worker`: take chunks of jobs from the queue, on this machine or any other."""

from __future__ import annotations

import argparse
import asyncio
import signal

from gateway import __version__, tracing
from gateway.cli.options import add_settings, resolve_settings
from gateway.settings import Resolved


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "worker",
        help="run chunks of jobs for a gateway",
        description="Run chunks of jobs on an engine of this process. With --redis-url, for all gateways of that "
        "Redis; without, for the gateway of the same data directory.",
    )
    parser.add_argument("--models", metavar="GLOB,...", default="*", help="models to run; default: all that are here")
    parser.add_argument("--slots", dest="job_slots", metavar="N", help="chunks at a time; the same as --job-slots")
    parser.add_argument("--data-dir", dest="data_dir", metavar="FOLDER", help="of the gateway on this machine")
    add_settings(parser, "engine", "redis", "jobs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    resolved = resolve_settings(args)
    models = tuple(glob.strip() for glob in args.models.split(",") if glob.strip())
    asyncio.run(work(resolved, models))
    return 0


async def work(resolved: Resolved, models: tuple[str, ...]) -> None:
    """Take chunks until SIGINT or SIGTERM; what runs then is finished, or given back."""
    from gateway.app import build  # the server's packages are an extra
    from gateway.jobs import JobPool
    from gateway.logs import configure_logging

    settings = resolved.settings
    configure_logging(settings.server.log_level, settings.server.log_format)
    if settings.server.otlp_endpoint:
        tracing.configure(settings.server.otlp_endpoint, __version__)
    parts = build(resolved)
    pool = JobPool(
        parts.service,
        parts.catalog,
        settings,
        models=models,
        ensembles=False,
        embedded=False,
        forecasts=parts.forecasts,
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pool.start()  # models are loaded when a chunk needs them
    where = "Redis" if settings.redis.redis_url else f"the gateway on {settings.server.data_dir}"
    print(f"Forecast Gateway {__version__}: running jobs of {where}, {settings.jobs.job_slots} chunks at a time")
    try:
        await stop.wait()
    finally:
        await pool.stop(settings.server.shutdown_grace_s / 2)
        await parts.engine.stop(settings.server.shutdown_grace_s)
        tracing.shutdown()
