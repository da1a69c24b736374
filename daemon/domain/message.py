"""What one message about one problem says: title, text, the engine's part, and the evidence. Pure; a reader's words handed in.

The rule's own ``message`` and ``line`` make the text, which every contact may read. Everything the engine knows beside it
(counts, money, deadlines, what was tried, what comes next, commands) stands apart in ``ours``, so that an external contact
never gets it, and once more as data in ``evidence``, for Sentry.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from daemon.domain.attempt import Request, Result
from daemon.domain.incident import Incident, Phase, StepState, scope_of
from daemon.domain.rule import CardForm, Contact, GroupBy, Level, ResolveOn, Rule, TableForm
from daemon.domain.value import Money, Scope, Unknown, Value, pack
from daemon.domain.words import LIST_LIMIT, Words

_KEPT = 2000
"""Characters of a request's or an answer's text that go into the evidence of one message."""

TABLE_LIMIT = 1000
"""Rows of one attached table; what is beyond is not in it."""

CARD_LIMIT = 40
"""Items of a list on a card: whoever makes an order by hand from it needs every product."""


@dataclass(frozen=True, slots=True)
class Card:
    """A few labelled rows about one thing, as its reader sees them. Only what a rule names can be on it."""

    title: str
    rows: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The card for a channel without pictures."""
        return "\n".join([self.title, *(f"{label}: {value}" for label, value in self.rows)])


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under their headings (none: a plain list), and the name of the file that they make."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """Its beginning for a channel without files."""
        shown = (" — ".join(cell for cell in row if cell) for row in self.rows[:LIST_LIMIT])
        rest = len(self.rows) - LIST_LIMIT
        return "\n".join([*shown, *([f"… + {rest}"] if rest > 0 else [])])


@dataclass(frozen=True, slots=True)
class Matter:
    """What a message is about. ``subjects`` are told of now, ``left`` are those that ceased in this cycle.

    ``before``: how many the last message spoke of. ``ahead``: who is called next if this does not help, and when.
    ``others``: rules that see the same objects. ``requests``: the last request by incident, where the caller knows it.
    """

    rule: Rule
    level: Level
    contact: Contact
    now: datetime
    subjects: tuple[Incident, ...] = ()
    left: tuple[Incident, ...] = ()
    before: int = 0
    begun: datetime | None = None
    ahead: tuple[datetime, str] | None = None
    others: tuple[str, ...] = ()
    held: bool = False
    requests: Mapping[str, Request] = field(default_factory=dict)


def words_of(contact: Contact) -> Words:
    """How things read to this contact."""
    return Words(contact.language, contact.timezone)


def by_urgency(incidents: Iterable[Incident]) -> tuple[Incident, ...]:
    """The earliest deadline first, those without one last; then the oldest. (Within a rule the severity is one.)"""
    return tuple(sorted(incidents, key=lambda one: (one.deadline is None, one.deadline or one.since, one.since, one.key, one.id)))


def first_deadline(incidents: Iterable[Incident], now: datetime) -> datetime | None:
    """The next deadline that can still be kept; if all have passed, the first of those."""
    deadlines = sorted(one.deadline for one in incidents if one.deadline is not None)
    return next((deadline for deadline in deadlines if deadline > now), deadlines[0] if deadlines else None)


def totals(incidents: Iterable[Incident]) -> tuple[Money, ...]:
    """Money at risk, per currency."""
    sums: dict[str, Decimal] = {}
    for one in incidents:
        if one.value is not None:
            sums[one.value.currency] = sums.get(one.value.currency, Decimal(0)) + one.value.amount
    return tuple(Money(amount, currency) for currency, amount in sorted(sums.items()))


def title(kind: str, matter: Matter) -> str:
    """The rule's title under a word that says what kind of message this is."""
    well = kind != "end" or any(one.phase in (Phase.PROVED, Phase.RESOLVED) for one in matter.left)
    return words_of(matter.contact).say(f"title_{kind}" if well else "title_left", title=matter.rule.title)


def text(kind: str, matter: Matter) -> str:
    """What every contact may read: the rule's message once, and a line per subject, the most urgent first."""
    words = words_of(matter.contact)
    if kind == "end":
        return "\n".join([*_ending(matter, words), words.lines(_lines(matter, matter.left, words))]).strip()
    lines = words.lines(_lines(matter, matter.subjects, words))
    return "\n".join(part for part in (_message(matter, words), lines) if part)


def cards(kind: str, matter: Matter) -> tuple[Card, ...]:
    """The pictures beside the message. An end has none: there is nothing left to do."""
    forms = () if kind == "end" else matter.level.attach
    words = replace(words_of(matter.contact), items=CARD_LIMIT)
    return tuple(_card(form, _message_scope(matter, words), words) for form in forms if isinstance(form, CardForm))


def _card(form: CardForm, scope: Scope, words: Words) -> Card:
    rows = tuple((label, value(scope, words.show).strip()) for label, value in form.rows)
    return Card(form.title(scope, words.show).strip(), rows)


def tables(kind: str, matter: Matter) -> tuple[Table, ...]:
    """The files beside the message: those of the rule, and all lines where the message has room for some of them only."""
    if kind == "end":
        return ()
    words = words_of(matter.contact)
    scope = _message_scope(matter, words)
    found = [_table(form, scope, words) for form in matter.level.attach if isinstance(form, TableForm)]
    if len(matter.subjects) > LIST_LIMIT:
        lines = ((_line(matter, one, words),) for one in matter.subjects[:TABLE_LIMIT])
        found.append(Table(f"{matter.rule.name}.csv", (), tuple(lines)))
    return tuple(table for table in found if table)


def _table(form: TableForm, scope: Scope, words: Words) -> Table | None:
    """What cannot be known or is empty makes no file: the message goes out all the same."""
    found = form.rows(scope)
    if isinstance(found, str | Mapping) or not isinstance(found, Sequence) or not found:
        return None
    rows = [item if isinstance(item, Mapping) else {"": item} for item in found[:TABLE_LIMIT]]
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    cells = tuple(tuple(_cell(row.get(name), words) for name in columns) for row in rows)
    return Table(_file_name(form.name(scope, words.show)), () if columns == ("",) else columns, cells)


def _cell(value: Value, words: Words) -> str:
    return "" if value is None else words.show(value)


def _file_name(text: str) -> str:
    """A name that is no path, whatever a record put into it."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:100] or "table.csv"


def _message(matter: Matter, words: Words) -> str:
    if matter.level.message is not None:
        return matter.level.message(_message_scope(matter, words), words.show).strip()
    open_still = all(one.phase is Phase.OPEN for one in matter.subjects)
    return words.say("message_deadline" if open_still else "message", runbook=matter.rule.runbook)


def _message_scope(matter: Matter, words: Words) -> Scope:
    """Only a message about one subject sees its record; of several it sees the group and a cause they share."""
    if matter.level.group_by is GroupBy.SUBJECT and matter.subjects:
        return _line_scope(matter, matter.subjects[0], words)
    causes = {one.cause for one in matter.subjects}
    cause = causes.pop() if len(causes) == 1 else None
    return {"now": matter.now, "cause": cause, "group": _group(matter, words)}


def _line_scope(matter: Matter, incident: Incident, words: Words) -> Scope:
    return {**scope_of(incident, matter.now), "group": _group(matter, words)}


def _group(matter: Matter, words: Words) -> Scope:
    money = ", ".join(map(words.money, totals(matter.subjects)))
    return {
        "count": len(matter.subjects),
        "value": money or None,
        "deadline": first_deadline(matter.subjects, matter.now),
    }


def _lines(matter: Matter, subjects: Sequence[Incident], words: Words) -> list[str]:
    level = matter.level
    if level.line is None and level.message is not None and level.group_by is GroupBy.SUBJECT:
        return []  # the message is about this one subject and has said what it wants said
    shown = [_line(matter, one, words) for one in subjects[:LIST_LIMIT]]
    return shown + [""] * (len(subjects) - len(shown))  # only counted, so not worth rendering


def _line(matter: Matter, incident: Incident, words: Words) -> str:
    if matter.level.line is not None:
        return matter.level.line(_line_scope(matter, incident, words), words.show).strip()
    parts = [incident.key]
    if incident.value is not None and not matter.contact.external:
        parts.append(words.money(incident.value))
    if incident.deadline is not None:
        parts.append(words.say("until", time=words.time(incident.deadline)))
    return ", ".join(parts)


def _ending(matter: Matter, words: Words) -> Iterator[str]:
    if matter.begun is not None:
        yield words.say(
            "was",
            subjects=words.subjects(max(matter.before, 1)),
            begun=words.time(matter.begun),
            lasted=words.duration(matter.now - matter.begun),
        )
    ways = Counter(_way(one) for one in matter.left)
    if ways:
        yield words.say("ended", ways=", ".join(f"{words.say(f'way_{way}')} {n}" for way, n in sorted(ways.items())))
    else:
        yield words.say("left")


def _way(incident: Incident) -> str:
    return incident.resolution.value if incident.resolution is not None else "proved"


def ours(kind: str, matter: Matter) -> str:
    """The engine's part, for internal contacts: how much, how long, whose fault, what was tried, what comes next, commands."""
    if kind == "end":
        return ""
    words = words_of(matter.contact)
    return "\n".join(
        [
            *_size(matter, words),
            *_time(matter, words),
            *_fault(matter, words),
            _tried(matter, words),
            *_next(matter, words),
            *_also(matter, words),
            words.say("runbook", runbook=matter.rule.runbook),
            words.say("commands"),
            *commands(matter.rule, matter.subjects),
        ]
    )


def _size(matter: Matter, words: Words) -> Iterator[str]:
    count, before = len(matter.subjects), matter.before
    saying = "count" if before in (0, count) else "rising" if count > before else "falling"
    yield words.say(saying, subjects=words.subjects(count), before=before)
    if money := totals(matter.subjects):
        yield words.say("money", money=", ".join(map(words.money, money)))


def _time(matter: Matter, words: Words) -> Iterator[str]:
    deadline = first_deadline(matter.subjects, matter.now)
    if deadline is not None:
        saying = "deadline" if deadline > matter.now else "overdue"
        yield words.say(saying, time=words.time(deadline), left=words.duration(deadline - matter.now))
    since = min(one.since for one in matter.subjects)
    yield words.say("since", time=words.time(since), age=words.duration(matter.now - since))


def _fault(matter: Matter, words: Words) -> Iterator[str]:
    causes = Counter(one.cause for one in matter.subjects if one.cause is not None)
    if len(causes) == 1:
        yield words.say("cause", cause=next(iter(causes)))
    elif causes:
        yield words.say("causes", causes=", ".join(f"{cause} {n}" for cause, n in causes.most_common(LIST_LIMIT)))
    failed = {_failed_at(matter.rule, one) for one in matter.subjects}
    if len(failed) == 1 and (connector := failed.pop()) is not None:
        yield words.say("at_fault", connector=connector)


def _failed_at(rule: Rule, incident: Incident) -> str | None:
    """The connector of the last attempt, if that was not ``done``."""
    id, state = last_step(incident)
    step = rule.step(id) if id else None
    return step.connector if step and state and state.result not in (None, Result.DONE) else None


def last_step(incident: Incident) -> tuple[str, StepState] | tuple[None, None]:
    """The step that was tried last, if any was."""
    tried = [(state.at, id, state) for id, state in incident.steps.items() if state.at is not None]
    if not tried:
        return None, None
    _, id, state = max(tried, key=lambda entry: entry[:2])
    return id, state


def _tried(matter: Matter, words: Words) -> str:
    """Per step: how often over all subjects, how it last went, and what was said, if all were told the same."""
    steps: dict[str, list[StepState]] = {}
    for one in matter.subjects:
        for id, state in one.steps.items():
            steps.setdefault(id, []).append(state)
    shown = [words.say("step", step=id, tries=_tries(states), result=_said(states, words)) for id, states in steps.items()]
    return words.say("tried", steps="; ".join(shown)) if shown else words.say("untried")


def _tries(states: Sequence[StepState]) -> int:
    return sum(state.tries for state in states) or len(states)


def _said(states: Sequence[StepState], words: Words) -> str:
    results = Counter(state.result.value if state.result else "waited" for state in states)
    said = ", ".join(words.say(f"result_{result}") for result, _ in results.most_common())
    reasons = Counter(state.reason for state in states if state.reason)
    return f"{said} ({reasons.most_common(1)[0][0]})" if reasons else said


def _next(matter: Matter, words: Words) -> Iterator[str]:
    """What happens without the reader, and when."""
    working = [one for one in matter.subjects if one.phase is Phase.OPEN]
    if matter.held:
        yield words.say("held")
    elif working:
        moves = [one.due for one in working if one.due is not None and one.due > matter.now]
        if moves:
            yield words.say("next_at", time=words.time(min(moves)))
    elif matter.rule.resolve_on is ResolveOn.DELIVERY:
        yield words.say("next_event")
    else:
        yield words.say("next_none", every=words.duration(matter.rule.every))
    if matter.ahead is not None:
        when, contact = matter.ahead
        yield words.say("next_level", time=words.time(when), contact=contact)


def _also(matter: Matter, words: Words) -> Iterator[str]:
    if matter.others:
        yield words.say("also", rules=", ".join(matter.others))


def commands(rule: Rule, subjects: Sequence[Incident]) -> Iterator[str]:
    """Ready to paste, ``claim`` first. More than a line of ids are named by what they share.

    An event that has ended when its message is read (``resolve_on: delivery``) can only be looked at.
    """
    causes = {one.cause for one in subjects}
    chosen = " ".join(shlex.quote(one.id) for one in subjects)
    if len(subjects) > LIST_LIMIT:
        cause = causes.pop() if len(causes) == 1 else None
        chosen = f"--rule {shlex.quote(rule.name)}" + (f" --cause {shlex.quote(cause)}" if cause else "")
    if rule.resolve_on is not ResolveOn.DELIVERY or any(one.phase is Phase.OPEN for one in subjects):
        yield f"orderheal incidents claim {chosen}"
        yield f"orderheal incidents retry {chosen}"
    yield f"orderheal incidents show {shlex.quote(subjects[0].id)} --requests"
    yield f"orderheal explain {shlex.quote(subjects[0].key)}"


def evidence(kind: str, matter: Matter, words: Words) -> Mapping[str, Any]:
    """The message as data (JSON): at most ten subjects with their attempts, the last request and reply, what comes next."""
    subjects = matter.subjects or matter.left
    told: dict[str, Any] = {
        "kind": kind,
        "count": len(subjects),
        "before": matter.before,
        "value": {money.currency: str(money.amount) for money in totals(subjects)},
        "deadline": _iso(first_deadline(subjects, matter.now)),
        "since": _iso(min((one.since for one in subjects), default=None)),
        "subjects": [_subject(one) for one in subjects[:LIST_LIMIT]],
        "runbook": matter.rule.runbook,
        "next": "\n".join(_next(matter, words)) if matter.subjects else "",
        "commands": list(commands(matter.rule, matter.subjects)) if matter.subjects else [],
    }
    return {**told, **_last_exchange(matter)}


def _subject(incident: Incident) -> Mapping[str, Any]:
    return {
        "incident": incident.id,
        "key": incident.key,
        "object": incident.object,
        "phase": incident.phase.value,
        "why": incident.why.value,
        "cause": incident.cause,
        "since": _iso(incident.since),
        "deadline": _iso(incident.deadline),
        "value": f"{incident.value.amount} {incident.value.currency}" if incident.value else None,
        "resolution": incident.resolution.value if incident.resolution else None,
        "steps": [_step(id, state) for id, state in incident.steps.items()],
    }


def _step(id: str, state: StepState) -> Mapping[str, Any]:
    return {
        "step": id,
        "attempts": state.tries,
        "outcome": state.result.value if state.result else None,
        "reason": state.reason,
        "at": _iso(state.at),
    }


def _last_exchange(matter: Matter) -> Mapping[str, Any]:
    """The newest request and reply of all subjects."""
    newest = max(
        ((state.at, one.id, id, state) for one in matter.subjects for id, state in [last_step(one)] if state and state.at),
        key=lambda entry: entry[:3],
        default=None,
    )
    if newest is None:
        return {}
    _, incident, id, state = newest
    step, request = matter.rule.step(id or ""), matter.requests.get(incident)
    asked: dict[str, Any] = {"call": f"{step.connector}.{step.call}" if step and step.call else id, "at": _iso(state.at)}
    if request is not None:
        asked |= {"method": request.method, "url": request.url, "body": _cut(request.body)}
    response = None if isinstance(state.response, Unknown) else pack(state.response)
    if isinstance(response, dict):
        response = {key: _cut(item) if isinstance(item, str) else item for key, item in response.items()}
    return {"last_request": asked, "last_reply": response}


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _cut(body: str | None) -> str | None:
    return body if body is None or len(body) <= _KEPT else body[:_KEPT] + "…"
