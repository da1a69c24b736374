"""News, as values: what logs and metrics subscribe to. Rows are the truth; nothing reads these back (rule 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Requested:
    """One request to an outside system ended. ``operation``: records or call name; ``outcome``: ok, error, or an attempt's result."""

    connector: str
    operation: str
    outcome: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan came to its end, or failed. ``seconds`` is database time over all its slices."""

    rule: str
    candidates: int
    broken: int
    clean: int
    out: int
    unknown: int
    seconds: float
    complete: bool
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Sighted:
    """Sightings of one look, counted by verdict."""

    rule: str
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision changed for one incident: its phase and why. ``was``: the phase before; empty for a new incident."""

    rule: str
    incident: str
    key: str
    phase: str
    why: str
    detail: str = ""
    was: str = ""


@dataclass(frozen=True, slots=True)
class Attempted:
    """An attempt ended."""

    rule: str
    incident: str
    key: str
    step: str
    number: int
    result: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """An incident ended. ``seconds``: rule time from opening to end."""

    rule: str
    incident: str
    key: str
    resolution: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Noticed:
    """A notice was written, or its dispatch ended (``state``: written, done, failed, later)."""

    rule: str
    notice: str
    kind: str
    contact: str
    via: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GuardTripped:
    """A guard began (``held``) or ceased to hold a rule."""

    rule: str
    why: str
    broken: int
    held: bool


@dataclass(frozen=True, slots=True)
class CycleEnded:
    """A tenure was given back, or lost."""

    rule: str
    seconds: float
    fate: str


@dataclass(frozen=True, slots=True)
class Drilled:
    """A drill ended at a moment of rule time. ``stages``: seconds of rule time from planting to each stage it reached; ``why`` it
    failed. ``unreachable``: nothing was planted, since the system that plants could not be reached."""

    rule: str
    key: str
    ok: bool
    at: datetime
    stages: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something of ours or the outside went wrong and was survived; the sentence says what, the fields where."""

    sentence: str
    fields: Mapping[str, str] = field(default_factory=dict)


Event: TypeAlias = (
    Requested | Scanned | Sighted | Decided | Attempted | Resolved | Noticed | GuardTripped | CycleEnded | Drilled | Trouble
)
