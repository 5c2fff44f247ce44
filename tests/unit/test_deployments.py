"""Deployments: what cannot stand, and the file's entries before the database's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.database import Database, open_database
from gateway.deployments import Deployments, StoredDeployments, checked
from gateway.errors import Code, GatewayError
from gateway.settings import DeploymentSettings, SettingsError, resolve


def table(**more: object) -> DeploymentSettings:
    return DeploymentSettings(**{"target": "sales", "date": "day", **more})  # type: ignore[arg-type]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("a/b", table(), "an id has"),
        ("", table(), "an id has"),
        ("a", table(date="sales"), "different columns"),
        ("a", table(series_id="day"), "different columns"),
        ("a", table(known_in_advance=("sales",)), "different columns"),
        ("a", table(window_start=3, window_end=2), "window_start"),
        ("a", table(frequency="fortnightly"), "not a known frequency"),
        ("a", table(date_format="%H:%M"), "date_format"),
        ("a", table(date_format="%Q"), "date_format"),
    ],
)
def test_what_cannot_stand_is_refused_with_its_reason(name: str, settings: DeploymentSettings, said: str) -> None:
    with pytest.raises(GatewayError, match=said) as caught:
        checked(name, settings)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("form", [None, "%m/%d/%y", "%Y-%m-%d %H:%M", "%d.%m.%Y", "%Y-%m-%dT%H:%M:%S%z"])
def test_forms_that_say_a_day_stand(form: str | None) -> None:
    assert checked("a", table(date_format=form)).settings.date_format == form


def test_the_files_entries_win_over_the_databases(database: Database) -> None:
    stored = StoredDeployments(database)
    stored.add(checked("shared", table(label="of the database")))
    stored.add(checked("own", table(known_in_advance=("promo",))))
    known = Deployments({"shared": table(label="of the file")})
    assert list(known.all()) == ["shared"]
    known.refresh(stored)
    assert [(d.id, d.label, d.origin) for d in known.all().values()] == [
        ("shared", "of the file", "file"),
        ("own", "own", "database"),
    ]
    assert known.all()["own"].settings == table(known_in_advance=("promo",))
    stored.remove("own")
    known.refresh(stored)
    assert list(known.all()) == ["shared"]


def test_an_id_is_added_once_and_removed_once(database: Database) -> None:
    stored = StoredDeployments(database)
    stored.add(checked("a", table()))
    with pytest.raises(GatewayError, match="there already") as caught:
        stored.add(checked("a", table(target="other")))
    assert caught.value.code is Code.CONFLICT
    stored.remove("a")
    with pytest.raises(GatewayError) as caught:
        stored.remove("a")
    assert caught.value.code is Code.NOT_FOUND


def test_a_file_entry_is_typed_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[deployments.a]\ntarget = "sales"\ndate = "day"\nwindow_end = 7\n')
    assert resolve(config=file, environ={}).settings.deployments == {"a": table(window_end=7)}
    file.write_text('[deployments.a]\ntarget = "sales"\ndate = "day"\nhorizon = 7\n')
    with pytest.raises(SettingsError, match="horizon"):
        resolve(config=file, environ={})
