"""What every test may ask for: a loop, a PostgreSQL server, a database of its own.

`async def test_…` and async fixtures just work: anyio's pytest plugin runs them on asyncio (`anyio_mode = "auto"`).

`pg_server` (one per test process) is the server at TEST_DATABASE_URL, which must allow CREATE DATABASE, or an embedded
one. A suite that needs a schema migrates one database once and copies it per test:

    @pytest.fixture(scope="session")
    def migrated(pg_server: PgServer) -> str:
        dsn = pg_server.fresh_database()
        ...                                       # migrate, and close every connection: a template must be idle
        return dsn

    @pytest.fixture
    def ledger_dsn(pg_server: PgServer, migrated: str) -> Iterator[str]:
        with pg_server.database(template=migrated) as dsn:
            yield dsn
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from sqlalchemy import make_url

from daemon.store.embedded import start_embedded

# The same examples in every run: a red run is a red commit. `HYPOTHESIS_PROFILE=explore` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@dataclass(frozen=True)
class PgServer:
    """A PostgreSQL server that tests may create databases on; `admin` is the URL of its maintenance database."""

    admin: str

    def fresh_database(self, template: str | None = None) -> str:
        """Create a database and give its URL: empty, or a copy of the one whose URL is `template`."""
        name = f"orderheal_test_{uuid4().hex}"
        source = make_url(template).database if template else "template0"
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source or "")))
        return make_url(self.admin).set(database=name).render_as_string(hide_password=False)

    def drop(self, dsn: str) -> None:
        """Drop the database, whoever is still connected."""
        name = sql.Identifier(make_url(dsn).database or "")
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """The URL of a database that lasts for the block."""
        dsn = self.fresh_database(template)
        try:
            yield dsn
        finally:
            self.drop(dsn)

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(statement)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, so that CI can run just that on another PostgreSQL: `-m postgres`."""
    for item in items:
        if "pg_server" in getattr(item, "fixturenames", ()):
            item.add_marker("postgres")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PgServer]:
    """The server of this test process; its databases are for us to make and drop."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield PgServer(given)
        return
    with start_embedded(durable=False) as server:
        yield PgServer(server.dsn())


@pytest.fixture
def database(pg_server: PgServer) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    with pg_server.database() as dsn:
        yield dsn
