"""The read side of the store, as a port: what views, metrics and the command line ask. Frozen answers, no locks, no tenure.

Everything here comes from rows that all replicas share, so every replica gives the same answer. Words that only label an
answer (phase, why, result …) are text: a newer replica's word is shown as it stands. Times are rule time, unless a name
ends in ``_db``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from daemon.domain.attempt import Attempt
from daemon.domain.incident import Incident
from daemon.domain.notice import Notice
from daemon.domain.standing import Directive, Illness, Pause, RuleState


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule as it stands. ``holder`` has it until ``until_db``; nobody when that is past. Other times are rule time.

    ``oldest``: when the oldest live incident was opened. ``unfinished``: cycles begun since one came to its end.
    """

    name: str
    digest: str
    revision: int
    active: bool
    mode: str
    owner: str
    severity: int
    every: timedelta
    max_calls: int
    next_scan_at: datetime | None
    next_visit_at: datetime | None
    holder: str | None
    until_db: datetime | None
    unfinished: int
    oldest: datetime | None
    state: RuleState


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which incidents. ``phases`` empty: all live ones. ``older``: opened longer ago than this.

    ``needs_person``: escalated or quarantined, and neither claimed, dismissed nor excluded now.
    """

    rule: str | None = None
    phases: tuple[str, ...] = ()
    cause: str | None = None
    older: timedelta = timedelta(0)
    needs_person: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of an incident's journal: its phase or its why became another."""

    incident: str
    rule: str
    key: str
    at: datetime
    phase: str
    why: str
    verdict: str
    cause: str | None
    resolution: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Way:
    """A notice on one channel to one contact. ``ended``: when it was done or given up."""

    contact: str
    via: str
    mirror: bool
    position: int
    state: str
    tries: int
    not_before: datetime | None
    reason: str
    reference: str
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Told:
    """A notice with all its ways to people."""

    notice: Notice
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened: an incident's new phase (``word``) with its why, or an attempt of a step (``word``) with its
    result (``open`` while it has none)."""

    at: datetime
    rule: str
    incident: str
    key: str
    kind: str
    word: str
    why: str
    reason: str


@dataclass(frozen=True, slots=True)
class RuleGauges:
    """How one rule stands, in numbers. What is totalled never falls: pruned rows stay counted.

    ``phases`` and ``whys`` count live incidents; ``at_risk`` sums their money per currency, proved ones left out;
    ``resolutions``, ``attempts`` (by result, ``open`` among them) and ``notices`` (by kind and state) are totals;
    ``calls`` are the attempts that may have reached the other side, ``calls_last_hour`` those of them begun in the last hour
    of rule time. ``undelivered``: notices that reached nobody yet though somebody tried. ``needs_person``: escalated or
    quarantined, and neither claimed, dismissed nor excluded now. Of live incidents that are not proved, ``deadlines_near``
    have less than ``FIRST_LEAD`` left, ``deadlines_missed`` nothing.
    """

    row: RuleRow
    phases: Mapping[str, int] = field(default_factory=dict)
    whys: Mapping[str, int] = field(default_factory=dict)
    at_risk: Mapping[str, Decimal] = field(default_factory=dict)
    resolutions: Mapping[str, int] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    calls: int = 0
    calls_last_hour: int = 0
    notices: Mapping[tuple[str, str], int] = field(default_factory=dict)
    undelivered: int = 0
    needs_person: int = 0
    deadlines_near: int = 0
    deadlines_missed: int = 0


@dataclass(frozen=True, slots=True)
class Gauges:
    """Everything the gauges show, at one moment (``now``: rule time)."""

    now: datetime
    rules: tuple[RuleGauges, ...]
    illnesses: tuple[Illness, ...]
    pauses: tuple[Pause, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """A rule's balance. Incidents by how they ended, by their last resolution; ``escalated`` counts those that ever were.

    ``median`` and ``longest``: rule time from opening to end of the healed ones; ``None`` when there are none.
    """

    rule: str
    found: int = 0
    live: int = 0
    healed: int = 0
    handled: int = 0
    self_healed: int = 0
    gone: int = 0
    dismissed: int = 0
    told: int = 0
    escalated: int = 0
    calls: int = 0
    median: timedelta | None = None
    longest: timedelta | None = None


class NotUnique(ValueError):
    """Several incidents begin with that; the message names them."""


class Archive(Protocol):
    """What was and is, for reading. Every method raises ``Unreachable`` when the store cannot be asked."""

    async def now(self) -> datetime:
        """Rule time."""
        ...

    async def rules(self) -> Sequence[RuleRow]:
        """All rules ever activated, by name."""
        ...

    async def incidents(self, wanted: Wanted = Wanted()) -> Sequence[Incident]:
        """Those that are wanted, oldest first."""
        ...

    async def incident(self, id: str) -> Incident | None:
        """The one of that id, or the only one whose id begins so. Raises ``NotUnique``."""
        ...

    async def find(self, text: str, limit: int = 20) -> Sequence[Incident]:
        """Whatever a number pasted from a chat may mean, whatever its case: a part of key, record key or object, the beginning
        of an id, or exactly one of the facts. Live ones first, then the newest."""
        ...

    async def attempts(self, incident: str) -> Sequence[Attempt]:
        """Its attempts, in the order they were begun."""
        ...

    async def journal(self, incident: str) -> Sequence[Entry]:
        """What happened to it, in order."""
        ...

    async def words(self, incident: str) -> Sequence[Directive]:
        """What people said about it, in order."""
        ...

    async def notices(self, incident: str | None = None, problem: str | None = None) -> Sequence[Told]:
        """What people were told about an incident or a problem (neither: everything), in order."""
        ...

    async def undelivered(self) -> Sequence[Told]:
        """Notices that reached nobody yet though somebody tried."""
        ...

    async def pauses(self) -> Sequence[Pause]:
        """Those that run."""
        ...

    async def illnesses(self) -> Sequence[Illness]:
        """Connectors that refuse us."""
        ...

    async def gauges(self) -> Gauges:
        """What metrics and ``status`` show."""
        ...

    async def recent(self, limit: int) -> Sequence[Happening]:
        """The last things that happened, oldest first."""
        ...

    async def totals(self) -> Sequence[Totals]:
        """A balance per rule, by name."""
        ...
