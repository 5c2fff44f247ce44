"""The SQL database of an installation: SQLite in the data folder (WAL), or PostgreSQL by URL.

Tables are declared where they are used, on `metadata` here, and made by the migrations in `gateway/migrations`. All
calls are synchronous: callers on an event loop make them in a thread.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from gateway.errors import Code, GatewayError

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

FILE = "gateway.sqlite3"
HEAD = "0002"  # the newest migration: a database that has it is not looked at further, which saves half a second
BUSY_TIMEOUT_S = 10.0  # how long a writer waits for another process's transaction
LOCK = 0x666F7265  # of PostgreSQL's advisory locks: one process migrates at a time

metadata = sa.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"},
)


class Database:
    """One pool of connections. Open with `open_database`."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.sqlite = url.get_backend_name() == "sqlite"
        if self.sqlite:
            self._engine = sa.create_engine(url)
            sa.event.listen(self._engine, "connect", _sqlite_connected)
            sa.event.listen(self._engine, "begin", _sqlite_begin)
        else:
            self._engine = sa.create_engine(
                url, pool_size=4, pool_pre_ping=True, connect_args={"connect_timeout": int(BUSY_TIMEOUT_S)}
            )
        self._reader = self._engine.execution_options(reads=True)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that may write: committed in the end, rolled back by an exception."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads: beside writers, and one state throughout."""
        with self._reader.connect() as connection:
            if not self.sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that knows `on_conflict_do_update` and `on_conflict_do_nothing`."""
        if self.sqlite:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # 40 ms of every start, for those who have such a server

        return postgresql.insert(table)

    def close(self) -> None:
        self._engine.dispose()

    def migrate(self) -> None:
        """Bring the tables to the newest shape; safe to call by several processes at once."""
        with self._engine.connect() as connection:
            if sa.inspect(connection).has_table("alembic_version"):
                version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
                if version == HEAD:
                    return
                if version is not None and version > HEAD:
                    raise GatewayError(
                        Code.UNAVAILABLE,
                        f"The database was written by a newer gateway (migration {version}, here {HEAD}).",
                    )
        logging.getLogger("alembic").setLevel(logging.WARNING)  # its plugins and its steps are nobody's news
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        with self.writing() as connection:
            if not self.sqlite:
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def open_database(data_dir: str | Path, url: str = "") -> Database:
    """The database of an installation, its tables there. Raises GatewayError where it cannot be opened."""
    where = url_of(data_dir, url)
    if not url:
        _keep_private(Path(data_dir).expanduser() / FILE)
    try:
        database = Database(where)
        database.migrate()
    except ModuleNotFoundError as exc:
        hint = " Install it with: pip install 'forecast-gateway[postgres]'." if exc.name == "psycopg" else ""
        raise GatewayError(Code.UNAVAILABLE, f"The database needs the package {exc.name!r}.{hint}") from None
    except sa.exc.SQLAlchemyError as exc:
        raise GatewayError(Code.UNAVAILABLE, f"The database {shown(where)} cannot be opened: {reason(exc)}") from None
    return database


def url_of(data_dir: str | Path, url: str) -> sa.URL:
    """`url` with the driver that we use, or SQLite's file in the data folder. Raises GatewayError."""
    if not url:
        folder = Path(data_dir).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return sa.URL.create("sqlite", database=str(folder / FILE))
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise GatewayError(Code.INVALID_ARGUMENT, "database_url is not a URL.") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise GatewayError(Code.INVALID_ARGUMENT, "database_url must begin with postgresql:// or sqlite:///.")
    return parsed


def _keep_private(path: Path) -> None:
    """Have the file be its owner's alone, and with it those that SQLite makes beside it, which take its mode.

    It is made under another name: a process that closes a file loses the locks that it has on it elsewhere.
    """
    draft = path.with_name(f"{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    with suppress(OSError):  # a folder that cannot be written is told of by SQLite
        if path.exists():
            for kept in (path, path.with_name(f"{FILE}-wal"), path.with_name(f"{FILE}-shm")):
                if kept.exists() and kept.stat().st_mode & 0o077:
                    kept.chmod(0o600)
            return
        draft.touch(mode=0o600)
        try:
            os.link(draft, path)
        finally:
            draft.unlink()


def shown(url: sa.URL) -> str:
    """A URL without its password."""
    return url.render_as_string(hide_password=True)


def reason(exc: Exception) -> str:
    """The driver's own sentence, without the statement and its values, and without a URL's password."""
    said = str(getattr(exc, "orig", None) or exc).strip().splitlines()
    return re.sub(r"//[^@/\s]*@", "//***@", said[0]) if said else type(exc).__name__


def _sqlite_connected(connection: Any, record: object) -> None:
    """WAL lets readers and one writer run side by side; transactions are begun by `_sqlite_begin` alone."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1e3)}")
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Change the journal once nobody else is about to: SQLite's own busy timeout does not cover this change."""
    limit = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= limit:
                raise
            time.sleep(0.01)


def _sqlite_begin(connection: sa.Connection) -> None:
    """Writers take the lock at once: a read that turns into a write could not wait for it."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
