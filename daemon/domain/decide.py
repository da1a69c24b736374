"""What to do about one incident now: act, wait, escalate, or close, each with its named reason. Pure.

An incident comes here with its last look already noted (``incident.sighted``). The order of the questions is the order of
the laws: what is in flight is waited for, what was seen ends or goes on, people's marks and grace come before the ladder,
settling before the next rung, and only a broken sighting later than all of that lets anything be done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from daemon.domain.attempt import CONNECTOR_ILL, Attempt, Result
from daemon.domain.incident import Incident, Phase, Resolution, StepState, Why, scope_of
from daemon.domain.rule import Rule, Step
from daemon.domain.sight import ABSENT, Verdict
from daemon.domain.value import Unknown


@dataclass(frozen=True, slots=True)
class Act:
    """One attempt of this step, number ``number`` of its kind for this incident."""

    step: Step
    number: int
    follow_up: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing before ``until``. ``begins`` is a ``wait`` rung whose time starts now."""

    until: datetime
    why: Why
    begins: Step | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Escalate:
    """We are at our end; people are to be told. ``quarantine``: the lifetime cap is reached."""

    why: Why
    quarantine: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """It ends. A proved one may still have follow-ups to run."""

    resolution: Resolution
    why: Why


Decision: TypeAlias = Act | Wait | Escalate | Close


def decide(rule: Rule, incident: Incident, flight: Attempt | None, now: datetime) -> Decision:
    """The decision for one incident. ``flight``: its attempt without an outcome."""
    if flight is not None:
        return Wait(flight.ends_by, Why.SETTLING, detail="an attempt is on its way")
    match incident.verdict:
        case Verdict.UNKNOWN:
            return Wait(now + rule.every, Why.UNKNOWN, detail=incident.reason)
        case Verdict.GONE:
            return _gone(incident)
        case Verdict.CLEAN:
            return _clean(rule, incident, now)
    if incident.phase is Phase.PROVED:  # pragma: no mutate - sighted() reopens it; a stored one may still say so
        return Wait(now, Why.WAITING)
    return _broken(rule, incident, now)


def _gone(incident: Incident) -> Decision:
    why = Why.ABSENT if incident.reason == ABSENT else Why.OUT_OF_SCOPE
    if incident.phase is Phase.PROVED and incident.resolution is not None:
        return Close(incident.resolution, why)
    return Close(Resolution.DISMISSED if incident.marks.dismissed_by else Resolution.GONE, why)


def _clean(rule: Rule, incident: Incident, now: datetime) -> Decision:
    """Only a look later than the end of every attempt proves anything (law 9)."""
    last = last_end(incident)
    if last is not None and (incident.seen is None or incident.seen <= last):
        return Wait(now + rule.every / 5, Why.WAITING, detail="seen clean before the last attempt ended")
    if incident.phase is Phase.PROVED:
        return _follow_up(rule, incident, now)
    return Close(credit(incident), Why.PROVED)


def credit(incident: Incident) -> Resolution:
    """Whose healing it is (law 10): people's if one was told or claimed it, ours if an attempt may have done it, else its own."""
    if incident.marks.dismissed_by:
        return Resolution.DISMISSED
    if incident.handled:
        return Resolution.HANDLED
    return Resolution.HEALED if incident.credit else Resolution.SELF_HEALED


def last_end(incident: Incident) -> datetime | None:
    """When the last attempt of this incident ended."""
    return max((state.at for state in incident.steps.values() if state.at and state.result), default=None)


def _follow_up(rule: Rule, incident: Incident, now: datetime) -> Decision:
    """The next follow-up that has not ended, each once per incident over all its relapses (law 10)."""
    assert incident.resolution is not None
    scope = scope_of(incident, now)
    for step in rule.on_resolved:
        state = incident.steps.get(step.id)
        if state and (state.result is Result.DONE or done_with(step, state, now)):
            continue
        wanted = step.when(scope) if step.when else True
        if wanted is False:
            continue
        if wanted is not True:
            reason = wanted.reason if isinstance(wanted, Unknown) else "neither true nor false"
            return Wait(now + rule.every, Why.UNKNOWN, detail=f"{step.id}: {reason}")
        return _attempt(step, state, now, follow_up=True)
    return Close(incident.resolution, Why.PROVED)


def _broken(rule: Rule, incident: Incident, now: datetime) -> Decision:
    if (marked := _marked(rule, incident, now)) is not None:
        return marked
    if incident.phase in (Phase.ESCALATED, Phase.QUARANTINED):
        return Wait(now + rule.every, Why.QUARANTINED if incident.phase is Phase.QUARANTINED else Why.TOLD)
    if now < incident.since + rule.detect.grace:
        return Wait(incident.since + rule.detect.grace, Why.GRACE)
    if (settling := _settling(incident)) is not None:
        return Wait(settling, Why.SETTLING)
    if rule.diagnose is not None and incident.cause is None:
        since = incident.undiagnosed_since or now
        return Wait(since + rule.diagnose.timeout, Why.DIAGNOSING)
    if incident.relapses >= 2 and incident.relapse_at is not None:
        return Escalate(Why.LADDER_SPENT)
    return _climb(rule, incident, now)


def _marked(rule: Rule, incident: Incident, now: datetime) -> Decision | None:
    """Marks stop acts and messages, never looking; each is over at its end or when the subject is seen well."""
    mark = next(iter(incident.marks.in_force(now)), None)
    return Wait(mark.until or now + rule.every, mark.why, detail=mark.author) if mark else None


def _settling(incident: Incident) -> datetime | None:
    """Until when the last attempt's effect may still show; passing time alone allows nothing, the look must be later (law 9)."""
    until = max((state.settle_until for state in incident.steps.values() if state.settle_until), default=None)
    if until is None or (incident.seen is not None and incident.seen >= until):
        return None
    return until


def _climb(rule: Rule, incident: Incident, now: datetime) -> Decision:
    """The first rung, from the highest begun one on, that is not done with and applies now (law 11)."""
    scope = scope_of(incident, now)
    for step in _rungs_ahead(rule, incident.steps):
        state = incident.steps.get(step.id)
        if state and done_with(step, state, now, incident.seen):
            continue
        wanted = step.when(scope) if step.when else True
        if wanted is False:
            continue
        if wanted is not True:
            reason = wanted.reason if isinstance(wanted, Unknown) else "neither true nor false"
            return Wait(now + rule.every, Why.UNKNOWN, detail=f"{step.id}: {reason}")
        if step.wait is not None:
            return _wait(step, state, step.wait, now)
        if incident.total >= rule.guard.max_attempts:
            return Escalate(Why.QUARANTINED, quarantine=True)
        return _attempt(step, state, now)
    refused = any(state.result is Result.REFUSED for state in incident.steps.values())
    return Escalate(Why.REFUSED if refused else Why.LADDER_SPENT)


def _rungs_ahead(rule: Rule, steps: Mapping[str, StepState]) -> Iterator[Step]:
    begun = [index for index, step in enumerate(rule.ladder) if step.id in steps]
    return iter(rule.ladder[max(begun, default=0) :])


def _wait(step: Step, state: StepState | None, length: timedelta, now: datetime) -> Wait:
    return Wait(now + length, Why.WAITING, begins=step) if state is None else Wait(state.began + length, Why.WAITING)


def done_with(step: Step, state: StepState, now: datetime, seen: datetime | None = None) -> bool:
    """Whether a rung is behind us: refused or given up, attempts used, or its time over (a ``wait``: and looked at since)."""
    if step.wait is not None:
        return seen is not None and seen >= state.began + step.wait
    return state.spent or state.tries >= step.attempts + state.extra or timed_out(step, state, now)


def timed_out(step: Step, state: StepState, now: datetime) -> bool:
    """Whether the step's own time is over; it stands still while the connector is ill (law 21)."""
    return (state.ill_since or now) >= state.began + step.timeout


def _attempt(step: Step, state: StepState | None, now: datetime, follow_up: bool = False) -> Decision:
    if state is None:
        return Act(step, 1, follow_up)
    held_until = max((moment for moment in (state.retry_at, state.settle_until) if moment), default=None)
    if held_until is not None and now < held_until:
        ill = state.reason == CONNECTOR_ILL and state.result is Result.LATER
        return Wait(held_until, Why.CONNECTOR_ILL if ill else Why.BACKOFF, detail=state.reason)
    return Act(step, state.tries + 1, follow_up)


def idempotency_key(incident: Incident, step: Step) -> str:
    """Stays after an unknown outcome, changes only after a known one (law 5)."""
    state = incident.steps.get(step.id)
    return f"{incident.id}-{step.id}-{state.known if state else 0}"
