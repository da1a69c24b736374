"""All that a rule may speak of, as a value: what the connectors offer, who can be told, which causes have names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from daemon.domain.shape import FieldType, Shape
from daemon.domain.value import Place
from daemon.language.cel import Environment, Program
from daemon.language.mistake import Mistake, Mistakes

CauseOf: TypeAlias = Callable[[str], str]
"""From a technical text to the name of its cause."""

OTHER = "other"
UNDIAGNOSED = "undiagnosed"


@dataclass(frozen=True, slots=True)
class CauseText:
    """An entry of the dictionary of technical texts: the name, and a condition over ``text``."""

    name: str
    condition: str
    place: Place


@dataclass(frozen=True)
class Vocabulary:
    """What rules are checked against.

    ``defaults`` are keys that rule files leave out (``severity mode every guard``), ``overrides`` by rule name what an
    installation wants otherwise (``mode every guard``); both as written, values of the guard key by key.
    ``override_places`` are for mistakes in them.
    """

    shapes: Mapping[str, Shape]
    contacts: Collection[str]
    causes: Sequence[CauseText] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    override_places: Mapping[str, Place] = field(default_factory=dict)


def classifier(causes: Sequence[CauseText]) -> CauseOf:
    """``cause_of``: the first cause whose condition is true of a text, else ``other``. Raises ``Mistakes``."""
    environment = Environment({"text": FieldType.STRING})
    compiled: list[tuple[str, Program]] = []
    mistakes: list[Mistake] = []
    for cause in causes:
        try:
            compiled.append((cause.name, environment.condition(cause.condition, cause.place)))
        except Mistakes as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        raise Mistakes(mistakes)

    def cause_of(text: str) -> str:
        return next((name for name, condition in compiled if condition({"text": text}) is True), OTHER)

    return cause_of
