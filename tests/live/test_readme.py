"""The README shows what is: its request, its answer, its table and its file."""

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gateway.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
NEW_EVERY_TIME = ("id", "created", "latency_ms", "timings_ms", "gateway_version")


def block(after: str, language: str) -> str:
    """The first fenced block of `language` behind the heading `after`."""
    _, _, rest = README.partition(f"\n{after}\n")
    return re.search(rf"```{language}\n(.*?)\n```", rest, re.DOTALL)[1]


def test_the_request_gives_the_answer(client: httpx.Client) -> None:
    body = re.search(r"-d '(.*)'", block("## A forecast", "sh"), re.DOTALL)[1]
    answer = client.post("/v1/forecast", content=body, headers={"content-type": "application/json"}).json()
    shown = json.loads(block("## A forecast", "json"))
    assert list(answer) == list(shown)
    assert {k: v for k, v in answer.items() if k not in NEW_EVERY_TIME} == {
        k: v for k, v in shown.items() if k not in NEW_EVERY_TIME
    }


def test_the_table_of_models_is_the_catalog(capsys) -> None:
    assert main(["models", "--markdown"]) == 0
    table = re.search(r"<!-- models: .*? -->\n(.*?)<!-- /models -->", README, re.DOTALL)[1]
    assert table == capsys.readouterr().out


def test_the_file_gives_the_rows(tmp_path) -> None:
    command = block("## A file", "sh").split()
    assert command[0] == ".venv/bin/forecast-gateway"
    out, plot = tmp_path / "out.csv", tmp_path / "forecast.html"
    command = [plot if c == "forecast.html" else c for c in command[1:]]
    run = "import sys; from gateway.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", run, *command, "--out", out], check=True, cwd=ROOT, timeout=120)
    shown = [line.split(",") for line in re.findall(r"^(?:ds,|1961-).*$", README, re.MULTILINE)]
    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == shown[0] and len(rows) == 13
    for written, printed in zip(rows[1:], shown[1:], strict=False):
        assert written[0] == printed[0]
        assert [float(v) for v in written[1:]] == pytest.approx([float(v) for v in printed[1:]], rel=1e-6)
    page = plot.read_text()
    assert "<script" in page and not re.search(r'src="https?://', page)


def test_the_file_is_also_forecast_by_a_running_gateway(gateway, tmp_path) -> None:
    sample = str(ROOT / "gateway/samples/air_passengers.csv")
    outs = []
    for extra in ([], ["--url", gateway.base_url]):
        outs.append(tmp_path / f"{len(extra)}.csv")
        args = ["forecast", sample, "--model", "seasonal-naive", "--horizon", "3", "--out", str(outs[-1]), *extra]
        run = "import sys; from gateway.cli import main; sys.exit(main())"
        subprocess.run([sys.executable, "-c", run, *args], check=True, timeout=120)
    assert outs[0].read_text() == outs[1].read_text()


def test_the_upload_is_a_job(client: httpx.Client) -> None:
    lines = re.search(r"<<'END'\n(.*)END", block("## Jobs", "sh"), re.DOTALL)[1]
    answer = client.post("/v1/jobs", content=lines, headers={"content-type": "application/x-ndjson"})
    assert (answer.status_code, answer.json()["progress"]["total"]) == (202, 2)


def test_the_ensemble_is_blended(client: httpx.Client) -> None:
    body = re.search(r"-d '(.*)'", block("## Several models, and looking back", "sh"), re.DOTALL)[1]
    answer = client.post("/v1/forecast/ensemble", content=body, headers={"content-type": "application/json"}).json()
    assert [r["status"] for r in answer["ranked_results"]] == ["selected"] * 3
    assert len(answer["ensemble_result"]["outputs"][0]["mean"]) == 6


def test_the_keys_are_made(tmp_path: Path) -> None:
    for command in block("## Keys, limits, usage", "sh").splitlines():
        args = [*shlex.split(command)[1:], "--data-dir", str(tmp_path)]
        run = "import sys; from gateway.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", run, *args], check=True, capture_output=True, text=True, timeout=120
        )
        assert done.stdout.startswith("fg_")
