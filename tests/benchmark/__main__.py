"""Every target of speed in one run, beside other servers where they are installed.

    python -m tests.benchmark [--out benchmarks] [--rounds N] [--seconds S] [--only PART ...]

Writes DATE-MACHINE.json (with commit and versions), a plot and flame graphs, and prints the table; asserts nothing. It
wants two cores of its own for a quarter of an hour: what else runs on them is in the figures.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from statistics import median

import msgspec
import torch
from chronos import BaseChronosPipeline, ChronosBoltPipeline

from adapters.base import Device
from adapters.chronos_bolt import ChronosBolt
from catalog.card import CARDS, load_cards
from tests.benchmark import bench_chronos_bolt, bench_timesfm, footprint, one_core, peers, profiles
from tests.benchmark.http_path import one_client
from tests.benchmark.load import MODEL
from tests.benchmark.side_by_side import machine, side_by_side, true_size
from tests.benchmark.targets import Report, Row, table

PACKAGES = ("torch", "numpy", "msgspec", "starlette", "uvicorn", "chronos-forecasting", "timesfm", "transformers")
# Of a peer's requests a second; each is asked as its makers' guide would have it, over the library.
PEER_TARGETS = {"LitServe": 2.3, "MLServer": 1.5, "BentoML": 2.5, "Ray Serve": 5.0}


class Run:
    """What has been measured so far."""

    def __init__(self, checkpoint: Path, options: argparse.Namespace) -> None:
        self.checkpoint = checkpoint
        self.options = options
        self.rows: list[Row] = []
        self.details: dict[str, object] = {}
        self.at_64: dict[str, float] = {}  # the gateway's own point, medians of the rounds

    def add(self, what: str, measured: float, relation: str, target: float, unit: str = "times") -> None:
        row = msgspec.convert(
            {"what": what, "relation": relation, "target": target, "measured": round(measured, 3), "unit": unit}, Row
        )
        self.rows.append(row)
        print(table([row]).splitlines()[-1], flush=True)

    # -- parts ---

    def clients(self) -> None:
        """64 clients against the raw calls."""
        for what, mixed, floor in (("512 points", False, 1.25), ("mixed lengths, 32 to 2,048", True, 2.5)):
            rounds = one_core.rounds(self.checkpoint, self.options.rounds, self.options.seconds, mixed)
            self.details[f"64 clients, {what}"] = rounds
            found = {name: median(r[name] for r in rounds) for name in rounds[0] if name != "faults"}
            self.add(f"64 clients, {what}: over the library in-process", found["over_library"], ">=", floor)
            if not mixed:
                self.add(f"64 clients, {what}: over our adapter in-process", found["over_adapter"], ">=", 0.85)
                self.at_64 = found

    def peers(self) -> None:
        """Others over the library, and the gateway, each by the raw call right before it."""
        for peer in peers.PEERS:
            if not peers.installed(peer):
                print(f"| {peer.name} | skipped: not installed (python -m tests.benchmark.peers --install) |")
                continue
            found = peers.measure(peer, self.checkpoint, self.options.seconds)
            self.details[peer.name] = found
            target = PEER_TARGETS.get(peer.name)
            if target is None or not self.at_64:
                continue
            self.add(
                f"requests/s over {peer.name}'s best", self.at_64["over_library"] / found.over_library, ">=", target
            )
            slower = found.p99_ms_at_64 * found.library / (self.at_64["p99_ms"] * self.at_64["library"])
            self.add(f"p99 of {peer.name} over ours, 64 clients", slower, ">", 1)

    def one(self) -> None:
        """What the gateway adds for one client."""
        with one_core.pinned_gateway(self.checkpoint) as (gateway, key):
            found = one_client(gateway, MODEL, 512, 24, f"authorization: Bearer {key}\r\n")
        self.details["one client"] = found
        self.add("one client: added to the adapter's call, p50", found["added"]["p50"], "<=", 2, "ms")
        self.add("one client: added to the adapter's call, p99", found["added"]["p99"], "<=", 5, "ms")

    def wire(self) -> None:
        """One large body."""
        # In a process of its own: here the collector would look at torch's objects whenever pydantic makes many.
        code = "import json; from tests.benchmark.bench_wire import large_body; print(json.dumps(large_body()))"
        found = json.loads(one_core.on_core(one_core.SERVES, [sys.executable, "-c", code]))
        self.details["wire"] = found
        self.add("64 series x 2,048 points: all but the model", found["ms"], "<=", 40, "ms")
        self.add("64 series x 2,048 points: share of pydantic's time", found["over_pydantic"], "<=", 0.5)

    def bolt(self) -> None:
        """The lean adapter beside the library."""
        card = next(card for card in load_cards(CARDS) if card.id == MODEL)
        adapter = ChronosBolt.load(card, {"model": self.checkpoint}, Device())
        pipeline = BaseChronosPipeline.from_pretrained(self.checkpoint, device_map="cpu", dtype=torch.float32)
        assert isinstance(pipeline, ChronosBoltPipeline)
        for batch, floor in ((1, 2.0), (64, 1.35)):
            case = bench_chronos_bolt.Case(context=512, batch=batch)
            rows = case.rows()
            ours = bench_chronos_bolt.by_adapter(adapter, case, rows)
            theirs = bench_chronos_bolt.by_library(pipeline, case, rows)
            found = side_by_side(ours, theirs, self.options.seconds)
            self.details[f"Chronos-Bolt, batch {batch}"] = asdict(found)
            self.add(f"Chronos-Bolt-tiny adapter over library, 512 points, batch {batch}", found.ratio, ">=", floor)

    def timesfm(self) -> None:
        """The same of TimesFM 2.5."""
        found = bench_timesfm.ratios(self.options.seconds)
        self.details["TimesFM 2.5"] = found
        self.add("TimesFM 2.5 adapter over library, batch 1", found["batch 1"], ">=", 3.3)
        self.add("TimesFM 2.5 adapter over library, batch 8", found["batch 8"], ">=", 2.5)
        self.add("TimesFM 2.5 adapter over library's usual batch of 32", found["usual"], ">=", 35)

    def footprint(self) -> None:
        """Memory and start."""
        memory, start = footprint.memory(self.checkpoint), footprint.start()
        self.details["memory, MB"], self.details["start"] = memory, start
        self.add("memory: gateway and engine worker", memory["gateway"] + memory["engine worker"], "<=", 380, "MB")
        self.add("memory: statistics worker", memory["statistics worker"], "<=", 260, "MB")
        self.add("memory: a further gateway process", memory["second gateway"], "<=", 80, "MB")
        self.add("start to liveness", start["livez_s"], "<=", 1, "s")
        self.add("start to the first forecast of the shipped model", start["first_forecast_s"], "<=", 5, "s")

    def profiles(self) -> None:
        """Shares of the core; no row of its own, since the table has no target for it."""
        if profiles.spy() is None:
            print("| profiles | skipped: py-spy is not installed (the extra bench) |")
            return
        self.details["shares of the core"] = profiles.measure(self.checkpoint, self.options.out, _stem())


PARTS: dict[str, Callable[[Run], None]] = {
    name: getattr(Run, name) for name in ("bolt", "clients", "peers", "one", "wire", "timesfm", "footprint", "profiles")
}


def _stem() -> str:
    about = machine()
    processor = re.sub(r"[^a-z0-9]+", "-", f"{about['processor']} {about['cores']} cores".lower()).strip("-")
    return f"{date.today().isoformat()}-{processor}"


def merged(run: Path, again: Report) -> Report:
    """A run whose parts that were measured again are told so, with the commit and the load of that time."""
    before = msgspec.json.decode(run.read_bytes(), type=Report)
    newer = {row.what: row for row in again.rows}
    told = {"parts": list(again.details), "date": again.date, "machine": again.machine}
    earlier = before.details.get("measured again", [])
    assert isinstance(earlier, list)
    return msgspec.structs.replace(
        before,
        rows=tuple(newer.get(row.what, row) for row in before.rows),
        details=before.details | again.details | {"measured again": [*earlier, told]},
    )


def plot(report: Report, out: Path) -> None:
    """Each row as a bar of how far it is beyond its target, where 1 is the target."""
    from matplotlib import pyplot

    rows = [r for r in reversed(report.rows) if r.measured > 0]
    beyond = [r.measured / r.target if r.relation != "<=" else r.target / r.measured for r in rows]
    figure, axes = pyplot.subplots(figsize=(10, 0.36 * len(rows) + 1.2), layout="constrained")
    bars = axes.barh([r.what for r in rows], beyond, color=["#2f6f5e" if r.holds else "#b3541e" for r in rows])
    axes.bar_label(bars, [f"{r.measured:.3g} {r.unit}" for r in rows], padding=4, fontsize=8)
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(0.5, 2 * max(beyond))
    axes.set_xticks([0.5, 1, 2, 4], ["half", "target", "2 x", "4 x"])
    axes.minorticks_off()
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"Measured over target, {report.machine['processor']}, {report.date}", fontsize=10)
    figure.savefig(out, metadata={"Date": None})


def parts(only: list[str]) -> Iterator[tuple[str, Callable[[Run], None]]]:
    return ((name, part) for name, part in PARTS.items() if not only or name in only)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the results; benchmarks, or of parts a temporary one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--into", type=Path, metavar="RUN.json", help="let parts take the place of those of a run")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[])
    options = parser.parse_args()
    if options.out is None:  # a part is no run
        options.out = Path(tempfile.mkdtemp(prefix="benchmarks-")) if options.only else Path("benchmarks")
    options.out.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    with true_size("chronos-bolt-tiny", None) as checkpoint:
        run = Run(checkpoint, options)
        for name, part in parts(options.only):
            print(f"-- {name}", file=sys.stderr, flush=True)
            part(run)
    report = Report(
        date=date.today().isoformat(), machine=machine(*PACKAGES), rows=tuple(run.rows), details=run.details
    )
    stem = options.out / _stem()
    if options.into is not None:
        report, stem = merged(options.into, report), options.into.with_suffix("")
    stem.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    print(f"\n{table(report.rows)}\nwrote {stem}.json")
    try:
        plot(report, stem.with_suffix(".svg"))
    except ImportError:
        print("no plot: matplotlib is not installed (the extra bench)")


if __name__ == "__main__":
    main()
