"""What people are told: problems with their episodes, and notices as rows (law 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from daemon.domain.rule import Delivery, Severity


class NoticeKind(StrEnum):
    """Why a message goes out."""

    BEGIN = "begin"
    GROWTH = "growth"
    DEADLINE = "deadline"
    REMINDER = "reminder"
    END = "end"
    GUARD = "guard"
    GUARD_END = "guard_end"
    BLIND = "blind"
    BLIND_END = "blind_end"
    CONNECTOR_ILL = "connector_ill"
    CONNECTOR_WELL = "connector_well"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Problem:
    """What one thread of notices is about: a rule, a group, and the level (contact) that is told.

    ``episode`` counts its times of going from no told subject to some; ``active`` while some are. ``told`` is how many
    subjects the last message spoke of. ``delivered`` is filled by the store from the outbox: when the begin of this episode
    (or a later message of it) was first delivered; ``None`` as long as it was not.
    """

    id: str
    rule: str
    level: str
    group: str
    contact: str
    episode: int = 0
    active: bool = False
    sequence: int = 0
    told: int = 0
    begun: datetime | None = None
    last: datetime | None = None
    ended: datetime | None = None
    delivered: datetime | None = None
    deadline_told: datetime | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One message about one problem, as it was decided; a row of the outbox, unique by (problem, episode, kind, sequence).

    ``title`` and ``text`` are what every contact may read; ``ours`` is the engine's part (evidence, money, commands), never sent
    to an external contact; ``context`` is the structured evidence for Sentry. ``until`` is when it becomes pointless.
    """

    id: str
    problem: str
    rule: str
    episode: int
    kind: NoticeKind
    sequence: int
    contact: str
    severity: Severity
    at: datetime
    title: str
    text: str
    ours: str = ""
    group: str = ""
    count: int = 0
    incidents: tuple[str, ...] = ()
    deadline: datetime | None = None
    runbook: str = ""
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    context: Mapping[str, Any] = field(default_factory=dict)


class DeliveryState(StrEnum):
    """Where one notice is on one channel."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One notice on its way to one contact by one channel: what the notifier leases, sends and settles.

    ``position`` is the channel's place in the contact's list (the next is tried when it fails); ``mirror`` marks the copy that
    goes to ``alerts.via``. ``reference`` and ``thread`` are the channel's own words for this and for the episode's first message.
    """

    id: str
    notice: Notice
    contact: str
    via: str
    address: Mapping[str, str]
    position: int = 0
    mirror: bool = False
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    not_before: datetime | None = None
    reason: str = ""
    thread: str = ""
    epoch: int = 0
