"""Opening hours of a contact: the text of OpenStreetMap's ``opening_hours``, read once, asked with any instant.

``opening-hours-py`` knows the grammar and walks the wall clock; the zone is ours, so that the two nights a year on
which the clock is moved have one meaning here: an opening begins at the first time its wall clock shows, and ends at
the last. All arithmetic is done on instants (UTC), so ``after`` counts time that really passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import opening_hours

_MARGIN = timedelta(days=2)
"""Intervals are read from this long before an instant, so that one which a moved clock prolongs is not missed."""

_HORIZON = timedelta(days=3660)
"""Beyond ten years an answer is "never": whoever waits for it needs to hear that."""

_BEGINNING = datetime(1970, 1, 1)  # noqa: DTZ001 - the parser walks wall clocks
_UNKNOWABLE = re.compile(r"\b(PH|SH|sunrise|sunset|dawn|dusk|unknown)\b", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_ParserError: type[Exception] = opening_hours.ParserError  # type: ignore[attr-defined]  # its stub forgets it


@dataclass(frozen=True, slots=True)
class OpenHours:
    """Opening hours in a zone; the ``Hours`` of the domain. Instants in any zone, answers in the contact's own."""

    text: str
    zone: ZoneInfo
    _hours: Any

    def is_open(self, at: datetime) -> bool:
        """Whether the contact works at this moment. The moment of closing is closed."""
        return any(start <= at for start, _ in self._openings(at, at))

    def opens(self, at: datetime) -> datetime | None:
        """The earliest moment at or after ``at`` when it works; ``None``: not within ten years."""
        start = next((start for start, _ in self._openings(at, at + _HORIZON)), None)
        return None if start is None else self._local(max(start, at))

    def after(self, at: datetime, worked: timedelta) -> datetime | None:
        """The moment when ``worked`` time of its hours has passed since ``at``; ``None``: not within ten years."""
        if worked <= timedelta(0):
            return self._local(at)
        left = worked
        for start, end in self._openings(at, at + _HORIZON):
            begin = max(start, at)
            if end is None or end - begin >= left:
                return self._local(begin + left)
            left -= end - begin
        return None

    def _local(self, at: datetime) -> datetime:
        return at.astimezone(self.zone)

    def _openings(self, at: datetime, until: datetime) -> Iterator[tuple[datetime, datetime | None]]:
        """Openings that end after ``at`` and begin no later than ``until``, as instants, in order, disjoint.

        ``None``: it never closes.
        """
        held: tuple[datetime, datetime | None] | None = None
        for start, end in self._instants(at):
            if start > until:
                break
            if held is None:
                held = start, end
            elif held[1] is None or start <= held[1]:
                held = held[0], None if held[1] is None or end is None else max(held[1], end)
            else:
                yield held
                held = start, end
        if held is not None:
            yield held

    def _instants(self, at: datetime) -> Iterator[tuple[datetime, datetime | None]]:
        wall = self._local(at).replace(tzinfo=None)
        for start, end, state, _ in self._hours.intervals(wall - _MARGIN):
            opened, closed = self._first(start), None if end is None else self._last(end)
            if state == opening_hours.State.OPEN and (closed is None or closed > max(at, opened)):
                yield opened, closed

    def _first(self, wall: datetime) -> datetime:
        return wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)

    def _last(self, wall: datetime) -> datetime:
        return max(wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def parse_hours(text: str, timezone: str) -> OpenHours:
    """Opening hours such as ``Mo-Fr 09:00-18:00; Sa 10:00-14:00`` or ``24/7``, in a zone of the IANA database.

    Raises ValueError with one line: what is wrong and what would be right. What cannot be answered here (public and
    school holidays, the sun, "unknown") is refused rather than silently never matched.
    """
    zone = _zone(timezone)
    doubtful = _UNKNOWABLE.search(_QUOTED.sub("", text))
    if doubtful:
        raise ValueError(f"hours {text!r} use {doubtful[0]!r}, which is not known here; write days and times instead")
    hours = _parsed(text)
    if all(state != opening_hours.State.OPEN for *_, state, _ in hours.intervals(_BEGINNING)):
        raise ValueError(f"hours {text!r} are never open; leave `hours` out for 24/7")
    return OpenHours(text, zone, hours)


def _zone(timezone: str) -> ZoneInfo:
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {timezone!r}; write one such as Europe/Moscow or UTC") from None


def _parsed(text: str) -> Any:
    try:
        return opening_hours.OpeningHours(text)
    except (_ParserError, SyntaxError) as error:
        column = re.search(r"-->\s*\d+:(\d+)", str(error))
        where = f" at character {column[1]}" if column else ""
        hint = "write them as Mo-Fr 09:00-18:00; Sa 10:00-14:00, or 24/7"
        raise ValueError(f"hours {text!r} are not understood{where}; {hint}") from None
