"""Values that travel: what a record's field may hold, what an expression may give, and how both are stored.

A connector turns whatever its system answered into these types by the declared field types; expressions read and give
them; incidents keep them as JSON through ``pack`` and ``unpack``. A value that could not be read is ``Unknown`` with its
reason, and travels in the place of the value, so that only what touches it becomes unknown (law 2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias, Union

Value: TypeAlias = Union[
    bool, int, float, str, Decimal, datetime, timedelta, Sequence["Value"], Mapping[str, "Value"], "Unknown", None
]
Scope: TypeAlias = Mapping[str, Value]
Record: TypeAlias = Mapping[str, Value]
"""One thing of a kind of records: field name to value; a field that could not be read is ``Unknown``."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No value, and why. Never equal to absent, null or false."""

    reason: str


@dataclass(frozen=True, slots=True)
class Money:
    """An amount with its ISO 4217 currency; sums are only made within one currency."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands: file, line and column, both counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Timescale:
    """Law 12: rule time = origin + factor * (database time - origin). One per store, never changed."""

    origin: datetime
    factor: float = 1.0

    def rule(self, database: datetime) -> datetime:
        """Database time to rule time."""
        return self.origin + (database - self.origin) * self.factor

    def database(self, rule: datetime) -> datetime:
        """Rule time to database time."""
        return self.origin + (rule - self.origin) / self.factor


def pack(value: Value) -> Any:
    """A value as plain JSON; what JSON lacks is tagged (``$t`` time, ``$d`` seconds, ``$n`` decimal, ``$u`` unknown)."""
    match value:
        case datetime():
            return {"$t": value.astimezone(UTC).isoformat()}
        case timedelta():
            return {"$d": value.total_seconds()}
        case Decimal():
            return {"$n": str(value)}
        case Unknown():
            return {"$u": value.reason}
        case str() | bool() | int() | float() | None:
            return value
        case Mapping():
            return {str(key): pack(item) for key, item in value.items()}
        case Sequence():
            return [pack(item) for item in value]
    raise TypeError(f"a {type(value).__name__} is no value of a record")


def unpack(stored: Any) -> Value:
    """The value that ``pack`` was given."""
    match stored:
        case {"$t": str(text), **rest} if not rest:
            return datetime.fromisoformat(text)
        case {"$d": float() | int() as seconds, **rest} if not rest:
            return timedelta(seconds=seconds)
        case {"$n": str(text), **rest} if not rest:
            return Decimal(text)
        case {"$u": str(reason), **rest} if not rest:
            return Unknown(reason)
        case dict():
            return {key: unpack(item) for key, item in stored.items()}
        case list():
            return [unpack(item) for item in stored]
        case str() | bool() | int() | float() | None:
            return stored
    raise TypeError(f"a {type(stored).__name__} was not packed by us")


def share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: jitter that a replay repeats exactly."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2.0**56
