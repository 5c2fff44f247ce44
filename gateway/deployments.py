"""The deployments of an installation: those of the settings file, and those that commands keep in the database.

The file's come first and are read-only: a command never writes the operator's file, and an id that stands there cannot
be added to the database.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa
import structlog

from gateway import timeline
from gateway.database import Database, metadata
from gateway.domain import Deployment
from gateway.errors import Code, GatewayError
from gateway.settings import DeploymentSettings

TABLE = sa.Table(
    "deployments",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("settings", sa.Text, nullable=False),  # JSON
    sa.Column("created", sa.Double, nullable=False),  # unix seconds
)
REFRESH_S = 1.0  # a deployment that was added elsewhere is served this much later at most

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

log = structlog.get_logger(__name__)


def checked(name: str, settings: DeploymentSettings) -> Deployment:
    """A deployment that can stand. Raises GatewayError with every reason why not."""
    faults = []
    if not _ID.fullmatch(name):
        faults.append("an id has 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit")
    columns = [settings.target, settings.date, *settings.known_in_advance]
    columns += [settings.series_id] if settings.series_id is not None else []
    if len(set(columns)) != len(columns):
        faults.append("target, date, series_id and known_in_advance must be different columns")
    if settings.window_start > settings.window_end:
        faults.append("window_start is after window_end")
    if settings.frequency is not None:
        try:
            timeline.parse_frequency(settings.frequency)
        except timeline.TimelineError as exc:
            faults.append(f"frequency: {exc.sentence}")
    if settings.date_format is not None and not _says_a_day(settings.date_format):
        faults.append(f"date_format: {settings.date_format!r} is no form that a day can be read back from")
    if faults:
        raise GatewayError(Code.INVALID_ARGUMENT, f"The deployment {name[:64]!r}: {'; '.join(faults)}.")
    return Deployment(id=name, settings=settings)


def _says_a_day(form: str) -> bool:
    day = datetime(2019, 6, 24, tzinfo=UTC)
    try:
        return datetime.strptime(day.strftime(form), form).replace(tzinfo=UTC) == day
    except (ValueError, re.error):
        return False


class StoredDeployments:
    """The deployments in the database. Its methods wait for SQL: on an event loop call them in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[Deployment, ...]:
        """Every deployment, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(TABLE.select().order_by(TABLE.c.created, TABLE.c.id)).all()
        return tuple(_deployment(row) for row in rows)

    def add(self, deployment: Deployment) -> None:
        """Keep a deployment. Raises CONFLICT for an id that is there."""
        values = {
            "id": deployment.id,
            "settings": msgspec.json.encode(deployment.settings).decode(),
            "created": time.time(),
        }
        try:
            with self._database.writing() as connection:
                connection.execute(TABLE.insert().values(values))
        except sa.exc.IntegrityError:
            sentence = f"The deployment {deployment.id!r} is there already: remove it first."
            raise GatewayError(Code.CONFLICT, sentence) from None

    def remove(self, name: str) -> None:
        """Forget a deployment. Raises NOT_FOUND."""
        with self._database.writing() as connection:
            removed = connection.execute(TABLE.delete().where(TABLE.c.id == name)).rowcount
        if not removed:
            raise GatewayError(Code.NOT_FOUND, f"There is no deployment {name[:64]!r} in the database.")


def _deployment(row: sa.Row[tuple[object, ...]]) -> Deployment:
    settings = msgspec.json.decode(str(row.settings), type=DeploymentSettings)
    return Deployment(id=str(row.id), settings=settings, origin="database")


class Deployments:
    """All deployments, as of a moment ago."""

    def __init__(self, file: Mapping[str, DeploymentSettings]) -> None:
        """Raises GatewayError for an entry of the file that cannot stand."""
        self._file = {name: checked(name, settings) for name, settings in file.items()}
        self._known: Mapping[str, Deployment] = self._file

    def all(self) -> Mapping[str, Deployment]:
        """Every deployment by its id, the file's first."""
        return self._known

    def refresh(self, stored: StoredDeployments) -> None:
        """Read the database again; waits for SQL."""
        self._known = {**self._file, **{one.id: one for one in stored.all() if one.id not in self._file}}

    async def watch(self, stored: StoredDeployments) -> None:
        """Refresh again and again; a database that cannot be read leaves what is known."""
        failing = False
        while True:
            try:
                await asyncio.to_thread(self.refresh, stored)
                failing = False
            except (sa.exc.SQLAlchemyError, msgspec.DecodeError) as exc:
                if not failing:
                    log.warning("deployments_not_read", reason=type(exc).__name__)
                failing = True
            await asyncio.sleep(REFRESH_S)
