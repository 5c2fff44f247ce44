"""Settings: each layer wins over the one before, and nothing unknown slips through."""

import pytest

from gateway.cli import main
from gateway.settings import EngineSettings, ServerSettings, SettingsError, resolve


def test_defaults_stand_alone():
    resolved = resolve(environ={})
    assert resolved.settings.server.port == 8000
    assert set(resolved.origins.values()) == {"default"}


def test_later_layers_win(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text('[server]\nport = 1\nhost = "file"\nlog_level = "debug"\n')
    environ = {"FORECAST_GATEWAY_PORT": "2", "FORECAST_GATEWAY_HOST": "environment"}
    resolved = resolve(config=file, environ=environ, flags={"port": "3", "host": None})
    server = resolved.settings.server
    assert (server.port, server.host, server.log_level) == (3, "environment", "debug")
    assert [resolved.origins[n] for n in ("port", "host", "log_level", "workers")] == [
        "flag",
        "environment",
        "file",
        "default",
    ]


def test_the_file_may_be_named_by_a_variable(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("[engine]\nworkers = 3\n")
    assert resolve(environ={"FORECAST_GATEWAY_CONFIG": str(file)}).settings.engine.workers == 3


def test_lists_are_split_at_commas():
    engine = resolve(environ={"FORECAST_GATEWAY_PRELOAD": "a/b, c/d"}).settings.engine
    assert engine.preload == ("a/b", "c/d")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FORECAST_GATEWAY_PROT": "1"}, ["FORECAST_GATEWAY_PROT", "'port'"]),
        ({"FORECAST_GATEWAY_PORT": "x"}, ["port", "FORECAST_GATEWAY_PORT", "int"]),
        ({"FORECAST_GATEWAY_PORT": "70000"}, ["port", "65535"]),
        ({"FORECAST_GATEWAY_CONFIG": "/nowhere/x.toml"}, ["/nowhere/x.toml"]),
    ],
)
def test_a_bad_variable_is_named(environ, words):
    with pytest.raises(SettingsError) as caught:
        resolve(environ=environ)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ["prot", "port"]),
        ("[sever]\n", ["sever", "server"]),
        ("[server]\nport = 'x'\n", ["port"]),
        ("server = 1\n", ["server", "table"]),
        ("[server\n", ["gateway.toml"]),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, words):
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        resolve(config=file, environ={})
    assert all(word in str(caught.value) for word in words)


def test_variables_of_a_kubernetes_service_are_no_settings():
    environ = {
        "FORECAST_GATEWAY_PORT": "tcp://10.0.0.1:8000",
        "FORECAST_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "FORECAST_GATEWAY_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    }
    assert resolve(environ=environ).settings.server.port == 8000


def test_a_name_belongs_to_one_section_only():
    assert not set(ServerSettings.__struct_fields__) & set(EngineSettings.__struct_fields__)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_may_hold_a_password_is_not_shown(form, capsys, monkeypatch):
    url = "http://user:s3cret@host:4318"
    for name in ("OTLP_ENDPOINT", "DATABASE_URL", "REDIS_URL", "MARKET_DATA_URL"):
        monkeypatch.setenv(f"FORECAST_GATEWAY_{name}", url)
    assert main(["settings", *form]) == 0
    shown = capsys.readouterr().out
    assert shown.count('"***"') == 4
    assert "s3cret" not in shown
