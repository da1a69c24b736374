"""The store on PostgreSQL, the coordinator of all replicas: the ports ``Store``, ``Outbox``, ``Quota``, ``Archive``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from daemon.store.archive import PostgresArchive
from daemon.store.ledger import Ledger
from daemon.store.limits import Limits
from daemon.store.outbox import Outbox
from daemon.store.ownership import Ownership
from daemon.store.pool import Pool, boottime
from daemon.store.retention import Retention


class PostgresStore(Ownership, Ledger, Limits, Outbox, PostgresArchive, Retention):
    """One process's access to the store, whose schema ``migrate`` has made.

    ``settle``: the longest of any rule, database time; waited out after a failover (law 18). ``monotonic``: the clock
    on which the engine counts its leases. Use as a context, or call ``open`` and ``close``.
    """

    def __init__(
        self,
        dsn: str,
        *,
        size: int = 10,
        settle: timedelta = timedelta(minutes=5),
        monotonic: Callable[[], float] = boottime,
    ) -> None:
        pool = Pool(dsn, size, settle, monotonic)
        Ownership.__init__(self, pool)

    async def open(self) -> None:
        """Connect. Raises ``StoreError`` when this code may not use the schema, ``Unreachable`` when nobody answers."""
        await self._pool.open()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
