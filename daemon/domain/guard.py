"""What may stop a decision that is right for its subject: mode, pauses, ceilings, illness, somebody else on the object. Pure.

Guards only ever turn an act, or an escalation, into a wait. The gate checks again what others may have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from daemon.domain.decide import Act, Decision, Escalate, Wait
from daemon.domain.incident import Incident, Phase, Why
from daemon.domain.rule import Guard, Mode, Rule
from daemon.domain.sight import Verdict
from daemon.domain.standing import Held, Pause, Standing

PERCENT_FLOOR = 10
"""A percentage says nothing about fewer broken subjects than this (law 6)."""

HOUR = timedelta(hours=1)


def guarded(rule: Rule, incident: Incident, decision: Decision, standing: Standing, used: int, now: datetime) -> Decision:
    """The decision, or the wait it becomes. ``used``: calls of this rule already decided in this cycle."""
    if isinstance(decision, Act):
        return _act(rule, incident, decision, standing, used, now)
    if isinstance(decision, Escalate) and rule.mode is Mode.OBSERVE:
        return Wait(now + rule.every, Why.MODE_OBSERVE, detail=decision.why)
    if isinstance(decision, Escalate) and standing.state.held:
        return Wait(now + rule.every, standing.state.held.why, detail=decision.why)
    return decision


def _act(rule: Rule, incident: Incident, act: Act, standing: Standing, used: int, now: datetime) -> Decision:
    soon = now + rule.every
    if rule.mode is Mode.OBSERVE:
        return Wait(soon, Why.MODE_OBSERVE, detail=f"would call {act.step.call}")
    if rule.mode is Mode.APPROVE:
        return Wait(soon, Why.MODE_APPROVE, detail=f"would call {act.step.call}")
    if (pause := pausing(standing.pauses, rule.name, act.step.connector, now)) is not None:
        return Wait(min(pause.until or soon, soon), Why.PAUSED, detail=f"{pause.author}: {pause.reason}")
    if standing.state.held and not act.follow_up:
        return Wait(soon, standing.state.held.why)
    illness = standing.illnesses.get(act.step.connector or "")
    if illness is not None and now < illness.retry_at:
        return Wait(illness.retry_at, Why.CONNECTOR_ILL, detail=illness.reason)
    if illness is not None and used:  # one at a time asks whether it is well again
        return Wait(soon, Why.CONNECTOR_ILL, detail=illness.reason)
    busy = standing.busy.get(incident.object)
    if busy is not None and now < busy:
        return Wait(busy, Why.OBJECT_BUSY)
    recent = [call for call in standing.calls if call > now - HOUR]
    if len(recent) + used >= rule.guard.max_calls_per_hour:
        return Wait((recent[0] if recent else now) + HOUR, Why.CALLS_PER_HOUR)
    return act


def pausing(pauses: Iterable[Pause], rule: str, connector: str | None, now: datetime) -> Pause | None:
    """The pause that stops this act, if one does: of all, of the rule, or of the connector."""
    return next(
        (
            pause
            for pause in pauses
            if (pause.until is None or now < pause.until)
            and (pause.rule is None or pause.rule == rule)
            and (pause.connector is None or pause.connector == connector)
        ),
        None,
    )


@dataclass(frozen=True, slots=True)
class Census:
    """How many subjects of a rule are broken now, and out of how many (``None``: not known)."""

    broken: int
    population: int | None


def census(incidents: Iterable[Incident], population: int | None) -> Census:
    """All open broken subjects count, whatever their phase; people's exclusions and dismissals do not (law 19, last sentence)."""
    counted = [
        incident
        for incident in incidents
        if incident.live
        and incident.phase is not Phase.PROVED
        and incident.verdict in (Verdict.BROKEN, Verdict.UNKNOWN)
        and not (incident.marks.dismissed_by or incident.marks.excluded_by)
    ]
    return Census(len(counted), population)


def trip(guard: Guard, count: Census, now: datetime) -> Held | None:
    """Whether these numbers are beyond a ceiling: the number always, the percentage only from ten broken on (law 6)."""
    if count.broken > guard.max_broken:
        return Held(now, Why.MAX_BROKEN, count.broken, guard.max_broken, count.population)
    if count.broken >= PERCENT_FLOOR and count.population and 100 * count.broken / count.population > guard.max_broken_percent:
        return Held(now, Why.MAX_BROKEN_PERCENT, count.broken, guard.max_broken_percent, count.population)
    return None


def hold(rule: Rule, held: Held | None, count: Census, complete: bool, now: datetime) -> Held | None:
    """The guard's state after a look: trips at once, lets go only after a complete scan within both ceilings."""
    tripped = trip(rule.guard, count, now)
    if tripped is None and (complete or held is None):
        return None
    after = tripped or held
    assert after is not None
    told = rule.mode is not Mode.OBSERVE or (held is not None and held.told)
    return replace(after, since=held.since if held else now, told=told)
