"""Sightings: one dated look at one subject, and the pure judgement that makes a verdict from what was read.

A record goes through the clauses in stages: before each lookup, whoever a clause has ruled out already is dropped and not
asked about. Nothing here asks anything; the engine does, and hands the answers in as a scope in which whatever could not
be known is ``Unknown``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from daemon.domain.rule import Clause, Detect, Diagnose, Expr, Rule
from daemon.domain.value import Money, Record, Scope, Unknown, Value


class Verdict(StrEnum):
    """What a look at a subject found."""

    BROKEN = "broken"
    CLEAN = "clean"
    GONE = "gone"
    UNKNOWN = "unknown"


OUT_OF_SCOPE = "out_of_scope"
ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Because:
    """One clause with what it gave: ``True``, ``False``, or ``None`` and the reason it could not be judged."""

    text: str
    value: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at one subject, dated by the start of its request minus the source's lag (law 9).

    ``facts`` are the record's fields and its lookups; ``reason`` says why for gone and unknown. ``since`` is what the grace
    counts from if the rule says so; ``cause`` is set after diagnosis, ``undiagnosed`` when the diagnosis was not to be known.
    """

    key: str
    record_key: str
    verdict: Verdict
    at: datetime
    object: str = ""
    facts: Scope = field(default_factory=dict)
    because: tuple[Because, ...] = ()
    reason: str = ""
    since: datetime | None = None
    value: Money | None = None
    deadline: datetime | None = None
    cause: str | None = None
    undiagnosed: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one slice of listing brought. ``complete`` once the last slice is; ``failed`` says why a listing stopped."""

    began: datetime
    ended: datetime
    candidates: int
    clean: int
    out: int
    sightings: tuple[Sighting, ...]
    doubts: tuple[str, ...] = ()
    cursor: str | None = None
    complete: bool = False
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason and every clause that was judged. ``verdict`` is ``None`` when the record is not ours."""

    verdict: Verdict | None
    reason: str
    because: tuple[Because, ...]


def undecided(detect: Detect, scope: Scope, known: frozenset[str], new: bool) -> bool:
    """Whether asking on is worth it: no clause that can be judged by now has settled the verdict.

    A false ``broken`` clause settles it always; a false ``match`` clause only for a record met in a scan, because for an open
    incident out of scope and clean are different ends.
    """
    settling = (*detect.broken, *detect.match) if new else detect.broken
    return not any(clause.needs <= known and clause.expr(scope) is False for clause in settling)


def judge(detect: Detect, scope: Scope, new: bool) -> Judgement:
    """The verdict on one record with all its lookups; ``rule-language.md`` section 5 has the table.

    ``new``: met in a scan. Otherwise the record of an open incident, asked for by key.
    """
    broken, because_broken = _conjunction(detect.broken, scope)
    match, because_match = _conjunction(detect.match, scope)
    because = (*because_match, *because_broken)
    if new and match is False:
        return Judgement(None, OUT_OF_SCOPE, because)
    if broken is False:
        return Judgement(Verdict.CLEAN, "", because)
    if isinstance(broken, Unknown):
        return Judgement(Verdict.UNKNOWN, broken.reason, because)
    if isinstance(match, Unknown):
        return Judgement(Verdict.UNKNOWN, match.reason, because)
    if match is False:
        return Judgement(Verdict.GONE, OUT_OF_SCOPE, because)
    return Judgement(Verdict.BROKEN, "", because)


def _conjunction(clauses: tuple[Clause, ...], scope: Scope) -> tuple[bool | Unknown, tuple[Because, ...]]:
    """All of them; a false one wins over an error in another, an error over a true one."""
    values = [(clause, clause.expr(scope)) for clause in clauses]
    because = tuple(_because(clause, value) for clause, value in values)
    if any(value is False for _, value in values):
        return False, because
    doubt = next((f"{reason.text}: {reason.reason}" for reason in because if reason.value is None), None)
    return (True if doubt is None else Unknown(doubt)), because


def _because(clause: Clause, value: Value) -> Because:
    if isinstance(value, bool):
        return Because(clause.expr.text, value)
    reason = value.reason if isinstance(value, Unknown) else "gave neither true nor false"
    return Because(clause.expr.text, None, reason)


def unreadable_field(record: Record) -> str | None:
    """The first field of a record that could not be read, as a reason; ``None`` when all could."""
    return next((f"{name}: {value.reason}" for name, value in record.items() if isinstance(value, Unknown)), None)


def normal_key(value: Value) -> str | Unknown:
    """The one normaliser of keys (law 14): text, trimmed. Null, empty and everything else is no key (law 2)."""
    match value:
        case Unknown():
            return value
        case None:
            return Unknown("the key is null")
        case str() if value.strip():
            return value.strip()
        case str():
            return Unknown("the key is empty")
    return Unknown(f"the key is a {type(value).__name__}, not text")


def sighting(rule: Rule, record: Record, scope: Scope, at: datetime, new: bool, key: str | None = None) -> Sighting | None:
    """What one look at one record found; ``None`` when it is not ours. ``key`` is the incident's, when there is one.

    A record with a field that could not be read is never called broken, whatever its clauses say (law 2).
    """
    detect = rule.detect
    judged = judge(detect, scope, new)
    if judged.verdict is None:
        return None
    own = normal_key(detect.key(scope)) if key is None else key
    verdict, reason = judged.verdict, judged.reason
    if verdict is Verdict.BROKEN and (doubt := unreadable_field(record)):
        verdict, reason = Verdict.UNKNOWN, doubt
    if isinstance(own, Unknown):
        verdict, reason, own = Verdict.UNKNOWN, own.reason, ""
    return Sighting(
        key=own, record_key="", verdict=verdict, at=at, facts=scope, because=judged.because, reason=reason,
        object=_object(rule, own, scope), since=_moment(detect.since, scope), value=_money(detect, scope), deadline=_moment(detect.deadline, scope),
    )  # fmt: skip


def _object(rule: Rule, key: str, scope: Scope) -> str:
    named = rule.detect.object(scope) if rule.detect.object else None
    return named if isinstance(named, str) and named else f"{rule.name}/{key}"


def _moment(expr: Expr | None, scope: Scope) -> datetime | None:
    value = expr(scope) if expr else None
    return value if isinstance(value, datetime) else None


def _money(detect: Detect, scope: Scope) -> Money | None:
    if detect.value is None:
        return None
    amount, currency = detect.value.amount(scope), detect.value.currency(scope)
    if not isinstance(currency, str) or isinstance(amount, bool) or not isinstance(amount, int | float | Decimal | str):
        return None
    try:
        return Money(Decimal(str(amount)), currency)
    except InvalidOperation:
        return None


def diagnosed(diagnose: Diagnose, scope: Scope) -> str | Unknown:
    """The cause: the first whose condition is true names it, none of them is ``other``; unknown when that cannot be said."""
    for cause in diagnose.causes:
        match cause.when.expr(scope):
            case True:
                name = cause.name(scope)
                return name if isinstance(name, str | Unknown) and name else "other"
            case False:
                continue
            case doubt:
                return doubt if isinstance(doubt, Unknown) else Unknown(f"{cause.when.expr.text}: neither true nor false")
    return "other"


def one_record(records: Sequence[Record]) -> Record | Unknown | None:
    """Where one is meant: none is null, equal ones are one, different ones are unknown."""
    if not records:
        return None
    if all(record == records[0] for record in records[1:]):
        return records[0]
    return Unknown(f"{len(records)} different records fit where one is meant")


def told_apart(sightings: Iterable[Sighting]) -> Mapping[str, Sighting]:
    """Sightings of one scan by key: equal twins are one, different ones make that subject unknown."""
    found: dict[str, Sighting] = {}
    for seen in sightings:
        twin = found.get(seen.key)
        if twin is not None and (twin.facts != seen.facts or twin.record_key != seen.record_key):
            seen = Sighting(seen.key, seen.record_key, Verdict.UNKNOWN, seen.at, reason="met twice in a scan with different records")
        found[seen.key] = seen
    return found
