"""Notices on their way to people: leased by a notifier, sent, settled (law 13).

The lease is a row's epoch; what a notifier settles after somebody else leased the message is refused. A lease that
outruns the dispatch's ``tries`` by more than one tells the next notifier that an earlier one crashed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from daemon.domain.attempt import Outcome
from daemon.domain.notice import DeliveryState, Dispatch
from daemon.store.codec import readable
from daemon.store.ledger import write_dispatches
from daemon.store.ownership import nudge
from daemon.store.pool import Pool
from daemon.store.queries import queries

_SQL: Final = queries("outbox")


class Outbox:
    """The part of the store that notifiers work from."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lease(self, holder: str, limit: int, lease: timedelta) -> Sequence[Dispatch]:
        """See ``Outbox.lease``."""
        async with self._pool.session() as session:
            rows = await session.rows(_SQL["lease"], holder=holder, limit=limit, lease=lease)
        return readable(Dispatch, [row["body"] for row in rows])

    async def behind(self, dispatch: Dispatch, holder: str, lease: timedelta) -> Sequence[Dispatch]:
        """See ``Outbox.behind``."""
        async with self._pool.session() as session:
            rows = await session.rows(
                _SQL["behind"], id=dispatch.id, epoch=dispatch.epoch, holder=holder, lease=lease
            )  # fmt: skip
        return readable(Dispatch, [row["body"] for row in rows])

    async def settle(self, dispatch: Dispatch, outcome: Outcome, following: Sequence[Dispatch], now: datetime) -> bool:
        """See ``Outbox.settle``. An episode's first delivery makes its rule due: it may wait for just that."""
        async with self._pool.transaction() as session:
            if dispatch.state is DeliveryState.DONE:
                await session.row(_SQL["first_of_its_episode"], id=dispatch.id)
            settled = await session.run(
                _SQL["settle"], id=dispatch.id, epoch=dispatch.epoch, state=dispatch.state.value, tries=dispatch.tries,
                not_before=dispatch.not_before, reason=dispatch.reason, reference=outcome.reference, now=now,
            )  # fmt: skip
            if not settled:
                return False
            await write_dispatches(session, following)
            if dispatch.state is DeliveryState.DONE:
                told = await session.row(_SQL["delivered"], id=dispatch.id, now=now)
                if told is not None:
                    await nudge(session, told["rule"])
            return True

    async def sent(self, contact: str, since: datetime) -> int:
        """See ``Outbox.sent``."""
        async with self._pool.session() as session:
            row = await session.row(_SQL["sent"], contact=contact, since=since)
        return int(row["sent"]) if row else 0
