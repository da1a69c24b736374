"""One cycle of one rule, from the take to the give-back, and the replica's own hand on its tenures.

take → standing → look (visit) → propose → commit → act → look (scan) → commit → give back. A cycle goes one way; only
acting goes round again, a slice at a time. Visits come before scans, and both end within a slice's time (law 15).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from daemon.domain.incident import Phase, Why, opened
from daemon.domain.notice import fault_notice, parked_notice
from daemon.domain.rule import Contact, Mode, Rule, Severity, Step
from daemon.domain.sight import Scan, Sighting, Verdict
from daemon.domain.standing import Standing
from daemon.domain.words import RUSSIAN, Words
from daemon.engine.act import Desk, Slots, act
from daemon.engine.change import Change, Conflict, Fenced, GiveBack, Tenure
from daemon.engine.events import CycleEnded, Sighted, Trouble
from daemon.engine.look import Found, inspect_page, visit
from daemon.engine.news import announce
from daemon.engine.ports import Clock, Connector, Events, Quota, Store
from daemon.engine.propose import Proposal, Surroundings, lost, propose, routed
from daemon.engine.scan import scan

UNFINISHED = 3
"""After so many cycles in a row that did not come to their end a rule is told as one that kills its process (law 18)."""

FAR = datetime(9000, 1, 1, tzinfo=UTC)
"""Due never: a rule without open incidents is visited by nobody until a scan finds one."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What one replica is told about its work. ``holder`` names it; ``slice`` bounds visits and a scan of one cycle (database time)."""

    holder: str
    lease: timedelta = timedelta(seconds=30)
    page: int = 1000
    slice: timedelta = timedelta(minutes=1)
    alerts_via: str | None = None
    words: Words = RUSSIAN


class Engine:
    """A replica's engine: runs cycles of whatever rule is due, keeps its leases, stops without losing anything."""

    def __init__(
        self,
        store: Store,
        quota: Quota,
        connectors: Mapping[str, Connector],
        rules: Mapping[str, Rule],
        contacts: Mapping[str, Contact],
        clock: Clock,
        events: Events,
        settings: EngineSettings,
    ) -> None:
        self._store = store
        self._quota = quota
        self._rules = rules
        self._clock = clock
        self._events = events
        self._settings = settings
        self._around = Surroundings(contacts, connectors, settings.alerts_via, settings.words)
        self._tenures: dict[str, Tenure] = {}
        self._lost: set[str] = set()
        self._cycles: set[asyncio.Task[object]] = set()
        self._stopping = False
        self._slots = Slots()

    async def run_cycle(self, only: Collection[str] | None = None) -> bool:
        """Take a due rule and run one cycle of it. ``False``: nothing was due, or we are stopping."""
        if self._stopping:
            return False
        tenure = await self._take(only)
        if tenure is None:
            return False
        task = asyncio.current_task()
        assert task is not None
        self._cycles.add(task)
        began = self._clock.monotonic()
        fate = "failed"
        try:
            fate = await self._held(tenure)
        finally:
            self._cycles.discard(task)
            self._tenures.pop(tenure.rule, None)
            self._lost.discard(tenure.rule)
            self._events(CycleEnded(tenure.rule, self._clock.monotonic() - began, fate))
        return True

    async def renew(self) -> None:
        """Prolong the leases of the cycles under way; one that is lost sends nothing more."""
        held = list(self._tenures.values())
        if not held:
            return
        kept = await self._store.renew(held, self._settings.lease)
        for tenure in held:
            mine = self._tenures.get(tenure.rule)
            if mine is None or mine.epoch != tenure.epoch:  # its cycle has ended meanwhile; the next has a lease of its own
                continue
            if tenure.rule in kept:
                self._tenures[tenure.rule] = replace(mine, until_db=kept[tenure.rule])
            else:
                self._lost.add(tenure.rule)

    async def stop(self, grace: float = 20.0) -> None:
        """No new cycles and no new sends; wait for what is in flight, at most ``grace`` seconds, then record it as unknown."""
        self._stopping = True
        if not self._cycles:
            return
        _, late = await asyncio.wait(set(self._cycles), timeout=grace)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=5)

    async def propose(self, name: str, limit: int | None = None) -> Proposal:
        """What a cycle of the rule would write and send now, new subjects included. Takes nothing, writes nothing. Raises ``Unreachable``."""
        rule = self._rules[name]
        now, standing = await self._standing(name)
        found = await self.look_once(name, limit)
        known = {incident.key for incident in standing.incidents} | standing.foreign
        fresh = [seen for seen in found.sightings if seen.verdict is Verdict.BROKEN and seen.key not in known]
        previous = await self._store.previous(name, [seen.key for seen in fresh])
        new = [opened(rule, seen, previous.get(seen.key), f"new-{number}") for number, seen in enumerate(fresh, 1)]
        standing = replace(standing, incidents=(*standing.incidents, *(one for one in new if one is not None and one.live)))
        seen = await visit(rule, standing.incidents, self._around.connectors, now, now, fresh=True)
        return propose(rule, standing, seen, self._around, now)

    async def look_once(self, name: str, limit: int | None = None) -> Scan:
        """A scan's sightings, nothing written. Raises ``Unreachable``."""
        rule = self._rules[name]
        now, _ = await self._standing(name)
        pages: list[Found] = []
        source = self._around.connectors[rule.detect.connector]
        hold = not rule.detect.lookups
        listing = source.list(rule.detect.records, rule.detect.where, None, None, now, self._settings.page, hold)
        async with aclosing(listing):
            async for page in listing:
                pages.append(await inspect_page(rule, page, self._around.connectors, now, now))
                if limit is not None and sum(len(found.sightings) for found in pages) >= limit:
                    break
        sightings = tuple(seen for found in pages for seen in found.sightings)[:limit]
        return Scan(
            now, now, sum(found.candidates for found in pages), sum(found.clean for found in pages), sum(found.out for found in pages),
            sightings, tuple(doubt for found in pages for doubt in found.doubts), complete=limit is None,
        )  # fmt: skip

    async def park_removed(self, names: Iterable[str]) -> None:
        """Park the open incidents of rules that are gone or disabled, and tell it (law 11).

        An attempt whose outcome never came is closed with them, or it would keep its object from all other rules; its incident
        takes the outcome up when its rule comes back.
        """
        for name in names:
            now, standing = await self._standing(name)
            parked = tuple(
                replace(one, phase=Phase.PARKED, why=Why.PARKED, due=None) for one in standing.incidents if one.phase is not Phase.PARKED
            )
            flights = [one for one in standing.attempts.values() if one.outcome is None]
            if not parked or any(now < one.ends_by for one in flights):  # what may still arrive is waited for, until the next time
                continue
            contact = standing.owner if standing.owner in self._around.contacts else next(iter(self._around.contacts))
            notice = parked_notice(name, contact, tuple(Severity)[standing.severity], len(parked), now, self._around.words)
            over = tuple(replace(lost(one), settled=one.ends_by + Step(one.step).settle) for one in flights)
            change = Change(name, incidents=parked, closed=over, notices=(notice,), dispatches=routed([notice], self._around, now))
            try:
                await self._store.park(name, change)
            except (Fenced, Conflict):
                self._events(Trouble("Parking waits: another replica still works on the rule", {"rule": name}))

    async def _take(self, only: Collection[str] | None) -> Tenure | None:
        holds = {
            name: rule.digest for name, rule in self._rules.items() if (only is None or name in only) and name not in self._tenures
        }
        before = self._clock.monotonic()
        tenure = await self._store.take(holds, self._settings.holder, self._settings.lease) if holds else None
        if tenure is None:
            return None
        tenure = replace(tenure, anchor=before, anchored=self._clock.monotonic())
        self._tenures[tenure.rule] = tenure
        return tenure

    async def _held(self, tenure: Tenure) -> str:
        """The cycle under a tenure, and its end in each case."""
        rule = self._rules[tenure.rule]
        try:
            back = await self._cycle(rule, self._desk(rule, tenure))
        except Fenced:  # by a new version of the rule it is still ours to give back
            await self._store.give_back(tenure, GiveBack(finished=False))
            return "fenced"
        except Conflict:
            now = tenure.earliest(self._clock.monotonic())
            await self._store.give_back(tenure, GiveBack(visit_at=now))
            return "conflict"
        except asyncio.CancelledError:
            await asyncio.shield(self._store.give_back(tenure, GiveBack(finished=True)))
            raise
        await self._store.give_back(tenure, back)
        return "finished"

    def _desk(self, rule: Rule, tenure: Tenure) -> Desk:
        return Desk(
            self._store, self._quota, self._clock, self._events, self._around, self._slots,
            tenure=lambda: self._tenures.get(rule.name, tenure),
            going=lambda: not self._stopping and rule.name not in self._lost,
        )  # fmt: skip

    async def _cycle(self, rule: Rule, desk: Desk) -> GiveBack:
        tenure = desk.tenure()
        standing = replace(await self._store.standing(rule.name, desk.earliest()), scan_due=tenure.scan_due)
        standing = await self._tell_unfinished(rule, desk, standing)
        seen = await self._visit(rule, desk, standing)
        proposal = propose(rule, standing, seen, self._around, desk.earliest())
        state = replace(standing.state, held=proposal.held)
        change = replace(proposal.change, state=state if state != standing.state else None)
        if not change.empty:
            await desk.commit(change)
        announce(self._events, rule, standing.incidents, standing.state, change)
        proposal = replace(proposal, incidents={**proposal.incidents, **change.stored()})
        incidents = await act(desk, rule, standing, proposal)
        scan_at = None
        if tenure.scan_due and desk.going():
            scan_at, incidents = await scan(desk, rule, standing, state, incidents, self._settings.page, self._settings.slice)
        dues = [one.due for one in incidents.values() if one.live and one.due] + ([proposal.due] if proposal.due else [])
        return GiveBack(scan_at, min(dues, default=FAR))

    async def _tell_unfinished(self, rule: Rule, desk: Desk, standing: Standing) -> Standing:
        """Cycles that never come to their end are told once, before this one may meet the same fate (law 18)."""
        stuck = standing.unfinished >= UNFINISHED
        if stuck is standing.state.unfinished_told:
            return standing
        state, now, words = replace(standing.state, unfinished_told=stuck), desk.earliest(), self._around.words
        said = stuck and rule.mode is not Mode.OBSERVE
        notices = (fault_notice(rule, words.say("unfinished", count=standing.unfinished), now, words),) if said else ()
        await desk.commit(Change(rule.name, state=state, notices=notices, dispatches=routed(notices, self._around, now)))
        return replace(standing, state=state)

    async def _visit(self, rule: Rule, desk: Desk, standing: Standing) -> Mapping[str, Sighting]:
        """Look again, by key, at the incidents that are due; those that a slice's time leaves over stay due."""
        named = {directive.incident for directive in standing.directives}
        named |= {one.id for one in standing.incidents if one.why is Why.PAUSED and not standing.pauses}  # resumed since
        due = [one for one in standing.incidents if one.due is None or one.due <= standing.now or one.id in named]
        due.sort(key=lambda one: (one.due is not None, one.due.timestamp() if one.due else 0.0))
        seen: dict[str, Sighting] = {}
        until = self._clock.monotonic() + self._settings.slice.total_seconds()
        for start in range(0, len(due), self._settings.page):
            if not desk.going() or (start and self._clock.monotonic() > until):
                break
            batch = due[start : start + self._settings.page]
            at = desk.looked_at(rule)
            seen.update(await visit(rule, batch, self._around.connectors, at, desk.earliest(), fresh=False))
        if seen:
            self._events(Sighted(rule.name, Counter(sighting.verdict.value for sighting in seen.values())))
        return seen

    async def _standing(self, name: str) -> tuple[datetime, Standing]:
        now = await self._store.now()
        return now, await self._store.standing(name, now)
