"""What a connector can do, as a value: kinds of records with typed fields, and calls with parameters.

Shapes come from connector kinds and ``config.yaml``; the language checks rules against them offline; the engine reads
from them which field asks for one record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Literal, TypeAlias

from daemon.domain.value import Record, Unknown


class FieldType(StrEnum):
    """The types a field may be declared with."""

    STRING = "string"
    NUMBER = "number"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    DURATION = "duration"
    LIST = "list"
    MAP = "map"


class Role(StrEnum):
    """What a field is to people: personal data is never stored with an incident nor sent."""

    PLAIN = "plain"
    IDENTIFIER = "identifier"
    PERSONAL = "personal"


@dataclass(frozen=True, slots=True)
class Field:
    """A typed field of a kind of records. A null in a field that is not nullable is ``Unknown`` (law 2)."""

    type: FieldType
    nullable: bool = False
    role: Role = Role.PLAIN


@dataclass(frozen=True, slots=True)
class Incremental:
    """Scan only what moved since the last scan, minus ``overlap``; all of it every ``full_every``."""

    cursor: str
    overlap: timedelta
    full_every: timedelta


@dataclass(frozen=True, slots=True)
class Records:
    """A kind of records. ``key`` names the field that identifies one and is always among ``by``.

    ``where`` says what a rule's filter is: SQL text, a map of the ``params``, or nothing. ``population`` says whether the
    connector can count what a scan reads, so that a percentage has a denominator (law 6).
    """

    fields: Mapping[str, Field]
    key: str
    by: frozenset[str]
    listable: bool = True
    where: Literal["sql", "params", "none"] = "none"
    params: Mapping[str, FieldType] = field(default_factory=dict)
    incremental: Incremental | None = None
    population: bool = False
    streams: bool = False
    """Pages may come from one open statement when nothing is asked in between (law 15)."""


@dataclass(frozen=True, slots=True)
class Call:
    """An effect: the exact set of its parameters, and whether repeating it does no harm."""

    params: frozenset[str]
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """All that a connector offers. ``channel``: it can tell a person something."""

    records: Mapping[str, Records] = field(default_factory=dict)
    calls: Mapping[str, Call] = field(default_factory=dict)
    channel: bool = False


@dataclass(frozen=True, slots=True)
class Present:
    """The system has it: one record, or several that fit."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """The system said, in a way that counts, that it has none (law 14)."""


Answer: TypeAlias = Present | Absent | Unknown


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing. ``cursor`` goes on after it (opaque to the engine); ``None`` ends the listing.

    ``unreadable`` counts rows that have no usable key at all, with a reason each, at most ten.
    """

    records: tuple[Record, ...]
    cursor: str | None
    unreadable: tuple[str, ...] = ()
