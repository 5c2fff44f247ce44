"""`forecast-gateway jobs`: look at the jobs of a running gateway, watch them and stop them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from gateway.client import Client, Job

DEFAULT_URL = "http://127.0.0.1:8000"
COLOURS = {
    "queued": "cyan",
    "running": "blue",
    "completed": "green",
    "partial": "yellow",
    "failed": "red",
    "cancelled": "magenta",
    "expired": "red",
}
SHOWN = 8  # characters of an id in a list: enough to tell jobs apart, and taken by every action
PLAIN_S = 5.0  # between two lines of progress where there is no terminal


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("jobs", help="list, show, watch and cancel the jobs of a gateway")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, run: Callable[[argparse.Namespace], int], help: str, *, job: bool) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=help)
        if job:
            made.add_argument("id", help="the job's id, or as much of its beginning as is unique")
        add_gateway(made)
        made.set_defaults(run=run)
        return made

    listing = action("list", list_jobs, "the newest jobs", job=False)
    listing.add_argument("--status", choices=list(COLOURS), help="only jobs of this status")
    listing.add_argument("--type", choices=["forecast", "batch", "ensemble", "backtest", "anomalies"])
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (default: %(default)s)")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = action("show", show_job, "everything about one job", job=True)
    show.add_argument("--json", action="store_true", help="print JSON")
    action("watch", watch_job, "its progress, until it is over", job=True)
    action("cancel", cancel_job, "stop it; what is done stays readable", job=True)
    action("delete", delete_job, "forget it and its result", job=True)
    action(
        "webhook-secret", webhook_secret, "the secret that the signatures of your callbacks are made with", job=False
    )


def add_gateway(parser: argparse.ArgumentParser) -> None:
    """The options that say which gateway, and as whom."""
    parser.add_argument("--url", default=DEFAULT_URL, help="the gateway (default: %(default)s)")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="file that holds the key")


@contextmanager
def connected(url: str, api_key_file: Path | None, *, timeout_s: float = 60.0) -> Iterator[Client]:
    """A client of the gateway; what goes wrong is raised as GatewayError, with the gateway's address."""
    import httpx

    from gateway.client import Client, ClientError
    from gateway.errors import Code, GatewayError

    try:
        key = api_key_file.read_text().strip() if api_key_file else None
    except OSError as exc:
        raise GatewayError(Code.UNAUTHENTICATED, f"{api_key_file} cannot be read: {exc.strerror}") from None
    with Client(url, api_key=key, timeout_s=timeout_s) as client:
        try:
            yield client
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise GatewayError(Code.UNAVAILABLE, f"{url} does not answer: {exc or type(exc).__name__}") from None
        except ClientError as exc:
            code = Code(exc.code) if exc.code in set(Code) else Code.INTERNAL
            raise GatewayError(code, f"{url}: {exc.sentence}") from None


# -- actions ---


def list_jobs(args: argparse.Namespace) -> int:
    with connected(args.url, args.api_key_file) as client:
        page = client.jobs(status=args.status, type=args.type, limit=args.limit)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(page.data), indent=2).decode())
        return 0
    if not page.data:
        print("There are no jobs." if not (args.status or args.type) else "There are no such jobs.")
        return 0
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("job", "type", "model", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("done", "took", "handed in"):
        table.add_column(name, justify="right", no_wrap=True)
    now = time.time()
    for job in page.data:
        table.add_row(
            job.id[:SHOWN],
            job.type,
            (job.model or "").rpartition("/")[2],
            coloured(job),
            counts(job),
            took(job, now),
            f"{span(now - job.created)} ago",
        )
    console().print(table)
    if page.next is not None:
        print(f"There are more: --limit {args.limit * 5}")
    return 0


def show_job(args: argparse.Namespace) -> int:
    with connected(args.url, args.api_key_file) as client:
        job = client.job(resolved(client, args.id))
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(job), indent=2).decode())
        return 0
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    now = time.time()
    rows = {
        "job": job.id,
        "type": job.type + (f" by {job.model}" if job.model else ""),
        "status": coloured(job),
        "done": counts(job) + (f", {job.progress.failed:,} failed" if job.progress.failed else ""),
        "handed in": moment(job.created),
        "started": moment(job.started),
        "finished": moment(job.finished),
        "took": took(job, now),
        "expires": moment(job.deadline),
        "priority": str(job.priority) if job.priority else "",
        "tokens": f"{job.usage.get('total_tokens', 0):,}",
        "reason": f"{job.error.error} ({job.error.code})" if job.error else "",
        "result": f"{args.url.rstrip('/')}{job.result_url}" if job.result_url else "",
    }
    for name, text in rows.items():
        if text:
            table.add_row(name, text)
    console().print(table)
    return 0


def watch_job(args: argparse.Namespace) -> int:
    with connected(args.url, args.api_key_file) as client:
        job = follow(client, resolved(client, args.id))
    print(ending(job))
    return 0 if job.status in ("completed", "partial") else 1


def cancel_job(args: argparse.Namespace) -> int:
    with connected(args.url, args.api_key_file) as client:
        job = client.cancel(resolved(client, args.id))
    print(ending(job) if job.over else f"{job.id}: stopping")
    return 0


def delete_job(args: argparse.Namespace) -> int:
    with connected(args.url, args.api_key_file) as client:
        id = resolved(client, args.id)
        client.delete(id)
    print(f"{id}: forgotten")
    return 0


def webhook_secret(args: argparse.Namespace) -> int:
    with connected(args.url, args.api_key_file) as client:
        print(client.webhook_secret())
    return 0


def resolved(client: Client, id: str) -> str:
    """The id of the one recent job whose id begins with `id`; `id` itself where that is none or several."""
    if len(id) >= 32:
        return id
    found = [job.id for job in client.jobs(limit=200).data if job.id.startswith(id)]
    return found[0] if len(found) == 1 else id


# -- progress ---


def follow(client: Client, id: str) -> Job:
    """Show a job's progress until it is over: a bar on a terminal, else a line now and then. Returns it as it ended."""
    from rich.console import Console

    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        return _plainly(client, id)
    with bar(terminal) as progress:
        task = progress.add_task("queued", total=None, failed="")
        for job in client.watch(id):
            known = job.progress
            failed = f"[red]{known.failed:,} failed" if known.failed else ""
            progress.update(task, description=job.status, total=known.total, completed=known.done, failed=failed)
    return job


def bar(console: Console, *, stays: bool = True) -> Progress:
    """A bar that says how many are done and how long the rest will take; nothing where there is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False, compact=True),
        TextColumn("{task.fields[failed]}"),
        console=console,
        transient=not stays,
        disable=not console.is_terminal,
    )


def _plainly(client: Client, id: str) -> Job:
    told, status = 0.0, ""
    for job in client.watch(id):
        if job.status != status or time.monotonic() - told >= PLAIN_S:
            print(f"{job.id}: {job.status}, {counts(job)}", file=sys.stderr, flush=True)
            told, status = time.monotonic(), job.status
    return job


# -- words ---


def console() -> Console:
    """Where tables are printed; in a pipe nothing is cut."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=200)


def coloured(job: Job) -> str:
    return f"[{COLOURS.get(job.status, 'default')}]{job.status}[/]"


def counts(job: Job) -> str:
    return f"{job.progress.done:,}/{job.progress.total:,}"


def ending(job: Job) -> str:
    """What became of a job, in one line."""
    parts = [f"{job.id}: {job.status}, {counts(job)}"]
    if job.progress.failed:
        parts.append(f"{job.progress.failed:,} failed")
    if job.started and job.finished:
        parts.append(f"in {span(job.finished - job.started)}")
    return ", ".join(parts) + (f". {job.error.error}" if job.error else "")


def took(job: Job, now: float) -> str:
    return span((job.finished or now) - job.started) if job.started else ""


def span(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
