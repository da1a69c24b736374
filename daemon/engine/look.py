"""Looking: what the systems say now, as sightings. A scan finds, the question by key decides (law 1).

Records go in full pages through the lookups in the order written, each asked only for what no clause has ruled out yet
(law 15, rule-language sentence 4). What could not be known stands in the scope as ``Unknown`` and concludes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from daemon.domain.incident import Incident
from daemon.domain.rule import Lookup, ResolveOn, Rule
from daemon.domain.shape import Absent, Answer, Page, Present, Role
from daemon.domain.sight import (
    ABSENT,
    Sighting,
    Verdict,
    diagnosed,
    normal_key,
    one_record,
    sighting,
    told_apart,
    undecided,
)
from daemon.domain.value import Record, Unknown, Value
from daemon.engine.ports import Connector

MutableScope = dict[str, Value]
Wanted = Callable[[Mapping[str, Value], frozenset[str]], bool]

_NOT_ASKED: Final = "not asked, another clause had settled it"


@dataclass(frozen=True, slots=True)
class Found:
    """What one page of a listing came to: sightings of broken and unknown subjects, the rest counted and dropped.

    ``well``: keys of those that are not broken, of a rule that remembers what it told (law 8); of others none.
    """

    sightings: tuple[Sighting, ...]
    candidates: int
    clean: int
    out: int
    doubts: tuple[str, ...]
    well: tuple[str, ...] = ()

    @property
    def broken(self) -> int:
        """How many were seen broken."""
        return sum(seen.verdict is Verdict.BROKEN for seen in self.sightings)

    @property
    def unknown(self) -> int:
        """How many could not be judged, rows without a key included."""
        return len(self.sightings) - self.broken + len(self.doubts)


def lag(rule: Rule, connectors: Mapping[str, Connector]) -> timedelta:
    """How old the answers that a verdict of this rule rests on may be (database time)."""
    lookups = (*rule.detect.lookups, *(rule.diagnose.lookups if rule.diagnose else ()))
    return max(connectors[name].lag for name in {rule.detect.connector, *(lookup.connector for lookup in lookups)})


async def inspect_page(rule: Rule, page: Page, connectors: Mapping[str, Connector], at: datetime, now: datetime) -> Found:
    """One page of a scan: who is broken, who cannot be judged, and how many were neither."""
    key = connectors[rule.detect.connector].shape.records[rule.detect.records].key
    scopes: list[MutableScope] = [{**record, "now": now} for record in page.records]
    await _enrich(rule.detect.lookups, scopes, connectors, _wanted(rule, new=True), fresh=False)
    seen: list[Sighting] = []
    well: list[str] = []
    clean = out = 0
    for record, scope in zip(page.records, scopes, strict=True):
        found = sighting(rule, record, scope, at, new=True)
        if rule.resolve_on is ResolveOn.DELIVERY and (found is None or found.verdict is Verdict.CLEAN):
            own = normal_key(rule.detect.key(scope))
            well += [own] if isinstance(own, str) else []
        if found is None:
            out += 1
        elif found.verdict is Verdict.CLEAN:
            clean += 1
        else:
            seen.append(_keyed(found, record.get(key)))
    apart = told_apart(replace(one, facts=_facts(rule, one.facts, connectors)) for one in seen if one.key)
    doubts = (*page.unreadable, *(one.reason for one in seen if not one.key))
    return Found(tuple(apart.values()), len(page.records) + len(page.unreadable), clean, out, doubts, tuple(well))


def _keyed(seen: Sighting, value: Value) -> Sighting:
    record_key = normal_key(value)
    if isinstance(record_key, Unknown):
        return replace(seen, verdict=Verdict.UNKNOWN, key="", reason=f"the record's own key: {record_key.reason}")
    return replace(seen, record_key=record_key)


async def visit(
    rule: Rule, incidents: Sequence[Incident], connectors: Mapping[str, Connector], at: datetime, now: datetime, fresh: bool
) -> Mapping[str, Sighting]:
    """Each incident's subject asked for by key, without window or filter (law 1): incident id → sighting."""
    source = connectors[rule.detect.connector]
    key = source.shape.records[rule.detect.records].key
    answers = await source.ask(rule.detect.records, key, {incident.record_key for incident in incidents}, fresh)
    found: dict[str, Sighting] = {}
    present: list[tuple[Incident, Record]] = []
    for incident in incidents:
        match _its_own(rule, incident, answers.get(incident.record_key, Unknown("the key was not answered")), now):
            case Absent():
                found[incident.id] = _without(incident, Verdict.GONE, ABSENT, at)
            case Unknown(reason):
                found[incident.id] = _without(incident, Verdict.UNKNOWN, reason, at)
            case Present(records):
                present.append((incident, records[0]))
    return {**found, **await _judged(rule, present, connectors, at, now, fresh)}


def _without(incident: Incident, verdict: Verdict, reason: str, at: datetime) -> Sighting:
    return Sighting(incident.key, incident.record_key, verdict, at, incident.object, reason=reason)


def _its_own(rule: Rule, incident: Incident, answer: Answer, now: datetime) -> Answer:
    """The one record of an answer that is this subject's; several different ones are unknown."""
    if not isinstance(answer, Present) or len(answer.records) == 1:
        return answer
    own = [record for record in answer.records if rule.detect.key({**record, "now": now}) == incident.key]
    match one_record(own):
        case None:
            return Unknown("of the records that were answered none has this subject's key")
        case Unknown() as doubt:
            return doubt
        case record:
            return Present((record,))


async def _judged(
    rule: Rule, present: Sequence[tuple[Incident, Record]], connectors: Mapping[str, Connector], at: datetime, now: datetime, fresh: bool
) -> Mapping[str, Sighting]:
    scopes: list[MutableScope] = [{**record, "now": now} for _, record in present]
    await _enrich(rule.detect.lookups, scopes, connectors, _wanted(rule, new=False), fresh)
    found: dict[str, Sighting] = {}
    sick: list[tuple[Incident, MutableScope]] = []
    for (incident, record), scope in zip(present, scopes, strict=True):
        seen = sighting(rule, record, scope, at, new=False, key=incident.key)
        assert seen is not None  # only a scan finds records that are not ours
        found[incident.id] = replace(seen, record_key=incident.record_key)
        if seen.verdict is Verdict.BROKEN or (seen.verdict is Verdict.CLEAN and rule.on_resolved):
            sick.append((incident, scope))
    if rule.diagnose is not None and sick:
        await _enrich(rule.diagnose.lookups, [scope for _, scope in sick], connectors, lambda scope, known: True, fresh)
        for incident, scope in sick:
            found[incident.id] = _with_cause(rule, found[incident.id], scope)
    return {id: replace(seen, facts=_facts(rule, seen.facts, connectors)) for id, seen in found.items()}


def _with_cause(rule: Rule, seen: Sighting, scope: MutableScope) -> Sighting:
    if rule.diagnose is None or seen.verdict is not Verdict.BROKEN:
        return replace(seen, facts=scope)
    cause = diagnosed(rule.diagnose, scope)
    if isinstance(cause, Unknown):
        return replace(seen, facts=scope, undiagnosed=cause.reason)
    return replace(seen, facts=scope, cause=cause)


def _wanted(rule: Rule, new: bool) -> Wanted:
    return lambda scope, known: undecided(rule.detect, scope, known, new)


async def _enrich(
    lookups: Sequence[Lookup], scopes: Sequence[MutableScope], connectors: Mapping[str, Connector], wanted: Wanted, fresh: bool
) -> None:
    """Each lookup asked once, for all scopes that still want it; its answer stands in the scope under its name."""
    known: frozenset[str] = frozenset()
    for lookup in lookups:
        asking = [scope for scope in scopes if wanted(scope, known)]
        for scope in scopes:
            scope[lookup.name] = Unknown(_NOT_ASKED)
        await _look_up(lookup, asking, connectors[lookup.connector], fresh)
        known |= {lookup.name}


async def _look_up(lookup: Lookup, scopes: Sequence[MutableScope], connector: Connector, fresh: bool) -> None:
    keys = [_keys(lookup, scope) for scope in scopes]
    asked = {key for some in keys if not isinstance(some, Unknown) for key in some}
    answers = await connector.ask(lookup.records, lookup.by, asked, fresh) if asked else {}
    for scope, some in zip(scopes, keys, strict=True):
        scope[lookup.name] = some if isinstance(some, Unknown) else _answered(lookup, [answers.get(key) for key in some])


def _keys(lookup: Lookup, scope: Mapping[str, Value]) -> tuple[str, ...] | Unknown:
    """The keys to ask for; none when a parent was found absent; unknown when one of them is (law 2)."""
    for parent in lookup.needs:
        if isinstance(value := scope.get(parent), Unknown):
            return Unknown(f"{parent}: {value.reason}")
        if value is None:
            return ()
    found: list[str] = []
    for expr in lookup.keys:
        value = expr(scope)
        for one in value if isinstance(value, list | tuple) else (value,):
            key = normal_key(one)
            if isinstance(key, Unknown):
                return key
            found.append(key)
    return tuple(dict.fromkeys(found))


def _answered(lookup: Lookup, answers: Sequence[Answer | None]) -> Value:
    """A record or null, or a list of them with ``many``; one unknown key makes the whole lookup unknown."""
    records: list[Record] = []
    for answer in answers:
        match answer:
            case None:
                return Unknown("a key was not answered")
            case Unknown():
                return answer
            case Present(some):
                records.extend(some)
    if lookup.many:
        return records
    return one_record(records)


def _facts(rule: Rule, scope: Mapping[str, Value], connectors: Mapping[str, Connector]) -> Mapping[str, Value]:
    """What of a scope may be kept with an incident: no clock, nothing personal, nothing that was not asked."""
    lookups = {lookup.name: lookup for lookup in (*rule.detect.lookups, *(rule.diagnose.lookups if rule.diagnose else ()))}
    facts: dict[str, Value] = {}
    for name, value in scope.items():
        if name == "now" or (isinstance(value, Unknown) and name in lookups and value.reason == _NOT_ASKED):
            continue
        if name in lookups:
            found = lookups[name]
            facts[name] = _impersonal(value, _personal(connectors[found.connector], found.records))
        elif name not in _personal(connectors[rule.detect.connector], rule.detect.records):
            facts[name] = value
    return facts


def _personal(connector: Connector, records: str) -> frozenset[str]:
    fields = connector.shape.records[records].fields
    return frozenset(name for name, field in fields.items() if field.role is Role.PERSONAL)


def _impersonal(value: Value, personal: frozenset[str]) -> Value:
    if not personal:
        return value
    if isinstance(value, Mapping):
        return {name: item for name, item in value.items() if name not in personal}
    return [_impersonal(item, personal) for item in value] if isinstance(value, list) else value
