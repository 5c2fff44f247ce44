"""What the command line says when it cannot do what was asked: one sentence, no traceback, nothing lost."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "gateway/samples/air_passengers.csv"
RUN = "import sys; from gateway.cli import main; sys.exit(main())"


def run(*args: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["serve", "--default-model", "nope"], ["nope"]),
        (["doctor", "--default-model", "nope"], ["nope"]),
        (["serve", "--data-dir", "/dev/null/x"], ["/dev/null/x", "--data-dir"]),
        (["serve", "--prot", "1"], ["--prot"]),
        (["serve", "--port", "x"], ["port", "int"]),
        (["serve", "--config", "/nowhere.toml"], ["/nowhere.toml"]),
        (["pull", "nope"], ["nope"]),
        (["forecast", SAMPLE, "--horizon", "0"], ["--horizon"]),
        (["forecast", SAMPLE, "--horizon", "3", "--quantiles", "a"], ["--quantiles"]),
        (["forecast", SAMPLE, "--horizon", "3", "--out", "nowhere/x.csv"], ["nowhere"]),
        (["forecast", SAMPLE, "--horizon", "3", "--out", SAMPLE], ["input"]),
        (["forecast", SAMPLE, "--horizon", "3", "--plot", SAMPLE], ["input"]),
        (["forecast", SAMPLE, "--horizon", "3", "--url", "http://127.0.0.1:9", "--out", "/tmp/x.csv"], ["127.0.0.1:9"]),
        (["forecast", SAMPLE, "--horizon", "3", "--model", "nope", "--out", "/tmp/x.csv"], ["nope"]),
    ],
)
def test_a_fault_is_one_sentence(args: list[object], words: list[str]) -> None:
    done = run(*args)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["models"],
        ["models", "--json"],
        ["settings"],
    ],
)
def test_a_reader_that_left_is_no_traceback(args: list[object]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", RUN, *map(str, args)]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, cwd=ROOT)
    finally:
        os.close(writing)
    assert done.stderr == ""


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    shutil.copy(SAMPLE, mine)
    assert run("forecast", mine, "--horizon", 3, "--model", "seasonal-naive", "--out", mine).returncode == 2
    assert mine.read_bytes() == SAMPLE.read_bytes()


def test_help_names_the_settings() -> None:
    shown = run("serve", "--help").stdout
    assert "--host" in shown and "--port" in shown and "127.0.0.1" in shown
