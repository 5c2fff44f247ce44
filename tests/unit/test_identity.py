"""What decides a model's numbers: nothing of it can change under the same identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from adapters.base import Device
from catalog.card import ModelCard, Weights
from gateway.engine.crew import Crew
from gateway.engine.frames import Loaded
from gateway.engine.identity import identity, stamps
from gateway.settings import EngineSettings
from tests import engine_adapters as models

CARD = models.card(weights={"model": Weights(repository="a/b", files=("config.json", "model.safetensors"))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(10_000))
    return tmp_path


def of(folder: Path, card: ModelCard = CARD, device: Device | None = None) -> bytes:
    return identity(card, {"model": folder}, device or Device())


def test_the_same_is_the_same_wherever_it_lies(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("copy")
    for file in folder.iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    assert of(folder) == of(elsewhere)
    assert of(folder, device=Device(name="cuda:0")) == of(folder, device=Device(name="cuda:1"))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: of(f, device=Device(name="cuda:0")),
        lambda f: of(f, device=Device(dtype="bfloat16")),
        lambda f: of(f, device=Device(engine="upstream")),
        lambda f: of(f, msgspec.structs.replace(CARD, adapter_options={"window": 3})),
        lambda f: of(f, msgspec.structs.replace(CARD, adapter="tests.engine_adapters:Slow")),
        lambda f: of(f, msgspec.structs.replace(CARD, native_horizon=16)),
    ],
    ids=["device", "dtype", "engine", "options", "adapter", "card"],
)
def test_another_setting_is_another_model(folder: Path, change: Callable[[Path], bytes]) -> None:
    assert change(folder) != of(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_changed_byte_is_another_model(folder: Path, name: str) -> None:
    before, seen = of(folder), stamps(CARD, {"model": folder})
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / "new").write_bytes(content)
    (folder / "new").replace(folder / name)
    assert of(folder) != before
    assert stamps(CARD, {"model": folder}) != seen


def test_another_release_is_another_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = of(folder)
    monkeypatch.setattr("gateway.engine.identity.__version__", "99")
    assert of(folder) != before


def test_a_crew_that_disagrees_has_no_identity() -> None:
    crew = Crew("statistical", EngineSettings(statistical_workers=2))

    def told(identity: bytes) -> Loaded:
        return Loaded(model="m", seconds=0.0, memory_bytes=0, identity=identity)

    assert crew.identity("m") == b""
    crew.workers[0].models["m"] = told(b"one")
    assert crew.identity("m") == b"one", "the other is being started"
    crew.workers[1].models["m"] = told(b"one")
    assert crew.identity("m") == b"one"
    crew.workers[1].models["m"] = told(b"two")
    assert crew.identity("m") == b""
