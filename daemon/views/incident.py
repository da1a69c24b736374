"""Incidents as lists and one by one: what is stored, what was tried and answered, what happened, who was told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from daemon.domain.attempt import Attempt
from daemon.domain.incident import Incident, Mark
from daemon.engine.archive import Archive, Entry, Told
from daemon.views.request import answered, curl
from daemon.views.text import Line, away, columns, moment, shown, span, visible


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is stored about one incident."""

    now: datetime
    incident: Incident
    attempts: tuple[Attempt, ...]
    journal: tuple[Entry, ...]
    told: tuple[Told, ...]


async def dossier(archive: Archive, incident: Incident) -> Dossier:
    """Read it. Raises ``Unreachable``."""
    return Dossier(
        await archive.now(),
        incident,
        tuple(await archive.attempts(incident.id)),
        tuple(await archive.journal(incident.id)),
        tuple(await archive.notices(incident.id)),
    )


def meant(number: str, found: Sequence[Incident]) -> tuple[Incident, ...]:
    """Of what a search found, those that carry the whole number in one of their names; all of it when none does."""
    wanted = number.lower()
    exact = (one for one in found if wanted in {name.lower() for name in _names(one)})
    return tuple(exact) or tuple(found)


def _names(one: Incident) -> tuple[str, ...]:
    texts = (value for value in one.facts.values() if isinstance(value, str))
    return (one.id, short(one.id), one.key, one.record_key, one.object, one.object.rpartition("/")[2], *texts)


def short(id: str) -> str:
    """The beginning of an incident's id: enough to type."""
    return id[:8]


def list_lines(incidents: Sequence[Incident], now: datetime) -> Iterator[Line]:
    """A row per incident."""
    head = ("id", "rule", "key", "phase", "why", "cause", "age", "next look", "deadline", "value")
    yield from (Line(text) for text in columns([head, *(_row(one, now) for one in incidents)]))


def _row(one: Incident, now: datetime) -> tuple[str, ...]:
    state = one.resolution.value if one.resolution and not one.live else one.phase.value
    value = f"{one.value.amount} {one.value.currency}" if one.value else "—"
    mark = next(iter(one.marks.in_force(now)), None)
    why = f"{mark.why} ({mark.author})" if mark else one.why.value
    return (
        short(one.id), one.rule, one.key, state, why, one.cause or "—", span((one.ended or now) - one.opened),
        away(one.due, now), away(one.deadline, now), value,
    )  # fmt: skip


def show_lines(answer: Dossier, zone: tzinfo, requests: bool = False) -> Iterator[Line]:
    """One incident in full; ``requests``: with each request as a command and what came back."""
    one, now = answer.incident, answer.now
    yield Line(f"{one.rule} / {visible(one.key)}", "head")
    yield from (Line(text) for text in columns(_facts(one, now, zone), "  "))
    yield from _facts_lines(one, zone)
    yield from attempt_lines(answer.attempts, zone, requests)
    yield from journal_lines(answer.journal, zone)
    yield from told_lines(answer.told, zone)


def _facts(one: Incident, now: datetime, zone: tzinfo) -> list[tuple[str, str]]:
    state = one.phase.value + (f", {one.resolution}" if one.resolution else "")
    rows = [
        ("id", one.id),
        ("object", one.object),
        ("state", f"{state} ({one.why})"),
        ("broken since", f"{moment(one.since, zone)} ({away(one.since, now)})"),
        ("opened", moment(one.opened, zone)),
        ("last look", f"{moment(one.last, zone)}: {one.verdict}{' – ' + one.reason if one.reason else ''}"),
        ("next look", f"{moment(one.due, zone)} ({away(one.due, now)})" if one.due else "—"),
        ("attempts", str(one.total)),
    ]
    extra = [("cause", one.cause or ""), ("deadline", moment(one.deadline, zone) if one.deadline else "")]
    extra += [_mark(mark, one.marks.reason, zone) for mark in one.marks.in_force(now)]
    extra += [("ended", moment(one.ended, zone) if one.ended else ""), ("relapses", str(one.relapses or ""))]
    return rows + [(name, text) for name, text in extra if text]


def _mark(mark: Mark, reason: str, zone: tzinfo) -> tuple[str, str]:
    end = f" until {moment(mark.until, zone)}" if mark.until else ""
    return mark.why.value, f"by {mark.author}{end}{': ' + reason if reason else ''}"


def _facts_lines(one: Incident, zone: tzinfo) -> Iterator[Line]:
    if one.facts:
        yield Line("as last seen", "head")
        yield from (Line(text) for text in columns([(name, shown(value, zone)) for name, value in one.facts.items()], "  "))


def attempt_lines(attempts: Sequence[Attempt], zone: tzinfo, requests: bool = False) -> Iterator[Line]:
    """What we tried, and what was answered."""
    if attempts:
        yield Line("what we tried", "head")
    for attempt in attempts:
        outcome = f"{attempt.outcome.result} {attempt.outcome.reason}".strip() if attempt.outcome else "on its way"
        what = f"{attempt.request.connector}.{attempt.request.call}, attempt {attempt.number}"
        yield Line(visible(f"  {moment(attempt.begun, zone)}  {what}: {outcome}"))
        if requests:
            yield Line(f"    {visible(curl(attempt.request))}")
            yield from (Line(f"    < {visible(text)}", "dim") for text in answered(attempt))


def journal_lines(journal: Sequence[Entry], zone: tzinfo) -> Iterator[Line]:
    """What happened to it."""
    if journal:
        yield Line("what happened", "head")
        rows = [
            (
                moment(entry.at, zone),
                entry.phase,
                entry.why,
                f"seen {entry.verdict}",
                entry.resolution or "",
                entry.reason,
            )
            for entry in journal
        ]
        yield from (Line(text) for text in columns(rows, "  "))


def told_lines(told: Sequence[Told], zone: tzinfo) -> Iterator[Line]:
    """Who was told, and what became of it."""
    if told:
        yield Line("who was told", "head")
        rows = [
            (moment(one.notice.at, zone), one.notice.kind.value, f"{way.contact} by {way.via}", way.state, way.reason)
            for one in told
            for way in one.ways
        ]
        yield from (Line(text) for text in columns(rows, "  "))
