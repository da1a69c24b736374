"""The schema of the store and how it moves on: numbered steps that only add (law 17), run by ``migrate``.

Each step is a SQL file beside a small Alembic script that executes it. Steps run under an advisory lock, so that
replicas that start together do not meet, and with a short lock timeout, so that a busy store is refused rather than
held up. ``meta.least_code`` names the least code version that may use the store; ``CODE`` is this code's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, pool
from sqlalchemy.exc import DBAPIError

from daemon.settings import Redactor, Secret

CODE: Final = 1
"""The code version of this release; raised with every step of the schema that older code could not live with."""

_LOCK: Final = 0x6F72646572  # "order": the advisory lock of this program's migrations
_LOCK_TIMEOUT: Final = "5s"


class StoreError(Exception):
    """The store cannot be used as it is; the message is one line, without secrets, and says the remedy."""


def migrate(dsn: str, factor: float = 1.0) -> str:
    """Bring the schema to this code's version and give its revision. Running it again changes nothing.

    ``factor`` is how much faster rule time runs than database time (law 12); it is written once, with the origin,
    by the first migration ever, and left alone afterwards. Raises ``StoreError``.
    """
    try:
        return _migrate(dsn, factor)
    except DBAPIError as error:
        raise StoreError(Redactor([Secret(dsn)])(_told(error.orig))) from None


def head() -> str:
    """The newest revision that this code knows."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None
    return newest


def _migrate(dsn: str, factor: float) -> str:
    engine = create_engine("postgresql+psycopg://", creator=lambda: _connect(dsn), poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_lock(%s)", (_LOCK,))
        connection.commit()
        try:
            return _upgrade(connection, factor)
        finally:
            connection.rollback()
            connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", (_LOCK,))
            connection.commit()


def _connect(dsn: str) -> psycopg.Connection:
    try:
        return psycopg.connect(dsn, connect_timeout=10)
    except psycopg.ProgrammingError:
        # libpq quotes the address it could not read, password and all.
        raise StoreError("store.url is no address of a PostgreSQL database: postgresql://user@host/database") from None


def _upgrade(connection: Connection, factor: float) -> str:
    connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    present = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if present is not None and present not in known:
        return present  # written by newer code; whether we may use it is what least_code says
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.exec_driver_sql(
        "INSERT INTO meta (origin, factor, least_code) VALUES (clock_timestamp(), %s, %s) ON CONFLICT DO NOTHING",
        (factor, CODE),
    )
    connection.commit()
    return head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _told(error: BaseException | None) -> str:
    """What went wrong in one line, as the server says it."""
    first_line = str(error).strip().split("\n", 1)[0]
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return f"the store is busy: its tables could not be locked within {_LOCK_TIMEOUT}; try again"
    if isinstance(error, psycopg.OperationalError):
        return f"the store cannot be reached: {first_line}"
    return f"the store's schema cannot be changed: {first_line}"
