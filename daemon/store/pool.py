"""Connections to the store: how they are set up, and what a lost one means.

Every session runs in UTC with short timeouts: a process that is stopped in the middle of a transaction loses it before
its lease, so that its locks never keep a successor out. Whatever goes wrong between us and the server becomes
``Unreachable`` with one line and without the address, which may hold a password.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from daemon.engine.ports import Unreachable
from daemon.settings import Redactor, Secret
from daemon.store.migrations import CODE, StoreError, head
from daemon.store.queries import queries

_SQL: Final = queries("pool")
_WAIT: Final = 10.0  # seconds to wait for a free connection
_CONNECT: Final = {
    "autocommit": True, "row_factory": dict_row, "connect_timeout": 10, "application_name": "orderheal",
}  # fmt: skip


def boottime() -> float:
    """Seconds that go on while the machine is suspended, so that a lease is not overslept."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Session:
    """A connection for the length of a block."""

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        self._connection = connection

    async def rows(self, sql: LiteralString, /, **parameters: Any) -> list[DictRow]:
        """All rows of a query."""
        return await (await self._connection.execute(sql, parameters)).fetchall()

    async def row(self, sql: LiteralString, /, **parameters: Any) -> DictRow | None:
        """The first row, if there is one."""
        return await (await self._connection.execute(sql, parameters)).fetchone()

    async def run(self, sql: LiteralString, /, **parameters: Any) -> int:
        """Execute; how many rows were touched."""
        return (await self._connection.execute(sql, parameters)).rowcount


class Pool:
    """The connections of one process. ``monotonic`` is the clock by which this replica counts its leases."""

    def __init__(self, dsn: str, size: int, settle: timedelta, monotonic: Callable[[], float]) -> None:
        self._settle = settle
        self.monotonic = monotonic
        self._dsn = _checked(dsn)
        self._scrub = Redactor([Secret(dsn)])  # a server, or a proxy before it, may quote what it was sent
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            dsn, min_size=1, max_size=size, timeout=_WAIT, open=False, name="store", configure=self._configure,
            kwargs=dict(_CONNECT),
        )  # fmt: skip

    async def open(self) -> None:
        """Connect, after a look at whether this code may use this schema. Raises ``StoreError``, ``Unreachable``."""
        async with _told(self._scrub):
            async with await AsyncConnection.connect(self._dsn, autocommit=True, row_factory=dict_row, connect_timeout=10) as connection:
                await _check_version(Session(connection))
            await self._pool.open(wait=True, timeout=_WAIT)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._pool.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A connection on which each statement stands for itself. Raises ``Unreachable``."""
        async with _told(self._scrub), self._pool.connection() as connection:
            yield Session(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """All of the block or nothing. Raises ``Unreachable``."""
        async with _told(self._scrub), self._pool.connection() as connection, connection.transaction():
            yield Session(connection)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """Several reads of one moment. Raises ``Unreachable``."""
        async with self.transaction() as session:
            await session.run(_SQL["as_of_one_moment"])
            yield session

    async def _configure(self, connection: AsyncConnection[DictRow]) -> None:
        session = Session(connection)
        await session.run(_SQL["set_up"])
        await session.run(_SQL["after_failover"], wait=self._settle)


def _checked(dsn: str) -> str:
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # libpq quotes the address it could not read, password and all.
        raise StoreError("store.url is no address of a PostgreSQL database: postgresql://user@host/database") from None
    return dsn


async def _check_version(session: Session) -> None:
    """Law 17: newer code reads older rows only after ``db upgrade``; the store names the least code that may use it."""
    present = await session.row(_SQL["schema"])
    if present is None or present["migrated"] is None:
        raise StoreError("the store has no tables yet; run: orderheal db upgrade")
    found = await session.row(_SQL["version"])
    if found is None or str(found["revision"]) < head():
        raise StoreError("the store's schema is older than this program; run: orderheal db upgrade")
    if found["least_code"] > CODE:
        raise StoreError(f"the store needs code version {found['least_code']} or later, this program is {CODE}; run a newer release")


@asynccontextmanager
async def _told(scrub: Redactor) -> AsyncIterator[None]:
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        first, *_ = str(error).strip().split("\n") or [""]
        raise Unreachable(f"the store: {scrub(first) or type(error).__name__}") from None
