"""A real gateway in a process of its own, for tests that talk to it as callers do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from catalog.card import CARDS, ModelCard, load_cards
from tests.checkpoints import Sample, build

REPOSITORY = Path(__file__).parent.parent
START_LIMIT_S = 60.0  # a hang limit, not a promise
COMMAND = "import sys; from gateway.cli import main; sys.exit(main())"

Table = Mapping[str, object]


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs."""

    base_url: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.base_url)
        assert url.port is not None
        return url.host, url.port

    def client(self, **headers: str) -> httpx.Client:
        """A client with a hang limit; close it, or use it in a `with`."""
        return httpx.Client(base_url=self.base_url, timeout=START_LIMIT_S, headers=headers)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in httpx.get(f"{self.base_url}/metrics").text.splitlines():
            found, _, value = line.rpartition(" ")
            if found.partition("{")[0] == name and all(f'{k}="{v}"' in found for k, v in labels.items()):
                total += float(value)
        return total


@contextmanager
def serving(
    folder: Path, *, config: Mapping[str, Table] | None = None, ready: bool = True, own_group: bool = False
) -> Iterator[Gateway]:
    """Start `forecast-gateway serve` on a free port with the settings of `config`, and stop it in the end.

    `folder` takes the settings, the log and the data. Waits for /readyz if `ready`, else for /livez. With `own_group`
    it leads a process group of its own, which can be killed whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "gateway.toml"
    tables = dict(config or {})
    tables["server"] = {"data_dir": str(folder / "data"), **tables.get("server", {})}
    settings.write_text(toml(tables))
    log = folder / "gateway.log"
    command = [sys.executable, "-c", COMMAND, "serve", "--port", "0", "--config", str(settings)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FORECAST_GATEWAY_")}
    environment |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as lines:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=lines,
            text=True,
            start_new_session=own_group,
        )
        try:
            gateway = Gateway(_announced(process, log), process, log)
            _wait(gateway, "/readyz" if ready else "/livez")
            yield gateway
        finally:
            _stop(process)


def _announced(process: subprocess.Popen[str], log: Path) -> str:
    """The URL of the line that a starting gateway prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if "http://" not in line:
        raise RuntimeError(f"the gateway did not start: {line}{log.read_text()}")
    return line[line.index("http://") :].strip()


def _wait(gateway: Gateway, path: str) -> None:
    """Poll a probe until it says yes."""
    limit = time.monotonic() + START_LIMIT_S
    said = ""
    with gateway.client() as client:
        while time.monotonic() < limit and gateway.process.poll() is None:
            try:
                answer = client.get(path)
            except httpx.TransportError as exc:
                said = repr(exc)
            else:
                if answer.is_success:
                    return
                said = answer.text
            time.sleep(0.05)
    raise RuntimeError(f"the gateway is not ready: {said}\n{gateway.log.read_text()}")


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(START_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


# -- settings and weights ---


def packaged(model_id: str) -> ModelCard:
    """One card of the package."""
    return next(card for card in load_cards(CARDS) if card.id == model_id)


def small_models(ids: Sequence[str], weights_dir: Path) -> dict[str, Table]:
    """Small checkpoints below `weights_dir` under the ids of real models; the `[models]` tables that fit them."""
    tables = {}
    for model_id in ids:
        card = packaged(model_id)
        sample = build(card, weights_dir / card.weights["model"].repository)
        for name, weights in card.weights.items():
            if name != "model":  # a repository of its own, such as a tokenizer's
                (weights_dir / weights.repository).symlink_to(sample.folders[name])
        tables[model_id] = _difference(card, sample)
    return tables


def _difference(card: ModelCard, sample: Sample) -> Table:
    """The fields in which the small checkpoint's card differs from the packaged one."""
    before: dict[str, object] = msgspec.to_builtins(card)
    after: dict[str, object] = msgspec.to_builtins(sample.card)
    return {name: value for name, value in after.items() if value != before[name] and value is not None}


def toml(tables: Mapping[str, object]) -> str:
    """Nested mappings as TOML, each innermost value inline."""
    return "\n".join(f"[{_key(name)}]\n{_body(table)}" for name, table in tables.items())


def _body(table: object) -> str:
    assert isinstance(table, Mapping)
    return "\n".join(f"{_key(name)} = {_value(value)}" for name, value in table.items()) + "\n"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value)


def _key(name: str) -> str:
    return json.dumps(name)
