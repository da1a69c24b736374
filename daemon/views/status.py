"""One screen, the first thing typed: what needs a person, what we are on, and what keeps us from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

from daemon.domain.incident import Incident, Phase
from daemon.domain.standing import Held, Illness, Pause
from daemon.engine.archive import Archive, RuleRow, Told, Wanted
from daemon.views.text import Line, away, columns, moment, span, sums

_LATE = timedelta(minutes=15)
"""A rule whose last complete scan is older than this and than three of its intervals has not looked."""


@dataclass(frozen=True, slots=True)
class Bunch:
    """Incidents of one rule that share phase and why. ``author``: the person who set them aside."""

    rule: str
    phase: str
    why: str
    count: int
    oldest: datetime
    due: datetime | None
    deadline: datetime | None
    value: dict[str, Decimal]
    author: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The screen. ``needs_you`` and everything that keeps us from working make it *found something*."""

    now: datetime
    needs_you: tuple[Bunch, ...]
    working: tuple[Bunch, ...]
    aside: tuple[Bunch, ...]
    held: tuple[tuple[str, Held], ...]
    ill: tuple[Illness, ...]
    failing: tuple[tuple[str, str], ...]
    blind: tuple[tuple[str, datetime], ...]
    pauses: tuple[Pause, ...]
    not_looked: tuple[tuple[str, datetime | None], ...]
    undelivered: tuple[Told, ...]

    @property
    def calls_you(self) -> bool:
        """Whether a person has something to do."""
        return bool(self.needs_you or self.held or self.ill or self.failing or self.not_looked or self.undelivered)


async def ask_status(archive: Archive, rule: str | None = None) -> Status:
    """Read the archive for the screen. Raises ``Unreachable``."""
    rows = [row for row in await archive.rules() if rule in (None, row.name)]
    return status(
        await archive.now(),
        rows,
        await archive.incidents(Wanted(rule=rule)),
        await archive.pauses(),
        await archive.illnesses(),
        [told for told in await archive.undelivered() if rule in (None, told.notice.rule)],
    )


def status(
    now: datetime,
    rules: Sequence[RuleRow],
    incidents: Iterable[Incident],
    pauses: Sequence[Pause],
    illnesses: Sequence[Illness],
    undelivered: Sequence[Told],
) -> Status:
    """The screen out of what the archive gave. Rule time."""
    bunches = _bunched(incidents, now)
    aside = tuple(bunch for bunch in bunches if bunch.author)
    ours = [bunch for bunch in bunches if not bunch.author]
    active = [rule for rule in rules if rule.active]
    return Status(
        now=now,
        needs_you=tuple(bunch for bunch in ours if _needs(bunch)),
        working=tuple(bunch for bunch in ours if not _needs(bunch)),
        aside=aside,
        held=tuple((rule.name, rule.state.held) for rule in active if rule.state.held),
        ill=tuple(illnesses),
        failing=tuple((rule.name, rule.state.failed) for rule in active if rule.state.failed),
        blind=tuple((rule.name, rule.state.unknown_since) for rule in active if rule.state.unknown_since),
        pauses=tuple(pauses),
        not_looked=tuple(_not_looked(active, now)),
        undelivered=tuple(undelivered),
    )


def _needs(bunch: Bunch) -> bool:
    return bunch.phase in (Phase.ESCALATED, Phase.QUARANTINED, Phase.PARKED)


def _not_looked(rules: Iterable[RuleRow], now: datetime) -> Iterator[tuple[str, datetime | None]]:
    for rule in rules:
        last = rule.state.last_complete
        if last is None or now - last > max(_LATE, 3 * rule.every):
            yield rule.name, last


def _bunched(incidents: Iterable[Incident], now: datetime) -> list[Bunch]:
    groups: dict[tuple[str, str, str, str], list[Incident]] = {}
    for incident in incidents:
        mark = next(iter(incident.marks.in_force(now)), None)
        why, author = (mark.why, mark.author) if mark else (incident.why, "")
        words = (incident.rule, incident.phase.value, why.value, author)
        groups.setdefault(words, []).append(incident)
    return [_bunch(words, group) for words, group in sorted(groups.items())]


def _bunch(words: tuple[str, str, str, str], group: Sequence[Incident]) -> Bunch:
    rule, phase, why, author = words
    value: dict[str, Decimal] = {}
    for incident in group:
        if incident.value:
            value[incident.value.currency] = value.get(incident.value.currency, Decimal(0)) + incident.value.amount
    return Bunch(
        rule, phase, why, len(group), min(incident.opened for incident in group),
        min((incident.due for incident in group if incident.due), default=None),
        min((incident.deadline for incident in group if incident.deadline), default=None), value, author,
    )  # fmt: skip


def lines(answer: Status, zone: tzinfo) -> Iterator[Line]:
    """The screen as text; empty parts are left out, but never the first."""
    now = answer.now
    yield Line(f"orderheal status, {moment(now, zone)} (rule time)", "head")
    yield from _part("Needs you", "bad", [_row(bunch, now) for bunch in answer.needs_you])
    if not answer.calls_you:
        yield Line("Nothing needs you.", "good")
    yield from _part("We are on it", "", [_row(bunch, now) for bunch in answer.working])
    yield from _part("Set aside by people", "", [_row(bunch, now) for bunch in answer.aside])
    yield from _part("Held by a guard", "warn", [(rule, _numbers(held), away(held.since, now)) for rule, held in answer.held])
    ill = [(one.connector, one.reason, f"since {span(now - one.since)}, tried again {away(one.retry_at, now)}") for one in answer.ill]
    yield from _part("Systems that refuse us", "bad", ill)
    yield from _part("Rules that cannot look", "bad", answer.failing)
    unseen = [(rule, f"since {span(now - since)}", f"orderheal scan {rule}") for rule, since in answer.blind]
    yield from _part("Some subjects cannot be judged", "warn", unseen)
    yield from _part("Pauses", "warn", [_pause(pause, now) for pause in answer.pauses])
    late = [(rule, f"last complete scan {away(last, now)}" if last else "never yet") for rule, last in answer.not_looked]
    yield from _part("Rules that have not looked", "warn", late)
    missed = [(one.notice.rule, one.notice.kind.value, *_ways(one)) for one in answer.undelivered]
    yield from _part("Undelivered messages", "bad", missed)
    for bunch in answer.needs_you[:1]:
        yield Line(f"next: orderheal incidents list --rule {bunch.rule}", "dim")


def _part(title: str, tone: str, rows: Sequence[Sequence[str]]) -> Iterator[Line]:
    if rows:
        yield Line(title, "bad" if tone == "bad" else "warn" if tone == "warn" else "head")
        yield from (Line(text) for text in columns(rows, "  "))


def _row(bunch: Bunch, now: datetime) -> tuple[str, ...]:
    due = f"next look {away(bunch.due, now)}" if bunch.due else "not looked at"
    deadline = f"deadline {away(bunch.deadline, now)}" if bunch.deadline else ""
    by = f"by {bunch.author}" if bunch.author else ""
    extra = ", ".join(part for part in (due, deadline, by) if part)
    age = f"oldest {span(now - bunch.oldest)}"
    return (bunch.rule, str(bunch.count), bunch.phase, bunch.why, age, sums(bunch.value), extra)


def _ways(told: Told) -> tuple[str, str]:
    ways = ", ".join(f"{way.contact} by {way.via}" for way in told.ways)
    return ways, "; ".join(dict.fromkeys(way.reason for way in told.ways if way.reason))


def _numbers(held: Held) -> str:
    of = f" of {held.population}" if held.population else ""
    return f"{held.why}: {held.broken}{of} broken, the limit is {held.limit:g}"


def _pause(pause: Pause, now: datetime) -> tuple[str, ...]:
    scope = f"rule {pause.rule}" if pause.rule else f"connector {pause.connector}" if pause.connector else "everything"
    end = f"ends {away(pause.until, now)}" if pause.until else "has no end"
    return (scope, end, f"{pause.author}: {pause.reason}")
