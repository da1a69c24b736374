"""Values for tests by short names: rules whose expressions are plain functions, incidents, sightings, attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.domain.attempt import Attempt, Outcome, Request, Result
from daemon.domain.incident import Incident, StepState
from daemon.domain.rule import Clause, Contact, Detect, Level, Mode, Rule, Step
from daemon.domain.sight import Sighting, Verdict
from daemon.domain.value import Place, Scope, Unknown, Value

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday, noon in Moscow."""


def at(minutes: float) -> datetime:
    """So many minutes after T0."""
    return T0 + timedelta(minutes=minutes)


def minutes(number: float) -> timedelta:
    """A duration."""
    return timedelta(minutes=number)


HERE = Place("rules/test.yaml", 1, 1)


@dataclass(frozen=True)
class Expression:
    """An expression that is a Python function of the scope; a name it misses makes it unknown, as in CEL."""

    function: Callable[[Scope], Value]
    text: str = "expression"
    place: Place = HERE
    reads: frozenset[str] = frozenset()

    def __call__(self, scope: Scope) -> Value:
        try:
            return self.function(scope)
        except KeyError as missing:
            return Unknown(f"no such name: {missing}")


def field(name: str) -> Expression:
    """`${name}`."""
    return Expression(lambda scope: scope[name], name)


def constant(value: Value) -> Expression:
    """A value that never changes."""
    return Expression(lambda scope: value, repr(value))


def clause(function: Callable[[Scope], Value], *needs: str, text: str = "clause") -> Clause:
    """A condition, with the lookups it needs."""
    return Clause(Expression(function, text), frozenset(needs))


@dataclass(frozen=True)
class Words:
    """A text for people."""

    text: str

    def __call__(self, scope: Scope, show: Callable[[Value], str]) -> str:
        found = self.text
        for name, value in scope.items():
            found = found.replace("${" + name + "}", show(value))
        return found


UPLOAD = Step(id="upload", connector="api", call="upload", args={"id": field("number")})


def rule(**changes: Any) -> Rule:
    """Orders that are `bad`; one step `upload` of three attempts, then the owner is told. Keys of `detect` may be given too."""
    detect = Detect(
        connector="shop", records="orders", match=(clause(lambda s: s["ours"], text="ours"),),
        broken=(clause(lambda s: s["bad"], text="bad"),), key=field("number"), grace=minutes(15),
    )  # fmt: skip
    fields = {name: changes.pop(name) for name in list(changes) if name in Detect.__dataclass_fields__}
    base = Rule(
        name="stuck", digest="d1", title="Stuck orders", owner="team", runbook="docs/runbooks/stuck.md", detect=replace(detect, **fields),
        place=Place("rules/stuck.yaml", 1, 1), mode=Mode.ENFORCE, ladder=(UPLOAD,), escalate=(Level(id="team", to="team"),),
    )  # fmt: skip
    return replace(base, **changes)


def incident(**changes: Any) -> Incident:
    """An incident opened at T0 and just seen broken then."""
    base = Incident(
        id="i1", rule="stuck", digest="d1", key="N1", record_key="N1", object="order/N1", opened=T0, since=T0, last=T0, seen=T0,
        facts={"number": "N1", "bad": True, "ours": True},
    )  # fmt: skip
    return replace(base, **changes)


def seen(incident_at: datetime, **changes: Any) -> Incident:
    """An incident whose last look was at that time."""
    return incident(last=incident_at, seen=incident_at, **changes)


def sight(verdict: Verdict, when: datetime, **changes: Any) -> Sighting:
    """A sighting of N1."""
    facts = {"number": "N1", "bad": verdict is Verdict.BROKEN, "ours": True}
    return replace(Sighting("N1", "N1", verdict, when, "order/N1", facts), **changes)


def state(**changes: Any) -> StepState:
    """A rung begun at T0."""
    return replace(StepState(began=T0), **changes)


def attempt(result: Result | None = None, ended: datetime | None = None, **changes: Any) -> Attempt:
    """An attempt of `upload`, begun at T0; with an outcome if a result is given."""
    request = Request("api", "upload", {"id": "N1"}, "POST", "http://127.0.0.1/upload", idempotency_key="k")
    base = Attempt(
        id="a1", incident="i1", rule="stuck", object="order/N1", step="upload", number=1, digest="d1", request=request, begun=T0,
        ends_by=at(1), holder="me", epoch=1,
    )  # fmt: skip
    if result is not None:
        base = replace(base, outcome=Outcome(result), ended=ended or at(0.5))
    return replace(base, **changes)


class Always:
    """Hours that never close."""

    def is_open(self, at: datetime) -> bool:
        return True

    def opens(self, at: datetime) -> datetime:
        return at

    def after(self, at: datetime, worked: timedelta) -> datetime:
        return at + worked


def contacts(*names: str) -> Mapping[str, Contact]:
    """Contacts that are always there, told by the channel `chat`."""
    from daemon.domain.rule import ChannelRef

    return {name: Contact(name, name, (ChannelRef("chat", {"room": name}),), Always()) for name in names}
