"""The durable life of one broken subject: its state as a value, and the transitions that make the next one.

open → escalated → …; the phases and their moves are drawn in ``docs/architecture.md``. History stays in the ledger; an
incident carries only what the next decision reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.domain.attempt import CONNECTOR_ILL, CRASHED, Attempt, Outcome, Result
from daemon.domain.directive import Directive, DirectiveKind
from daemon.domain.rule import Delivery, Rule, Step
from daemon.domain.sight import Sighting, Verdict
from daemon.domain.value import Money, Scope, Value, share


class Phase(StrEnum):
    """Where an incident is in its life; section 2a of the design."""

    OPEN = "open"
    ESCALATED = "escalated"
    QUARANTINED = "quarantined"
    PARKED = "parked"
    PROVED = "proved"
    RESOLVED = "resolved"


class Resolution(StrEnum):
    """How it ended."""

    HEALED = "healed"
    HANDLED = "handled"
    SELF_HEALED = "self_healed"
    GONE = "gone"
    DISMISSED = "dismissed"
    TOLD = "told"


class Why(StrEnum):
    """The named reason of a decision: the same word in log, metric label, ``explain`` and test. A closed list."""

    GRACE = "grace"
    BACKOFF = "backoff"
    SETTLING = "settling"
    WAITING = "waiting"
    DIAGNOSING = "diagnosing"
    UNDIAGNOSED = "undiagnosed"
    LADDER_SPENT = "ladder_spent"
    REFUSED = "refused"
    PAUSED = "paused"
    MODE_OBSERVE = "mode_observe"
    MODE_APPROVE = "mode_approve"
    CLAIMED = "claimed"
    DISMISSED = "dismissed"
    EXCLUDED = "excluded"
    QUARANTINED = "quarantined"
    PARKED = "parked"
    MAX_BROKEN = "max_broken"
    MAX_BROKEN_PERCENT = "max_broken_percent"
    CALLS_PER_HOUR = "calls_per_hour"
    RAMP = "ramp"
    OBJECT_BUSY = "object_busy"
    RATE = "rate"
    BREAKER_OPEN = "breaker_open"
    CONNECTOR_ILL = "connector_ill"
    LEASE_SHORT = "lease_short"
    UNKNOWN = "unknown"
    HOURS = "hours"
    TOLD = "told"
    DEADLINE = "deadline"
    PROVED = "proved"
    ABSENT = "absent"
    OUT_OF_SCOPE = "out_of_scope"


@dataclass(frozen=True, slots=True)
class StepState:
    """What has happened on one rung, found by the step's identity (law 11). All times are rule time.

    ``tries`` counts what may have arrived; ``laters`` the ``later`` in a row; ``spent``: done with, whatever its attempts.
    ``ill_since`` stops the step's timeout while the connector is ill (law 21). ``extra``: the one try after our own crash was used.
    """

    began: datetime
    tries: int = 0
    laters: int = 0
    result: Result | None = None
    reason: str = ""
    at: datetime | None = None
    settle_until: datetime | None = None
    retry_at: datetime | None = None
    ill_since: datetime | None = None
    spent: bool = False
    extra: bool = False
    known: int = 0
    """Attempts that are known to be over; the idempotency key changes only after one (law 5). ``later`` is the same attempt again."""
    response: Value = None


@dataclass(frozen=True, slots=True)
class Mark:
    """What one person said of an incident; without ``until`` it holds until the subject is seen well."""

    why: Why
    author: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Marks:
    """What people said, beside the phase, with author and end: they stop acts and messages, never looking (section 2a)."""

    claimed_by: str | None = None
    claimed_until: datetime | None = None
    dismissed_by: str | None = None
    dismissed_until: datetime | None = None
    excluded_by: str | None = None
    excluded_until: datetime | None = None
    reason: str = ""

    def in_force(self, now: datetime) -> tuple[Mark, ...]:
        """Those whose end has not come, what lasts longest first."""
        every = (
            (Why.EXCLUDED, self.excluded_by, self.excluded_until),
            (Why.DISMISSED, self.dismissed_by, self.dismissed_until),
            (Why.CLAIMED, self.claimed_by, self.claimed_until),
        )
        return tuple(Mark(why, author, until) for why, author, until in every if author and (until is None or until > now))


@dataclass(frozen=True, slots=True)
class Incident:
    """The durable life of one broken subject. ``seen`` dates the last look that was not unknown, ``last`` any look.

    ``level``: the highest level of ``escalate`` this subject has reached, by the level's identity → when (rule time).
    ``credit``: an attempt of ours was ``done`` or ``unknown`` in this life; ``handled``: a person was
    delivered a message about it, or claimed it, in this life. ``total`` counts attempts over all lives.
    ``version`` is raised by every write; the store refuses a write that is not based on the stored one.
    """

    id: str
    rule: str
    digest: str
    key: str
    record_key: str
    object: str
    opened: datetime
    since: datetime
    phase: Phase = Phase.OPEN
    last: datetime | None = None
    seen: datetime | None = None
    verdict: Verdict = Verdict.BROKEN
    reason: str = ""
    facts: Scope = field(default_factory=dict)
    cause: str | None = None
    undiagnosed_since: datetime | None = None
    unknown_since: datetime | None = None
    value: Money | None = None
    deadline: datetime | None = None
    steps: Mapping[str, StepState] = field(default_factory=dict)
    levels: Mapping[str, datetime] = field(default_factory=dict)
    marks: Marks = Marks()
    total: int = 0
    credit: bool = False
    handled: bool = False
    proved_at: datetime | None = None
    ended: datetime | None = None
    resolution: Resolution | None = None
    relapses: int = 0
    relapse_at: datetime | None = None
    """When it broke again the last time; ``None`` also once a person has asked for another try since."""
    due: datetime | None = None
    why: Why = Why.GRACE
    version: int = 0
    flight: str | None = None
    """The attempt that was admitted last and whose outcome is not noted here yet (law 16)."""

    @property
    def live(self) -> bool:
        """Whether it still stands open in any phase."""
        return self.phase is not Phase.RESOLVED


UNDIAGNOSED = "undiagnosed"
"""The cause of a subject whose diagnosis was not to be known within ``diagnose.timeout``."""

HALF_LIFE = timedelta(days=7)
"""After this much health the lifetime count of attempts halves."""


def opened(rule: Rule, seen: Sighting, previous: Incident | None, fresh_id: str) -> Incident | None:
    """The incident of a subject that a scan found broken and that no live incident stands for.

    Broken again within ``guard.relapse`` after the end, the same incident goes on (law 21). A subject that was told and ends by
    delivery keeps its key for as long as it is listed (law 8): that gives the stored incident with its listing noted, or ``None``.
    """
    if previous is not None and _remembered(rule, previous, seen.at):
        if previous.resolution is Resolution.TOLD:
            return replace(previous, last=seen.at) if _worth_noting(rule, previous, seen.at) else None
        return sighted(rule, replace(_relapsed(_accounted(rule, previous), seen), due=seen.at), seen)
    total = _healthier(previous, seen.at)
    fresh = Incident(
        id=fresh_id, rule=rule.name, digest=rule.digest, key=seen.key, record_key=seen.record_key, object=seen.object,
        opened=seen.at, since=_earliest(seen.since, seen.at), total=total,
    )  # fmt: skip
    return replace(sighted(rule, fresh, seen), due=seen.at)


def forgotten(previous: Incident) -> Incident | None:
    """A told subject that a scan saw well: its key is free again (law 8). ``None`` when there is nothing to forget."""
    return replace(previous, last=None) if previous.resolution is Resolution.TOLD and previous.last is not None else None


def _remembered(rule: Rule, previous: Incident, now: datetime) -> bool:
    anchor = previous.last if previous.resolution is Resolution.TOLD else previous.ended
    return anchor is not None and now < anchor + rule.guard.relapse


def _worth_noting(rule: Rule, previous: Incident, now: datetime) -> bool:
    """A listing is noted a few times per relapse window, not at every scan."""
    return previous.last is None or now - previous.last > rule.guard.relapse / 4


def _relapsed(well: Incident, seen: Sighting) -> Incident:
    """One that was seen well and is broken again: as at its beginning, but with the attempts left, and follow-ups once (law 10)."""
    return replace(
        well, phase=Phase.OPEN, why=Why.GRACE, relapses=well.relapses + 1, relapse_at=seen.at, resolution=None, ended=None, proved_at=None, credit=False, handled=False,
        levels={}, marks=Marks(), since=_earliest(seen.since, seen.at), cause=None, undiagnosed_since=None, steps=_climbable(well.steps, seen.at),
    )  # fmt: skip


def _accounted(rule: Rule, ended: Incident) -> Incident:
    """An ended incident with its failed follow-ups done with for good: that they failed was told at its end (law 10)."""
    follow_ups = {step.id for step in rule.on_resolved}
    failed = {id: one for id, one in ended.steps.items() if id in follow_ups and one.result is not Result.DONE}
    return replace(ended, steps={**ended.steps, **{id: replace(one, result=None, spent=True) for id, one in failed.items()}})


def _climbable(steps: Mapping[str, StepState], at: datetime) -> Mapping[str, StepState]:
    """After a relapse the ladder goes on with the attempts left, and with new idempotency keys: what was unknown is over by proof.

    The time of a step that was tried begins anew: while the subject was well it used none. What an attempt may still do, and
    when a service wants no call yet, a moment of health changes nothing about (law 9).
    """
    return {
        id: replace(
            state, began=at if state.result else state.began, settle_until=_ahead(state.settle_until, at), retry_at=_ahead(state.retry_at, at),
            laters=0, ill_since=None, known=state.known + (state.result is Result.UNKNOWN),
        )
        for id, state in steps.items()
    }  # fmt: skip


def _ahead(moment: datetime | None, at: datetime) -> datetime | None:
    return moment if moment is not None and moment > at else None


def _healthier(previous: Incident | None, now: datetime) -> int:
    if previous is None or previous.ended is None or now < previous.ended:
        return previous.total if previous else 0
    return previous.total >> min(int((now - previous.ended) / HALF_LIFE), 32)


def _earliest(*moments: datetime | None) -> datetime:
    return min(moment for moment in moments if moment is not None)


def sighted(rule: Rule, incident: Incident, seen: Sighting) -> Incident:
    """The incident after a look. An older look than the one already noted changes nothing; an unknown one concludes nothing."""
    if incident.last is not None and seen.at < incident.last:
        return incident
    base = replace(incident, last=seen.at, digest=rule.digest, verdict=seen.verdict, reason=seen.reason)
    if incident.phase is Phase.PARKED:
        base = replace(base, phase=Phase.OPEN)
    if seen.verdict is Verdict.UNKNOWN:
        return replace(base, unknown_since=incident.unknown_since or seen.at)
    base = replace(base, seen=seen.at, unknown_since=None)
    if seen.verdict is Verdict.GONE:
        return base
    base = replace(base, facts=seen.facts or incident.facts, value=seen.value or incident.value, deadline=seen.deadline or incident.deadline)
    if seen.verdict is Verdict.CLEAN:
        return base
    base = _relapsed(base, seen) if incident.phase is Phase.PROVED else replace(base, since=_earliest(seen.since, incident.since))
    return _with_cause(rule, base, seen)


def _with_cause(rule: Rule, incident: Incident, seen: Sighting) -> Incident:
    if rule.diagnose is None:
        return incident
    if seen.cause is not None:
        return replace(incident, cause=seen.cause, undiagnosed_since=None)
    since = incident.undiagnosed_since or seen.at
    late = seen.at >= since + rule.diagnose.timeout
    return replace(incident, cause=UNDIAGNOSED if late else None, undiagnosed_since=since)


def begun(incident: Incident, step: Step, now: datetime, flight: str | None = None) -> Incident:
    """The incident as it becomes by being let through the gate for one attempt of the step (``flight``: its id)."""
    state = incident.steps.get(step.id) or StepState(began=now)
    if state.ill_since is not None:
        state = replace(state, began=state.began + (now - state.ill_since), ill_since=None)
    return replace(incident, steps={**incident.steps, step.id: state}, why=Why.SETTLING, flight=flight)


def stopped_by_illness(incident: Incident, step: Step, now: datetime) -> Incident:
    """The incident with a begun step's time standing still, because its connector lets nobody in (law 21)."""
    state = incident.steps.get(step.id)
    if state is None or state.ill_since is not None:
        return incident
    return replace(incident, steps={**incident.steps, step.id: replace(state, ill_since=now)})


def waiting(incident: Incident, step: Step, now: datetime) -> Incident:
    """The incident with a ``wait`` rung begun."""
    return replace(incident, steps={**incident.steps, step.id: StepState(began=now)})


def given_up(incident: Incident, step: Step, reason: str, now: datetime) -> Incident:
    """The incident with a rung done with for a reason of ours: an argument that cannot be said, a follow-up that cannot be judged."""
    state = incident.steps.get(step.id) or StepState(began=now)
    return replace(incident, steps={**incident.steps, step.id: replace(state, spent=True, reason=reason, at=state.at or now)})


def recorded(incident: Incident, step: Step, attempt: Attempt, retry_at: datetime | None) -> Incident:
    """The incident after an attempt's outcome; the table of outcomes in ``rule-language.md`` section 5.

    ``retry_at``: what ``Retry-After`` said, as rule time. The attempt carries its end. ``settle`` runs from there (law 9).
    """
    assert attempt.outcome is not None
    assert attempt.ended is not None
    outcome, ended = attempt.outcome, attempt.ended
    incident = replace(incident, flight=None)
    if outcome.result is Result.NOT_SENT:
        return replace(incident, due=ended)
    state = incident.steps.get(step.id) or StepState(began=attempt.begun)
    state = replace(state, result=outcome.result, reason=outcome.reason, at=ended, response=_response(outcome))
    match outcome.result:
        case Result.LATER:
            state = _postponed(state, step, attempt, retry_at)
        case Result.REFUSED:
            state = replace(state, tries=state.tries + 1, known=state.known + 1, laters=0, spent=True, ill_since=None, settle_until=None)
        case _:
            state = _arrived(state, step, attempt)
    counted = outcome.result is not Result.LATER
    return replace(
        incident, steps={**incident.steps, step.id: state}, total=incident.total + counted,
        credit=incident.credit or (counted and outcome.result is not Result.REFUSED and not attempt.follow_up),
        due=state.settle_until or state.retry_at or ended, why=_why_after(outcome),
    )  # fmt: skip


def _why_after(outcome: Outcome) -> Why:
    match outcome.result:
        case Result.LATER:
            return Why.CONNECTOR_ILL if outcome.reason == CONNECTOR_ILL else Why.BACKOFF
        case Result.REFUSED:
            return Why.REFUSED
    return Why.SETTLING


def _response(outcome: Outcome) -> Value:
    return None if outcome.reply is None else {"status": outcome.reply.status, "body": outcome.reply.body}


def _postponed(state: StepState, step: Step, attempt: Attempt, retry_at: datetime | None) -> StepState:
    assert attempt.outcome is not None
    assert attempt.ended is not None
    ill = attempt.outcome.reason == CONNECTOR_ILL
    laters = state.laters if ill else state.laters + 1
    pause = step.backoff.ceiling(max(laters, 1)) * share(f"{attempt.id}/{laters}")
    return replace(
        state, laters=laters, retry_at=retry_at or attempt.ended + pause, settle_until=None,
        ill_since=(state.ill_since or attempt.ended) if ill else None,
    )  # fmt: skip


def _arrived(state: StepState, step: Step, attempt: Attempt) -> StepState:
    """``done`` or ``unknown``: it may have had its effect; look after settle, and only then go on.

    Settle runs from the answer's arrival; without an answer from ``ends_by``, for until then it may still arrive (law 9).
    """
    assert attempt.outcome is not None
    assert attempt.ended is not None
    unknown = attempt.outcome.result is Result.UNKNOWN
    silent = unknown and attempt.outcome.reply is None
    heard = max(attempt.ended, attempt.ends_by) if silent else attempt.ended
    never_again = unknown and step.delivery is Delivery.AT_MOST_ONCE
    crashed = unknown and attempt.outcome.reason == CRASHED and not never_again
    return replace(
        state, tries=state.tries + 1, known=state.known + (not unknown), laters=0, ill_since=None, retry_at=None,
        settle_until=heard + step.settle, spent=state.spent or never_again, extra=state.extra or crashed,
    )  # fmt: skip


def expired(incident: Incident, now: datetime) -> Incident:
    """The incident without the marks whose end has come."""
    marks = incident.marks
    if marks.claimed_until and marks.claimed_until <= now:
        marks = replace(marks, claimed_by=None, claimed_until=None)
    if marks.dismissed_until and marks.dismissed_until <= now:
        marks = replace(marks, dismissed_by=None, dismissed_until=None)
    if marks.excluded_until and marks.excluded_until <= now:
        marks = replace(marks, excluded_by=None, excluded_until=None)
    return incident if marks == incident.marks else replace(incident, marks=marks)


def obeyed(rule: Rule, incident: Incident, directive: Directive, now: datetime) -> Incident:
    """The incident after a person's word. Claiming counts as handled from then on; every word makes it due now."""
    marks, said = incident.marks, directive
    match said.kind:
        case DirectiveKind.CLAIM:
            marks = replace(marks, claimed_by=said.author, claimed_until=said.until, reason=said.reason)
            return replace(incident, marks=marks, handled=True, due=now)
        case DirectiveKind.RELEASE:
            return replace(incident, marks=Marks(reason=said.reason), due=now)
        case DirectiveKind.DISMISS:
            marks = replace(marks, dismissed_by=said.author, dismissed_until=said.until, reason=said.reason)
        case DirectiveKind.EXCLUDE:
            marks = replace(marks, excluded_by=said.author, excluded_until=said.until, reason=said.reason)
        case DirectiveKind.RETRY:
            return retried(rule, incident, now)
    return replace(incident, marks=marks, due=now)


def retried(rule: Rule, incident: Incident, now: datetime) -> Incident:
    """Due now; a spent ladder gets one more attempt of its last call, within the lifetime cap (law 22)."""
    if incident.phase not in (Phase.ESCALATED, Phase.QUARANTINED):
        steps = {id: replace(state, retry_at=None) for id, state in incident.steps.items()}
        return replace(incident, steps=steps, due=now)
    incident = replace(incident, phase=Phase.OPEN, relapse_at=None, due=now)
    place = next((place for place, step in reversed([*enumerate(rule.ladder)]) if step.call and step.id in incident.steps), None)
    if place is None:
        return incident
    last, behind = rule.ladder[place], {step.id for step in rule.ladder[place + 1 :]}
    state = incident.steps[last.id]
    allowed = last.attempts + state.extra
    again = replace(state, began=now, tries=min(state.tries, allowed - 1), spent=False, retry_at=None, laters=0, ill_since=None)
    kept = {id: one for id, one in incident.steps.items() if id not in behind}  # only waits are behind it: the ladder stands before them again
    return replace(incident, steps={**kept, last.id: again})


def scope_of(incident: Incident, now: datetime) -> Scope:
    """What an expression about this incident sees: its facts, ``now``, ``cause``, ``resolution``, ``incident`` and ``steps``."""
    last = max((state for state in incident.steps.values() if state.at), key=lambda state: state.at or now, default=None)
    return {
        **incident.facts,
        "now": now,
        "cause": incident.cause,
        "resolution": incident.resolution.value if incident.resolution else None,
        "incident": {
            "opened_at": incident.opened,
            "since": incident.since,
            "attempts": incident.total,
            "value": incident.value.amount if incident.value else None,
            "deadline": incident.deadline,
            "last_error": last.reason if last and last.result is not Result.DONE else None,
        },
        "steps": {id: _step_scope(state) for id, state in incident.steps.items()},
    }


def _step_scope(state: StepState) -> Scope:
    return {"outcome": state.result.value if state.result else None, "at": state.at, "attempts": state.tries, "response": state.response}
