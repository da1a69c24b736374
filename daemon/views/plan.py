"""What ``plan`` and ``scan`` answer: what would be done now, request by request; what was seen now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from daemon.domain.attempt import Request
from daemon.domain.decide import Act, Close, Decision, Escalate, Wait
from daemon.domain.incident import Incident
from daemon.domain.sight import Scan, Sighting, Verdict
from daemon.domain.standing import Held
from daemon.engine.propose import Proposal
from daemon.views.request import curl
from daemon.views.text import Line, away, columns, moment


@dataclass(frozen=True, slots=True)
class Planned:
    """One incident and what would become of it. ``known``: the store has it already; else this look found it."""

    incident: str
    key: str
    object: str
    known: bool
    move: str
    why: str
    detail: str = ""
    until: datetime | None = None
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A proposal as people read it."""

    rule: str
    now: datetime
    planned: tuple[Planned, ...]
    held: Held | None

    @property
    def found(self) -> bool:
        """Whether there is anything broken."""
        return any(one.move != "close" for one in self.planned)


def plan(proposal: Proposal) -> Plan:
    """The proposal, flattened."""
    planned = (
        replace(_planned(incident, decision), request=proposal.requests.get(incident.id)) for incident, decision in proposal.decisions
    )
    return Plan(proposal.rule, proposal.now, tuple(planned), proposal.held)


def _planned(incident: Incident, decision: Decision) -> Planned:
    one = Planned(incident.id, incident.key, incident.object, incident.version > 0, "", incident.why.value)
    match decision:
        case Act(step, number):
            return replace(one, move="call", why="", detail=f"{step.connector}.{step.call}, attempt {number}")
        case Wait(until, why, _, detail):
            return replace(one, move="wait", why=why.value, detail=detail, until=until)
        case Escalate(why, quarantine):
            return replace(one, move="quarantine" if quarantine else "escalate", why=why.value)
        case Close(resolution, why):
            return replace(one, move="close", why=why.value, detail=resolution.value)


def plan_lines(answer: Plan, zone: tzinfo) -> Iterator[Line]:
    """The plan as text: a row per incident, then the requests, ready to be read."""
    yield Line(f"{answer.rule}, {moment(answer.now, zone)} (rule time): {_summary(answer.planned)}", "head")
    if answer.held:
        yield Line(f"  held by its guard: {answer.held.why} ({answer.held.broken} broken)", "warn")
    rows = [(one.key, one.move, one.why, one.detail, away(one.until, answer.now) if one.until else "") for one in answer.planned]
    yield from (Line(text) for text in (columns(rows, "  ")))
    for one in answer.planned:
        if one.request:
            yield Line(f"  {one.key}:", "dim")
            yield Line(f"    {curl(one.request)}")


def _summary(planned: Sequence[Planned]) -> str:
    moves: dict[str, int] = {}
    for one in planned:
        moves[one.move] = moves.get(one.move, 0) + 1
    return ", ".join(f"{count} {move}" for move, count in moves.items()) or "nothing to do"


def scan_lines(rule: str, scan: Scan, zone: tzinfo, limit: int | None = None) -> Iterator[Line]:
    """A scan as text: the counts, then a row per sighting that is not clean."""
    broken = sum(seen.verdict is Verdict.BROKEN for seen in scan.sightings)
    unknown = len(scan.sightings) - broken
    counts = f"{scan.candidates} read, {broken} broken, {unknown} unknown, {scan.clean} clean, {scan.out} not ours"
    yield Line(f"{rule}, {moment(scan.ended, zone)} (rule time): {counts}", "head")
    if scan.failed:
        yield Line(f"  the listing stopped: {scan.failed}", "bad")
    elif not scan.complete:
        yield Line("  the listing was not read to its end", "warn")
    rows = [_row(seen, zone) for seen in scan.sightings[:limit]]
    yield from (Line(text) for text in (columns(rows, "  ")))
    if limit is not None and len(scan.sightings) > limit:
        yield Line(f"  … and {len(scan.sightings) - limit} more", "dim")
    yield from (Line(f"  doubt: {doubt}", "warn") for doubt in scan.doubts)


def _row(seen: Sighting, zone: tzinfo) -> tuple[str, ...]:
    value = f"{seen.value.amount} {seen.value.currency}" if seen.value else "—"
    since = f"since {moment(seen.since, zone)}" if seen.since else ""
    return (seen.key, seen.verdict.value, value, seen.cause or "", since, seen.reason)
