"""Forgetting: what ended longer ago than ``engine.keep`` leaves the store in small transactions, its counts stay."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from daemon.store.archive import PostgresArchive
from daemon.store.pool import Pool
from daemon.store.queries import queries

_SQL: Final = queries("retention")
_BATCH: Final = 1000


class Retention:
    """The part of the store that forgets."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def prune(self, keep: timedelta, batch: int = _BATCH) -> int:
        """Forget ended incidents and problems, told notices and obeyed words older than ``keep`` (rule time); how many rows of these.

        Live incidents, open attempts and messages on their way stay whatever their age. Replicas may do this at once.
        """
        before = await PostgresArchive(self._pool).now() - keep
        forgotten = 0
        for name in ("forget_incidents", "forget_notices"):
            while found := await self._forget(name, before=before, limit=batch):
                forgotten += found
        for name in ("forget_problems", "forget_words"):
            forgotten += await self._forget(name, before=before)
        return forgotten

    async def _forget(self, name: str, **about: object) -> int:
        async with self._pool.session() as session:
            row = await session.row(_SQL[name], **about)
        return int(row["forgotten"]) if row else 0
