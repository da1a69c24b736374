"""One try of one step: its request, its outcome, its reply, and what each outcome means for the ladder.

``rule-language.md`` section 5 has the table of outcomes; ``recorded`` in ``incident.py`` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    """What became of an attempt. ``not_sent`` is for our own reason and uses nothing up."""

    DONE = "done"
    REFUSED = "refused"
    LATER = "later"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"


CONNECTOR_ILL = "connector_ill"
"""Reason of a ``later`` that is the connector's fault, not the order's: 401, 403 (law 21)."""

CRASHED = "crashed"
"""Reason of an ``unknown`` that we caused ourselves: the sender never recorded an outcome (law 4)."""

NOT_CONNECTED = "not_connected"
"""Reason of a ``later``: no connection was made, so nothing can have arrived."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call as it will go over the wire, whole but for credentials; what is stored, printed and approved is this."""

    connector: str
    call: str
    args: Mapping[str, Any]
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, bounded and without secrets. ``body`` is text, cut at 4 KiB by whoever makes this."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The edge's classification of one request. ``retry_at_db`` is database time (from ``Retry-After``)."""

    result: Result
    reason: str = ""
    retry_at_db: datetime | None = None
    reply: Reply | None = None
    reference: str = ""
    """Of a delivered message: what the channel calls it (a thread can go on from it)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of the ledger. Open while ``outcome`` is ``None``; in flight for others until ``ends_by`` (law 16).

    ``number`` counts the attempts of the incident's step from 1; ``holder`` and ``epoch`` are the sender's.
    """

    id: str
    incident: str
    rule: str
    object: str
    step: str
    number: int
    digest: str
    request: Request
    begun: datetime
    ends_by: datetime
    holder: str
    epoch: int
    follow_up: bool = False
    outcome: Outcome | None = None
    ended: datetime | None = None
    settled: datetime | None = None
    """Until when the object is settling after this attempt; others wait as ``object_busy`` (law 7)."""
