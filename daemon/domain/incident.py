"""The durable life of one broken subject: its state as a value, and the transitions that make the next one.

open → escalated → …; the phases and their moves are drawn in ``docs/architecture.md``. History stays in the ledger; an
incident carries only what the next decision reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.domain.attempt import Result
from daemon.domain.sight import Verdict
from daemon.domain.value import Money, Scope, Value


class Phase(StrEnum):
    """Where an incident is in its life; section 2a of the design."""

    OPEN = "open"
    ESCALATED = "escalated"
    QUARANTINED = "quarantined"
    PARKED = "parked"
    PROVED = "proved"
    RESOLVED = "resolved"


class Resolution(StrEnum):
    """How it ended."""

    HEALED = "healed"
    HANDLED = "handled"
    SELF_HEALED = "self_healed"
    GONE = "gone"
    DISMISSED = "dismissed"
    TOLD = "told"


class Why(StrEnum):
    """The named reason of a decision: the same word in log, metric label, ``explain`` and test. A closed list."""

    GRACE = "grace"
    BACKOFF = "backoff"
    SETTLING = "settling"
    WAITING = "waiting"
    DIAGNOSING = "diagnosing"
    UNDIAGNOSED = "undiagnosed"
    LADDER_SPENT = "ladder_spent"
    REFUSED = "refused"
    PAUSED = "paused"
    MODE_OBSERVE = "mode_observe"
    MODE_APPROVE = "mode_approve"
    CLAIMED = "claimed"
    DISMISSED = "dismissed"
    EXCLUDED = "excluded"
    QUARANTINED = "quarantined"
    PARKED = "parked"
    MAX_BROKEN = "max_broken"
    MAX_BROKEN_PERCENT = "max_broken_percent"
    CALLS_PER_HOUR = "calls_per_hour"
    RAMP = "ramp"
    OBJECT_BUSY = "object_busy"
    RATE = "rate"
    BREAKER_OPEN = "breaker_open"
    CONNECTOR_ILL = "connector_ill"
    LEASE_SHORT = "lease_short"
    UNKNOWN = "unknown"
    HOURS = "hours"
    TOLD = "told"
    DEADLINE = "deadline"
    PROVED = "proved"
    ABSENT = "absent"
    OUT_OF_SCOPE = "out_of_scope"


@dataclass(frozen=True, slots=True)
class StepState:
    """What has happened on one rung, found by the step's identity (law 11). All times are rule time.

    ``tries`` counts what may have arrived; ``laters`` the ``later`` in a row; ``spent``: done with, whatever its attempts.
    ``ill_since`` stops the step's timeout while the connector is ill (law 21). ``extra``: the one try after our own crash was used.
    """

    began: datetime
    tries: int = 0
    laters: int = 0
    result: Result | None = None
    reason: str = ""
    at: datetime | None = None
    settle_until: datetime | None = None
    retry_at: datetime | None = None
    ill_since: datetime | None = None
    spent: bool = False
    extra: bool = False
    response: Value = None


@dataclass(frozen=True, slots=True)
class Marks:
    """What people said, beside the phase, with author and end: they stop acts and messages, never looking (section 2a)."""

    claimed_by: str | None = None
    claimed_until: datetime | None = None
    dismissed_by: str | None = None
    dismissed_until: datetime | None = None
    excluded_by: str | None = None
    excluded_until: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """The durable life of one broken subject. ``seen`` dates the last look that was not unknown, ``last`` any look.

    ``level``: the highest level of ``escalate`` this subject has reached, by the level's identity → when (rule time).
    ``credit``: an attempt of ours was ``done`` or ``unknown`` in this life. ``total`` counts attempts over all lives.
    ``version`` is raised by every write; the store refuses a write that is not based on the stored one.
    """

    id: str
    rule: str
    digest: str
    key: str
    record_key: str
    object: str
    opened: datetime
    since: datetime
    phase: Phase = Phase.OPEN
    last: datetime | None = None
    seen: datetime | None = None
    verdict: Verdict = Verdict.BROKEN
    reason: str = ""
    facts: Scope = field(default_factory=dict)
    cause: str | None = None
    undiagnosed_since: datetime | None = None
    unknown_since: datetime | None = None
    value: Money | None = None
    deadline: datetime | None = None
    steps: Mapping[str, StepState] = field(default_factory=dict)
    levels: Mapping[str, datetime] = field(default_factory=dict)
    marks: Marks = Marks()
    total: int = 0
    credit: bool = False
    handled: bool = False
    proved_at: datetime | None = None
    ended: datetime | None = None
    resolution: Resolution | None = None
    relapses: int = 0
    due: datetime | None = None
    why: Why = Why.GRACE
    version: int = 0

    @property
    def live(self) -> bool:
        """Whether it still stands open in any phase."""
        return self.phase is not Phase.RESOLVED
