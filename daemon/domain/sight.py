"""Sightings: one dated look at one subject, and the pure judgement that makes a verdict from what was read.

A record goes through the clauses in stages: before each lookup, whoever a clause has ruled out already is dropped and not
asked about. Nothing here asks anything; the engine does, and hands the answers in as a scope in which whatever could not
be known is ``Unknown``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from daemon.domain.rule import Clause, Detect, Diagnose, Expr, Rule
from daemon.domain.value import Money, Record, Scope, Unknown, Value


class Verdict(StrEnum):
    """What a look at a subject found."""

    BROKEN = "broken"
    CLEAN = "clean"
    GONE = "gone"
    UNKNOWN = "unknown"


OUT_OF_SCOPE = "out_of_scope"
ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Because:
    """One clause with what it gave: ``True``, ``False``, or ``None`` and the reason it could not be judged."""

    text: str
    value: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at one subject, dated by the start of its request minus the source's lag (law 9).

    ``facts`` are the record's fields and its lookups; ``reason`` says why for gone and unknown. ``since`` is what the grace
    counts from if the rule says so; ``cause`` is set after diagnosis, ``undiagnosed`` when the diagnosis was not to be known.
    """

    key: str
    record_key: str
    verdict: Verdict
    at: datetime
    object: str = ""
    facts: Scope = field(default_factory=dict)
    because: tuple[Because, ...] = ()
    reason: str = ""
    since: datetime | None = None
    value: Money | None = None
    deadline: datetime | None = None
    cause: str | None = None
    undiagnosed: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one slice of listing brought. ``complete`` once the last slice is; ``failed`` says why a listing stopped."""

    began: datetime
    ended: datetime
    candidates: int
    clean: int
    out: int
    sightings: tuple[Sighting, ...]
    doubts: tuple[str, ...] = ()
    cursor: str | None = None
    complete: bool = False
    failed: str = ""
