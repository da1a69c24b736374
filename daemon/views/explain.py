"""Why it did, why it does not, when it will: anything that can be said about any number of an order.

    number ─▶ archive.find ──────────▶ dossiers, each with its outlook
          └─▶ every rule's source asked by each of its keys ─▶ what the rule makes of it now

The second half asks the systems themselves and needs connectors; it is what can say *no rule looks at this* and *seen,
not ours*. It takes nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo

from daemon.domain.decide import done_with
from daemon.domain.incident import Incident, Phase, Why
from daemon.domain.rule import Mode, Rule, Step
from daemon.domain.shape import Present
from daemon.domain.sight import Because, Sighting, Verdict, normal_key
from daemon.domain.value import Unknown
from daemon.engine.archive import Archive
from daemon.engine.look import visit
from daemon.engine.ports import Connector
from daemon.views.incident import Dossier, attempt_lines, dossier, journal_lines, meant, told_lines
from daemon.views.text import Line, away, moment, visible

_MEANING: Mapping[Why, str] = {
    Why.GRACE: "it is not broken for long enough yet (`for`)",
    Why.BACKOFF: "the last request is to be repeated later",
    Why.SETTLING: "the last attempt may still show its effect (`settle`)",
    Why.WAITING: "the world gets time to heal by itself",
    Why.DIAGNOSING: "its cause is being looked for",
    Why.UNDIAGNOSED: "its cause could not be known in time",
    Why.LADDER_SPENT: "every remediation step was tried",
    Why.REFUSED: "the system refused the call for good",
    Why.PAUSED: "a person paused it",
    Why.MODE_OBSERVE: "its rule only observes",
    Why.MODE_APPROVE: "its rule waits for a person's approval",
    Why.CLAIMED: "a person has taken it",
    Why.DISMISSED: "a person dismissed it",
    Why.EXCLUDED: "a person excluded it",
    Why.QUARANTINED: "it used up the attempts of its whole life",
    Why.PARKED: "its rule is gone or disabled",
    Why.MAX_BROKEN: "too many are broken at once: the rule's guard holds everything",
    Why.MAX_BROKEN_PERCENT: "too large a part is broken at once: the rule's guard holds everything",
    Why.CALLS_PER_HOUR: "the rule's calls of this hour are used up",
    Why.RAMP: "earlier attempts have to be proved first",
    Why.OBJECT_BUSY: "another attempt on the same object is under way",
    Why.RATE: "the connector's rate is used up for the moment",
    Why.BREAKER_OPEN: "the connector failed too often lately",
    Why.CONNECTOR_ILL: "the connector refuses us (401, 403)",
    Why.LEASE_SHORT: "this replica's turn was over; the next one goes on",
    Why.UNKNOWN: "it could not be judged",
    Why.HOURS: "the contact is out of hours",
    Why.TOLD: "people were told and it is still broken",
    Why.DEADLINE: "its deadline is near",
    Why.PROVED: "it was seen healthy",
    Why.ABSENT: "its record is not there any more",
    Why.OUT_OF_SCOPE: "its record is not the rule's business any more",
}


@dataclass(frozen=True, slots=True)
class Probed:
    """What one rule makes of the number now; ``trouble`` says why its source could not be asked."""

    rule: str
    mode: Mode
    source: str
    sighting: Sighting | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer."""

    number: str
    now: datetime
    stored: tuple[tuple[Dossier, tuple[str, ...]], ...]
    probed: tuple[Probed, ...]
    asked: bool

    @property
    def known(self) -> bool:
        """Whether anybody knows this number."""
        return bool(self.stored or any(one.sighting for one in self.probed))


async def explain(number: str, archive: Archive, rules: Mapping[str, Rule], connectors: Mapping[str, Connector] | None) -> Explanation:
    """Find it and ask for it; without ``connectors`` only what is stored. Raises ``Unreachable`` for the store."""
    now = await archive.now()
    found = [await dossier(archive, incident) for incident in meant(number, await archive.find(number))]
    stored = tuple((one, tuple(outlook(rules.get(one.incident.rule), one.incident, now))) for one in found)
    if connectors is None:
        return Explanation(number, now, stored, (), False)
    told = {(one.incident.rule, one.incident.key) for one in found if one.incident.live}
    probed = [one for rule in rules.values() for one in await probe(rule, number, connectors, now)]
    fresh = tuple(one for one in probed if not one.sighting or (one.rule, one.sighting.key) not in told)
    return Explanation(number, now, stored, fresh, True)


async def probe(rule: Rule, number: str, connectors: Mapping[str, Connector], now: datetime) -> list[Probed]:
    """Ask the rule's source for the number by every key it takes, and let the rule judge what it has."""
    source = connectors[rule.detect.connector]
    records = source.shape.records[rule.detect.records]
    name = f"{rule.detect.connector}.{rule.detect.records}"
    answers = [
        (await source.ask(rule.detect.records, by, [number], False)).get(number, Unknown("not answered")) for by in sorted(records.by)
    ]
    doubts = [answer.reason for answer in answers if isinstance(answer, Unknown)]
    if len(doubts) == len(answers):  # one field that cannot hold such a number is no trouble, an answer to none is
        return [Probed(rule.name, rule.mode, name, trouble="; ".join(dict.fromkeys(doubts)))]
    found = [record for answer in answers if isinstance(answer, Present) for record in answer.records]
    keys = {key for record in found if isinstance(key := normal_key(record.get(records.key)), str)}
    seen = await visit(rule, [_asked(rule, key, now) for key in sorted(keys)], connectors, now, now, False) if keys else {}
    return [Probed(rule.name, rule.mode, name, sighting) for sighting in seen.values()]


def _asked(rule: Rule, key: str, now: datetime) -> Incident:
    """What ``visit`` needs to ask for one record that is no incident."""
    return Incident(key, rule.name, rule.digest, key, key, "", now, now)


def outlook(rule: Rule | None, incident: Incident, now: datetime) -> Iterator[str]:
    """What keeps it where it is, what happens next and when, a sentence each."""
    if not incident.live:
        yield f"ended as {incident.resolution} {away(incident.ended, now)}: {_MEANING[incident.why]}"
        return
    detail = f" ({visible(incident.reason)})" if incident.reason else ""
    yield f"{incident.phase}: {_MEANING[incident.why]}{detail}"
    if incident.due:
        yield f"it is looked at again {away(incident.due, now)}"
    if rule is None:
        yield "no rule of this name is loaded here, so what comes next is not known"
    elif incident.phase is Phase.OPEN:
        yield from _ahead(rule, incident, now)
    if incident.deadline:
        yield f"its deadline is {away(incident.deadline, now)}"


def _ahead(rule: Rule, incident: Incident, now: datetime) -> Iterator[str]:
    if rule.mode in (Mode.OBSERVE, Mode.APPROVE):
        yield f"nothing is called while the rule's mode is {rule.mode}"
    begun = [index for index, step in enumerate(rule.ladder) if step.id in incident.steps]
    for step in rule.ladder[max(begun, default=0) :]:
        state = incident.steps.get(step.id)
        if state is None:
            yield f"if it is still broken then: {_step(step)}"
        elif not done_with(step, state, now):
            yield f"if it is still broken then: {_step(step)}, of which {state.tries} used"
    people = ", then ".join(dict.fromkeys(level.to for level in rule.escalate))
    if people:
        yield f"after that a person is told: {people}"


def _step(step: Step) -> str:
    if step.wait is not None:
        return "time to heal by itself"
    return f"{step.connector}.{step.call}, up to {step.attempts} attempts"


def explain_lines(answer: Explanation, zone: tzinfo) -> Iterator[Line]:
    """The answer as text."""
    for one, sentences in answer.stored:
        yield from _stored(one, sentences, zone)
    yield from (line for one in answer.probed for line in _probed(one, zone))
    if answer.known:
        return
    if not answer.asked:
        yield Line(f"nothing is stored about {visible(answer.number)}; the systems were not asked", "warn")
    elif not any(one.trouble for one in answer.probed):
        yield Line(f"no rule looks at {visible(answer.number)}: no source that is watched has it under any of its keys", "warn")


def _stored(one: Dossier, sentences: Iterable[str], zone: tzinfo) -> Iterator[Line]:
    incident = one.incident
    yield Line(f"{incident.rule} / {visible(incident.key)} (incident {incident.id[:8]})", "head")
    yield from (Line(f"  {sentence}") for sentence in sentences)
    yield from attempt_lines(one.attempts, zone)
    yield from journal_lines(one.journal, zone)
    yield from told_lines(one.told, zone)


def _probed(one: Probed, zone: tzinfo) -> Iterator[Line]:
    if one.sighting is None:
        yield Line(f"{one.rule}: {one.source} could not be asked: {visible(one.trouble)}", "bad")
        return
    seen = one.sighting
    yield Line(f"{one.rule} / {visible(seen.key)}: {_verdict(seen)}", "head")
    yield from (Line(f"  {_clause(because)}") for because in seen.because)
    if seen.verdict is Verdict.BROKEN:
        since = f"since {moment(seen.since, zone)}" if seen.since else "from now on"
        disabled = ", but the rule is disabled" if one.mode is Mode.DISABLED else ""
        yield Line(f"  it is opened by the rule's next scan and acted on once broken {since} for long enough{disabled}")


def _verdict(seen: Sighting) -> str:
    match seen.verdict:
        case Verdict.UNKNOWN if any(one.value is False for one in seen.because):
            return "seen, not ours"  # one false clause is enough: what another could not tell does not matter
        case Verdict.GONE:
            return "seen, not ours" if seen.because else f"seen, {seen.reason}"
        case Verdict.CLEAN:
            return "seen, healthy"
        case Verdict.BROKEN:
            return "broken, no incident yet"
        case Verdict.UNKNOWN:
            return f"could not be judged: {visible(seen.reason)}"


def _clause(because: Because) -> str:
    word = {True: "is true", False: "is false", None: f"is not known: {because.reason}"}[because.value]
    return visible(f"`{because.text}` {word}")
