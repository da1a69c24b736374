"""What is wrong with an installation, part by part, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from daemon.views.text import Line, visible


@dataclass(frozen=True, slots=True)
class Finding:
    """One part that was looked at. ``trouble`` is empty when all is well; ``unreachable``: nobody answered."""

    part: str
    trouble: str = ""
    unreachable: bool = False


def doctor_lines(findings: Sequence[Finding]) -> Iterator[Line]:
    """A line per part; troubles in red."""
    width = max((len(one.part) for one in findings), default=0)
    for one in findings:
        yield Line(f"{one.part.ljust(width)}  {visible(one.trouble) or 'well'}", "bad" if one.trouble else "good")
