"""Acting, slice by slice: tokens, a fresh look, the decision again, the gate, the wire, the outcome (law 4).

Whatever can say no says it before the intent; after the gate there is only the call. A slice is no larger than the free
slots, so that the look before each first byte is seconds old.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

from daemon.domain.attempt import CONNECTOR_ILL, Attempt, Outcome, Result
from daemon.domain.decide import Act
from daemon.domain.incident import Incident, Phase, Why, begun, recorded, sighted
from daemon.domain.notice import Notice, ill_notice
from daemon.domain.rule import Mode, Rule
from daemon.domain.standing import Illness, Standing
from daemon.engine.change import Change, Conclusion, Intent, Tenure
from daemon.engine.events import Attempted, Event
from daemon.engine.look import lag, visit
from daemon.engine.ports import Clock, Connector, Events, Quota, Store, Unreachable
from daemon.engine.propose import Proposal, Resolved, Surroundings, news, resolve, routed, settling

ROOM = timedelta(seconds=5)
"""The bound on everything between the gate and the first byte: the lease must outlast it (law 16)."""

MARGIN = timedelta(seconds=3)
"""Added to a request's timeout: until then a successor treats the attempt as in flight."""

PATIENCE = 5.0
"""Seconds (database time) that a slice waits for its tokens; for longer than that it gives way and comes back."""


class Slots:
    """How many acts are on their way from this replica, by connector: the cycles of all its rules share them (law 4)."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._given = asyncio.Condition()

    async def take(self, connector: Connector, wanted: int) -> int:
        """Wait until at least one is free; how many were had, at most ``wanted``."""
        async with self._given:
            await self._given.wait_for(lambda: self._taken[connector.name] < connector.slots)
            had = min(wanted, connector.slots - self._taken[connector.name])
            self._taken[connector.name] += had
            return had

    async def give(self, connector: Connector, count: int) -> None:
        """Free that many."""
        async with self._given:
            self._taken[connector.name] -= count
            self._given.notify_all()


@dataclass(frozen=True, slots=True)
class Desk:
    """What a cycle works with. ``tenure`` gives the tenure as last renewed, ``going`` says whether new sends are still wanted."""

    store: Store
    quota: Quota
    clock: Clock
    events: Events
    around: Surroundings
    slots: Slots
    tenure: Callable[[], Tenure]
    going: Callable[[], bool]

    async def commit(self, change: Change) -> None:
        """Write it. A commit without an answer is read back by its id: the same one once more does nothing (law 18)."""
        try:
            await self.store.commit(change, self.tenure())
        except Unreachable:
            await self.store.commit(change, self.tenure())

    async def conclude(self, conclusions: Sequence[Conclusion]) -> bool:
        """Record outcomes; once more when no answer came, for what we know must not become unknown by a cut (law 18)."""
        try:
            return await self.store.conclude(conclusions, self.tenure())
        except Unreachable:
            return await self.store.conclude(conclusions, self.tenure())

    def earliest(self) -> datetime:
        """Rule time, no later than the true one."""
        return self.tenure().earliest(self.clock.monotonic())

    def latest(self) -> datetime:
        """Rule time, no earlier than the true one."""
        return self.tenure().latest(self.clock.monotonic())

    def looked_at(self, rule: Rule) -> datetime:
        """What a look that begins now is dated with (law 9)."""
        tenure = self.tenure()
        return self.earliest() - lag(rule, self.around.connectors) * tenure.timescale.factor


@dataclass(slots=True)
class Ledger:
    """The cycle's incidents and ill connectors as they are stored now, and what is still to be written."""

    incidents: dict[str, Incident]
    illnesses: dict[str, Illness] = field(default_factory=dict)
    unwritten: set[str] = field(default_factory=set)
    notices: list[Notice] = field(default_factory=list)
    ill: dict[str, Illness] = field(default_factory=dict)
    well: set[str] = field(default_factory=set)

    def put(self, incident: Incident) -> None:
        """Note an incident that is to be written with the next commit."""
        self.incidents[incident.id] = incident
        self.unwritten.add(incident.id)

    def stored(self, incident: Incident) -> None:
        """Note an incident that the store has just replaced: its version is one higher there."""
        self.incidents[incident.id] = replace(incident, version=incident.version + 1)
        self.unwritten.discard(incident.id)


async def act(desk: Desk, rule: Rule, standing: Standing, proposal: Proposal) -> Mapping[str, Incident]:
    """Perform what the proposal wants; gives all incidents as they are stored afterwards."""
    ledger = Ledger(dict(proposal.incidents), dict(standing.illnesses))
    standing = replace(standing, attempts={}, state=replace(standing.state, held=proposal.held))
    queue = [(incident.id, decision) for incident, decision in proposal.decisions if isinstance(decision, Act)]
    used = 0
    while queue and desk.going():
        connector = desk.around.connectors[queue[0][1].step.connector or ""]
        wanted = [id for id, one in queue if one.step.connector == connector.name]
        had = await desk.slots.take(connector, min(len(wanted), connector.rate[1] if connector.rate else len(wanted)))
        try:
            part = wanted[:had]
            queue = [(id, one) for id, one in queue if id not in part]
            if await _tokens(desk, connector, had):
                used += await _slice(desk, rule, standing, ledger, part, used)
                standing = replace(standing, illnesses={**standing.illnesses, **ledger.ill})
            else:
                for id in part:
                    ledger.put(replace(ledger.incidents[id], why=Why.RATE, due=_after_patience(desk)))
        finally:
            await desk.slots.give(connector, had)
    await _flush(desk, rule, ledger)
    return ledger.incidents


def _after_patience(desk: Desk) -> datetime:
    return desk.earliest() + timedelta(seconds=PATIENCE) * desk.tenure().timescale.factor


async def _tokens(desk: Desk, connector: Connector, count: int) -> bool:
    """Whether the tokens of a slice were had, within some patience."""
    if connector.rate is None:
        return True
    rate, burst = connector.rate
    waited = 0.0
    while (wait := await desk.quota.reserve(connector.name, rate, burst, count)) > 0:
        if waited + wait > PATIENCE or not desk.going():
            return False
        await desk.clock.sleep(wait)
        waited += wait
    return True


async def _slice(desk: Desk, rule: Rule, standing: Standing, ledger: Ledger, ids: Sequence[str], used: int) -> int:
    """One slice, from the fresh look to the outcomes; gives how many went out."""
    at = desk.looked_at(rule)
    incidents = [ledger.incidents[id] for id in ids]
    seen = await visit(rule, incidents, desk.around.connectors, at, desk.earliest(), fresh=True)
    now = desk.earliest()
    wanted: list[Resolved] = []
    faults: list[tuple[Incident, str]] = []
    for incident in incidents:
        looked = sighted(rule, incident, seen[incident.id])
        one = resolve(rule, looked, standing, used + len(wanted), desk.around, now)
        if _end_is_to_be_told(incident, one):
            ledger.put(replace(looked, due=now))
            continue
        faults += [(one.incident, fault) for fault in one.faults]
        if one.request is None:
            ledger.put(one.incident)
        else:
            wanted.append(one)
    ledger.notices += news(rule, None, None, faults, desk.around.words, now)
    intents = [_intent(desk, rule, one) for one in wanted]
    if ledger.unwritten:
        await _flush(desk, rule, ledger)
    if not intents:
        return 0
    kept_out = await _admit(desk, intents)
    admitted = [(intent, act) for intent, act in intents if intent.attempt.id not in kept_out]
    for intent, _ in intents:
        if (why := kept_out.get(intent.attempt.id)) is not None:
            _kept_out(ledger, rule, intent, why, now)
        else:
            ledger.stored(intent.incident)
    sends = (_send(desk, rule, ledger, intent, decision) for intent, decision in admitted)
    # All of them end before we go on, or go: a rule is given back only when nothing is in flight (law 16).
    for failed in await asyncio.gather(*sends, return_exceptions=True):
        if isinstance(failed, BaseException):
            raise failed
    return len(admitted)


def _end_is_to_be_told(was: Incident, one: Resolved) -> bool:
    """Whether it would end by this look though people were told of it: the next cycle ends it, for only that can tell its end."""
    return bool(was.levels) and was.phase is not Phase.PROVED and not one.incident.live


async def _admit(desk: Desk, intents: Sequence[tuple[Intent, Act]]) -> Mapping[str, Why]:
    """Through the gate. Without its answer nothing is sent, and who was let in is noted as not sent: that uses nothing up (law 4)."""
    try:
        return await desk.store.admit([intent for intent, _ in intents], desk.tenure(), ROOM)
    except Unreachable:
        nothing = Outcome(Result.NOT_SENT, "the gate did not answer")
        entered = ((replace(intent.incident, version=intent.incident.version + 1), intent.attempt, act) for intent, act in intents)
        over = (concluded(desk, incident, attempt, act, nothing) for incident, attempt, act in entered)
        await desk.conclude([Conclusion(attempt, incident) for attempt, incident in over])
        raise


def _kept_out(ledger: Ledger, rule: Rule, intent: Intent, why: Why, now: datetime) -> None:
    """Not let in: nothing was used up, it is decided anew. One that somebody else wrote meanwhile is left as it is stored."""
    incident = ledger.incidents[intent.incident.id]
    if why is Why.UNKNOWN:
        ledger.incidents[incident.id] = replace(incident, due=now)
    else:
        ledger.put(replace(incident, why=why, due=now + rule.every))


def _intent(desk: Desk, rule: Rule, one: Resolved) -> tuple[Intent, Act]:
    assert isinstance(one.decision, Act)
    assert one.request is not None
    tenure, now = desk.tenure(), desk.latest()
    step, incident = one.decision.step, one.incident
    bound = desk.around.connectors[one.request.connector].timeout(one.request.call) + MARGIN + ROOM
    attempt = Attempt(
        id=uuid4().hex, incident=incident.id, rule=rule.name, object=incident.object, step=step.id, number=one.decision.number,
        digest=rule.digest, request=one.request, begun=now, ends_by=now + bound * tenure.timescale.factor,
        holder=tenure.holder, epoch=tenure.epoch, follow_up=one.decision.follow_up,
    )  # fmt: skip
    return Intent(attempt, begun(incident, step, now, attempt.id)), one.decision


async def _send(desk: Desk, rule: Rule, ledger: Ledger, intent: Intent, act: Act) -> None:
    """The call, once, and its outcome; a cancelled one is recorded as unknown before we go (law 16)."""
    outcome, cancelled = await _performed(desk, intent.attempt)
    attempt, incident = concluded(desk, ledger.incidents[intent.incident.id], intent.attempt, act, outcome)
    if await asyncio.shield(desk.conclude([Conclusion(attempt, incident)])):
        ledger.stored(incident)
    _note_health(ledger, rule, attempt, incident, act)
    desk.events(_attempted(rule, incident, attempt))
    if cancelled:
        raise asyncio.CancelledError


async def _performed(desk: Desk, attempt: Attempt) -> tuple[Outcome, bool]:
    request, tenure = attempt.request, desk.tenure()
    overslept = desk.latest() > attempt.begun + ROOM * tenure.timescale.factor  # its answer might come after ends_by
    if overslept or tenure.left(desk.clock.monotonic()) < ROOM / 2 or not desk.going():
        return Outcome(Result.NOT_SENT, Why.LEASE_SHORT), False
    try:
        return await desk.around.connectors[request.connector].perform(request), False
    except asyncio.CancelledError:
        return Outcome(Result.UNKNOWN, "stopped before the answer came"), True


def concluded(desk: Desk, incident: Incident, attempt: Attempt, act: Act, outcome: Outcome) -> tuple[Attempt, Incident]:
    """The attempt with its outcome, and the incident as it becomes by it."""
    tenure = desk.tenure()
    ended = desk.latest()
    retry_at = tenure.timescale.rule(outcome.retry_at_db) if outcome.retry_at_db else None
    attempt = replace(attempt, outcome=outcome, ended=ended)
    after = recorded(incident, act.step, attempt, retry_at)
    return settling(attempt, after), after


def _note_health(ledger: Ledger, rule: Rule, attempt: Attempt, incident: Incident, act: Act) -> None:
    assert attempt.outcome is not None
    assert attempt.ended is not None
    name, outcome = attempt.request.connector, attempt.outcome
    if outcome.result is Result.LATER and outcome.reason == CONNECTOR_ILL:
        retry_at = incident.steps[act.step.id].retry_at or attempt.ended
        said = f"HTTP {outcome.reply.status}" if outcome.reply else outcome.reason
        ledger.ill[name] = Illness(name, attempt.ended, said, retry_at)
        ledger.well.discard(name)
    elif outcome.result is not Result.NOT_SENT and name not in ledger.ill:
        ledger.well.add(name)


def _attempted(rule: Rule, incident: Incident, attempt: Attempt) -> Event:
    assert attempt.outcome is not None
    outcome = attempt.outcome
    return Attempted(rule.name, incident.id, incident.key, attempt.step, attempt.number, outcome.result, outcome.reason)


async def _flush(desk: Desk, rule: Rule, ledger: Ledger) -> None:
    """Write what the slices left: incidents that no longer act, connectors that fell ill or got well, faults."""
    known = ledger.illnesses
    well = tuple(name for name in ledger.well if name in known)
    ill = tuple(replace(one, since=known[name].since) if name in known else one for name, one in ledger.ill.items())
    now = desk.earliest()
    notices = [*ledger.notices]
    if rule.mode is not Mode.OBSERVE:
        begun_now = [one for one in ill if one.connector not in known]
        notices += [ill_notice(one.connector, one, True, now, rule.owner, desk.around.words, rule.name) for one in begun_now]
        over = [known[name] for name in well]
        notices += [ill_notice(one.connector, one, False, now, rule.owner, desk.around.words, rule.name) for one in over]
    change = Change(
        rule=rule.name,
        incidents=tuple(ledger.incidents[id] for id in ledger.unwritten),
        notices=tuple(notices),
        dispatches=routed(notices, desk.around, now),
        ill=ill,
        well=well,
    )
    if change.empty:
        return
    await desk.commit(change)
    for incident in change.incidents:
        ledger.stored(incident)
    ledger.illnesses = {name: one for name, one in {**known, **ledger.ill}.items() if name not in well}
    ledger.notices.clear()
    ledger.ill.clear()
    ledger.well.clear()
