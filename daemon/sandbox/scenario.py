"""The scenario language: what is planted, how services answer, what happens meanwhile, and how it must end.

One language for rule tests, engine tests and the demo. A scenario comes as plain maps (from YAML) and becomes a frozen
value here; ``world`` lives it through. Rows and times stay as they were written: only a world knows the fields' types
and when the scenario begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from daemon.domain.incident import Phase, Resolution
from daemon.settings import Duration, Settings, parse_duration

Row = Mapping[str, Any]
Patch = Mapping[str, tuple[Row, ...]]
T = TypeVar("T", bound=StrEnum)


class ScenarioError(ValueError):
    """A scenario says something that cannot be: one line, with the scenario's name and what would be right."""


def _several(value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, tuple) else (value,)


def _word(kind: type[T]) -> BeforeValidator:
    def read(value: object) -> T:
        try:
            return kind(str(value))
        except ValueError:
            raise ValueError(f"{value!r} is none of: {', '.join(kind)}") from None

    return BeforeValidator(read)


class Word(StrEnum):
    """What a service does with a call. Only ``done``, ``timeout_after_effect`` and a ``change`` have an effect."""

    DONE = "done"
    REFUSED = "refused"
    LATER = "later"
    ERROR = "500"
    HTML = "html"
    RESET = "reset"
    TIMEOUT = "timeout"
    TIMEOUT_AFTER_EFFECT = "timeout_after_effect"
    NO_EFFECT = "no_effect"


class Since(StrEnum):
    """What a moment's time counts from: the planting, the first call for the object, the first message naming it."""

    START = "start"
    CALLED = "called"
    TOLD = "told"


Rows = Annotated[tuple[Row, ...], BeforeValidator(_several)]
Keys = Annotated[tuple[str, ...], BeforeValidator(_several)]


class Answer(Settings):
    """One answer of a service. ``retry_after`` is the wire's time; ``effect_after`` the world's (rule time)."""

    answer: Annotated[Word, _word(Word)]
    retry_after: Duration | None = None
    effect_after: Duration | None = None
    change: Mapping[str, Rows] | None = None


def _answer(value: object) -> object:
    return value if isinstance(value, Mapping | Answer) else {"answer": value}


Answers = Annotated[tuple[Annotated[Answer, BeforeValidator(_answer)], ...], BeforeValidator(_several)]


class Expect(Settings):
    """What must hold at a moment, after all that was due then."""

    call: str | None = None
    with_: Mapping[str, Any] | None = Field(default=None, alias="with")
    times: int | None = None
    told: str | None = None
    phase: Annotated[Phase, _word(Phase)] | None = None
    resolution: Annotated[Resolution, _word(Resolution)] | None = None
    why: str | None = None


class Moment(Settings):
    """Something happens in the world, or is expected to hold, at a time counted from ``after``."""

    at: Duration = parse_duration("0s")
    after: Annotated[Since, _word(Since)] = Since.START
    change: Mapping[str, Rows] = {}
    remove: Mapping[str, Keys] = {}
    set: Mapping[str, Literal["up", "down"]] = {}
    expect: Expect | None = None


class Calls(Settings):
    """How many requests about the object its service gets, both ends included; written ``2`` or ``[1, 3]``."""

    least: int
    most: int

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.least <= number <= self.most

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}–{self.most}"


def _calls(value: object) -> object:
    match value:
        case int():
            return {"least": value, "most": value}
        case [int() as least, int() as most]:
            return {"least": least, "most": most}
    return value


class Ends(Settings):
    """How it must end: a resolution, a phase, held by a guard, or unknown without an incident; and at what cost."""

    phase: Annotated[Phase, _word(Phase)] | None = None
    resolution: Annotated[Resolution, _word(Resolution)] | None = None
    held: bool = False
    unknown: bool = False
    calls: Annotated[Calls, BeforeValidator(_calls)] | None = None
    told: str | None = None
    pages: int | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Ends:
        if sum(map(bool, (self.phase, self.resolution, self.held, self.unknown))) > 1:
            raise ValueError("an end is one of phase, resolution, held and unknown")
        return self

    @property
    def state(self) -> str:
        """The end in one word."""
        return self.resolution or self.phase or ("held" if self.held else "unknown" if self.unknown else "")


class Scenario(Settings):
    """One fault and its life. ``calls``: the last answer repeats. ``count`` copies, each with a script of its own.

    ``rule`` names the rule that must deal with it where the scenario does not stand in that rule.
    """

    name: str
    rule: str = ""
    count: int = Field(default=1, ge=1)
    world: Mapping[str, Rows] = {}
    calls: Mapping[str, Answers] = {}
    then: Annotated[tuple[Moment, ...], BeforeValidator(_several)] = ()
    ends: Ends = Ends()


def parse(plain: object) -> Scenario:
    """A scenario out of plain maps. Raises ``ScenarioError`` with every mistake in one line."""
    try:
        return Scenario.model_validate(plain)
    except ValidationError as error:
        name = plain.get("name", "without a name") if isinstance(plain, Mapping) else "that is no map"
        raise ScenarioError(f"scenario {name}: {'; '.join(_mistakes(error))}") from None


def parse_all(plain: Iterable[object]) -> tuple[Scenario, ...]:
    """Several of them, their names unique."""
    scenarios = tuple(map(parse, plain))
    names = [scenario.name for scenario in scenarios]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ScenarioError(f"scenarios must have names of their own, met twice: {', '.join(sorted(twice))}")
    return scenarios


def _mistakes(error: ValidationError) -> Iterable[str]:
    for fault in error.errors():
        path = ".".join(map(str, fault["loc"]))
        known = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
        yield f"{path}: {known}"


def copies(scenario: Scenario, keys: Mapping[str, str]) -> Iterable[Scenario]:
    """The scenario ``count`` times: in the n-th copy every value that is one of its records' keys gets ``-n`` appended.

    ``keys`` names the key field of each kind of records.
    """
    if scenario.count == 1:
        yield scenario
        return
    named = {str(row[keys[kind]]) for kind, rows in scenario.world.items() for row in rows}
    plain = scenario.model_dump(include={"world", "then", "calls"}, by_alias=True, exclude_unset=True)
    for number in range(1, scenario.count + 1):
        renamed = Scenario.model_validate(
            _renamed(plain, {name: f"{name}-{number}" for name in named})
            | {"name": scenario.name, "rule": scenario.rule, "ends": scenario.ends}
        )
        yield renamed


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    match value:
        case StrEnum():
            return value
        case str():
            return names.get(value, value)
        case Mapping():
            return {key: _renamed(item, names) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_renamed(item, names) for item in value)
    return value
