"""Settings: defaults, then a TOML file, then FORECAST_GATEWAY_* variables, then flags; the later wins.

Every setting has one name that no other section uses, so that `[engine] workers = 2`, `FORECAST_GATEWAY_WORKERS=2` and
`--workers 2` are the same thing. Unknown keys are refused. Units are in the names.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PREFIX = "FORECAST_GATEWAY_"
SAGEMAKER_PORT = "SAGEMAKER_BIND_TO_PORT"  # what SageMaker tells a container in a pipeline; ours comes first

Count = Annotated[int, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class SettingsError(ValueError):
    """A setting that cannot stand; the message names it and where it came from."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP side."""

    host: str = "127.0.0.1"  # anonymous callers are served on loopback only
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    data_dir: str = "~/.local/share/forecast-gateway"
    allow_anonymous: bool = False  # serve callers without a key on an address others can reach, until there are keys
    key_pepper: str = (
        ""  # secret of keys' hashes and sessions; "": a file in data_dir. Gateways that share keys share it
    )
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For is believed
    cors_origins: tuple[str, ...] = ()  # sites whose pages may call the API from a browser; "*" for all
    max_body_bytes: AtLeastOne = 64 * 1024 * 1024  # 1,000 series x 2,048 points are 30 MB of JSON
    request_timeout_s: Seconds = 60.0  # deadline of a request that names none
    max_request_timeout_s: Seconds = 600.0  # what `x-request-timeout-ms` may ask for
    shutdown_grace_s: Seconds = 30.0  # accepted work is finished within this on SIGTERM
    # An OpenTelemetry collector for traces, such as http://127.0.0.1:4318. May hold a password.
    otlp_endpoint: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"  # auto: console on a terminal


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worker processes and what they hold."""

    weights_dir: str = "~/.local/share/forecast-gateway/weights"  # <weights_dir>/<repository id>
    default_model: str | None = None
    preload: tuple[str, ...] = ()  # ids to load at start, fetched from the hub if they are not here
    workers: Count = 0  # processes for neural models; 0: one a GPU, else half of the cores
    statistical_workers: Count = 0  # processes for statistical models; 0: half of the cores
    device: str = "auto"  # auto: CUDA where present, else CPU
    dtype: Literal["float32", "bfloat16"] = "float32"  # bfloat16 is faster on some GPUs and not the same numbers
    tf32: bool = False  # products on a GPU keep 10 bits of a float32's 23: faster, and not the same numbers
    threads: AtLeastOne = 1  # of each worker: two spinning OpenMP threads on a busy host are slower than one
    engine: Literal["auto", "upstream"] = "auto"  # auto: lean inference where the configuration is known
    load_wait_s: Seconds = 3.0  # a request waits this long for a loading model, then 503: clients time out at 4 s
    load_timeout_s: Seconds = 300.0
    batch_timeout_s: Seconds = 60.0  # a batch that runs longer counts as hung: its worker is killed
    cancel_grace_s: Seconds = 1.0  # a batch that nobody waits for is killed after this
    max_queue_s: Seconds = 30.0  # estimated wait over which new work is refused
    memory_budget_mb: Count = 0  # for loaded models; 0: 70% of the machine's memory
    cache_mb: Count = 0  # for forecasts that are asked again with the same series and parameters; 0: none are kept
    cache_shared_s: Count = 0  # Redis keeps cache_mb of them this long for all gateways; 0: each has its own only
    accept_licences: tuple[str, ...] = ()  # ids of models whose non-commercial licence the operator accepts


class DialectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The wire formats of other systems."""

    disabled_dialects: tuple[str, ...] = ()  # names, such as "kserve", whose paths are not served
    candle_model: str = ""  # of the Kronos space; "": a Kronos whose weights are here, else the default model


class MarketDataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the Kronos space's candles of the market come from; one of the two, or none."""

    market_data_url: str = ""  # answers with hourly klines, 361 or more, oldest first; may hold a key
    market_data_file: str = ""  # CSV with timestamp, open, high, low, close, volume; read at each call
    market_data_timeout_s: Seconds = 5.0  # for an answer as a whole: callers wait for it
    market_data_max_bytes: AtLeastOne = 4 * 1024 * 1024  # 1,000 klines are 200 KB


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SQL database: keys, deployments and the usage ledger."""

    database_url: str = ""  # postgresql://user:password@host/name; "": SQLite in data_dir
    ledger_days: AtLeastOne = 90  # single requests are kept this long, then only their roll-ups
    hourly_days: AtLeastOne = 400  # roll-ups by the hour: a year and a month; those by the day stay for good
    local_ledger: bool = False  # serve with a Redis elsewhere though the database is SQLite: each gateway has its own


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a caller may ask; 0 is no limit. A key's own limits come before the `key_` defaults."""

    key_requests_per_minute: Count = 0
    key_requests_per_hour: Count = 1000
    key_series_per_day: Count = 0
    key_tokens_per_day: Count = 0
    key_concurrent_requests: Count = 0
    anonymous_requests_per_minute: Count = 100  # of one address, on another machine
    anonymous_concurrent_requests: Count = 0
    # Of anonymous callers on this machine. From 100,000 on it is a guard against loops, and each gateway counts alone.
    loopback_requests_per_minute: Count = 1_000_000
    without_redis: Literal["serve", "refuse"] = "serve"  # when Redis is down; serve: each gateway counts alone


class DeploymentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deployment: which columns of a table are what, and which model forecasts them. DataRobot's clients name it."""

    target: Annotated[str, Meta(min_length=1)]  # columns, by name
    date: Annotated[str, Meta(min_length=1)]
    series_id: str | None = None  # None: one series
    known_in_advance: tuple[str, ...] = ()
    label: str = ""  # for people; "": the deployment's id
    model: str = "default"  # catalog id or alias
    date_format: str | None = None  # such as "%m/%d/%y"; None: ISO 8601, or what the first row looks like
    frequency: str | None = None  # a pandas alias; None: what most rows follow
    window_start: AtLeastOne = 1  # steps from the forecast point to the first row that is predicted ...
    window_end: AtLeastOne = 365  # ... and to the last
    history: AtLeastOne = 1  # rows that a series needs up to its forecast point
    time_series: bool = True  # False: declared for its clients' sake; it answers 422, as DataRobot does
    binary: bool = False  # the same for a binary target


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where jobs are kept."""

    # redis://, rediss://, unix:// or redis+sentinel://; none: a server of the gateway's own. May hold a password.
    redis_url: str | None = None


class JobSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work that outlives the call that brought it."""

    job_slots: Count = 2  # chunks that this process runs at a time, beside interactive requests; 0: none
    job_retention_s: Seconds = 7 * 86400.0  # a job and its result are forgotten this long after its last change
    job_blobs: Literal["auto", "files", "redis"] = "auto"  # auto: files, or Redis where redis_url names one
    chunk_series: Annotated[int, Meta(ge=1, le=256)] = 256  # at most, of one chunk
    chunk_tries: AtLeastOne = 3  # after which a chunk fails alone
    chunk_timeout_s: Seconds = 600.0  # of one try; chunks are cut to take 10 s, so longer is a hang
    worker_wait_s: Seconds = 60.0  # a chunk whose model no worker offers fails after this
    max_upload_bytes: AtLeastOne = 4 * 1024**3  # of an NDJSON or Parquet upload, decoded: it is never held whole
    upload_timeout_s: Seconds = 3600.0  # for an upload as a whole; one that stops for a minute is given up
    webhook_allow_private: bool = False  # let callbacks go to private, loopback and link-local addresses


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All sections of the one file."""

    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()
    dialects: DialectSettings = DialectSettings()
    ledger: LedgerSettings = LedgerSettings()
    limits: LimitSettings = LimitSettings()
    redis: RedisSettings = RedisSettings()
    jobs: JobSettings = JobSettings()
    market_data: MarketDataSettings = MarketDataSettings()
    models: dict[str, dict[str, Any]] = {}  # [models.<id>]: further cards, or fields that replace a card's own
    aliases: dict[str, str] = {}
    deployments: dict[str, DeploymentSettings] = {}  # [deployments.<id>]; others are in the database


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerSettings,
    "engine": EngineSettings,
    "dialects": DialectSettings,
    "ledger": LedgerSettings,
    "limits": LimitSettings,
    "redis": RedisSettings,
    "jobs": JobSettings,
    "market_data": MarketDataSettings,
}
TABLES = ("models", "aliases", "deployments")  # whose names are the operator's own
SECRETS = frozenset(
    {"key_pepper", "database_url", "redis_url", "market_data_url", "otlp_endpoint"}
)  # shown as *** where settings are listed


@dataclass(frozen=True)
class Resolved:
    """Settings with the origin of each: {"port": "default" | "file" | "environment" | "flag"}."""

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)


def _names() -> dict[str, str]:
    """Setting name -> section."""
    return {f: section for section, kind in SECTIONS.items() for f in kind.__struct_fields__}


def _from_text(section: str, name: str, text: str, origin: str) -> Any:
    """Read one setting from the text of a variable or flag: lists by commas, numbers and booleans as usual."""
    field_type = next(f.type for f in msgspec.structs.fields(SECTIONS[section]) if f.name == name)
    value: Any = [p.strip() for p in text.split(",") if p.strip()] if field_type == tuple[str, ...] else text
    try:
        return msgspec.to_builtins(msgspec.convert(value, field_type, strict=False))
    except msgspec.ValidationError as exc:
        raise SettingsError(f"{name} = {text!r} ({origin}): {exc}") from None


def resolve(
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Resolved:
    """Settings from file, environment and flags.

    `config` None reads FORECAST_GATEWAY_CONFIG. `flags` maps setting names to text or values; None values are skipped.
    Raises SettingsError naming the setting, where it came from, and for an unknown one the nearest known.
    """
    environ = os.environ if environ is None else environ
    names = _names()
    tree: dict[str, Any] = {s: {} for s in SECTIONS}
    origins = dict.fromkeys(names, "default")
    path = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    if path is not None:
        try:
            document = tomllib.loads(path.expanduser().read_text())
        except OSError as exc:
            raise SettingsError(f"cannot read {path}: {exc.strerror}") from None
        except tomllib.TOMLDecodeError as exc:
            raise SettingsError(f"{path}: {exc}") from None
        for section, values in document.items():
            _known(section, [*SECTIONS, *TABLES], f"section in {path}")
            if not isinstance(values, dict):
                raise SettingsError(f"{path}: {section} must be a table")
            if section in SECTIONS:
                for name in values:
                    _known(
                        name,
                        [n for n, s in names.items() if s == section],
                        f"setting in [{section}] of {path}",
                    )
                    origins[name] = "file"
            tree[section] = dict(values)
    if environ.get(SAGEMAKER_PORT):
        tree["server"]["port"] = _from_text("server", "port", environ[SAGEMAKER_PORT], SAGEMAKER_PORT)
        origins["port"] = "environment"
    for variable, text in environ.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or name == "config" or _is_service_link(name, text):
            continue
        _known(name, list(names), f"variable {variable}")
        tree[names[name]][name] = _from_text(names[name], name, text, variable)
        origins[name] = "environment"
    for name, value in (flags or {}).items():
        if value is None:
            continue
        text_or_value = _from_text(names[name], name, value, f"--{name}") if isinstance(value, str) else value
        tree[names[name]][name] = text_or_value
        origins[name] = "flag"
    try:
        return Resolved(msgspec.convert(tree, Settings), origins)
    except msgspec.ValidationError as exc:
        raise SettingsError(str(exc)) from None


def _is_service_link(name: str, text: str) -> bool:
    """Kubernetes describes a service named forecast-gateway in variables of the same prefix: not settings."""
    return name.startswith(("service_", "port_")) or (name == "port" and "://" in text)


def _known(name: str, known: list[str], what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
        raise SettingsError(f"unknown {what}: {name!r}{hint}")
