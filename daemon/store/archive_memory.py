"""The archive over the memory store's dicts: the same answers as PostgreSQL's queries, held by the same suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median

from daemon.domain.attempt import Attempt, Result
from daemon.domain.incident import Incident, Phase, Resolution
from daemon.domain.notice import FIRST_LEAD, DeliveryState
from daemon.domain.standing import Directive, Illness, Pause
from daemon.domain.value import Value
from daemon.engine.archive import Entry, Gauges, Happening, RuleRow, Told, Totals, Wanted, Way
from daemon.store.archive import EVERYTHING, Count, gauges, only
from daemon.store.limits import HOUR
from daemon.store.tables import RuleEntry, Sending, Tables


class MemoryArchive(ABC):
    """The read side of the memory store, which knows the rows and the time."""

    tables: Tables

    @abstractmethod
    def _now(self) -> datetime:
        """Rule time."""

    @abstractmethod
    def _running(self, rule: str | None, now: datetime) -> list[Pause]:
        """The pauses that run, of everything or of one rule's concern."""

    async def now(self) -> datetime:
        """See ``Archive.now``."""
        return self._now()

    async def rules(self) -> Sequence[RuleRow]:
        """See ``Archive.rules``."""
        return tuple(self._rule_row(row) for _, row in sorted(self.tables.rules.items()))

    def _rule_row(self, row: RuleEntry) -> RuleRow:
        version = row.version
        opened = [one.opened for one in self.tables.incidents.values() if one.live and one.rule == version.name]
        return RuleRow(
            name=version.name, digest=version.digest, revision=row.revision, active=row.active, mode=version.mode,
            owner=version.owner, severity=version.severity, every=version.every, max_calls=version.max_calls_per_hour,
            next_scan_at=row.next_scan_at, next_visit_at=row.next_visit_at, holder=row.holder, until_db=row.until_db,
            unfinished=row.unfinished, oldest=min(opened, default=None), state=row.state,
        )  # fmt: skip

    async def incidents(self, wanted: Wanted = EVERYTHING) -> Sequence[Incident]:
        """See ``Archive.incidents``."""
        found = [one for one in self.tables.incidents.values() if _is_wanted(one, wanted, self._now())]
        return tuple(sorted(found, key=lambda one: (one.opened, one.id))[: wanted.limit])

    async def incident(self, id: str) -> Incident | None:
        """See ``Archive.incident``."""
        found = [one for one in self.tables.incidents.values() if one.id.startswith(id)]
        return only(id, sorted(found, key=lambda one: one.id)[:10])

    async def find(self, text: str, limit: int = 20) -> Sequence[Incident]:
        """See ``Archive.find``."""
        found = [one for one in self.tables.incidents.values() if _meant(one, text.lower())]
        newest = sorted(sorted(found, key=lambda one: one.id), key=lambda one: one.opened, reverse=True)
        return tuple(sorted(newest, key=lambda one: not one.live)[:limit])

    async def attempts(self, incident: str) -> Sequence[Attempt]:
        """See ``Archive.attempts``."""
        found = [one for one in self.tables.attempts.values() if one.incident == incident]
        return tuple(sorted(found, key=lambda one: (one.begun, one.id)))

    async def journal(self, incident: str) -> Sequence[Entry]:
        """See ``Archive.journal``."""
        return tuple(entry for entry in self.tables.journal if entry.incident == incident)

    async def words(self, incident: str) -> Sequence[Directive]:
        """See ``Archive.words``."""
        found = [one for one in self.tables.directives.values() if one.incident == incident]
        return tuple(sorted(found, key=lambda one: (one.at, one.id)))

    async def notices(self, incident: str | None = None, problem: str | None = None) -> Sequence[Told]:
        """See ``Archive.notices``."""
        return tuple(
            told
            for told in self._told()
            if (incident is None or incident in told.notice.incidents) and (problem is None or problem == told.notice.problem)
        )

    async def undelivered(self) -> Sequence[Told]:
        """See ``Archive.undelivered``."""
        return tuple(told for told in self._told() if _unheard(told))

    def _told(self) -> Iterator[Told]:
        for notice in self.tables.notices.values():
            sendings = [one for one in self.tables.dispatches.values() if one.dispatch.notice.id == notice.id]
            ways = sorted(sendings, key=lambda one: (one.dispatch.mirror, one.dispatch.position, one.dispatch.id))
            yield Told(notice, tuple(_way(one) for one in ways))

    async def pauses(self) -> Sequence[Pause]:
        """See ``Archive.pauses``."""
        return tuple(self._running(None, self._now()))

    async def illnesses(self) -> Sequence[Illness]:
        """See ``Archive.illnesses``."""
        return tuple(one for _, one in sorted(self.tables.illnesses.items()))

    async def gauges(self) -> Gauges:
        """See ``Archive.gauges``."""
        return gauges(self._now(), await self.rules(), self._counts(), await self.illnesses(), await self.pauses())

    def _counts(self) -> list[Count]:
        counted: Counter[tuple[str, str, str, str]] = Counter(self._counted())
        risks: dict[tuple[str, str], Decimal] = {}
        for one in self.tables.incidents.values():
            if one.live and one.phase is not Phase.PROVED and one.value is not None:
                key = one.rule, one.value.currency
                risks[key] = risks.get(key, Decimal()) + one.value.amount
        at_risk = [Count(rule, "risk", currency, "", amount) for (rule, currency), amount in risks.items()]
        return [Count(*key, Decimal(count)) for key, count in counted.items()] + at_risk

    def _counted(self) -> Iterator[tuple[str, str, str, str]]:
        for one in self.tables.incidents.values():
            if one.live:
                yield one.rule, "phase", one.phase, ""
                yield one.rule, "why", one.why, ""
        for entry in self.tables.journal:
            if entry.phase == Phase.RESOLVED and entry.resolution is not None:
                yield entry.rule, "resolution", entry.resolution, ""
        for attempt in self.tables.attempts.values():
            yield attempt.rule, "attempt", attempt.outcome.result if attempt.outcome else "open", ""
        for told in self._told():
            for way in told.ways:
                yield told.notice.rule, "notice", told.notice.kind, way.state
            if _unheard(told):
                yield told.notice.rule, "undelivered", "", ""
        now = self._now()
        for attempt in self.tables.attempts.values():
            if attempt.begun > now - HOUR and _called(attempt):
                yield attempt.rule, "last_hour", "", ""
        for one in self.tables.incidents.values():
            for what in _pressing(one, now):
                yield one.rule, what, "", ""

    async def recent(self, limit: int) -> Sequence[Happening]:
        """See ``Archive.recent``."""
        lines = [((entry.at, place, entry.incident, ""), _turned(entry)) for place, entry in enumerate(self.tables.journal, 1)]
        tries = [((one.ended or one.begun, 0, one.incident, one.id), self._attempted(one)) for one in self.tables.attempts.values()]
        ordered = sorted(lines + tries, key=lambda line: line[0])
        return tuple(happening for _, happening in ordered[-limit:])

    def _attempted(self, one: Attempt) -> Happening:
        key = self.tables.incidents[one.incident].key
        result, reason = (one.outcome.result.value, one.outcome.reason) if one.outcome else ("open", "")
        at = one.ended or one.begun
        return Happening(at, one.rule, one.incident, key, "attempt", one.step, result, reason)

    async def totals(self) -> Sequence[Totals]:
        """See ``Archive.totals``."""
        return tuple(self._balance(rule) for rule in sorted(self.tables.rules))

    def _balance(self, rule: str) -> Totals:
        mine = [one for one in self.tables.incidents.values() if one.rule == rule]
        ended = Counter(one.resolution for one in mine if not one.live)
        healing = [one.ended - one.opened for one in mine if one.resolution is Resolution.HEALED and one.ended and not one.live]
        return Totals(
            rule=rule,
            found=len(mine),
            live=sum(one.live for one in mine),
            escalated=len({one.incident for one in self.tables.journal if one.rule == rule and one.phase == "escalated"}),
            calls=sum(_called(one) for one in self.tables.attempts.values() if one.rule == rule),
            median=_median(healing),
            longest=max(healing, default=None),
            **{resolution.value: ended[resolution] for resolution in Resolution},
        )


def _turned(entry: Entry) -> Happening:
    why = entry.resolution or entry.why
    return Happening(entry.at, entry.rule, entry.incident, entry.key, "phase", entry.phase, why, entry.reason)


def _median(spans: Sequence[timedelta]) -> timedelta | None:
    return timedelta(seconds=median(span.total_seconds() for span in spans)) if spans else None


def _called(attempt: Attempt) -> bool:
    return attempt.outcome is None or attempt.outcome.result is not Result.NOT_SENT


def _is_wanted(one: Incident, wanted: Wanted, now: datetime) -> bool:
    return (
        wanted.rule in (None, one.rule)
        and (one.phase in wanted.phases if wanted.phases else one.live)
        and wanted.cause in (None, one.cause)
        and one.opened <= now - wanted.older
        and (not wanted.needs_person or _needs_person(one, now))
    )


def _pressing(one: Incident, now: datetime) -> Iterator[str]:
    if one.live and one.phase is not Phase.PROVED:
        if _needs_person(one, now):
            yield "needs_person"
        if one.deadline is not None and one.deadline <= now + FIRST_LEAD:
            yield "deadlines_near" if one.deadline > now else "deadlines_missed"


def _needs_person(one: Incident, now: datetime) -> bool:
    return one.phase in (Phase.ESCALATED, Phase.QUARANTINED) and not one.marks.in_force(now)


def _meant(one: Incident, text: str) -> bool:
    return (
        one.id.lower().startswith(text)
        or any(text in name.lower() for name in (one.key, one.record_key, one.object))
        or any(text == fact for fact in _facts(one.facts.values()))
    )


def _facts(values: Iterable[Value]) -> Iterator[str]:
    for value in values:
        match value:
            case str():
                yield value.lower()
            case bool():
                continue
            case int() | float():
                yield str(value)
            case dict():
                yield from _facts(value.values())
            case list() | tuple():
                yield from _facts(value)


def _way(one: Sending) -> Way:
    sent = one.dispatch
    return Way(
        sent.contact, sent.via, sent.mirror, sent.position, sent.state, sent.tries, sent.not_before, sent.reason,
        one.reference, one.ended,
    )  # fmt: skip


def _unheard(told: Told) -> bool:
    reached = any(way.state == DeliveryState.DONE and not way.mirror for way in told.ways)
    return not reached and any(way.state == DeliveryState.FAILED or way.tries > 0 for way in told.ways)
