"""How values read to a person at a terminal: times with their zone, spans, money, aligned columns, one line each.

Text from outside never steers a terminal: whatever cannot be printed is shown as its escape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypeAlias

from daemon.domain.value import Money, Unknown, Value

Tone: TypeAlias = Literal["", "head", "good", "bad", "warn", "dim"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an answer and how it is meant; the command line gives tones their colours."""

    text: str
    tone: Tone = ""


def visible(text: str) -> str:
    """One line that steers no terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def moment(at: datetime | None, zone: tzinfo = UTC) -> str:
    """A time with its zone, to the second."""
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" if at else "—"


def span(length: timedelta) -> str:
    """``2h 15m``: the two largest units that are not zero; negative ones with a sign."""
    seconds = round(length.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return sign + (" ".join(parts[:2]) or "0s")


def away(at: datetime | None, now: datetime) -> str:
    """How far a moment is: ``in 5m``, ``2h ago``, ``now``."""
    if at is None:
        return "—"
    distance = at - now
    if abs(distance) < timedelta(seconds=1):
        return "now"
    return f"in {span(distance)}" if distance > timedelta(0) else f"{span(-distance)} ago"


def sums(amounts: Mapping[str, Decimal]) -> str:
    """Money per currency, never added across them."""
    return ", ".join(f"{amount:,.2f} {currency}".replace(",", " ") for currency, amount in sorted(amounts.items())) or "—"


def shown(value: Value, zone: tzinfo = UTC) -> str:
    """A value of a record, on one line."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case datetime():
            return moment(value, zone)
        case timedelta():
            return span(value)
        case Unknown(reason):
            return f"unknown ({visible(reason)})"
        case str() | int() | float() | Decimal():
            return visible(str(value))
        case Mapping():
            return "{" + ", ".join(f"{name}: {shown(item, zone)}" for name, item in value.items()) + "}"
    return "[" + ", ".join(shown(item, zone) for item in value) + "]"


def columns(rows: Iterable[Sequence[str]], indent: str = "") -> list[str]:
    """Rows with their cells aligned; the last column is as wide as it is."""
    made = [[visible(cell) for cell in row] for row in rows]
    if not made:
        return []
    widths = [max(map(len, column)) for column in zip(*made, strict=True)]
    return [(indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip() for row in made]


def plain(value: Any) -> Any:
    """A frozen answer as JSON: ISO times in UTC, seconds, exact numbers as text, enums as their value."""
    match value:
        case Enum():
            return value.value
        case str() | bool() | int() | float() | None:
            return value
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case Unknown(reason):
            return {"unknown": reason}
        case Money(amount, currency):
            return {"amount": str(amount), "currency": currency}
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return str(value)
