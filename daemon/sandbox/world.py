"""The simulated world: kinds of records as tables of rows, services that change them, scenarios that go on alone.

    plant(scenario) ─▶ rows, scripts, moments      perform(call) ─▶ the next scripted answer, its effect, Spoken or Mute
    advance(now)    ─▶ moments and late effects    tell(message) ─▶ kept; what waits for the telling is due from then on

Nothing here reads a clock: ``now`` (rule time) is handed in and never goes back. Every change is also given to
``on_change``, so that a face can carry it to where its readers look. Calls and effects are kept with their times, so
that repetition can be asserted from outside.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial
from itertools import count
from typing import Any, TypeAlias

from daemon.domain.shape import FieldType, Records
from daemon.domain.value import Value
from daemon.sandbox.scenario import Answer, Moment, Patch, Scenario, ScenarioError, Since, Word, copies
from daemon.settings import parse_duration

Fields: TypeAlias = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Stock:
    """A kind of records in the world. ``example`` fills what a scenario leaves out; ``{key}`` in it is the row's key.

    ``scanned`` says whether a listing still reads a row: the window of a source, which a question by key does not have.
    ``derived`` makes the rows out of other kinds' instead: such a kind cannot be planted. A row that is ``hidden`` may not
    be seen by whoever asks: no listing has it, many asked for at once come without it, one asked for alone is refused.
    """

    records: Records
    example: Mapping[str, Any]
    scanned: Callable[[Mapping[str, Value], datetime], bool] = lambda row, now: True
    derived: Callable[[Mapping[str, Mapping[str, Fields]]], Mapping[str, Fields]] | None = None
    hidden: Callable[[Mapping[str, Value]], bool] = lambda row: False


@dataclass(frozen=True, slots=True)
class Changed:
    """A row became this; ``None``: it is gone."""

    records: str
    key: str
    row: Mapping[str, Value] | None


@dataclass(frozen=True, slots=True)
class Switched:
    """A system went up or down."""

    connector: str
    up: bool


Change: TypeAlias = Changed | Switched


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer on the wire."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Mute(StrEnum):
    """No answer on the wire, and how so."""

    RESET = "reset"
    TIMEOUT = "timeout"
    DOWN = "down"


Said: TypeAlias = Spoken | Mute


@dataclass(frozen=True, slots=True)
class Called:
    """A request that reached a service, and whether it had (or will have) an effect."""

    call: str
    object: str
    at: datetime
    idempotency_key: str
    word: Word
    effect: bool = False
    repeated: bool = False
    """The service knew the idempotency key and answered from memory."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A change that a call made, and when."""

    call: str
    object: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """What a person was told. ``to`` is the contact, or the address where only that is known."""

    via: str
    to: str
    text: str
    at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


Deed: TypeAlias = Callable[["World", Mapping[str, Any]], Patch | None]
"""What a call changes when it succeeds: nothing more to do (empty), or no such object (``None``: refused)."""


@dataclass(slots=True)
class Subject:
    """One copy of a planted scenario, on its way to its end. ``waiting``: moments that are still to come."""

    scenario: Scenario
    start: datetime
    key: str = ""
    names: frozenset[str] = frozenset()
    waiting: int = 0
    called: datetime | None = None
    told: datetime | None = None
    positions: Counter[str] = field(default_factory=Counter)

    def answer(self, call: str) -> Answer | None:
        """The next scripted answer; the last one repeats."""
        script = self.scenario.calls.get(call)
        if not script:
            return None
        self.positions[call] += 1
        return script[min(self.positions[call], len(script)) - 1]


class World:
    """Rows, services, people's messages; changed only through its methods.

    ``stocks`` has the kinds of records as ``connector.records``; ``deeds`` what calls change, as ``connector.call``.
    """

    def __init__(
        self,
        stocks: Mapping[str, Stock],
        deeds: Mapping[str, Deed],
        start: datetime,
        on_change: Callable[[Change], None] = lambda change: None,
    ) -> None:
        self.stocks = stocks
        self.deeds = deeds
        self.now = start
        self.rows: dict[str, dict[str, Fields]] = {kind: {} for kind in stocks}
        self.subjects: list[Subject] = []
        self.calls: list[Called] = []
        self.effects: list[Effect] = []
        self.messages: list[Message] = []
        self.deals = count(90_001)
        self.contacts: Mapping[str, str] = {}
        """Whose address is whose, so that what is told is known by the contact's name."""
        self._on_change = on_change
        self._down: set[str] = set()
        self._named: dict[str, Subject] = {}
        self._scripts: dict[str, Subject] = {}
        self._agenda: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = count()
        self._remembered: set[tuple[str, str]] = set()

    # What is planted

    def plant(self, scenario: Scenario, now: datetime) -> Sequence[Subject]:
        """Let a scenario begin now, once per copy. Raises ``ScenarioError`` for what this world does not have."""
        self.advance(now)
        self._check(scenario)
        keys = {kind: self.stocks[kind].records.key for kind in scenario.world}
        return [self._plant(copy) for copy in copies(scenario, keys)]

    def script(self, call: str, answers: Sequence[Answer]) -> None:
        """Answers to a call that is about nothing planted, such as a channel's ``telegram.deliver``."""
        self._scripts[call] = Subject(Scenario(name=call, calls={call: tuple(answers)}), self.now)

    def _check(self, scenario: Scenario) -> None:
        later = [kinds for moment in scenario.then for kinds in (moment.change, moment.remove)]
        for kind in (kind for kinds in (scenario.world, *later) for kind in kinds):
            if kind not in self.stocks or self.stocks[kind].derived:
                known = ", ".join(sorted(name for name, stock in self.stocks.items() if not stock.derived))
                raise ScenarioError(f"scenario {scenario.name}: there are no records {kind!r}, only {known}")
        for kind, rows in scenario.world.items():
            key = self.stocks[kind].records.key
            if not all(isinstance(row.get(key), str) for row in rows):
                raise ScenarioError(f"scenario {scenario.name}: every row of {kind} needs its key, {key}, as text")

    def _plant(self, scenario: Scenario) -> Subject:
        subject = Subject(scenario, self.now)
        planted = [(kind, self._merge(kind, row, self.now)) for kind, rows in scenario.world.items() for row in rows]
        subject.names = frozenset(name for kind, key in planted for name in self._names(kind, key))
        subject.key = planted[0][1] if planted else ""
        self._named.update(dict.fromkeys(subject.names, subject))
        self.subjects.append(subject)
        subject.waiting = sum(map(_stirs, scenario.then))
        self._schedule(subject, Since.START)
        return subject

    def _names(self, kind: str, key: str) -> Iterable[str]:
        """What calls and messages may call the row: its key, and each field that its example derives from the key."""
        yield key
        example, row = self.stocks[kind].example, self.rows[kind][key]
        yield from (str(row[name]) for name, text in example.items() if isinstance(text, str) and "{key}" in text)

    # Time

    def advance(self, now: datetime) -> None:
        """Let everything happen that is due by now, in its order."""
        while self._agenda and self._agenda[0][0] <= now:
            at, _, happen = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            happen()
        self.now = max(self.now, now)

    def next_due(self) -> datetime | None:
        """When something happens next by itself."""
        return self._agenda[0][0] if self._agenda else None

    def _at(self, at: datetime, happen: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), happen))

    def _schedule(self, subject: Subject, since: Since) -> None:
        for moment in subject.scenario.then:
            if moment.after is since and _stirs(moment):
                self._at(self.now + moment.at, partial(self._happen, subject, moment))

    def _happen(self, subject: Subject, moment: Moment) -> None:
        subject.waiting -= 1
        self.change(moment.change, subject.start)
        for kind, keys in moment.remove.items():
            for key in keys:
                self.remove(kind, key)
        for connector, state in moment.set.items():
            self.switch(connector, up=state == "up")

    # Records

    def change(self, patch: Patch, start: datetime | None = None) -> bool:
        """Merge rows by key; relative times count from ``start`` (now). Whether anything is different now."""
        merged = [self._merges(kind, row, start or self.now) for kind, rows in patch.items() for row in rows]
        return any(merged)

    def remove(self, kind: str, key: str) -> None:
        """Delete a row; a missing one is fine."""
        if self.rows[kind].pop(key, None) is not None:
            self._on_change(Changed(kind, key, None))

    def table(self, kind: str) -> Mapping[str, Fields]:
        """The rows of a kind by their keys, be they planted or derived."""
        derived = self.stocks[kind].derived
        return derived(self.rows) if derived else self.rows[kind]

    def find(self, kind: str, by: str, value: Value) -> list[Fields]:
        """The rows of which this field is equal."""
        rows = self.table(kind)
        if by == self.stocks[kind].records.key:
            row = rows.get(str(value))
            return [row] if row else []
        return [row for row in rows.values() if row.get(by) == value]

    def _merges(self, kind: str, row: Mapping[str, Any], start: datetime) -> bool:
        before = dict(self.rows[kind].get(str(row.get(self.stocks[kind].records.key)), {}))
        return self.rows[kind][self._merge(kind, row, start)] != before

    def _merge(self, kind: str, row: Mapping[str, Any], start: datetime) -> str:
        stock = self.stocks[kind]
        key = str(row[stock.records.key])
        if key not in self.rows[kind]:
            row = {**{name: _filled(value, key) for name, value in stock.example.items()}, **row}
        read = {name: _value(kind, stock.records, name, value, start) for name, value in row.items()}
        merged = {**dict.fromkeys(stock.records.fields), **self.rows[kind].get(key, {}), **read}
        self.rows[kind][key] = merged
        self._on_change(Changed(kind, key, dict(merged)))
        return key

    # Systems

    def up(self, connector: str) -> bool:
        """Whether the system can be reached."""
        return connector not in self._down

    def switch(self, connector: str, *, up: bool) -> None:
        """Let a system go down or come back."""
        (self._down.discard if up else self._down.add)(connector)
        self._on_change(Switched(connector, up))

    def perform(self, call: str, args: Mapping[str, Any], idempotency_key: str, now: datetime) -> Said:
        """One request to a service: what it says, and does.

        A service that had an effect under an idempotency key answers the same key from memory, without a second effect.
        """
        self.advance(now)
        if not self.up(call.partition(".")[0]):
            return Mute.DOWN
        subject, name = self._about(args)
        if idempotency_key and (call, idempotency_key) in self._remembered:
            self.calls.append(Called(call, name, now, idempotency_key, Word.DONE, repeated=True))
            return _said(Answer(answer=Word.DONE))
        script = subject if subject and call in subject.scenario.calls else self._scripts.get(call)
        answer = (script and script.answer(call)) or Answer(answer=Word.DONE)
        answer, patch = self._meant(call, answer, args)
        called = Called(call, name, now, idempotency_key, answer.answer, effect=bool(patch))
        self.calls.append(called)
        if patch:
            self._remembered.update({(call, idempotency_key)} if idempotency_key else ())
            late = answer.effect_after if answer.change is None else None
            self._at(now + (answer.effect_after or timedelta(0)), partial(self._take_effect, called, patch, args if late else None))
        if subject and subject.called is None:
            subject.called = now
            self._schedule(subject, Since.CALLED)
        self.advance(now)
        return _said(answer)

    def _meant(self, call: str, answer: Answer, args: Mapping[str, Any]) -> tuple[Answer, Patch]:
        """The answer and what it changes; a service refuses what it cannot find."""
        if answer.change is not None:
            return answer, answer.change
        if answer.answer not in (Word.DONE, Word.TIMEOUT_AFTER_EFFECT) or call not in self.deeds:
            return answer, {}
        patch = self.deeds[call](self, args)
        return (answer, patch) if patch is not None else (Answer(answer=Word.REFUSED), {})

    def _take_effect(self, called: Called, patch: Patch, late: Mapping[str, Any] | None) -> None:
        """``late``: the arguments of a call that is only worked off now, by what the world has become meanwhile."""
        if late is not None:
            patch = self.deeds[called.call](self, late) or {}
        if self.change(patch):
            self.effects.append(Effect(called.call, called.object, self.now))

    def _about(self, args: Mapping[str, Any]) -> tuple[Subject | None, str]:
        """Which planted thing a call is about, and the name to count it under."""
        for value in args.values():
            if isinstance(value, str) and (subject := self._named.get(value)):
                return subject, subject.key
        return None, next((value for value in args.values() if isinstance(value, str)), "")

    # People

    def tell(self, message: Message) -> None:
        """A person reads a message; whatever waits for the telling of an object it names goes on from now."""
        self.advance(message.at)
        self.messages.append(replace(message, to=self.contacts.get(message.to, message.to)))
        for subject in self.subjects_named(message.text):
            if subject.told is None:
                subject.told = message.at
                self._schedule(subject, Since.TOLD)

    # What was seen from outside

    def called(self, name: str, call: str = "") -> list[Called]:
        """Requests about an object, of one call or of any."""
        return [made for made in self.calls if made.object == name and call in ("", made.call)]

    def effected(self, name: str, call: str = "") -> list[Effect]:
        """Changes that calls made to an object."""
        return [effect for effect in self.effects if effect.object == name and call in ("", effect.call)]

    def subjects_named(self, text: str) -> list[Subject]:
        """Which planted objects a text speaks of, by whole words."""
        found = {id(self._named[word]): self._named[word] for word in _WORD.findall(text) if word in self._named}
        return list(found.values())


_WORD = re.compile(r"[\w-]+")
_RELATIVE = re.compile(r"[+-].+")
_SUCCESS = json.dumps({"success": True})
_REFUSED = json.dumps({"success": False, "error": "the order cannot be sent"})
_HTML = "<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"


def _stirs(moment: Moment) -> bool:
    return bool(moment.change or moment.remove or moment.set)


def _said(answer: Answer) -> Said:
    """How an answer looks on the wire."""
    plain = {"Content-Type": "application/json"}
    match answer.answer:
        case Word.DONE | Word.NO_EFFECT:
            return Spoken(200, _SUCCESS, plain)
        case Word.REFUSED:
            return Spoken(422, _REFUSED, plain)
        case Word.LATER:
            wait = answer.retry_after
            return Spoken(429, "", {} if wait is None else {"Retry-After": f"{wait.total_seconds():.0f}"})
        case Word.ERROR:
            return Spoken(500, "Internal Server Error", {"Content-Type": "text/plain"})
        case Word.HTML:
            return Spoken(200, _HTML, {"Content-Type": "text/html"})
        case Word.RESET:
            return Mute.RESET
    return Mute.TIMEOUT


def _filled(value: Any, key: str) -> Any:
    return value.replace("{key}", key) if isinstance(value, str) else value


def _value(kind: str, records: Records, name: str, value: Any, start: datetime) -> Value:
    """A row's value as its field declares it; a time may be relative (``-1h``), counted from ``start``."""
    declared = records.fields.get(name)
    if declared is None:
        raise ScenarioError(f"{kind} has no field {name!r}, only {', '.join(sorted(records.fields))}")
    try:
        return _read(declared.type, value, start)
    except (ValueError, TypeError, ArithmeticError):
        raise ScenarioError(f"{kind}.{name}: {value!r} is no {declared.type}") from None


def _read(declared: FieldType, value: Any, start: datetime) -> Value:
    match declared, value:
        case _, None:
            return None
        case FieldType.TIMESTAMP, str() if _RELATIVE.fullmatch(value):
            away = parse_duration(value[1:])
            return start + away if value[0] == "+" else start - away
        case FieldType.TIMESTAMP, str():
            return _aware(datetime.fromisoformat(value))
        case FieldType.TIMESTAMP, datetime():
            return _aware(value)
        case FieldType.DURATION, _:
            return parse_duration(value)
        case FieldType.NUMBER, int() | float() | Decimal() if not isinstance(value, bool):
            return value
        case (FieldType.STRING, str()) | (FieldType.BOOL, bool()) | (FieldType.LIST, list()) | (FieldType.MAP, dict()):
            plain: Value = value
            return plain
    raise TypeError


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError
    return value
