"""Who runs which rule: activation of a set of rules, tenures, and the fence that every deciding transaction passes.

A rule is due when ``next_scan_at`` or ``next_visit_at`` has come; a replica takes it for one cycle and raises its
epoch, so that whatever an earlier holder still wants to write is refused (design section 4, laws 3, 11, 16, 18).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from daemon.domain.value import Timescale
from daemon.engine.change import Conflict, Fenced, GiveBack, RuleVersion, Tenure
from daemon.store.codec import dumps, encode
from daemon.store.pool import Pool, Session
from daemon.store.queries import queries

_SQL: Final = queries("ownership")


@dataclass(frozen=True, slots=True)
class Fence:
    """A rule's row as a deciding transaction locked it. ``now`` is rule time; ``left`` of the lease, database time."""

    digest: str
    active: bool
    max_calls: int
    now: datetime
    left: timedelta


class Ownership:
    """The part of the store that knows whose turn it is."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._timescale: Timescale | None = None

    async def timescale(self) -> Timescale:
        """Origin and factor; never changed, so asked once."""
        if self._timescale is None:
            async with self._pool.session() as session:
                found = await session.row(_SQL["timescale"])
            assert found is not None, "migrate() writes the row"
            self._timescale = Timescale(found["origin"], found["factor"])
        return self._timescale

    async def activate(self, rules: Sequence[RuleVersion], revision: int | None) -> Sequence[str]:
        """See ``Store.activate``. All rows move together, so one revision stands for the whole set."""
        async with self._pool.transaction() as session:
            revised = await session.row(_SQL["revise"], revision=revision)
            if revised is None:
                return ()
            given = dumps([encode(rule) for rule in rules])
            await session.run(_SQL["install"], rules=given, revision=revised["revision"])
            await session.run(_SQL["retire"], names=[rule.name for rule in rules], revision=revised["revision"])
            return [row["name"] for row in await session.rows(_SQL["to_be_parked"])]

    async def deserted(self, holds: Mapping[str, str], patience: timedelta) -> int | None:
        """See ``Store.deserted``."""
        async with self._pool.session() as session:
            row = await session.row(_SQL["deserted"], names=list(holds), digests=list(holds.values()), patience=patience)
        return row["revision"] if row else None

    async def take(self, holds: Mapping[str, str], holder: str, lease: timedelta) -> Tenure | None:
        """See ``Store.take``."""
        timescale = await self.timescale()
        async with self._pool.session() as session:
            anchor = self._pool.monotonic()
            row = await session.row(_SQL["take"], names=list(holds), digests=list(holds.values()), holder=holder, lease=lease)
            anchored = self._pool.monotonic()
        if row is None:
            return None
        return Tenure(
            rule=row["name"], digest=row["digest"], holder=holder, epoch=row["epoch"], now_db=row["now_db"],
            until_db=row["until_db"], anchor=anchor, anchored=anchored, timescale=timescale, scan_due=row["scan_due"],
        )  # fmt: skip

    async def renew(self, tenures: Sequence[Tenure], lease: timedelta) -> Mapping[str, datetime]:
        """See ``Store.renew``."""
        async with self._pool.session() as session:
            rows = await session.rows(
                _SQL["renew"],
                names=[tenure.rule for tenure in tenures],
                holders=[tenure.holder for tenure in tenures],
                epochs=[tenure.epoch for tenure in tenures],
                lease=lease,
            )
        return {row["name"]: row["until_db"] for row in rows}

    async def give_back(self, tenure: Tenure, back: GiveBack) -> None:
        """See ``Store.give_back``."""
        async with self._pool.session() as session:
            await session.run(
                _SQL["give_back"], rule=tenure.rule, digest=tenure.digest, holder=tenure.holder, epoch=tenure.epoch,
                scan_at=back.scan_at, visit_at=back.visit_at, finished=back.finished,
            )  # fmt: skip

    async def hasten(self, rule: str) -> None:
        """Make the rule's next scan due now: a person asks for a cycle. It is still taken as any other."""
        async with self._pool.session() as session:
            await session.run(_SQL["hasten"], rule=rule)


async def fence(session: Session, tenure: Tenure) -> Fence:
    """Lock the rule's row for this transaction. Raises ``Fenced``."""
    row = await session.row(_SQL["fence"], rule=tenure.rule, holder=tenure.holder, epoch=tenure.epoch)
    if row is None or row["seconds_left"] <= 0:
        raise Fenced(f"{tenure.holder} no longer has {tenure.rule}")
    return Fence(row["digest"], row["active"], row["max_calls"], row["now"], timedelta(seconds=row["seconds_left"]))


async def unheld(session: Session, rule: str) -> None:
    """Lock the row of a rule that is to be parked. Raises ``Conflict`` while it is active or held."""
    if await session.row(_SQL["unheld"], rule=rule) is None:
        raise Conflict(f"{rule} is active, or somebody still runs it")


async def nudge(session: Session, rule: str | None) -> None:
    """Make the rule due now, or all of them."""
    await session.run(_SQL["nudge"], rule=rule)
