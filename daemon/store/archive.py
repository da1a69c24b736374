"""The read side of the store over rows. The port and its answers are in ``daemon.engine.archive``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from daemon.domain.attempt import Attempt
from daemon.domain.incident import Incident
from daemon.domain.notice import FIRST_LEAD, Notice
from daemon.domain.standing import Directive, Illness, Pause, RuleState
from daemon.engine.archive import (
    Entry,
    Gauges,
    Happening,
    NotUnique,
    RuleGauges,
    RuleRow,
    Told,
    Totals,
    Wanted,
    Way,
)
from daemon.store.codec import decode, readable
from daemon.store.pool import Pool
from daemon.store.queries import queries

EVERYTHING: Final = Wanted()
_SQL: Final = queries("archive")
_LIMITS: Final = queries("limits")
_LEDGER: Final = queries("ledger")


@dataclass(frozen=True, slots=True)
class Count:
    """One number for the gauges, as both stores deliver it."""

    rule: str
    what: str
    label: str
    state: str
    count: Decimal


def gauges(now: datetime, rows: Sequence[RuleRow], counts: Sequence[Count], ill: Sequence[Illness],
           pauses: Sequence[Pause]) -> Gauges:  # fmt: skip
    """Numbers sorted to the rules they belong to."""
    return Gauges(now, tuple(_rule_gauges(row, counts) for row in rows), tuple(ill), tuple(pauses))


def _rule_gauges(row: RuleRow, counts: Sequence[Count]) -> RuleGauges:
    mine = [count for count in counts if count.rule == row.name]

    def by_label(what: str) -> dict[str, int]:
        return {one.label: int(one.count) for one in mine if one.what == what}

    attempts = by_label("attempt")
    return RuleGauges(
        row=row,
        phases=by_label("phase"),
        whys=by_label("why"),
        at_risk={one.label: one.count for one in mine if one.what == "risk"},
        resolutions=by_label("resolution"),
        attempts=attempts,
        calls=sum(count for result, count in attempts.items() if result != "not_sent"),
        calls_last_hour=by_label("last_hour").get("", 0),
        notices={(one.label, one.state): int(one.count) for one in mine if one.what == "notice"},
        undelivered=by_label("undelivered").get("", 0),
        needs_person=by_label("needs_person").get("", 0),
        deadlines_near=by_label("deadlines_near").get("", 0),
        deadlines_missed=by_label("deadlines_missed").get("", 0),
    )


class PostgresArchive:
    """The archive over rows."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def now(self) -> datetime:
        """See ``Archive.now``."""
        [row] = await self._rows("now")
        now: datetime = row["now"]
        return now

    async def rules(self) -> Sequence[RuleRow]:
        """See ``Archive.rules``."""
        return tuple(_rule_row(row) for row in await self._rows("rules"))

    async def incidents(self, wanted: Wanted = EVERYTHING) -> Sequence[Incident]:
        """See ``Archive.incidents``."""
        rows = await self._rows(
            "incidents", rule=wanted.rule, phases=list(wanted.phases), cause=wanted.cause, older=wanted.older,
            needs_person=wanted.needs_person, limit=wanted.limit,
        )  # fmt: skip
        return _incidents(rows)

    async def incident(self, id: str) -> Incident | None:
        """See ``Archive.incident``."""
        return only(id, _incidents(await self._rows("incident", id=id)))

    async def find(self, text: str, limit: int = 20) -> Sequence[Incident]:
        """See ``Archive.find``."""
        return _incidents(await self._rows("find", text=text, limit=limit))

    async def attempts(self, incident: str) -> Sequence[Attempt]:
        """See ``Archive.attempts``."""
        return readable(Attempt, [row["body"] for row in await self._rows("attempts", incident=incident)])

    async def journal(self, incident: str) -> Sequence[Entry]:
        """See ``Archive.journal``."""
        return tuple(Entry(**row) for row in await self._rows("journal", incident=incident))

    async def words(self, incident: str) -> Sequence[Directive]:
        """See ``Archive.words``."""
        return readable(Directive, [row["body"] for row in await self._rows("words", incident=incident)])

    async def notices(self, incident: str | None = None, problem: str | None = None) -> Sequence[Told]:
        """See ``Archive.notices``."""
        return _told(await self._rows("notices", incident=incident, problem=problem, undelivered=False))

    async def undelivered(self) -> Sequence[Told]:
        """See ``Archive.undelivered``."""
        return _told(await self._rows("notices", incident=None, problem=None, undelivered=True))

    async def pauses(self) -> Sequence[Pause]:
        """See ``Archive.pauses``."""
        now = await self.now()
        async with self._pool.session() as session:
            rows = await session.rows(_LIMITS["running"], rule=None, now=now)
        return readable(Pause, [row["body"] for row in rows])

    async def illnesses(self) -> Sequence[Illness]:
        """See ``Archive.illnesses``."""
        async with self._pool.session() as session:
            rows = await session.rows(_LEDGER["illnesses"])
        return readable(Illness, [row["body"] for row in rows])

    async def gauges(self) -> Gauges:
        """See ``Archive.gauges``."""
        counts = [Count(**row) for row in await self._rows("counts", lead=FIRST_LEAD)]
        return gauges(await self.now(), await self.rules(), counts, await self.illnesses(), await self.pauses())

    async def recent(self, limit: int) -> Sequence[Happening]:
        """See ``Archive.recent``."""
        return tuple(Happening(**row) for row in await self._rows("recent", limit=limit))

    async def totals(self) -> Sequence[Totals]:
        """See ``Archive.totals``."""
        return tuple(Totals(**row) for row in await self._rows("totals"))

    async def _rows(self, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
        async with self._pool.session() as session:
            return await session.rows(_SQL[name], **parameters)


def only(id: str, found: Sequence[Incident]) -> Incident | None:
    """The one that was meant: of exactly this id, or the only one. Raises ``NotUnique``."""
    exact = [one for one in found if one.id == id]
    if len(exact or found) > 1:
        raise NotUnique(f"{id} is the beginning of several incidents: {', '.join(one.id for one in found)}")
    return next(iter(exact or found), None)


def _incidents(rows: Sequence[Mapping[str, Any]]) -> tuple[Incident, ...]:
    return readable(Incident, [row["body"] for row in rows])


def _rule_row(row: Mapping[str, Any]) -> RuleRow:
    return RuleRow(**{**row, "state": decode(RuleState, row["state"])})


def _told(rows: Sequence[Mapping[str, Any]]) -> tuple[Told, ...]:
    return tuple(Told(notice, readable(Way, row["ways"])) for row in rows for notice in readable(Notice, [row["body"]]))
