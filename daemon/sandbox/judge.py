"""Whether a planted fault came to the end that its scenario gives: pure, the same for both faces.

subjects, their incidents, what the world counted ─▶ ``judge`` ─▶ Verdict: seen, and what differs from the expected
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from daemon.domain.incident import Incident, Phase, Resolution
from daemon.sandbox.scenario import Ends, Scenario
from daemon.sandbox.world import Subject, World

CROWD = 100
"""From so many copies on, a fault is judged by its rule alone, not by the incident of each copy."""

_WELL = (Resolution.HEALED, Resolution.HANDLED, Resolution.SELF_HEALED)


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to judge by. ``incidents`` by rule and key; ``held`` are rules; ``pages`` the calls for people, by rule."""

    incidents: Mapping[tuple[str, str], Incident]
    calls: Mapping[str, int]
    told: frozenset[tuple[str, str]]
    held: frozenset[str] = frozenset()
    pages: Mapping[str, int] | None = None

    def incident(self, rule: str, subject: Subject) -> Incident | None:
        """What the rule opened for it, under whichever of its names."""
        found = (self.incidents.get((rule, name)) for name in (subject.key, *sorted(subject.names)))
        return next((one for one in found if one is not None), None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one fault ended. ``calls``: requests about each object; ``healed_in``: rule time, the slowest copy's."""

    name: str
    rule: str
    planted: int
    expected: str
    seen: str
    calls: str
    healed_in: timedelta | None
    differs: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it ended as its scenario says."""
        return not self.differs


def seen(
    world: World,
    incidents: Iterable[Incident],
    held: frozenset[str] = frozenset(),
    pages: Mapping[str, int] | None = None,
) -> Seen:
    """All there is to judge by, with what the world counted. Of several incidents with one key the last counts."""
    told = frozenset((message.to, subject.key) for message in world.messages for subject in world.subjects_named(message.text))
    return Seen({(one.rule, one.key): one for one in incidents}, Counter(made.object for made in world.calls), told, held, pages)


def judge(scenario: Scenario, subjects: Sequence[Subject], all_seen: Seen) -> Verdict:
    """Compare the end of each of its subjects with the expected one."""
    ends = scenario.ends
    states = Counter(_state(scenario, subject, all_seen) for subject in subjects)
    calls = [all_seen.calls.get(subject.key, 0) for subject in subjects]
    incidents = [all_seen.incident(scenario.rule, subject) for subject in subjects]
    waits = [one.ended - one.opened for one in incidents if one and one.ended and one.resolution in _WELL]
    return Verdict(
        scenario.name,
        scenario.rule,
        len(subjects),
        expected(ends),
        ", ".join(f"{state}" if len(states) == 1 else f"{state} {n}" for state, n in sorted(states.items())),
        _span(min(calls, default=0), max(calls, default=0)),
        max(waits, default=None),
        tuple(_differences(scenario, subjects, states, calls, all_seen)),
    )


def expected(ends: Ends) -> str:
    """The end in a few words."""
    more = [f"told {ends.told}" if ends.told else "", f"pages {ends.pages}" if ends.pages is not None else ""]
    return ", ".join(part for part in (ends.state, *more) if part)


def _state(scenario: Scenario, subject: Subject, all_seen: Seen) -> str:
    if scenario.rule in all_seen.held:
        return "held"
    incident = all_seen.incident(scenario.rule, subject)
    if incident is None:
        return "unknown" if scenario.ends.unknown else "not found"
    return (incident.phase is Phase.RESOLVED and incident.resolution) or incident.phase


def _differences(scenario: Scenario, subjects: Sequence[Subject], states: Counter[str], calls: Sequence[int], all_seen: Seen) -> list[str]:
    ends, wrong = scenario.ends, []
    if set(states) != {ends.state}:
        wrong.append(f"ended {', '.join(sorted(states)) or 'not at all'}, not {ends.state}")
    if ends.calls and not all(number in ends.calls for number in calls):
        wrong.append(f"{_span(min(calls), max(calls))} calls, not {ends.calls}")
    if ends.told and not all((ends.told, subject.key) in all_seen.told for subject in subjects):
        wrong.append(f"{ends.told} was not told")
    if ends.pages is not None and (all_seen.pages or {}).get(scenario.rule, 0) != ends.pages:
        wrong.append(f"{(all_seen.pages or {}).get(scenario.rule, 0)} pages, not {ends.pages}")
    if waiting := sum(subject.waiting for subject in subjects):
        wrong.append(f"{waiting} of its moments did not come")
    return wrong


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least}–{most}"
