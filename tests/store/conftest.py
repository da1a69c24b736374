"""Both stores behind one handle, with one clock that is moved by hand.

PostgreSQL asks the time in one place, the function ``db_now``; the databases of these tests have one that reads a row.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from daemon.clock import HandClock
from daemon.store.memory import MemoryStore
from daemon.store.migrations import migrate
from daemon.store.postgres import PostgresStore

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

HAND_CLOCK = """
CREATE TABLE hand_clock (now timestamptz NOT NULL);
INSERT INTO hand_clock VALUES ('2026-03-02 09:00+00');
CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now FROM hand_clock';
UPDATE meta SET origin = '2026-03-02 09:00+00';
"""


@dataclass
class Bench:
    """A store under test, and its clock."""

    store: Any
    clock: HandClock
    dsn: str | None
    _moved: Callable[[datetime], Awaitable[None]]

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.clock.monotonic())

    async def advance(self, **span: float) -> datetime:
        await self.clock.move(timedelta(**span).total_seconds())
        await self._moved(self.now)
        return self.now


@pytest.fixture(scope="session")
def migrated(pg_server) -> str:
    """A database with the schema and the hand clock, to be copied."""
    dsn = pg_server.fresh_database()
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(HAND_CLOCK)
    return dsn


@pytest.fixture
def store_dsn(pg_server, migrated) -> Iterator[str]:
    with pg_server.database(template=migrated) as dsn:
        yield dsn


@pytest.fixture
async def postgres(store_dsn) -> AsyncIterator[Bench]:
    clock = HandClock()

    async def moved(now: datetime) -> None:
        async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as connection:
            await connection.execute("UPDATE hand_clock SET now = %s", (now,))

    async with PostgresStore(store_dsn, size=4, monotonic=clock.monotonic) as store:
        yield Bench(store, clock, store_dsn, moved)


@pytest.fixture
async def memory() -> Bench:
    clock = HandClock()

    async def moved(now: datetime) -> None:
        return None

    return Bench(MemoryStore(clock, START), clock, None, moved)


@pytest.fixture(params=["memory", "postgres"])
def bench(request) -> Bench:
    """The store under the contract: over dicts, and over PostgreSQL."""
    return request.getfixturevalue(request.param)
