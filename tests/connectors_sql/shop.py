"""What the tests of the `sql` connector share: tools, a shop's database, and a connector on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from daemon.clock import HandClock
from daemon.connectors.sql import SqlConnector, SqlSettings
from daemon.domain.shape import Page
from daemon.domain.value import Record, Timescale
from daemon.engine.events import Event
from daemon.kinds import Tools

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)

ORDERS: dict[str, Any] = {
    "query": "SELECT id, number, status, amount, created_at FROM orders",
    "key": "${id}",
    "by": ["id", "number"],
    "fields": {
        "id": "string",
        "number": "string|null",
        "status": "string|null",
        "amount": "number|null",
        "created_at": "timestamp|null",
    },
}
TABLE = (
    "CREATE TABLE orders (id bigint PRIMARY KEY, number text, status text, amount numeric(20, 4), created_at timestamptz)"
)


class Quota:
    """A quota that lets everybody wait as long as it is told to."""

    def __init__(self, *waits: float) -> None:
        self.waits = [*waits]
        self.asked: list[tuple[str, float, int, int]] = []

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        """Take note, and give the next wait."""
        self.asked.append((target, rate, burst, tokens))
        return self.waits.pop(0) if self.waits else 0.0

    async def push(self, target: str, until_db: datetime) -> None:
        """Nothing here answers `Retry-After`."""


class Told(list[Event]):
    """Events, kept."""

    def __call__(self, event: Event) -> None:
        """Keep it."""
        self.append(event)


def tools(events: Callable[[Event], None] | None = None, quota: Quota | None = None, **more: Any) -> Tools:
    """Tools with a hand clock."""
    return Tools(
        more.pop("clock", HandClock()), quota or Quota(), Told() if events is None else events, Timescale(NOW), lambda: NOW, **more
    )


def settings(url: str, records: Mapping[str, Any] | None = None, **more: Any) -> SqlSettings:
    """Settings as a file would give them."""
    return SqlSettings.model_validate({"url": url, "records": records or {"orders": ORDERS}, **more})


@asynccontextmanager
async def connector(
    url: str, records: Mapping[str, Any] | None = None, given: Tools | None = None, **more: Any
) -> AsyncIterator[SqlConnector]:
    """A connector named `shop`, closed at the end."""
    opened = SqlConnector("shop", settings(url, records, **more), given or tools())
    try:
        yield opened
    finally:
        await opened.close()


def execute(url: str, *statements: str) -> None:
    """Run SQL as the shop itself would."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


async def pages(
    shop: SqlConnector, records: str = "orders", *, where: str | None = None, since: datetime | None = None,
    cursor: str | None = None, size: int = 100, hold: bool = False,
) -> list[Page]:  # fmt: skip
    """A whole listing."""
    async with aclosing(shop.list(records, where, since, cursor, NOW, size, hold)) as listing:
        return [page async for page in listing]


async def listed(shop: SqlConnector, records: str = "orders", **how: Any) -> list[Record]:
    """All records of a listing."""
    return [record for page in await pages(shop, records, **how) for record in page.records]


def ago(**span: float) -> datetime:
    """A moment before NOW."""
    return NOW - timedelta(**span)
