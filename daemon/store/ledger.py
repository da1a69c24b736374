"""What is known about a rule's subjects, and the three ways of writing it: commit, admit, conclude.

Each is one transaction that begins with the rule's row (law 3) and replaces only incidents that are still on the
version they were read in. Values go in as one JSON array per table and are taken apart by the query, so thousands of
incidents are a few statements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from daemon.domain.attempt import Attempt
from daemon.domain.incident import Incident, Why
from daemon.domain.notice import Dispatch, Problem
from daemon.domain.standing import Directive, Illness, Pause, RuleState, Standing, Telling
from daemon.engine.change import Change, Conclusion, Conflict, Fenced, Intent, Tenure
from daemon.store import limits, ownership
from daemon.store.codec import decode, dumps, encode, readable
from daemon.store.ownership import fence, nudge, unheld
from daemon.store.pool import Pool, Session
from daemon.store.queries import queries

_SQL: Final = queries("ledger")
_PAUSES: Final = queries("limits")["running"]
_STATE: Final = queries("ownership")["remember_state"]


class Ledger:
    """The part of the store that keeps incidents, attempts and what people said."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def standing(self, rule: str, now: datetime) -> Standing:
        """See ``Store.standing``. Rows that this version cannot read are left out (law 17)."""
        about: dict[str, Any] = {"rule": rule, "now": now}
        async with self._pool.snapshot() as session:
            own = await session.row(_SQL["rule"], **about)
            pauses = readable(Pause, _bodies(await session.rows(_PAUSES, **about)))
            illnesses = readable(Illness, _bodies(await session.rows(_SQL["illnesses"])))
            if own is None:  # never activated; what holds for all holds for it
                return Standing(rule, now, pauses=pauses, illnesses={illness.connector: illness for illness in illnesses})
            attempts = readable(Attempt, _bodies(await session.rows(_SQL["open_attempts"], **about)))
            live = await session.rows(_SQL["live"], **about)
            incidents = readable(Incident, _bodies(live))
            ids = {incident.id for incident in incidents}
            return Standing(
                rule=rule,
                now=now,
                state=decode(RuleState, own["state"]),
                scan_due=own["scan_due"],
                unfinished=own["unfinished"],
                owner=own["owner"],
                severity=own["severity"],
                incidents=incidents,
                foreign=frozenset(row["key"] for row in live) - {one.key for one in incidents},
                attempts={attempt.incident: attempt for attempt in attempts if attempt.incident in ids},
                problems=readable(Problem, _bodies(await session.rows(_SQL["problems"], **about))),
                directives=readable(Directive, _bodies(await session.rows(_SQL["directives"], **about))),
                pauses=pauses,
                illnesses={illness.connector: illness for illness in illnesses},
                busy={row["object"]: row["until"] for row in await session.rows(_SQL["busy_objects"], **about)},
                tellings=tuple(Telling(**row) for row in await session.rows(_SQL["tellings"], **about)),
                calls=tuple(row["begun"] for row in await session.rows(_SQL["calls"], **about)),
            )

    async def previous(self, rule: str, keys: Collection[str]) -> Mapping[str, Incident]:
        """See ``Store.previous``."""
        async with self._pool.session() as session:
            rows = await session.rows(_SQL["previous"], rule=rule, keys=list(keys))
        return {incident.key: incident for incident in readable(Incident, _bodies(rows))}

    async def commit(self, change: Change, tenure: Tenure) -> None:
        """See ``Store.commit``. What was written once is not asked for its tenure again."""
        async with self._pool.transaction() as session:
            if await session.run(_SQL["note_change"], id=change.id):
                await fence(session, tenure)
                await _write(session, change)

    async def park(self, rule: str, change: Change) -> None:
        """See ``Store.park``. Raises ``Conflict`` while the rule is active or held."""
        async with self._pool.transaction() as session:
            if await session.run(_SQL["note_change"], id=change.id):
                await unheld(session, rule)
                await _write(session, change)

    async def admit(self, intents: Sequence[Intent], tenure: Tenure, room: timedelta) -> Mapping[str, Why]:
        """See ``Store.admit``."""
        async with self._pool.transaction() as session:
            mine = await fence(session, tenure)
            if not mine.active or mine.digest != tenure.digest:
                raise Fenced(f"{tenure.rule} runs in another version now")
            refused = limits.refusals(intents, await _facts(session, intents, tenure.rule, mine), room)
            refused |= await _enter(session, [one for one in intents if one.attempt.id not in refused], mine.now)
            await _write_incidents(session, [one.incident for one in intents if one.attempt.id not in refused])
            return refused

    async def conclude(self, conclusions: Sequence[Conclusion], tenure: Tenure) -> bool:
        """See ``Store.conclude``."""
        incidents = [one.incident for one in conclusions if one.incident is not None]
        async with self._pool.transaction() as session:
            ours = await _still_ours(session, tenure)
            await session.run(_SQL["write_outcomes"], bodies=_array([one.attempt for one in conclusions]), late=True)
            if not ours or len(await _current(session, incidents)) < len(incidents):
                return False
            await _write_incidents(session, incidents)
            return True

    async def direct(self, directive: Directive) -> None:
        """See ``Store.direct``."""
        async with self._pool.transaction() as session:
            if await session.run(_SQL["direct"], body=dumps(encode(directive))):
                await nudge(session, directive.rule)


async def _facts(session: Session, intents: Sequence[Intent], rule: str, mine: ownership.Fence) -> limits.Facts:
    """Everything that others may have changed, as this transaction sees it."""
    return limits.Facts(
        now=mine.now,
        left=mine.left,
        pauses=readable(Pause, _bodies(await session.rows(_PAUSES, rule=rule, now=mine.now))),
        current=await _current(session, [intent.incident for intent in intents]),
        busy=await _busy(session, intents, mine.now, own=()),
        calls=len(await session.rows(_SQL["calls"], rule=rule, now=mine.now)),
        max_calls=mine.max_calls,
    )


async def _enter(session: Session, intents: Sequence[Intent], now: datetime) -> dict[str, Why]:
    """Write the attempts; who found the object taken in this very moment.

    Once our row is in, nobody else can begin on the object, so a second look sees all that came before us.
    """
    if not intents:
        return {}
    rows = await session.rows(_SQL["write_attempts"], bodies=_array([intent.attempt for intent in intents]))
    written = {row["id"] for row in rows}
    late = await _busy(session, [intent for intent in intents if intent.attempt.id in written], now, own=written)
    lost = {one.attempt.id for one in intents if one.attempt.id not in written or one.attempt.incident in late}
    if late:
        await session.run(_SQL["withdraw"], ids=list(lost & written))
    return dict.fromkeys(lost, Why.OBJECT_BUSY)


async def _busy(session: Session, intents: Sequence[Intent], now: datetime, own: Collection[str]) -> set[str]:
    rows = await session.rows(
        _SQL["busy"], now=now, own=list(own),
        objects=[intent.attempt.object for intent in intents],
        incidents=[intent.attempt.incident for intent in intents],
    )  # fmt: skip
    return {row["incident"] for row in rows}


async def _current(session: Session, incidents: Sequence[Incident]) -> set[str]:
    if not incidents:
        return set()
    rows = await session.rows(_SQL["current"], ids=[one.id for one in incidents], versions=[one.version for one in incidents])
    return {row["id"] for row in rows}


async def _still_ours(session: Session, tenure: Tenure) -> bool:
    try:
        await fence(session, tenure)
    except Fenced:
        return False
    return True


async def _write(session: Session, change: Change) -> None:
    await _write_incidents(session, change.incidents)
    if change.closed:
        await session.run(_SQL["write_outcomes"], bodies=_array(change.closed), late=False)
    if change.ill:
        await session.run(_SQL["ill"], bodies=_array(change.ill))
    for name, values in (("problems", change.problems), ("notices", change.notices)):
        if values:
            await session.run(_SQL[f"write_{name}"], bodies=_array(values))
    await write_dispatches(session, change.dispatches)
    if change.obeyed:
        await session.run(_SQL["obeyed"], ids=list(change.obeyed))
    if change.well:
        await session.run(_SQL["well"], connectors=list(change.well))
    if change.state is not None:
        await session.run(_STATE, rule=change.rule, state=dumps(encode(change.state)))


async def _write_incidents(session: Session, incidents: Sequence[Incident]) -> None:
    """Raises ``Conflict`` when one is no longer on its version, or its subject already has a live incident."""
    if not incidents:
        return
    try:
        row = await session.row(_SQL["write_incidents"], bodies=_array(incidents))
    except psycopg.errors.UniqueViolation as error:
        raise Conflict(f"an incident stands already: {error.diag.message_detail}") from None
    if row is None or row["written"] != len(incidents):
        raise Conflict("an incident was written by somebody else since it was read")


async def write_dispatches(session: Session, dispatches: Sequence[Dispatch]) -> None:
    """Put notices on their way, each tied to its notice's row."""
    if dispatches:
        bodies = [encode(dispatch) | {"notice": dispatch.notice.id} for dispatch in dispatches]
        await session.run(_SQL["write_dispatches"], bodies=dumps(bodies))


def _array(values: Sequence[Any]) -> str:
    return dumps([encode(value) for value in values])


def _bodies(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [row["body"] for row in rows]
