"""What a cycle wants written, as values: the store writes each of them in one transaction, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

from daemon.domain.attempt import Attempt
from daemon.domain.incident import Incident
from daemon.domain.notice import Dispatch, Notice, Problem
from daemon.domain.standing import Illness, RuleState
from daemon.domain.value import Timescale


@dataclass(frozen=True, slots=True)
class Tenure:
    """A replica's right to run one cycle of one rule (law 3). Times ending in ``_db`` are database time.

    ``anchor`` is the replica's monotonic clock just before the take was sent, ``anchored`` just after its answer came: the
    database time of any later moment lies between ``now_db + (t - anchored)`` and ``now_db + (t - anchor)``.
    """

    rule: str
    digest: str
    holder: str
    epoch: int
    now_db: datetime
    until_db: datetime
    anchor: float
    anchored: float
    timescale: Timescale
    scan_due: bool

    def earliest(self, monotonic: float) -> datetime:
        """Rule time that this moment is certainly not before; what a look begun now is dated with (law 9)."""
        return self.timescale.rule(self.now_db + timedelta(seconds=monotonic - self.anchored))

    def latest(self, monotonic: float) -> datetime:
        """Rule time that this moment is certainly not after; what an end is dated with."""
        return self.timescale.rule(self.now_db + timedelta(seconds=monotonic - self.anchor))

    def left(self, monotonic: float) -> timedelta:
        """How much of the lease is certainly left (law 16)."""
        return self.until_db - (self.now_db + timedelta(seconds=monotonic - self.anchor))


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """A rule as a replica holds it. ``every`` is rule time."""

    name: str
    digest: str
    every: timedelta
    max_calls_per_hour: int
    severity: int
    owner: str
    mode: str


@dataclass(frozen=True, slots=True)
class Change:
    """All that one commit writes. ``id`` lets a commit without an answer be read back (law 18).

    ``incidents``: each replaces the stored one whose version it carries; version 0 is a new one. The store raises versions by one.
    ``closed``: open attempts that crashed, now with an outcome. ``obeyed``: ids of directives. ``dispatches`` belong to ``notices``.
    ``ill`` and ``well``: connectors that fell ill or got well. ``state`` replaces the rule's; ``None`` leaves it.
    """

    rule: str
    incidents: tuple[Incident, ...] = ()
    closed: tuple[Attempt, ...] = ()
    problems: tuple[Problem, ...] = ()
    notices: tuple[Notice, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()
    obeyed: tuple[str, ...] = ()
    ill: tuple[Illness, ...] = ()
    well: tuple[str, ...] = ()
    state: RuleState | None = None
    id: str = field(default_factory=lambda: uuid4().hex)

    def stored(self) -> dict[str, Incident]:
        """The incidents as the store has them once this is committed: each one version on."""
        return {one.id: replace(one, version=one.version + 1) for one in self.incidents}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.state is None and not (
            self.incidents or self.closed or self.problems or self.notices or self.obeyed or self.ill or self.well
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """An attempt that wants to be let through the gate, with the incident as it becomes by being let in."""

    attempt: Attempt
    incident: Incident


@dataclass(frozen=True, slots=True)
class Conclusion:
    """An attempt with its outcome, and the incident as it becomes by it (``None``: the outcome alone is recorded)."""

    attempt: Attempt
    incident: Incident | None


class Fenced(Exception):
    """The tenure is over: its epoch was raised or its lease ran out. Nothing was written."""


class Conflict(Exception):
    """An incident was written by somebody else since it was read. Nothing was written."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """When the rule is due again (rule time). ``None`` leaves what the store has; a finished cycle that names no visit gets the
    least ``due`` of its live incidents. ``finished``: the cycle came to its end.
    """

    scan_at: datetime | None = None
    visit_at: datetime | None = None
    finished: bool = True
