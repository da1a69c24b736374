"""The read side of the store, as a port: what gauges, ``status``, ``explain`` and the command line's lists are made of.

Nothing here takes a lock or a tenure, and no decision reads it. All times are rule time, unless a name ends in ``_db``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from daemon.domain.attempt import Attempt
from daemon.domain.incident import Incident
from daemon.domain.notice import Dispatch
from daemon.domain.standing import Illness, Pause, RuleState


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule as the store has it: version, when it is due, who has it, what it remembers."""

    name: str
    digest: str
    active: bool
    mode: str
    owner: str
    severity: int
    state: RuleState
    next_scan: datetime | None = None
    next_visit: datetime | None = None
    holder: str | None = None
    until_db: datetime | None = None
    unfinished: int = 0


@dataclass(frozen=True, slots=True)
class RuleGauges:
    """How one rule stands: ``verdicts phases whys`` of live incidents; ``attempts resolutions notices`` of all times.

    ``attempts`` by result, open ones as ``open``; ``notices`` by kind; ``undelivered``: messages failed or late.
    ``at_risk``: money of live incidents per currency; ``oldest``: when the oldest live one was opened.
    """

    rule: str
    candidates: int | None = None
    last_complete: datetime | None = None
    held: bool = False
    verdicts: Mapping[str, int] = field(default_factory=dict)
    phases: Mapping[str, int] = field(default_factory=dict)
    whys: Mapping[str, int] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    resolutions: Mapping[str, int] = field(default_factory=dict)
    notices: Mapping[str, int] = field(default_factory=dict)
    undelivered: int = 0
    oldest: datetime | None = None
    at_risk: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gauges:
    """How all stands at one moment (rule time), the same on every replica."""

    now: datetime
    rules: Sequence[RuleGauges] = ()
    pauses: Sequence[Pause] = ()
    illnesses: Sequence[Illness] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of an incident's journal: written whenever its phase or its why changes."""

    at: datetime
    phase: str
    why: str
    verdict: str
    reason: str = ""
    cause: str | None = None
    resolution: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which incidents a list is about; everything that is set must hold. ``opened_before``: those at least that old."""

    rule: str | None = None
    cause: str | None = None
    phases: Sequence[str] = ()
    live: bool = True
    opened_before: datetime | None = None
    limit: int = 1000


class Archive(Protocol):
    """Reads for people and gauges. Raises ``Unreachable`` when the store cannot be reached."""

    async def now(self) -> datetime:
        """The moment, in rule time."""
        ...

    async def gauges(self) -> Gauges:
        """All gauges, of one moment."""
        ...

    async def rules(self) -> Sequence[RuleRow]:
        """Every rule there is a row of, by name."""
        ...

    async def incidents(self, wanted: Wanted) -> Sequence[Incident]:
        """Those wanted: by deadline, then age."""
        ...

    async def find(self, number: str) -> Sequence[Incident]:
        """By any number of an order: the incident's id or its beginning (6 or more), key, record key, object or its
        last part, or the value of a text among its facts. Live ones first, then newest first; at most 50."""
        ...

    async def attempts(self, incident: str) -> Sequence[Attempt]:
        """The ledger of one incident, oldest first, follow-ups included."""
        ...

    async def journal(self, incident: str) -> Sequence[Entry]:
        """What happened to it, oldest first."""
        ...

    async def told(self, incident: str) -> Sequence[Dispatch]:
        """The messages that named it, oldest first, with what became of each."""
        ...

    async def pauses(self) -> Sequence[Pause]:
        """Those in force."""
        ...

    async def illnesses(self) -> Sequence[Illness]:
        """Connectors that refuse us."""
        ...

    async def undelivered(self, limit: int = 100) -> Sequence[Dispatch]:
        """Messages that failed, or that are late, oldest first."""
        ...
