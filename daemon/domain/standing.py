"""All that is known about one rule when a cycle begins: what the store holds, as one value.

A cycle reads this once, at its take; whatever others may change meanwhile is checked again by the gate (law 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.attempt import Attempt
from daemon.domain.directive import Directive, DirectiveKind
from daemon.domain.incident import Incident, Why
from daemon.domain.notice import Problem

__all__ = ["Directive", "DirectiveKind", "Held", "Illness", "Pause", "Progress", "RuleState", "Standing", "Telling"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A scan that is under way over several slices (law 15), and what they came to so far.

    ``digest``: the version of the rule that began it; another one begins anew. ``since``: the incremental lower bound, if any.
    ``high_water``: the latest movement met. ``doubt``: why the first that could not be judged could not.
    """

    began: datetime
    cursor: str | None = None
    candidates: int = 0
    broken: int = 0
    unknown: int = 0
    since: datetime | None = None
    digest: str = ""
    clean: int = 0
    out: int = 0
    high_water: datetime | None = None
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A tripped guard: since when, why, and on which numbers. ``told``: whether people were; a rule that only observes tells nobody."""

    since: datetime
    why: Why
    broken: int
    limit: float
    population: int | None = None
    told: bool = True


@dataclass(frozen=True, slots=True)
class RuleState:
    """What a rule remembers between cycles; stored whole in the rule's row by each commit.

    ``digest``: the version of the rule whose full scan ``last_full`` was. ``high_water``: up to where complete scans have seen
    what moves; only a scan that came to its end raises it.
    """

    progress: Progress | None = None
    last_complete: datetime | None = None
    last_full: datetime | None = None
    digest: str = ""
    high_water: datetime | None = None
    candidates: int | None = None
    population: int | None = None
    population_at: datetime | None = None
    held: Held | None = None
    unknown_since: datetime | None = None
    blind_told: bool = False
    unfinished_told: bool = False
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Acts are stopped: for one rule, one connector, or (both empty) all. Has an author and an end; looking goes on."""

    id: str
    author: str
    reason: str
    since: datetime
    until: datetime | None = None
    rule: str | None = None
    connector: str | None = None


@dataclass(frozen=True, slots=True)
class Illness:
    """A connector that refuses us (401, 403): since when, what it said, and when it may be tried again."""

    connector: str
    since: datetime
    reason: str
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Telling:
    """An open incident of another rule on the same object that is being told: who speaks first names the others."""

    object: str
    rule: str
    severity: int
    opened: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything a cycle starts from. ``incidents`` are the live ones; ``attempts`` the open ones by incident id,
    and those with an outcome that their incident does not know of yet.

    ``busy`` maps an object to the moment until which an attempt on it by *another incident* is in flight or settling.
    ``calls`` are the times of this rule's calls in the last hour, oldest first. ``unfinished``: cycles before this one that
    did not come to their end (law 18). ``foreign``: keys of live incidents that only newer code can read; their subjects are left
    alone (law 17). ``owner`` and ``severity`` (its rank) are those of the active version, or of the last one.
    """

    rule: str
    now: datetime
    state: RuleState = RuleState()
    scan_due: bool = False
    incidents: tuple[Incident, ...] = ()
    foreign: frozenset[str] = frozenset()
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    directives: tuple[Directive, ...] = ()
    pauses: tuple[Pause, ...] = ()
    illnesses: Mapping[str, Illness] = field(default_factory=dict)
    busy: Mapping[str, datetime] = field(default_factory=dict)
    tellings: tuple[Telling, ...] = ()
    calls: tuple[datetime, ...] = ()
    unfinished: int = 0
    owner: str = ""
    severity: int = 1
