"""A mistake in a file, as a value: where, what is wrong, what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.domain.value import Place


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One line for people: ``rules/x.yaml:12:9: unknown key "atempts", did you mean "attempts"?``."""

    file: str
    line: int
    column: int
    message: str

    @classmethod
    def at(cls, place: Place, message: str) -> Mistake:
        """A mistake at a place."""
        return cls(place.file, place.line, place.column, message)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class Mistakes(Exception):
    """All mistakes of what was loaded, sorted by place. Its text is a line each."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(map(str, self.mistakes)))
