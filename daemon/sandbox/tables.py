"""The world's rows as tables of real databases, one per shop, among tens of thousands of orders with which all is well.

    make(shop) ─▶ table, indexes, healthy rows, a role that may only read
    write(changes) ─▶ rows as the world has them

Times stand in the shop's own zone and carry none, as its software writes them. Whoever reads comes through a ``Gate``,
a socket of our own in front of the database's, that can be shut so that connections really break.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from daemon.sandbox.shops import ORDERS, SHOPS, Shop
from daemon.sandbox.world import Changed

READER: Final = "orderheal_reader"
_PORT: Final = 5432  # names the file of a socket

# The table as the integration has it. What the configuration says is never null may be null here: one of the faults.
_TABLE: Final = """
CREATE TABLE orders (
    market_order_id text NOT NULL,
    posting_number text PRIMARY KEY,
    bitrix_order_id text,
    status text,
    paid boolean NOT NULL,
    amount numeric(12, 2) NOT NULL,
    currency text NOT NULL,
    warehouse_location text,
    created_at timestamp NOT NULL,
    ship_by timestamp
)
"""
# The healthy ones: sent to the CRM long ago, the youngest an hour old, the oldest a few weeks.
_HEALTHY: Final = """
INSERT INTO orders
SELECT 'M' || %(shop)s || '-' || n, %(shop)s || '-' || n, (%(deals_from)s + n)::text,
       (ARRAY['delivered', 'delivering', 'awaiting_deliver', 'cancelled'])[1 + n %% 4], true, 990 + n %% 9000,
       %(currency)s, %(warehouse)s, %(now)s::timestamptz - interval '1 hour' - n * interval '2 minutes',
       %(now)s::timestamptz - n * interval '2 minutes' + interval '3 days'
FROM generate_series(1, %(rows)s) n
"""
# As a shop's own software has them: the ways in that a question by key takes, and the rare ones by age.
_INDEXES: Final = """
CREATE INDEX ON orders (market_order_id);
CREATE INDEX ON orders (bitrix_order_id);
CREATE INDEX ON orders (created_at) WHERE bitrix_order_id IN ('not_sent', 'send_error_bitrix');
ANALYZE orders
"""
# The role that the daemon gets: it can read and nothing else.
_ROLE: Final = sql.SQL("""
DO $$ BEGIN
    CREATE ROLE {role} LOGIN PASSWORD {password};
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
GRANT SELECT ON orders TO {role}
""").format(role=sql.Identifier(READER), password=READER)
# A row as the world has it now.
_PUT: Final = sql.SQL("INSERT INTO orders ({}) VALUES ({}) ON CONFLICT (posting_number) DO UPDATE SET {}").format(
    sql.SQL(", ").join(map(sql.Identifier, ORDERS.fields)),
    sql.SQL(", ").join(map(sql.Placeholder, ORDERS.fields)),
    sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in ORDERS.fields),
)
# A row that the world no longer has.
_DROP: Final = "DELETE FROM orders WHERE posting_number = %s"


class Tables:
    """The shops' databases, written by the world alone. ``owners`` are their owners' addresses, by the shop's name."""

    def __init__(self, owners: Mapping[str, str]) -> None:
        self._owners = owners
        self._connections: dict[str, psycopg.AsyncConnection] = {}

    async def make(self, shop: Shop, now: datetime, healthy: int) -> None:
        """Fill a shop's empty database: table, healthy rows, indexes, reader."""
        connection = await psycopg.AsyncConnection.connect(self._owners[shop.name], autocommit=True)
        self._connections[shop.orders] = connection
        await connection.execute(sql.SQL("SET TimeZone = {}").format(shop.zone))
        values = {
            "shop": shop.name,
            "deals_from": shop.deals_from,
            "currency": shop.currency,
            "warehouse": shop.warehouse,
            "now": now,
            "rows": healthy,
        }
        async with connection.transaction():
            await connection.execute(_TABLE)
            await connection.execute(_HEALTHY, values)
            await connection.execute(_INDEXES)
            await connection.execute(_ROLE)

    def holds(self, records: str) -> bool:
        """Whether this kind of records stands in a database."""
        return records in self._connections

    async def write(self, changes: Sequence[Changed]) -> None:
        """Carry the changes over, in their order; what follows one another in one shop becomes visible at once."""
        for kind, some in groupby(changes, key=lambda change: change.records):
            connection = self._connections[kind]
            async with connection.transaction(), connection.cursor() as cursor:
                for gone, alike in groupby(some, key=lambda change: change.row is None):
                    if gone:
                        await cursor.executemany(_DROP, [(change.key,) for change in alike])
                    else:
                        await cursor.executemany(_PUT, [change.row for change in alike if change.row is not None])

    async def close(self) -> None:
        """Let go of the databases."""
        for connection in self._connections.values():
            await connection.close()


class Gate:
    """A socket before a database, for its reader: open, or shut so that connections break and new ones are refused."""

    def __init__(self, folder: Path, owner: str) -> None:
        parts = conninfo_to_dict(owner)
        self._host, self._port = str(parts["host"]), int(parts.get("port") or _PORT)
        self._folder, self._database = folder, str(parts["dbname"])
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The database's address for the reader."""
        folder = quote(str(self._folder), safe="")
        return f"postgresql://{READER}:{READER}@/{self._database}?host={folder}&port={_PORT}"

    async def open(self) -> None:
        """Let connections in. Does nothing when it is open."""
        if self._server is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._server = await asyncio.start_unix_server(self._meet, self._folder / f".s.PGSQL.{_PORT}")

    async def shut(self) -> None:
        """Break the connections and let no more in."""
        if self._server is not None:
            self._server.close()
            self._server = None
            (self._folder / f".s.PGSQL.{_PORT}").unlink(missing_ok=True)
        for pipe in self._pipes:
            pipe.transport.abort()
        if self._pumps:
            await asyncio.wait(self._pumps)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            beyond, answer = await self._reach()
        except OSError:
            writer.transport.abort()
            return
        pumps = [asyncio.create_task(_pump(reader, answer)), asyncio.create_task(_pump(beyond, writer))]
        self._pipes.update({writer, answer})
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps)
        finally:
            self._pumps.difference_update(pumps)
            self._pipes.difference_update({writer, answer})

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(Path(self._host) / f".s.PGSQL.{self._port}")
        return await asyncio.open_connection(self._host, self._port)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Carry bytes one way until either side ends; then the other way has nobody to talk to either."""
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


def gates(folder: Path, owners: Mapping[str, str]) -> Mapping[str, Gate]:
    """A gate per shop's database, by its connector's name; their sockets lie below ``folder``."""
    return {shop.connector: Gate(folder / shop.connector, owners[shop.name]) for shop in SHOPS}
