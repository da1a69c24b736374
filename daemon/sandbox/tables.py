"""The world's rows as tables of real databases: one per shop, among tens of thousands of orders with which all is well,
and the one in which deliveries are worked off.

    make(now) ─▶ tables, indexes, healthy rows, a role that may only read
    write(changes) ─▶ rows as the world has them

Times stand in the shop's own zone and carry none, as its software writes them. Whoever reads comes through a ``Gate``,
a socket of our own in front of the database's, that can be shut so that connections really break.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.abc import Query
from psycopg.conninfo import conninfo_to_dict

from daemon.sandbox.shops import LOGISTIC, ORDERS, SHOPS, Shop
from daemon.sandbox.systems.logistic import OUTBOX, PACKAGES
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
       %(currency)s, %(warehouse)s, %(now)s::timestamptz - interval '1 hour' - n * %(apart)s::interval,
       %(now)s::timestamptz - n * %(apart)s::interval + interval '3 days'
FROM generate_series(1, %(rows)s) n
"""
# As a shop's own software has them: the ways in that a question by key takes, and the rare ones by age.
_INDEXES: Final = """
CREATE INDEX ON orders (market_order_id);
CREATE INDEX ON orders (bitrix_order_id);
CREATE INDEX ON orders (created_at) WHERE bitrix_order_id IN ('not_sent', 'send_error_bitrix');
ANALYZE orders
"""
# Parcels, the events that send them to carriers, and what went wrong with those.
_LOGISTIC_TABLES: Final = """
CREATE TABLE packages (id bigint PRIMARY KEY, number text NOT NULL UNIQUE, status text NOT NULL, created_at timestamp NOT NULL);
CREATE TABLE outbox (
    id bigint PRIMARY KEY, event text NOT NULL, status text NOT NULL, processed_at timestamp, created_at timestamp NOT NULL
);
CREATE TABLE outbox_errors (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    outbox_id bigint NOT NULL REFERENCES outbox ON DELETE CASCADE,
    error text NOT NULL,
    created_at timestamp NOT NULL
)
"""
# The healthy ones: parcels that went out at the first try, an event each.
_LOGISTIC_HEALTHY: Final = """
INSERT INTO packages
SELECT n, 'LD-' || n, 'sent', %(now)s::timestamptz - n * %(apart)s::interval FROM generate_series(1, %(rows)s) n;
INSERT INTO outbox
SELECT n, 'ProcessDeliveryJob:Package:' || n, 'processed', %(now)s::timestamptz - n * %(apart)s::interval + interval '1 minute',
       %(now)s::timestamptz - n * %(apart)s::interval
FROM generate_series(1, %(rows)s) n
"""
_LOGISTIC_INDEXES: Final = """
CREATE INDEX ON outbox (event);
CREATE INDEX ON outbox (created_at);
CREATE INDEX ON outbox_errors (outbox_id);
ANALYZE packages;
ANALYZE outbox
"""
# The role that the daemon gets: it can read and nothing else.
_ROLE: Final = sql.SQL("""
DO $$ BEGIN
    CREATE ROLE {role} LOGIN PASSWORD {password};
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}
""").format(role=sql.Identifier(READER), password=READER)


def _upsert(table: str, names: Iterable[str], key: str) -> sql.Composed:
    """A row as the world has it now."""
    fields = list(names)
    return sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, fields)),
        sql.SQL(", ").join(map(sql.Placeholder, fields)),
        sql.Identifier(key),
        sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in fields),
    )


# The errors of an event: as many as it has, the first and the last when it says, the last one's text for all.
_ERRORS: Final = """
INSERT INTO outbox_errors (outbox_id, error, created_at)
SELECT %(id)s::bigint, %(error_text)s::text,
       %(last_error_at)s::timestamptz
       - (%(last_error_at)s::timestamptz - %(first_error_at)s::timestamptz) * (%(errors)s - n) / greatest(%(errors)s - 1, 1)
FROM generate_series(1, %(errors)s::int) n
"""


@dataclass(frozen=True, slots=True)
class _Table:
    """How a kind of records is written: what puts a row there, with its fields, and what drops it, with its key."""

    put: Sequence[Query]
    drop: Query


_ORDERS: Final = _Table(
    (_upsert("orders", ORDERS.fields, "posting_number"),), "DELETE FROM orders WHERE posting_number = %(key)s"
)
_PACKAGES: Final = _Table((_upsert("packages", ("id", "number", "status", "created_at"), "id"),), "DELETE FROM packages WHERE id = %(key)s::bigint")
_OUTBOX: Final = _Table(
    (
        _upsert("outbox", ("id", "event", "status", "processed_at", "created_at"), "id"),
        "DELETE FROM outbox_errors WHERE outbox_id = %(id)s::bigint",
        _ERRORS,
    ),
    "DELETE FROM outbox WHERE id = %(key)s::bigint",
)
_WRITTEN: Final[Mapping[str, _Table]] = {shop.orders: _ORDERS for shop in SHOPS} | {PACKAGES: _PACKAGES, OUTBOX: _OUTBOX}


class Tables:
    """The world's databases, written by it alone. ``owners`` are their owners' addresses, by whose they are (``DATABASES``)."""

    def __init__(self, owners: Mapping[str, str]) -> None:
        self._owners = owners
        self._connections: dict[str, psycopg.AsyncConnection] = {}

    async def make(self, now: datetime, healthy: int) -> None:
        """Fill the empty databases: tables, healthy rows, indexes, reader."""
        await asyncio.gather(*(self._make_shop(shop, now, healthy) for shop in SHOPS), self._make_logistic(now, healthy))

    async def _make_shop(self, shop: Shop, now: datetime, healthy: int) -> None:
        connection = self._connections[shop.orders] = await self._connect(shop.name, shop.zone)
        values = {"shop": shop.name, "currency": shop.currency, "warehouse": shop.warehouse, "deals_from": shop.deals_from}
        async with connection.transaction():
            await connection.execute(_TABLE)
            await connection.execute(_HEALTHY, {**values, "now": now, "rows": healthy, "apart": shop.apart})
            await connection.execute(_INDEXES)
            await connection.execute(_ROLE)

    async def _make_logistic(self, now: datetime, healthy: int) -> None:
        connection = self._connections[PACKAGES] = self._connections[OUTBOX] = await self._connect(LOGISTIC, "UTC")
        async with connection.transaction():
            await connection.execute(_LOGISTIC_TABLES)
            for statement in _LOGISTIC_HEALTHY.split(";"):
                await connection.execute(statement, {"now": now, "rows": healthy // 10, "apart": timedelta(hours=1)})
            await connection.execute(_LOGISTIC_INDEXES)
            await connection.execute(_ROLE)

    async def _connect(self, owner: str, zone: str) -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(self._owners[owner], autocommit=True)
        await connection.execute(sql.SQL("SET TimeZone = {}").format(zone))
        return connection

    def holds(self, records: str) -> bool:
        """Whether this kind of records stands in a database."""
        return records in self._connections

    async def write(self, changes: Sequence[Changed]) -> None:
        """Carry the changes over, in their order; what follows one another in one kind becomes visible at once."""
        for kind, some in groupby(changes, key=lambda change: change.records):
            connection, table = self._connections[kind], _WRITTEN[kind]
            async with connection.transaction(), connection.cursor() as cursor:
                for gone, alike in groupby(some, key=lambda change: change.row is None):
                    if gone:
                        await cursor.executemany(table.drop, [{"key": change.key} for change in alike])
                        continue
                    rows = [change.row for change in alike if change.row is not None]
                    for statement in table.put:
                        await cursor.executemany(statement, rows)

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
    """A gate per database, by its connector's name; their sockets lie below ``folder``."""
    whose = {shop.connector: shop.name for shop in SHOPS} | {LOGISTIC: LOGISTIC}
    return {connector: Gate(folder / connector, owners[owner]) for connector, owner in whose.items()}
