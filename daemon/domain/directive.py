"""A person's word about incidents: written as a row, obeyed by the rule's next cycle (law 22)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DirectiveKind(StrEnum):
    """A person's words about incidents."""

    CLAIM = "claim"
    RELEASE = "release"
    RETRY = "retry"
    DISMISS = "dismiss"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class Directive:
    """A person's word, written as a row, obeyed by the rule's next cycle. ``until`` is rule time, ``None`` for no end."""

    id: str
    kind: DirectiveKind
    rule: str
    incident: str
    author: str
    reason: str
    at: datetime
    until: datetime | None = None
