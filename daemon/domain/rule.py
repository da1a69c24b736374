"""A rule as it runs: parsed, checked, defaults and overrides filled in, expressions compiled. Frozen.

The language makes these; everything behind it only reads them. An expression is a value with one method, so the domain
needs no expression engine and a test can write ``lambda scope: …`` behind a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeAlias

from daemon.domain.value import Place, Scope, Value


class Expr(Protocol):
    """A compiled condition or value. Gives ``Unknown`` with the reason when it errs; never raises, never a truthy error."""

    @property
    def text(self) -> str:
        """As the rule has it."""
        ...

    @property
    def place(self) -> Place:
        """Where it stands."""
        ...

    @property
    def reads(self) -> frozenset[str]:
        """The top-level names it reads (fields, lookups, ``cause``, ``incident`` …)."""
        ...

    def __call__(self, scope: Scope) -> Value:
        """The value in this scope, or ``Unknown``. A name that is ``Unknown`` or missing in the scope gives ``Unknown``."""
        ...


Show: TypeAlias = Callable[[Value], str]
"""How a value reads to one person: zone, language, number format; null and ``Unknown`` as a dash."""


class Text(Protocol):
    """A text for people with holes; holes that err read as a dash, so a message can always be made."""

    @property
    def text(self) -> str:
        """As the rule has it."""
        ...

    def __call__(self, scope: Scope, show: Show) -> str:
        """The text with its holes filled, each value shown by ``show``. Never raises."""
        ...


class Hours(Protocol):
    """Opening hours of a contact, in its zone."""

    def is_open(self, at: datetime) -> bool:
        """Whether the contact works at this moment."""
        ...

    def opens(self, at: datetime) -> datetime | None:
        """The earliest moment at or after ``at`` when it works; ``None``: never again."""
        ...

    def after(self, at: datetime, worked: timedelta) -> datetime | None:
        """The moment when ``worked`` time of its hours has passed since ``at``; ``None``: never."""
        ...


class Mode(StrEnum):
    """How much a rule may do; ``rule-language.md`` section 5."""

    DISABLED = "disabled"
    OBSERVE = "observe"
    APPROVE = "approve"
    ENFORCE = "enforce"


class Severity(StrEnum):
    """The mixins' scale."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 is the most severe."""
        return (Severity.CRITICAL, Severity.WARNING, Severity.INFO).index(self)


class Delivery(StrEnum):
    """After an unknown outcome with nothing to be seen: again, or never again."""

    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"


class GroupBy(StrEnum):
    """What one message is about."""

    CAUSE = "cause"
    RULE = "rule"
    SUBJECT = "subject"


class ResolveOn(StrEnum):
    """``proof``: a state that must be seen clean; ``delivery``: an event that ends when it has been told."""

    PROOF = "proof"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of a list (the list is an *and*), with the lookups it needs before it can be judged."""

    expr: Expr
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lookup:
    """A question by key to other records. Several key expressions, or one that gives a list, ask for several keys.

    ``needs`` are the earlier lookups its keys read; a parent found absent makes this one absent, unasked.
    """

    name: str
    connector: str
    records: str
    by: str
    keys: tuple[Expr, ...]
    many: bool = False
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MoneyAt:
    """Where the money at risk is read."""

    amount: Expr
    currency: Expr


@dataclass(frozen=True, slots=True)
class Detect:
    """What is broken: source, scope, lookups, verdict, identity, grace."""

    connector: str
    records: str
    match: tuple[Clause, ...]
    broken: tuple[Clause, ...]
    key: Expr
    where: str | Mapping[str, Value] | None = None
    lookups: tuple[Lookup, ...] = ()
    object: Expr | None = None
    grace: timedelta = timedelta(minutes=15)
    since: Expr | None = None
    value: MoneyAt | None = None
    deadline: Expr | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """The first whose condition is true names the cause."""

    name: Expr
    when: Clause


@dataclass(frozen=True, slots=True)
class Diagnose:
    """Asked for broken subjects only."""

    lookups: tuple[Lookup, ...] = ()
    causes: tuple[Cause, ...] = ()
    timeout: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after ``later``: full jitter under ``initial * factor**n``, at most ``max``."""

    initial: timedelta = timedelta(minutes=1)
    factor: float = 2.0
    max: timedelta = timedelta(minutes=30)

    def ceiling(self, laters: int) -> timedelta:
        """The longest wait after the n-th ``later`` in a row, n from 1. Saturates at ``max``."""
        grown = self.initial.total_seconds() * self.factor ** min(laters - 1, 64)
        return timedelta(seconds=min(grown, self.max.total_seconds()))


@dataclass(frozen=True, slots=True)
class Step:
    """A rung of the ladder or a follow-up: exactly one of a call and a ``wait``. ``id`` is its identity across edits."""

    id: str
    connector: str | None = None
    call: str | None = None
    wait: timedelta | None = None
    when: Expr | None = None
    args: Mapping[str, Expr] = field(default_factory=dict)
    attempts: int = 3
    backoff: Backoff = Backoff()
    settle: timedelta = timedelta(minutes=5)
    timeout: timedelta = timedelta(hours=6)
    delivery: Delivery = Delivery.AT_MOST_ONCE


@dataclass(frozen=True, slots=True)
class CardForm:
    """A card to go beside a message: its title, and by label the only rows that may stand on it."""

    title: Text
    rows: tuple[tuple[str, Text], ...]


@dataclass(frozen=True, slots=True)
class TableForm:
    """A table to go beside a message: where its list is read, and what the file is called."""

    rows: Expr
    name: Text


@dataclass(frozen=True, slots=True)
class Level:
    """A level of ``escalate``: whom, when and with which words. ``id`` is its identity across edits."""

    id: str
    to: str
    when: Expr | None = None
    after: timedelta = timedelta(0)
    before_deadline: timedelta | None = None
    message: Text | None = None
    line: Text | None = None
    group_by: GroupBy = GroupBy.CAUSE
    attach: tuple[CardForm | TableForm, ...] = ()
    repeat: timedelta | None = None
    delivery: Delivery = Delivery.AT_LEAST_ONCE


@dataclass(frozen=True, slots=True)
class Guard:
    """Ceilings of a rule; ``rule-language.md`` section 2."""

    max_broken: int = 100
    max_broken_percent: float = 20.0
    max_calls_per_hour: int = 200
    max_attempts: int = 10
    relapse: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule (one member of a family). ``digest`` identifies its exact text, defaults and overrides included."""

    name: str
    digest: str
    title: str
    owner: str
    runbook: str
    detect: Detect
    place: Place
    severity: Severity = Severity.WARNING
    mode: Mode = Mode.OBSERVE
    every: timedelta = timedelta(minutes=5)
    diagnose: Diagnose | None = None
    ladder: tuple[Step, ...] = ()
    escalate: tuple[Level, ...] = ()
    on_resolved: tuple[Step, ...] = ()
    resolve_on: ResolveOn = ResolveOn.PROOF
    guard: Guard = Guard()

    def step(self, id: str) -> Step | None:
        """The rung of that identity, if this version of the rule has it."""
        return next((step for step in (*self.ladder, *self.on_resolved) if step.id == id), None)


@dataclass(frozen=True, slots=True)
class ChannelRef:
    """One way to a contact: the connector that can tell, and the address in its own words (chat, thread …)."""

    via: str
    address: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Contact:
    """A team or chat. An external one gets the message and its lines only: no evidence, commands, money."""

    name: str
    title: str
    channels: tuple[ChannelRef, ...]
    hours: Hours
    timezone: str = "UTC"
    language: str = "ru"
    external: bool = False
    rate_per_hour: int = 60
    fallback: str | None = None
    send_resolved: bool = True
