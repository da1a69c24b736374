"""The store over plain dicts, for rehearsals and tests: the same promises as PostgreSQL's, held by one contract suite.

Its database time is a given start plus what its clock says, so whoever moves the clock moves the store. Nothing here
awaits, so each method is one transaction by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile

from daemon.domain.attempt import CRASHED, Attempt, Outcome, Result
from daemon.domain.incident import Incident, Phase, Why
from daemon.domain.notice import DeliveryState, Dispatch, Notice, NoticeKind, Problem
from daemon.domain.standing import Directive, Pause, Standing, Telling
from daemon.domain.value import Timescale
from daemon.engine.archive import Entry
from daemon.engine.change import Change, Conclusion, Conflict, Fenced, GiveBack, Intent, RuleVersion, Tenure
from daemon.engine.ports import Clock
from daemon.store.archive_memory import MemoryArchive
from daemon.store.limits import HOUR, Facts, interval, refusals
from daemon.store.tables import RuleEntry, Sending, Tables, least


class MemoryStore(MemoryArchive):
    """One store for one process; several engines in it may share it."""

    def __init__(self, clock: Clock, start: datetime, factor: float = 1.0) -> None:
        self._clock = clock
        self._start = start
        self._scale = Timescale(start, factor)
        self.tables = Tables()

    # What time it is

    def _now_db(self) -> datetime:
        return self._start + timedelta(seconds=self._clock.monotonic())

    def _now(self) -> datetime:
        return self._scale.rule(self._now_db())

    async def timescale(self) -> Timescale:
        """See ``Store.timescale``."""
        return self._scale

    # Whose turn it is

    async def activate(self, rules: Sequence[RuleVersion], revision: int | None) -> Sequence[str]:
        """See ``Store.activate``."""
        asked = int(self._now_db().timestamp() * 1_000_000) if revision is None else revision
        if asked < self.tables.revision:
            return ()
        self.tables.revision = asked
        for version in rules:
            self._install(version, asked)
        for name in self.tables.rules.keys() - {version.name for version in rules}:
            if self.tables.rules[name].active:
                self.tables.rules[name].active, self.tables.rules[name].revision = False, asked
        open_rules = {one.rule for one in self.tables.incidents.values() if one.live and one.phase is not Phase.PARKED}
        return sorted(name for name in open_rules if name in self.tables.rules and not self.tables.rules[name].active)

    def _install(self, version: RuleVersion, revision: int) -> None:
        known = version.name in self.tables.rules
        row = self.tables.rules.setdefault(version.name, RuleEntry(version, revision, active=False))
        if not row.active or row.version.digest != version.digest:
            row.next_scan_at, row.next_visit_at = self._now(), self._now() if known else None
        if row.version.digest != version.digest:
            row.unfinished = 0
        row.version, row.revision, row.active = version, revision, version.mode != "disabled"

    async def deserted(self, holds: Mapping[str, str], patience: timedelta) -> int | None:
        """See ``Store.deserted``."""
        since_db = self._now_db() - patience
        left = (
            row.active and row.due is not None and row.due <= self._scale.rule(since_db) and (row.until_db is None or row.until_db <= since_db)
            for row in self.tables.rules.values()
            if holds.get(row.version.name) != row.version.digest
        )  # fmt: skip
        return self.tables.revision + 1 if any(left) else None

    async def take(self, holds: Mapping[str, str], holder: str, lease: timedelta) -> Tenure | None:
        """See ``Store.take``."""
        anchor, now_db = self._clock.monotonic(), self._now_db()
        ready = [row for row in self.tables.rules.values() if self._takeable(row, holds, now_db)]
        if not ready:
            return None
        row = min(ready, key=lambda row: (row.due, row.version.severity, row.version.name))
        row.holder, row.epoch, row.until_db = holder, row.epoch + 1, now_db + lease
        row.unfinished, row.nudged = row.unfinished + 1, False
        scan_due = row.next_scan_at is not None and row.next_scan_at <= self._scale.rule(now_db)
        return Tenure(
            row.version.name, row.version.digest, holder, row.epoch, now_db, row.until_db, anchor, anchor,
            self._scale, scan_due,
        )  # fmt: skip

    def _takeable(self, row: RuleEntry, holds: Mapping[str, str], now_db: datetime) -> bool:
        if not row.active or holds.get(row.version.name) != row.version.digest:
            return False
        if row.due is None or row.due > self._scale.rule(now_db):
            return False
        delay = 0 if row.unfinished < 2 else min(10 * 2 ** min(row.unfinished - 2, 10), 600)
        return row.until_db is None or now_db >= row.until_db + timedelta(seconds=delay)

    async def renew(self, tenures: Sequence[Tenure], lease: timedelta) -> Mapping[str, datetime]:
        """See ``Store.renew``."""
        renewed = {}
        for tenure in tenures:
            row = self._mine(tenure)
            if row is not None:
                renewed[tenure.rule] = row.until_db = self._now_db() + lease
        return renewed

    async def give_back(self, tenure: Tenure, back: GiveBack) -> None:
        """See ``Store.give_back``."""
        row = self.tables.rules.get(tenure.rule)
        if row is None or (row.holder, row.epoch) != (tenure.holder, tenure.epoch):
            return
        visit, scan = back.visit_at or (self._least_due(tenure.rule) if back.finished else row.next_visit_at), back.scan_at
        if row.version.digest != tenure.digest:
            visit, scan = row.next_visit_at, None
        row.next_visit_at = least(self._now(), visit) if row.nudged else visit
        row.next_scan_at = scan or row.next_scan_at
        row.holder, row.until_db, row.nudged = None, least(row.until_db, self._now_db()), False
        row.unfinished = 0 if back.finished else row.unfinished

    def _least_due(self, rule: str) -> datetime | None:
        return least(*(one.due for one in self._live(rule)))

    def _mine(self, tenure: Tenure) -> RuleEntry | None:
        row = self.tables.rules.get(tenure.rule)
        if row is None or (row.holder, row.epoch) != (tenure.holder, tenure.epoch):
            return None
        return row if row.until_db is not None and row.until_db > self._now_db() else None

    def _fence(self, tenure: Tenure) -> RuleEntry:
        row = self._mine(tenure)
        if row is None:
            raise Fenced(f"{tenure.holder} no longer has {tenure.rule}")
        return row

    def _nudge(self, rule: str | None) -> None:
        for name, row in self.tables.rules.items():
            if rule is None or name == rule:
                row.next_visit_at, row.nudged = least(row.next_visit_at, self._now()), True

    # What is known

    async def standing(self, rule: str, now: datetime) -> Standing:
        """See ``Store.standing``."""
        row = self.tables.rules.get(rule)
        if row is None:
            return Standing(rule, now, pauses=tuple(self._running(rule, now)), illnesses=dict(sorted(self.tables.illnesses.items())))
        live = tuple(self._live(rule))
        held = row.until_db is not None and row.until_db > self._now_db()
        flights = {one.flight for one in live}
        going = [one for one in self.tables.attempts.values() if one.rule == rule and (one.outcome is None or one.id in flights)]
        return Standing(
            rule=rule,
            now=now,
            state=row.state,
            scan_due=row.next_scan_at is not None and row.next_scan_at <= now,
            incidents=live,
            attempts={one.incident: one for one in going},
            problems=tuple(self._problem(one) for one in self._problems(rule)),
            directives=tuple(self._waiting(rule)),
            pauses=tuple(self._running(rule, now)),
            illnesses=dict(sorted(self.tables.illnesses.items())),
            busy=self._busy_objects(live, now),
            tellings=tuple(self._tellings(rule, {one.object for one in live})),
            calls=self._calls(rule, now),
            unfinished=max(row.unfinished - held, 0),
            owner=row.version.owner,
            severity=row.version.severity,
        )

    def _live(self, rule: str) -> list[Incident]:
        found = [one for one in self.tables.incidents.values() if one.rule == rule and one.live]
        return sorted(found, key=lambda one: (one.opened, one.id))

    def _problems(self, rule: str) -> list[Problem]:
        return sorted((one for one in self.tables.problems.values() if one.rule == rule), key=lambda one: one.id)

    def _problem(self, problem: Problem) -> Problem:
        episode, at = self.tables.delivered.get(problem.id, (None, None))
        return replace(problem, delivered=at if episode == problem.episode else None)

    def _waiting(self, rule: str) -> list[Directive]:
        found = [one for one in self.tables.directives.values() if one.rule == rule and one.id not in self.tables.obeyed]
        return sorted(found, key=lambda one: (one.at, one.id))

    def _running(self, rule: str | None, now: datetime) -> list[Pause]:
        found = [
            one
            for one in self.tables.pauses.values()
            if one.id not in self.tables.resumed and (one.until is None or one.until > now)
            if rule is None or one.rule is None or one.rule == rule
        ]
        return sorted(found, key=lambda one: (one.since, one.id))

    def _busy_objects(self, live: Iterable[Incident], now: datetime) -> dict[str, datetime]:
        wanting: dict[str, set[str]] = {}
        for incident in live:
            wanting.setdefault(incident.object, set()).add(incident.id)
        busy: dict[str, datetime] = {}
        for one in self.tables.attempts.values():
            until = one.ends_by if one.outcome is None else one.settled
            if until is not None and (one.outcome is None or until > now) and wanting.get(one.object, set()) - {one.incident}:
                busy[one.object] = max(until, busy.get(one.object, until))
        return busy

    def _tellings(self, rule: str, objects: Collection[str]) -> list[Telling]:
        speaking = (row.version for row in self.tables.rules.values() if row.active and row.version.mode != "observe")
        severity = {version.name: version.severity for version in speaking}
        told = {
            Telling(one.object, one.rule, severity[one.rule], one.opened)
            for one in self.tables.incidents.values()
            if one.live and one.rule != rule and one.rule in severity and one.object in objects
            if one.phase in (Phase.ESCALATED, Phase.QUARANTINED) or one.levels
        }
        return sorted(told, key=lambda one: (one.object, one.rule, one.opened))

    def _calls(self, rule: str, now: datetime) -> tuple[datetime, ...]:
        counted = [
            one.begun
            for one in self.tables.attempts.values()
            if one.rule == rule and one.begun > now - HOUR
            if one.outcome is None or one.outcome.result is not Result.NOT_SENT
        ]
        return tuple(sorted(counted))

    async def previous(self, rule: str, keys: Collection[str]) -> Mapping[str, Incident]:
        """See ``Store.previous``."""
        ended = [one for one in self.tables.incidents.values() if one.rule == rule and not one.live and one.key in keys]
        return {one.key: one for one in sorted(ended, key=lambda one: one.ended or one.opened)}

    # What is written

    async def commit(self, change: Change, tenure: Tenure) -> None:
        """See ``Store.commit``."""
        if change.id not in self.tables.committed:
            self._fence(tenure)
            self._write(change)

    async def park(self, rule: str, change: Change) -> None:
        """See ``Store.park``."""
        row = self.tables.rules.get(rule)
        if change.id in self.tables.committed:
            return
        if row is None or row.active or (row.until_db is not None and row.until_db > self._now_db()):
            raise Conflict(f"{rule} is active, or somebody still runs it")
        self._write(change)

    def _write(self, change: Change) -> None:
        tables = self.tables
        self._replace(change.incidents)
        tables.committed.add(change.id)
        self._outcomes(change.closed, late=False)
        tables.problems |= {one.id: one for one in change.problems}
        for ill in change.ill:
            tables.illnesses[ill.connector] = replace(ill, since=tables.illnesses.get(ill.connector, ill).since)
        self._send((one for one in change.notices if self._is_news(one)), change.dispatches)
        tables.obeyed.update(change.obeyed)
        for connector in change.well:
            tables.illnesses.pop(connector, None)
        if change.state is not None:
            tables.rules[change.rule].state = change.state

    def _replace(self, incidents: Sequence[Incident]) -> None:
        """All of them or, with ``Conflict``, none."""
        if not self._current(incidents) >= {one.id for one in incidents}:
            raise Conflict("an incident was written by somebody else since it was read")
        after = self.tables.incidents | {one.id: replace(one, version=one.version + 1) for one in incidents}
        subjects = [(one.rule, one.key) for one in after.values() if one.live]
        if len(subjects) > len(set(subjects)):
            raise Conflict("an incident stands already for a subject")
        for one in sorted(incidents, key=lambda one: (one.opened, one.id)):
            old = self.tables.incidents.get(one.id)
            if old is None or (old.phase, old.why) != (one.phase, one.why):
                self.tables.journal.append(_entry(one, self._now()))
        self.tables.incidents = after

    def _current(self, incidents: Iterable[Incident]) -> set[str]:
        """Those on the version they carry; a new one has none yet."""
        stored = self.tables.incidents
        return {one.id for one in incidents if one.version == (stored[one.id].version if one.id in stored else 0)}

    def _outcomes(self, attempts: Iterable[Attempt], late: bool) -> None:
        for one in attempts:
            old = self.tables.attempts.get(one.id)
            if old is None or (old.holder, old.epoch) != (one.holder, one.epoch):
                continue
            if old.outcome is None or (late and old.outcome.reason == CRASHED):
                self.tables.attempts[one.id] = one

    def _is_news(self, notice: Notice) -> bool:
        """That a connector fell ill is told by whoever noted it first."""
        if notice.kind is not NoticeKind.CONNECTOR_ILL:
            return True
        illness = self.tables.illnesses.get(notice.context["connector"])
        return illness is not None and illness.since.isoformat() == notice.context["since"]

    def _send(self, notices: Iterable[Notice], dispatches: Iterable[Dispatch]) -> None:
        taken = {(one.problem, one.episode, one.kind, one.sequence) for one in self.tables.notices.values()}
        for notice in notices:
            if (notice.problem, notice.episode, notice.kind, notice.sequence) not in taken:
                self.tables.notices.setdefault(notice.id, notice)
                taken.add((notice.problem, notice.episode, notice.kind, notice.sequence))
        places = {id: place for place, id in enumerate(self.tables.notices)}
        before = [one for one in self.tables.dispatches.values() if one.dispatch.state is DeliveryState.PENDING]
        for one in dispatches:
            if one.notice.id in places and one.id not in self.tables.dispatches:
                self.tables.dispatches[one.id] = sending = Sending(one, places[one.notice.id])
                _hurry(before, sending)

    async def admit(self, intents: Sequence[Intent], tenure: Tenure, room: timedelta) -> Mapping[str, Why]:
        """See ``Store.admit``."""
        row = self._fence(tenure)
        if not row.active or row.version.digest != tenure.digest:
            raise Fenced(f"{tenure.rule} runs in another version now")
        refused = refusals(intents, self._facts(intents, row), room)
        admitted = [intent for intent in intents if intent.attempt.id not in refused]
        self._replace([intent.incident for intent in admitted])
        self.tables.attempts |= {intent.attempt.id: intent.attempt for intent in admitted}
        return refused

    def _facts(self, intents: Sequence[Intent], row: RuleEntry) -> Facts:
        assert row.until_db is not None
        now, name = self._now(), row.version.name
        existing = [intent.incident for intent in intents if intent.incident.id in self.tables.incidents]
        return Facts(
            now=now,
            left=row.until_db - self._now_db(),
            pauses=self._running(name, now),
            current=self._current(existing),
            busy={intent.attempt.incident for intent in intents if self._busy(intent.attempt, now)},
            calls=len(self._calls(name, now)),
            max_calls=row.version.max_calls_per_hour,
        )

    def _busy(self, wanted: Attempt, now: datetime) -> bool:
        return any(
            one.outcome is None or (one.settled is not None and one.settled > now and one.incident != wanted.incident)
            for one in self.tables.attempts.values()
            if one.object == wanted.object
        )

    async def conclude(self, conclusions: Sequence[Conclusion], tenure: Tenure) -> bool:
        """See ``Store.conclude``."""
        incidents = [one.incident for one in conclusions if one.incident is not None]
        self._outcomes([one.attempt for one in conclusions], late=True)
        if self._mine(tenure) is None or len(self._current(incidents)) < len(incidents):
            return False
        self._replace(incidents)
        return True

    # What people say

    async def direct(self, directive: Directive) -> None:
        """See ``Store.direct``."""
        if directive.id not in self.tables.directives:
            self.tables.directives[directive.id] = directive
            self._nudge(directive.rule)

    async def pause(self, pause: Pause) -> None:
        """See ``Store.pause``."""
        self.tables.pauses.setdefault(pause.id, pause)
        self._nudge(pause.rule)

    async def resume(self, rule: str | None, connector: str | None, author: str) -> int:
        """See ``Store.resume``."""
        running = self._running(None, self._now())
        ended = {one.id for one in running if (one.rule, one.connector) == (rule, connector)}
        self.tables.resumed |= ended
        if ended:
            self._nudge(rule)
        return len(ended)

    # What people are told

    async def lease(self, holder: str, limit: int, lease: timedelta) -> Sequence[Dispatch]:
        """See ``Outbox.lease``."""
        now, now_db = self._now(), self._now_db()
        pending = [one for one in self.tables.dispatches.values() if one.dispatch.state is DeliveryState.PENDING]
        ready = [
            one
            for one in sorted(pending, key=lambda one: (one.place, one.dispatch.id))
            if one.dispatch.not_before is None or one.dispatch.not_before <= now
            if one.until_db is None or one.until_db <= now_db
            if not any(_keeps_back(other, one) for other in pending)
        ]
        for one in ready[:limit]:
            one.epoch, one.until_db = one.epoch + 1, now_db + lease
        return [replace(one.dispatch, epoch=one.epoch, thread=self._thread(one.dispatch)) for one in ready[:limit]]

    async def behind(self, dispatch: Dispatch, holder: str, lease: timedelta) -> Sequence[Dispatch]:
        """See ``Outbox.behind``."""
        now, now_db = self._now(), self._now_db()
        head = self.tables.dispatches.get(dispatch.id)
        if head is None or head.epoch != dispatch.epoch or dispatch.mirror:
            return []
        lane = (head.dispatch.notice.episode, *_street(head))
        waiting = [
            one
            for one in sorted(self.tables.dispatches.values(), key=lambda one: (one.place, one.dispatch.id))
            if (one.dispatch.notice.episode, *_street(one)) == lane
            if one.dispatch.state is DeliveryState.PENDING and one.place > head.place
        ]
        due = takewhile(
            lambda one: (one.dispatch.not_before or now) <= now and (one.until_db or now_db) <= now_db, waiting
        )
        leased = list(due)
        for one in leased:
            one.epoch, one.until_db = one.epoch + 1, now_db + lease
        return [replace(one.dispatch, epoch=one.epoch, thread=self._thread(one.dispatch)) for one in leased]

    def _thread(self, dispatch: Dispatch) -> str:
        def episode(one: Dispatch) -> tuple[str, int, str, str]:
            return one.notice.problem, one.notice.episode, one.contact, one.via

        done = [one for one in self.tables.dispatches.values() if one.dispatch.state is DeliveryState.DONE]
        known = [one for one in done if one.reference and episode(one.dispatch) == episode(dispatch)]
        return min(known, key=lambda one: (one.place, one.dispatch.id)).reference if known else ""

    async def settle(self, dispatch: Dispatch, outcome: Outcome, following: Sequence[Dispatch], now: datetime) -> bool:
        """See ``Outbox.settle``."""
        row = self.tables.dispatches.get(dispatch.id)
        if row is None or row.epoch != dispatch.epoch or row.dispatch.state is not DeliveryState.PENDING:
            return False
        row.dispatch = replace(
            row.dispatch,
            state=dispatch.state,
            tries=dispatch.tries,
            not_before=dispatch.not_before,
            reason=dispatch.reason,
        )
        row.reference, row.until_db = outcome.reference, None
        row.ended = None if dispatch.state is DeliveryState.PENDING else now
        self._send((), following)
        if dispatch.state is DeliveryState.DONE and not row.dispatch.mirror:
            self._delivered(row.dispatch.notice, now)
        return True

    def _delivered(self, notice: Notice, now: datetime) -> None:
        known = self.tables.delivered.get(notice.problem)
        if notice.problem in self.tables.problems and (known is None or known[0] < notice.episode):
            self.tables.delivered[notice.problem] = notice.episode, now
            self._nudge(self.tables.problems[notice.problem].rule)

    async def sent(self, contact: str, since: datetime) -> int:
        """See ``Outbox.sent``."""
        sent = {
            (*_street(one), one.dispatch.notice.episode, one.ended)
            for one in self.tables.dispatches.values()
            if one.dispatch.contact == contact and one.dispatch.state is DeliveryState.DONE and not one.dispatch.mirror
            if one.ended is not None and one.ended >= since
        }
        return len(sent)

    # What the outside allows

    async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
        """See ``Quota.reserve``."""
        each, now = interval(rate, burst, tokens), self._now_db()
        full = now - timedelta(seconds=burst * each)
        after = max(self.tables.rates.get(target, full), full) + timedelta(seconds=each * tokens)
        if after > now:
            return max((after - now).total_seconds(), 0.001)
        self.tables.rates[target] = after
        return 0.0

    async def push(self, target: str, until_db: datetime) -> None:
        """See ``Quota.push``."""
        self.tables.rates[target] = max(until_db, self.tables.rates.get(target, until_db))


def _street(one: Sending) -> tuple[str, str, str, bool]:
    """Messages that follow each other: of one problem, to one contact, by one channel."""
    return one.dispatch.notice.problem, one.dispatch.contact, one.dispatch.via, one.dispatch.mirror


def _keeps_back(earlier: Sending, one: Sending) -> bool:
    """Whether a message waits for an earlier one."""
    return _street(earlier) == _street(one) and earlier.place < one.place


def _hurry(before: Iterable[Sending], sent: Sending) -> None:
    """Those before it that only wait for working hours go no later than it."""
    soonest = sent.dispatch.not_before
    for one in before:
        waiting = one.dispatch.not_before
        if one.dispatch.tries or waiting is None or (soonest is not None and soonest >= waiting):
            continue
        if _street(one) == _street(sent) and one.place < sent.place:
            one.dispatch = replace(one.dispatch, not_before=soonest)


def _entry(one: Incident, at: datetime) -> Entry:
    return Entry(one.id, one.rule, one.key, at, one.phase, one.why, one.verdict, one.cause, one.resolution, one.reason)
