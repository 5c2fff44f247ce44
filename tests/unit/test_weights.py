"""Where weights are found, what is refused, and that looking never leaves the machine."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import msgspec
import pytest

from catalog.card import Licence, ModelCard, Weights
from gateway.engine import weights as module
from gateway.engine.models import standing
from gateway.engine.weights import Located, Missing, fetch, locate
from gateway.errors import Code, GatewayError
from gateway.settings import EngineSettings

REPOSITORY = "maker/model"
COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's folder, empty."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-home" / "hub"))
    return tmp_path / "hub-home"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return tmp_path / "weights"


def card(**sets: Weights) -> ModelCard:
    return ModelCard(
        id="maker/model",
        title="Model",
        family="test",
        adapter="tests.engine_adapters:Scripted",
        licence=Licence(id="MIT"),
        max_context=10,
        max_horizon=10,
        weights=sets or {"model": Weights(repository=REPOSITORY)},
    )


def fill(folder: Path, *, config: object = None, names: tuple[str, ...] = ("model.safetensors",)) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or {}))
    for name in names:
        (folder / name).write_bytes(b"12345678")
    return folder


def snapshot(home: Path, commit: str, *, branch: str | None = None) -> Path:
    """One revision of the repository as the hub's client keeps it."""
    cache = home / "hub" / "models--maker--model"
    if branch is not None:
        (cache / "refs").mkdir(parents=True)
        (cache / "refs" / branch).write_text(commit)
    return fill(cache / "snapshots" / commit)


def reason(found: Located | Missing) -> str:
    assert isinstance(found, Missing)
    return found.reason


def test_a_model_without_weights_needs_no_folder(local: Path) -> None:
    assert locate(msgspec.structs.replace(card(), weights={}), local) == Located({}, 0)


def test_the_weights_folder_comes_before_the_hubs_cache(home: Path, local: Path) -> None:
    cached = snapshot(home, COMMIT, branch="main")
    assert locate(card(), local) == Located({"model": cached}, 8)
    folder = fill(local / REPOSITORY)
    assert locate(card(), local) == Located({"model": folder}, 8)


def test_weights_that_ship_with_the_package_come_first(
    home: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUNDLED", tmp_path / "bundled")
    fill(local / REPOSITORY)
    folder = fill(tmp_path / "bundled" / "small")
    asked = card(model=Weights(repository=REPOSITORY, bundled="small"))
    assert locate(asked, local) == Located({"model": folder}, 8)


def test_every_set_of_weights_must_be_here(home: Path, local: Path) -> None:
    both = card(model=Weights(repository=REPOSITORY), tokenizer=Weights(repository="maker/tokenizer"))
    model = fill(local / REPOSITORY)
    assert isinstance(locate(both, local), Missing)
    tokenizer = fill(local / "maker/tokenizer")
    assert locate(both, local) == Located({"model": model, "tokenizer": tokenizer}, 16)


def test_absent_weights_say_how_to_get_them(home: Path, local: Path) -> None:
    told = reason(locate(card(), local))
    assert "forecast-gateway pull maker/model" in told
    assert str(local) not in told, "callers learn no path of the machine"


def test_a_pinned_card_takes_no_other_revision_of_the_cache(home: Path, local: Path) -> None:
    snapshot(home, OTHER, branch="main")
    pinned = card(model=Weights(repository=REPOSITORY, revision=COMMIT))
    assert f"another revision than {COMMIT}" in reason(locate(pinned, local))
    folder = snapshot(home, COMMIT)
    assert locate(pinned, local) == Located({"model": folder}, 8)


def test_a_pinned_card_takes_no_other_revision_that_was_pulled(home: Path, local: Path) -> None:
    folder = fill(local / REPOSITORY)
    note = folder / ".cache/huggingface/download/config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{OTHER}\netag\n0.0\n")
    pinned = card(model=Weights(repository=REPOSITORY, revision=COMMIT))
    assert f"another revision than {COMMIT}" in reason(locate(pinned, local))
    note.write_text(f"{COMMIT}\netag\n0.0\n")
    assert isinstance(locate(pinned, local), Located)
    note.unlink()
    assert isinstance(locate(pinned, local), Located), "who put the files there by hand knows what they are"


def test_the_cache_is_read_as_the_hubs_own_client_reads_it(home: Path, local: Path) -> None:
    folder = snapshot(home, COMMIT, branch="main")
    theirs = huggingface_hub.try_to_load_from_cache(
        REPOSITORY, "model.safetensors", cache_dir=home / "hub", revision="main"
    )
    assert theirs == str(folder / "model.safetensors")
    assert locate(card(), local) == Located({"model": folder}, 8)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"])
def test_the_cache_is_where_the_hubs_variables_say(
    variable: str, tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "elsewhere"
    home = root / "huggingface" if variable == "XDG_CACHE_HOME" else root
    folder = snapshot(home, COMMIT, branch="main")
    monkeypatch.setenv(variable, str(root if variable == "XDG_CACHE_HOME" else root / "hub"))
    assert locate(card(), local) == Located({"model": folder}, 8)


def test_pickled_weights_are_refused(home: Path, local: Path) -> None:
    fill(local / REPOSITORY, names=("pytorch_model.bin",))
    assert "pickled" in reason(locate(card(), local))
    named = card(model=Weights(repository=REPOSITORY, files=("config.json", "pytorch_model.bin")))
    assert "no safetensors" in reason(locate(named, local))


def test_a_configuration_with_code_of_its_own_is_refused(home: Path, local: Path) -> None:
    fill(local / REPOSITORY, config={"auto_map": {"AutoModel": "evil.Model"}})
    assert "code of its own" in reason(locate(card(), local))
    without = card(model=Weights(repository=REPOSITORY, files=("model.safetensors",)))
    assert "code of its own" in reason(locate(without, local)), "whether the card reads that file or not"


def test_a_missing_file_is_named(home: Path, local: Path) -> None:
    fill(local / REPOSITORY, names=())
    assert "model.safetensors is absent" in reason(locate(card(), local))


# -- fetching --


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub that gives files; one that pickles lies beside the ones that are asked for."""

    protocol_version = "HTTP/1.1"
    files: ClassVar = {"config.json": b"{}", "model.safetensors": b"12345678", "pytorch_model.bin": b"evil"}
    given: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        repository, _, place = self.path.strip("/").partition("/resolve/")
        revision, _, name = place.partition("/")
        data = self.files.get(name, b"") if repository == REPOSITORY and revision == "main" else b""
        self.send_response(200 if data else 404)
        if data:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{name}"')
            self.given.append(f"{self.command} {name}")
        elif repository == REPOSITORY and revision == "main":
            self.send_header("X-Error-Code", "EntryNotFound")
        elif repository == REPOSITORY:
            self.send_header("X-Error-Code", "RevisionNotFound")
        else:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine."""
    Hub.given.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pull_brings_the_files_of_the_card_and_no_others(hub: type[Hub], local: Path) -> None:
    said: list[str] = []
    found = fetch(card(), EngineSettings(weights_dir=str(local)), said.append)
    assert found == Located({"model": local / REPOSITORY}, 8)
    assert said == ["maker/model at main: config.json", "maker/model at main: model.safetensors"]
    assert {line for line in hub.given if line.startswith("GET")} == {"GET config.json", "GET model.safetensors"}
    assert not (local / REPOSITORY / "pytorch_model.bin").exists()
    pinned = card(model=Weights(repository=REPOSITORY, revision=COMMIT))
    assert locate(pinned, local) == found, "the commit that the branch stood at was noted"
    hub.given.clear()
    fetch(card(), EngineSettings(weights_dir=str(local)), said.append)
    assert hub.given == [], "what is here is not asked for again"


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        (Weights(repository=REPOSITORY, files=("config.json", "other.safetensors")), "no such file"),
        (Weights(repository=REPOSITORY, revision="v2"), "no revision v2"),
        (Weights(repository="maker/unknown"), "no such repository"),
    ],
)
def test_what_the_hub_does_not_have_is_told_in_a_sentence(
    asked: Weights, fault: str, hub: type[Hub], local: Path
) -> None:
    with pytest.raises(GatewayError, match=fault) as told:
        fetch(card(model=asked), EngineSettings(weights_dir=str(local)), lambda line: None)
    assert told.value.code is Code.UNAVAILABLE


def test_a_hub_out_of_reach_is_told_in_a_sentence(home: Path, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GatewayError, match="cannot be reached") as told:
        fetch(card(), EngineSettings(weights_dir=str(local)), lambda line: None)
    assert told.value.code is Code.UNAVAILABLE


def test_a_licence_that_nobody_accepted_keeps_a_model_off(home: Path, local: Path) -> None:
    strict = msgspec.structs.replace(card(), licence=Licence(id="research-only", commercial=False))
    fill(local / REPOSITORY)
    refused = EngineSettings(weights_dir=str(local))
    assert standing(strict, refused).state == "unavailable"
    assert "accept_licences" in standing(strict, refused).reason
    with pytest.raises(GatewayError, match="accept_licences"):
        fetch(strict, refused, print)
    accepted = EngineSettings(weights_dir=str(local), accept_licences=(strict.id,))
    assert standing(strict, accepted).state == "loadable"


def test_a_card_without_an_adapter_is_unavailable(local: Path) -> None:
    found = standing(msgspec.structs.replace(card(), adapter=None), EngineSettings(weights_dir=str(local)))
    assert found.state == "unavailable"
    assert "no adapter" in found.reason
