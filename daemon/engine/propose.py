"""From what is known and what was just seen to everything a cycle wants to write and send, as one value. Pure.

``plan`` prints the proposal, ``heal`` goes on from it: there is one path, and no ``dry_run`` (rule of the house 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from daemon.domain.attempt import CRASHED, Attempt, Outcome, Request, Result
from daemon.domain.decide import Act, Close, Decision, Escalate, Wait, decide, idempotency_key
from daemon.domain.guard import census, guarded, hold
from daemon.domain.incident import (
    Incident,
    Phase,
    Resolution,
    Why,
    expired,
    given_up,
    obeyed,
    recorded,
    scope_of,
    sighted,
    stopped_by_illness,
    waiting,
)
from daemon.domain.notice import Dispatch, Notice, Problem, fault_notice, guard_notice, route, tell, was_told
from daemon.domain.rule import Contact, Mode, ResolveOn, Rule, Step
from daemon.domain.sight import Sighting, Verdict
from daemon.domain.standing import Held, Standing
from daemon.domain.value import Unknown, Value
from daemon.domain.words import RUSSIAN, Words
from daemon.engine.change import Change
from daemon.engine.ports import Connector


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a proposal needs beside the rule and its standing; the same for every cycle of a replica."""

    contacts: Mapping[str, Contact]
    connectors: Mapping[str, Connector]
    alerts_via: str | None = None
    words: Words = RUSSIAN


@dataclass(frozen=True, slots=True)
class Proposal:
    """Everything a cycle wants: the decisions with their incidents, the requests of those that act, and what to write first."""

    rule: str
    now: datetime
    decisions: tuple[tuple[Incident, Decision], ...]
    requests: Mapping[str, Request]
    change: Change
    held: Held | None
    incidents: Mapping[str, Incident] = field(default_factory=dict)
    due: datetime | None = None

    @property
    def acts(self) -> tuple[Incident, ...]:
        """The incidents that would act, the most urgent first."""
        return tuple(incident for incident, decision in self.decisions if isinstance(decision, Act))


@dataclass(frozen=True, slots=True)
class Resolved:
    """One incident thought through: as it becomes, what is to be done about it, and what people must know of it."""

    incident: Incident
    decision: Decision
    request: Request | None = None
    faults: tuple[str, ...] = ()


def propose(rule: Rule, standing: Standing, seen: Mapping[str, Sighting], around: Surroundings, now: datetime) -> Proposal:
    """The proposal of one cycle. ``seen``: sightings of this cycle by incident id; the other incidents are only told about."""
    before = {incident.id: incident for incident in standing.incidents}
    ended = {id: attempt for id, attempt in standing.attempts.items() if attempt.outcome}
    crashed = {id: lost(attempt) for id, attempt in standing.attempts.items() if not attempt.outcome and attempt.ends_by <= now}
    problems = {problem.id: problem for problem in standing.problems}
    incidents = _prepared(rule, before, {**ended, **crashed}, standing, now)
    incidents |= {id: replace(one, handled=True) for id, one in incidents.items() if was_told(rule, one, problems)}
    closed = tuple(settling(attempt, incidents[id]) for id, attempt in crashed.items())
    incidents |= {id: sighted(rule, incidents[id], sighting) for id, sighting in seen.items()}
    was = standing.state.held
    held = hold(rule, was, census(incidents.values(), standing.state.population), False, now)
    standing = replace(
        standing,
        state=replace(standing.state, held=held),
        attempts={id: flight for id, flight in standing.attempts.items() if id not in crashed and id not in ended},
    )
    decisions: list[tuple[Incident, Decision]] = []
    requests: dict[str, Request] = {}
    faults: list[tuple[Incident, str]] = []
    for incident in sorted((incidents[id] for id in seen), key=urgency):
        one = resolve(rule, incident, standing, len(requests), around, now)
        incidents[incident.id] = one.incident
        decisions.append((one.incident, one.decision))
        faults += [(one.incident, fault) for fault in one.faults]
        if one.request is not None:
            requests[incident.id] = one.request
    told = tell(
        rule, around.contacts, tuple(incidents.values()), standing.problems, standing.tellings, now, around.words,
        held=held is not None, requests=requests,
    )  # fmt: skip
    incidents = {id: _after_telling(rule, one, told.levels.get(id), problems, now) for id, one in incidents.items()}
    notices = (*told.notices, *news(rule, was, held, faults, around.words, now))
    change = Change(
        rule=rule.name,
        incidents=tuple(one for id, one in incidents.items() if one != before.get(id)),
        closed=closed,
        problems=told.problems,
        notices=notices,
        dispatches=routed(notices, around, now),
        obeyed=tuple(directive.id for directive in standing.directives),
    )
    return Proposal(rule.name, now, tuple(decisions), requests, change, held, incidents, told.due)


def lost(attempt: Attempt) -> Attempt:
    """An attempt whose sender never said what became of it: unknown by our own crash, ended when it could no longer arrive (law 16)."""
    return replace(attempt, outcome=Outcome(Result.UNKNOWN, CRASHED), ended=attempt.ends_by)


def settling(attempt: Attempt, incident: Incident) -> Attempt:
    """The attempt with the moment until which others leave its object alone, as its incident has it (laws 7, 9)."""
    state = incident.steps.get(attempt.step)
    return replace(attempt, settled=state.settle_until if state else None)


def _prepared(
    rule: Rule, before: Mapping[str, Incident], ended: Mapping[str, Attempt], standing: Standing, now: datetime
) -> dict[str, Incident]:
    """The incidents with what happened since they were written: late outcomes, crashes, people's words, ends of marks."""
    incidents = {id: expired(incident, now) for id, incident in before.items()}
    for id, attempt in ended.items():
        incidents[id] = recorded(incidents[id], step_of(rule, attempt.step), attempt, None)
    for directive in standing.directives:
        if directive.incident in incidents:
            incidents[directive.incident] = obeyed(rule, incidents[directive.incident], directive, now)
    return incidents


def step_of(rule: Rule, id: str) -> Step:
    """The rung of that identity; of one that this version of the rule lost, its outcome still counts with the defaults."""
    return rule.step(id) or Step(id)


def urgency(incident: Incident) -> tuple[bool, float, float, str]:
    """Acts go in order of deadline, then age; severity is one per rule (law 7)."""
    deadline = incident.deadline.timestamp() if incident.deadline else 0.0
    return (incident.deadline is None, deadline, incident.since.timestamp(), incident.key)


def resolve(rule: Rule, incident: Incident, standing: Standing, used: int, around: Surroundings, now: datetime) -> Resolved:
    """Decide, guard, prepare: until the decision stands. A step whose argument cannot be said is given up, and the next is decided."""
    faults: list[str] = []
    flight = standing.attempts.get(incident.id)
    for _ in range(len(rule.ladder) + len(rule.on_resolved) + 2):
        wanted = decide(rule, incident, flight, now)
        decision = guarded(rule, incident, wanted, standing, used, now)
        if isinstance(wanted, Act) and isinstance(decision, Wait) and decision.why is Why.CONNECTOR_ILL:
            incident = stopped_by_illness(incident, wanted.step, now)
        if not isinstance(decision, Act):
            faults += _unfinished(rule, incident, decision)
            settled = applied(rule, incident, decision, now)
            if settled.phase is Phase.PROVED and incident.phase is not Phase.PROVED:
                incident = settled
                continue
            return Resolved(settled, decision, None, tuple(faults))
        request = prepared(rule, incident, decision.step, around, now)
        if isinstance(request, Request):
            return Resolved(applied(rule, incident, decision, now), decision, request, tuple(faults))
        faults.append(f"{decision.step.id}: {request.reason}")
        incident = given_up(incident, decision.step, request.reason, now)
    raise AssertionError("every pass gives up a step, proves, or returns")  # pragma: no cover


def prepared(rule: Rule, incident: Incident, step: Step, around: Surroundings, now: datetime) -> Request | Unknown:
    """The request of one attempt; unknown when an argument is null or cannot be known, or cannot be said on the wire."""
    scope = scope_of(incident, now)
    args: dict[str, Value] = {name: expr(scope) for name, expr in step.args.items()}
    for name, value in args.items():
        if (missing := _missing(value)) is not None:
            return Unknown(f"argument {name}: {missing}")
    connector = around.connectors[step.connector or ""]
    try:
        return connector.prepare(step.call or "", args, idempotency_key(incident, step))
    except ValueError as error:
        return Unknown(str(error))


def _missing(value: Value) -> str | None:
    match value:
        case None:
            return "is null"
        case Unknown(reason):
            return reason
        case Mapping():
            return next((found for item in value.values() if (found := _missing(item))), None)
        case list() | tuple():
            return next((found for item in value if (found := _missing(item))), None)
    return None


def applied(rule: Rule, incident: Incident, decision: Decision, now: datetime) -> Incident:
    """The incident as a decision leaves it, with when it is looked at again."""
    soon = now + rule.every
    match decision:
        case Wait(until, why, begins):
            waited = waiting(incident, begins, now) if begins else incident
            if why in (Why.SETTLING, Why.WAITING, Why.DIAGNOSING):
                until += _age_of_look(incident, now)
            ends = [mark.until for mark in incident.marks.in_force(now) if mark.until]
            return replace(waited, why=why, due=max(now, min(until, soon, *ends)))
        case Escalate(why, quarantine):
            phase = Phase.QUARANTINED if quarantine else Phase.ESCALATED
            return replace(incident, phase=phase, why=why, due=max(now, soon))
        case Close(resolution, why):
            return _closed(rule, incident, resolution, why, now)
        case Act():
            return replace(incident, due=now)


def _age_of_look(incident: Incident, now: datetime) -> timedelta:
    """How far a look is dated back: one that must be dated after a moment can only be had so much later (law 9)."""
    return max(now - (incident.last or now), timedelta(0))


def _closed(rule: Rule, incident: Incident, resolution: Resolution, why: Why, now: datetime) -> Incident:
    """Proved first, if follow-ups are still to run (law 10); resolved otherwise."""
    follows = resolution in (Resolution.HEALED, Resolution.HANDLED) and incident.verdict is Verdict.CLEAN
    if follows and rule.on_resolved and incident.phase is not Phase.PROVED:
        return replace(incident, phase=Phase.PROVED, resolution=resolution, proved_at=now, why=why, due=now)
    return replace(incident, phase=Phase.RESOLVED, resolution=resolution, ended=now, why=why, due=None)


def _unfinished(rule: Rule, incident: Incident, decision: Decision) -> list[str]:
    """Follow-ups that ended without being done: told to the owner, and ended too (law 10)."""
    if incident.phase is not Phase.PROVED or not isinstance(decision, Close):
        return []
    states = ((step, incident.steps.get(step.id)) for step in rule.on_resolved)
    return [
        f"{step.id}: {state.result or 'not sent'} {state.reason}".strip()
        for step, state in states
        if state and state.result is not Result.DONE and not (state.result is None and state.spent)
    ]


def _after_telling(
    rule: Rule, incident: Incident, levels: Mapping[str, datetime] | None, problems: Mapping[str, Problem], now: datetime
) -> Incident:
    """With the levels it has reached; an event that only had to be told ends by that (``resolve_on: delivery``)."""
    if levels is not None:
        incident = replace(incident, levels=levels)
    done = rule.resolve_on is ResolveOn.DELIVERY and incident.live and was_told(rule, incident, problems)
    if done and incident.phase in (Phase.ESCALATED, Phase.QUARANTINED):
        return replace(incident, phase=Phase.RESOLVED, resolution=Resolution.TOLD, why=Why.TOLD, ended=now, due=None)
    return incident


def news(
    rule: Rule, was: Held | None, held: Held | None, faults: Sequence[tuple[Incident, str]], words: Words, now: datetime
) -> tuple[Notice, ...]:
    """Notices that are about the rule and not about a problem: its guard's begin and end, and what we could not do."""
    if rule.mode is Mode.OBSERVE:
        return ()
    known = was if was is not None and was.told else None
    tripped = held or known
    guard = (guard_notice(rule, tripped, held is not None, now, words),) if tripped and (known is None or held is None) else ()
    return (*guard, *(fault_notice(rule, said, now, words) for said in _said(faults, words)))


def _said(faults: Sequence[tuple[Incident, str]], words: Words) -> Iterator[str]:
    """One message per fault, however many subjects met it: one mistake of a rule is one message."""
    keys: dict[str, list[str]] = {}
    for incident, fault in faults:
        keys.setdefault(fault, []).append(incident.key)
    for fault, met in keys.items():
        said = words.say("fault", key=met[0] if len(met) == 1 else words.subjects(len(met)), fault=fault)
        yield said if len(met) == 1 else f"{said}\n{words.lines(met)}"


def routed(notices: Iterable[Notice], around: Surroundings, now: datetime) -> tuple[Dispatch, ...]:
    """The first dispatches of each notice."""
    return tuple(
        dispatch
        for notice in notices
        for dispatch in route(notice, around.contacts[notice.contact], around.contacts, now, around.alerts_via)
    )
