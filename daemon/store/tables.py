"""The rows of the memory store: the tables of the schema as dicts of values, by their primary keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.attempt import Attempt
from daemon.domain.incident import Incident
from daemon.domain.notice import Dispatch, Notice, Problem
from daemon.domain.standing import Directive, Illness, Pause, RuleState
from daemon.engine.archive import Entry
from daemon.engine.change import RuleVersion

NOTHING = RuleState()


def least(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


@dataclass(slots=True)
class RuleEntry:
    """A row of the table ``rule``."""

    version: RuleVersion
    revision: int
    active: bool = True
    next_scan_at: datetime | None = None
    next_visit_at: datetime | None = None
    holder: str | None = None
    epoch: int = 0
    until_db: datetime | None = None
    unfinished: int = 0
    nudged: bool = False
    state: RuleState = NOTHING

    @property
    def due(self) -> datetime | None:
        return least(self.next_scan_at, self.next_visit_at)


@dataclass(slots=True)
class Sending:
    """A row of the table ``dispatch``: the value beside what the outbox keeps to itself."""

    dispatch: Dispatch
    place: int
    reference: str = ""
    ended: datetime | None = None
    epoch: int = 0
    until_db: datetime | None = None


@dataclass(slots=True)
class Tables:
    """All rows, by their primary keys."""

    revision: int = 0
    rules: dict[str, RuleEntry] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    journal: list[Entry] = field(default_factory=list)
    problems: dict[str, Problem] = field(default_factory=dict)
    delivered: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    notices: dict[str, Notice] = field(default_factory=dict)
    dispatches: dict[str, Sending] = field(default_factory=dict)
    directives: dict[str, Directive] = field(default_factory=dict)
    obeyed: set[str] = field(default_factory=set)
    pauses: dict[str, Pause] = field(default_factory=dict)
    resumed: set[str] = field(default_factory=set)
    illnesses: dict[str, Illness] = field(default_factory=dict)
    rates: dict[str, datetime] = field(default_factory=dict)
    committed: set[str] = field(default_factory=set)
