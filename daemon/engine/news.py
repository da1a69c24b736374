"""From what was committed to events for logs and metrics. Emitted after the commit, never read back (rule of the house 7)."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.domain.incident import Incident
from daemon.domain.rule import Rule
from daemon.domain.standing import RuleState
from daemon.engine.change import Change
from daemon.engine.events import Decided, GuardTripped, Noticed, Resolved
from daemon.engine.ports import Events


def announce(events: Events, rule: Rule, before: Iterable[Incident], state: RuleState, change: Change) -> None:
    """Tell what this commit changed: decisions, ends, notices, the guard."""
    known = {incident.id: incident for incident in before}
    for incident in change.incidents:
        _incident(events, rule, known.get(incident.id), incident)
    for notice in change.notices:
        events(Noticed(rule.name, notice.id, notice.kind, notice.contact, "", "written"))
    if change.state is not None and (change.state.held is None) is not (state.held is None):
        held = change.state.held or state.held
        assert held is not None
        events(GuardTripped(rule.name, held.why, held.broken, change.state.held is not None))


def _incident(events: Events, rule: Rule, was: Incident | None, incident: Incident) -> None:
    if was is None or (was.phase, was.why) != (incident.phase, incident.why):
        events(Decided(rule.name, incident.id, incident.key, incident.phase, incident.why, incident.reason, was.phase if was else ""))
    if not incident.live and incident.resolution and incident.ended and (was is None or was.live):
        seconds = (incident.ended - incident.opened).total_seconds()
        events(Resolved(rule.name, incident.id, incident.key, incident.resolution, seconds))
