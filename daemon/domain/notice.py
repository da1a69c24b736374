"""What people are told: problems with their episodes, and notices as rows (law 13). Pure.

Once per cycle, after deciding, ``tell`` compares who needs a person with what was told already, and gives the notices that
are due, the problems as they become, and the levels that subjects reached. ``route`` says where a notice goes, and
``after_failure`` where it goes next. Telling is level-based: what a hold, a mark or a crash kept back is said by the next
cycle that may say it, because it follows from the incidents and not from their changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from daemon.domain import message
from daemon.domain.attempt import Outcome, Request, Result
from daemon.domain.incident import Incident, Phase, Why, scope_of
from daemon.domain.message import Card, Matter, Table, by_urgency, first_deadline
from daemon.domain.rule import Contact, Delivery, GroupBy, Level, Mode, ResolveOn, Rule, Severity
from daemon.domain.words import RUSSIAN, Words

if TYPE_CHECKING:  # standing.py holds problems, so it imports this module
    from daemon.domain.standing import Held, Illness, Telling

FIRST_LEAD = timedelta(hours=2)
"""``before_deadline`` of the first level that concerns a subject, when the rule says nothing (law 21)."""

UNDELIVERED = timedelta(hours=1)
"""A level that could not be delivered for this long, once its contact works, counts as told: the next must not wait for it."""


class NoticeKind(StrEnum):
    """Why a message goes out."""

    BEGIN = "begin"
    GROWTH = "growth"
    DEADLINE = "deadline"
    REMINDER = "reminder"
    END = "end"
    GUARD = "guard"
    GUARD_END = "guard_end"
    BLIND = "blind"
    BLIND_END = "blind_end"
    CONNECTOR_ILL = "connector_ill"
    CONNECTOR_WELL = "connector_well"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Problem:
    """What one thread of notices is about: a rule, a group, and the level (contact) that is told.

    ``episode`` counts its times of going from no told subject to some; ``active`` while some are. ``told`` is how many
    subjects the last message spoke of. ``delivered`` is filled by the store from the outbox: when the begin of this episode
    (or a later message of it) was first delivered; ``None`` as long as it was not.
    """

    id: str
    rule: str
    level: str
    group: str
    contact: str
    episode: int = 0
    active: bool = False
    sequence: int = 0
    told: int = 0
    begun: datetime | None = None
    last: datetime | None = None
    ended: datetime | None = None
    delivered: datetime | None = None
    deadline_told: datetime | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One message about one problem, as it was decided; a row of the outbox, unique by (problem, episode, kind, sequence).

    ``title`` and ``text`` are what every contact may read; ``ours`` is the engine's part (evidence, money, commands), never sent
    to an external contact; ``context`` is the structured evidence for Sentry. ``until`` is when it becomes pointless.
    ``cards`` and ``tables`` are its attachments, for every contact: values here, drawn and written by the channel that sends them.
    """

    id: str
    problem: str
    rule: str
    episode: int
    kind: NoticeKind
    sequence: int
    contact: str
    severity: Severity
    at: datetime
    title: str
    text: str
    ours: str = ""
    group: str = ""
    count: int = 0
    incidents: tuple[str, ...] = ()
    deadline: datetime | None = None
    runbook: str = ""
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    context: Mapping[str, Any] = field(default_factory=dict)
    cards: tuple[Card, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def in_words(self) -> str:
        """The text with what is attached to it written out, for a channel that carries no pictures and no files."""
        return "\n\n".join(part for part in (self.text, *(card.text for card in self.cards), *(table.text for table in self.tables)) if part)


class DeliveryState(StrEnum):
    """Where one notice is on one channel."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One notice on its way to one contact by one channel: what the notifier leases, sends and settles.

    ``position`` is the channel's place in the contact's list (the next is tried when it fails); ``mirror`` marks the copy that
    goes to ``alerts.via``. ``reference`` and ``thread`` are the channel's own words for this and for the episode's first message.
    """

    id: str
    notice: Notice
    contact: str
    via: str
    address: Mapping[str, str]
    position: int = 0
    mirror: bool = False
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    not_before: datetime | None = None
    reason: str = ""
    thread: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What telling comes to in one cycle.

    ``problems``: those that changed. ``levels``: for incidents whose ``levels`` changed, the whole new map, which *replaces*
    the old one. ``due``: the earliest time (rule time) at which telling has something new to say; ``None``: no such time.
    """

    problems: tuple[Problem, ...] = ()
    notices: tuple[Notice, ...] = ()
    levels: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)
    due: datetime | None = None


def tell(
    rule: Rule,
    contacts: Mapping[str, Contact],
    incidents: Sequence[Incident],
    problems: Sequence[Problem],
    tellings: Sequence[Telling],
    now: datetime,
    words: Words,
    *,
    held: bool = False,
    requests: Mapping[str, Request] | None = None,
) -> Told:
    """Who is to be told what, now.

    ``incidents``: all live ones after this cycle's decisions, and those that ended in it. ``words``: the installation's own,
    for the evidence. ``held``: the rule's guard holds messages; notices about deadlines go out all the same (law 21).
    ``requests``: the last request by incident id, as far as known, for the evidence.
    """
    if rule.mode in (Mode.OBSERVE, Mode.DISABLED):
        return Told()
    desk = _Desk(rule, contacts, {one.id: one for one in problems}, _by_object(tellings), now, words, held, requests or {})
    standings = [_stand(desk, incident) for incident in incidents]
    spoken_of = _problems(desk, standings)
    subjects = _subjects(desk, spoken_of, standings)
    episodes = [_episode(desk, problem, subjects.get((problem.level, problem.id), [])) for problem in spoken_of]
    dues = [
        *(when for standing in standings for when, _ in standing.ahead),
        *(when for episode in episodes if (when := _reminder(desk, episode.after, episode.level)) is not None),
    ]
    return Told(
        problems=tuple(episode.after for episode in episodes if episode.kind is not None),
        notices=tuple(notice for episode in episodes if (notice := _notice(desk, episode)) is not None),
        levels=_levels(desk, standings, episodes),
        due=min((due for due in dues if due > now), default=None),
    )


@dataclass(frozen=True, slots=True)
class _Desk:
    """All that telling reads beside the incident or the problem in hand. ``tellings``: what other rules tell, by object."""

    rule: Rule
    contacts: Mapping[str, Contact]
    problems: Mapping[str, Problem]
    tellings: Mapping[str, Sequence[Telling]]
    now: datetime
    words: Words
    held: bool
    requests: Mapping[str, Request]

    @property
    def levels(self) -> tuple[Level, ...]:
        """Those of the rule; the owner, if it names none."""
        return self.rule.escalate or (Level("owner", self.rule.owner),)

    def level(self, id: str) -> Level:
        """The level of that identity; of one that this version of the rule lost, the owner stands for it."""
        return next((level for level in self.levels if level.id == id), Level(id, self.rule.owner))

    def problem(self, level: Level, incident: Incident) -> Problem:
        """The problem under which this level is told of the subject, as it stands."""
        group = {GroupBy.CAUSE: incident.cause or "", GroupBy.RULE: "", GroupBy.SUBJECT: incident.key}[level.group_by]
        id = "/".join(part for part in (self.rule.name, level.id, group) if part)
        return self.problems.get(id) or Problem(id, self.rule.name, level.id, group, level.to)


@dataclass(frozen=True, slots=True)
class _Standing:
    """One incident before its levels: which it has reached and when, and when others will want it."""

    incident: Incident
    reached: Mapping[str, datetime]
    near: frozenset[str]
    ahead: tuple[tuple[datetime, Level], ...]


@dataclass(frozen=True, slots=True)
class _Episode:
    """One problem in this cycle: what is said of whom (``kind`` is ``None``: nothing), and the problem after it."""

    level: Level
    after: Problem
    kind: NoticeKind | None = None
    before: Problem | None = None
    spoken: tuple[_Standing, ...] = ()
    left: tuple[Incident, ...] = ()


def _by_object(tellings: Sequence[Telling]) -> Mapping[str, Sequence[Telling]]:
    found: dict[str, list[Telling]] = {}
    for telling in tellings:
        found.setdefault(telling.object, []).append(telling)
    return found


def _needs_person(incident: Incident) -> bool:
    return incident.phase in (Phase.ESCALATED, Phase.QUARANTINED, Phase.PARKED)


def _silenced(incident: Incident, now: datetime) -> bool:
    """Claimed, dismissed or excluded: no messages, but those about a deadline."""
    return bool(incident.marks.in_force(now))


def _spoken_for(desk: _Desk, incident: Incident) -> bool:
    """Whether another rule tells of the same object already, and before us: higher severity, then older (``detect.object``)."""
    own = (desk.rule.severity.rank, incident.opened, desk.rule.name)
    return any((telling.severity, telling.opened, telling.rule) < own for telling in desk.tellings.get(incident.object, ()))


def _stand(desk: _Desk, incident: Incident) -> _Standing:
    """Climb the levels that concern the subject. A condition that cannot be known counts as true: never lose a page."""
    scope = scope_of(incident, desk.now)
    levels = [level for level in desk.levels if level.when is None or level.when(scope) is not False]
    reached: dict[str, datetime] = {}
    near: set[str] = set()
    ahead: list[tuple[datetime, Level]] = []
    for index, level in enumerate(levels if incident.live else ()):
        pressing = _pressing_from(incident, level, first=index == 0)
        turn, wake = _turn(desk, incident, level, levels[index - 1] if index else None, reached)
        if pressing is not None and pressing <= desk.now:
            near.add(level.id)
        since = _since(desk, incident, level)
        if since is not None:
            reached[level.id] = since
        elif level.id in near or (turn is not None and turn <= desk.now):
            reached[level.id] = desk.now
        elif wake is not None:
            ahead.append((wake, level))
        if pressing is not None and pressing > desk.now:
            ahead.append((pressing, level))
    return _Standing(incident, reached, frozenset(near), tuple(ahead))


def _pressing_from(incident: Incident, level: Level, first: bool) -> datetime | None:
    """From when on the deadline demands a person at this level, whatever the step, pause or hold (law 21)."""
    lead = level.before_deadline if level.before_deadline is not None else FIRST_LEAD if first else None
    if lead is None or incident.deadline is None or incident.phase is Phase.PROVED:
        return None
    return incident.deadline - lead


def _since(desk: _Desk, incident: Incident, level: Level) -> datetime | None:
    """Since when the level is told of the subject, if it still is: until it ends, also while it is tried once more.

    One whose episode is over begins anew.
    """
    if not _open(incident) or not desk.problem(level, incident).active:
        return None
    return incident.levels.get(level.id)


def _turn(
    desk: _Desk, incident: Incident, level: Level, previous: Level | None, reached: Mapping[str, datetime]
) -> tuple[datetime | None, datetime | None]:
    """When climbing brings the subject to this level, and when to look again, which is earlier while nothing is delivered."""
    if not _needs_person(incident) or _silenced(incident, desk.now) or desk.held or _spoken_for(desk, incident):
        return None, None
    if previous is None:
        return desk.now, desk.now
    joined = reached.get(previous.id)
    if joined is None or not level.after:
        return joined, joined
    problem, hours = desk.problem(previous, incident), desk.contacts[previous.to].hours
    if problem.active and problem.delivered is not None:
        base = max(problem.delivered, joined)
        turn = hours.after(base, level.after) or base + level.after
        return turn, turn
    base = (hours.opens(joined) or joined) + UNDELIVERED
    turn = hours.after(base, level.after) or base + level.after
    return turn, min(turn, hours.after(desk.now, level.after) or turn)


def _problems(desk: _Desk, standings: Sequence[_Standing]) -> tuple[Problem, ...]:
    """Those that are active, and those that some subject belongs to now, by id."""
    found = {one.id: one for one in desk.problems.values() if one.active and one.rule == desk.rule.name}
    for standing in standings:
        for level in standing.reached:
            problem = desk.problem(desk.level(level), standing.incident)
            found[problem.id] = problem
    return tuple(found[id] for id in sorted(found))


def _subjects(desk: _Desk, problems: Sequence[Problem], standings: Sequence[_Standing]) -> Mapping[tuple[str, str], Sequence[_Standing]]:
    """Who belongs to which problem, by level and id: each subject is asked once per level, however many problems there are."""
    found: dict[tuple[str, str], list[_Standing]] = {}
    for level in sorted({problem.level for problem in problems}):
        for one in standings:
            found.setdefault((level, desk.problem(desk.level(level), one.incident).id), []).append(one)
    return found


def _episode(desk: _Desk, problem: Problem, mine: Sequence[_Standing]) -> _Episode:
    """What is to be said about one problem, if anything. ``mine``: its subjects."""
    level = desk.level(problem.level)
    told = [one for one in mine if level.id in one.reached]
    spoken = [one for one in told if level.id in one.near or not (desk.held or _silenced(one.incident, desk.now))]
    kind = _kind(desk, problem, level, told, spoken)
    if kind is None:
        return _Episode(level, problem)
    if kind is NoticeKind.END:
        left = [one.incident for one in mine if not _open(one.incident) and level.id in one.incident.levels]
        return _Episode(level, _ended(desk, problem, level), kind, problem, left=by_urgency(left))
    order = {one.id: place for place, one in enumerate(by_urgency(one.incident for one in spoken))}
    spoken.sort(key=lambda one: order[one.incident.id])
    return _Episode(level, _spoke(problem, kind, level, len(spoken), desk.now), kind, problem, tuple(spoken))


def _open(incident: Incident) -> bool:
    return incident.live and incident.phase is not Phase.PROVED


def _kind(desk: _Desk, problem: Problem, level: Level, told: Sequence[_Standing], spoken: Sequence[_Standing]) -> NoticeKind | None:
    """Why something is to be said now. At most one notice per problem and cycle; each tells all there is to tell."""
    if not problem.active:
        return NoticeKind.BEGIN if spoken else None
    if not told:
        return None if desk.held else NoticeKind.END
    if any(level.id in one.near and deadline_mark(level) not in one.incident.levels for one in spoken):
        return NoticeKind.DEADLINE
    if desk.held or not spoken:
        return None
    event = desk.rule.resolve_on is ResolveOn.DELIVERY
    if len(spoken) >= 2 * problem.told or (event and any(one.reached[level.id] != one.incident.levels.get(level.id) for one in spoken)):
        return NoticeKind.GROWTH
    reminder = _reminder(desk, problem, level)
    return NoticeKind.REMINDER if reminder is not None and reminder <= desk.now else None


def deadline_mark(level: Level) -> str:
    """The entry of ``Incident.levels`` that says: this level was told of the subject's deadline."""
    return f"{level.id}@deadline"


def _reminder(desk: _Desk, problem: Problem, level: Level) -> datetime | None:
    """When the next reminder falls due, counted and sent in the contact's hours."""
    if not problem.active or level.repeat is None or problem.last is None:
        return None
    hours = desk.contacts[level.to].hours
    passed = hours.after(problem.last, level.repeat)
    return passed and hours.opens(passed)


def _spoke(problem: Problem, kind: NoticeKind, level: Level, count: int, now: datetime) -> Problem:
    if kind is NoticeKind.BEGIN:
        return replace(
            problem, contact=level.to, episode=problem.episode + 1, active=True, sequence=1, told=count,
            begun=now, last=now, ended=None, delivered=None, deadline_told=None,
        )  # fmt: skip
    deadline = kind is NoticeKind.DEADLINE
    return replace(
        problem, contact=level.to, sequence=problem.sequence + 1, told=max(count, problem.told) if deadline else count,
        last=now, deadline_told=now if deadline else problem.deadline_told,
    )  # fmt: skip


def _ended(desk: _Desk, problem: Problem, level: Level) -> Problem:
    """Who was told of the begin is told of the end; whom the level tells now, if the configuration has that contact no more."""
    contact = problem.contact if problem.contact in desk.contacts else level.to
    return replace(problem, contact=contact, active=False, sequence=problem.sequence + 1, last=desk.now, ended=desk.now)


def _levels(desk: _Desk, standings: Sequence[_Standing], episodes: Sequence[_Episode]) -> Mapping[str, Mapping[str, datetime]]:
    """The new level maps: what was reached is kept (it says who was told in this life), deadline marks while they hold."""
    said = {(episode.level.id, one.incident.id) for episode in episodes for one in episode.spoken}
    changed: dict[str, Mapping[str, datetime]] = {}
    for standing in standings:
        incident = standing.incident
        marks = {
            mark: incident.levels.get(mark, desk.now)
            for level in map(desk.level, standing.near)
            if (mark := deadline_mark(level)) in incident.levels or (level.id, incident.id) in said
        }
        kept = {id: at for id, at in incident.levels.items() if not id.endswith("@deadline")}
        levels = {**kept, **standing.reached, **marks}
        if incident.live and levels != incident.levels:
            changed[incident.id] = levels
    return changed


def _notice(desk: _Desk, episode: _Episode) -> Notice | None:
    """The notice of an episode. An event that ends by being told has no end of its own to tell."""
    kind, problem, before = episode.kind, episode.after, episode.before
    if kind is None or before is None or (kind is NoticeKind.END and desk.rule.resolve_on is ResolveOn.DELIVERY):
        return None
    matter = _matter(desk, episode, before)
    subjects = matter.subjects or matter.left
    return Notice(
        id=_notice_id(problem, kind),
        problem=problem.id,
        rule=desk.rule.name,
        episode=problem.episode,
        kind=kind,
        sequence=problem.sequence,
        contact=problem.contact,
        severity=desk.rule.severity,
        at=desk.now,
        title=message.title(kind, matter),
        text=message.text(kind, matter),
        ours=message.ours(kind, matter),
        group=problem.group,
        count=len(subjects),
        incidents=tuple(one.id for one in subjects),
        deadline=first_deadline(matter.subjects, desk.now),
        runbook=desk.rule.runbook,
        delivery=episode.level.delivery,
        context=message.evidence(kind, matter, desk.words),
        cards=message.cards(kind, matter),
        tables=message.tables(kind, matter),
    )


def _notice_id(problem: Problem, kind: NoticeKind) -> str:
    return f"{problem.id}#{problem.episode}.{problem.sequence}-{kind}"


def _matter(desk: _Desk, episode: _Episode, before: Problem) -> Matter:
    subjects = tuple(one.incident for one in episode.spoken)
    objects = {one.object for one in subjects}
    begins = episode.kind is NoticeKind.BEGIN
    return Matter(
        rule=desk.rule,
        level=episode.level,
        contact=desk.contacts[episode.after.contact],
        now=desk.now,
        subjects=subjects,
        left=episode.left,
        before=0 if begins else before.told,
        begun=episode.after.begun,
        ahead=_ahead(desk, episode),
        others=tuple(sorted({one.rule for object in objects for one in desk.tellings.get(object, ()) if one.rule != desk.rule.name})),
        held=desk.held,
        requests=desk.requests,
    )


def _ahead(desk: _Desk, episode: _Episode) -> tuple[datetime, str] | None:
    """Who else is called next, and when, if all stays as it is. For a first message: counted from now."""
    place = desk.levels.index(episode.level) if episode.level in desk.levels else len(desk.levels)
    following = [
        (when, level)
        for one in episode.spoken
        for when, level in one.ahead
        if level.id not in one.reached and level in desk.levels[place + 1 :]
    ]
    if not following:
        return None
    when, level = min(following, key=lambda entry: entry[0])
    contact = desk.contacts.get(level.to)
    return when, contact.title if contact else level.to


def was_told(rule: Rule, incident: Incident, problems: Mapping[str, Problem]) -> bool:
    """Whether a person was delivered a message that speaks of this subject, in this life of it. ``problems``: by their ids.

    One that joined an episode silently, after its last message, was not told; one whom a later message of a delivered
    episode names counts as told. It is asked of the subject as it stood before a look: a new cause is another problem.
    """
    desk = _Desk(rule, {}, problems, {}, incident.since, Words(), False, {})
    for id, joined in incident.levels.items():
        problem = desk.problem(desk.level(id), incident)
        if problem.delivered is not None and joined <= max(problem.delivered, problem.last or problem.delivered):
            return True
    return False


def guard_notice(rule: Rule, held: Held, begin: bool, now: datetime, words: Words = RUSSIAN) -> Notice:
    """The one message at a trip's begin, and the one at its end. ``words``: the owner's."""
    said: tuple[str, ...]
    if not begin:
        said = (
            words.say("guard_end"),
            words.say("guard_was", begun=words.time(held.since), lasted=words.duration(now - held.since)),
        )
    elif held.why is Why.MAX_BROKEN_PERCENT:
        said = (words.say("guard_percent", broken=held.broken, population=held.population, limit=f"{held.limit:g}"),)
    else:
        said = (words.say("guard", broken=held.broken, limit=f"{held.limit:g}"),)
    kind = NoticeKind.GUARD if begin else NoticeKind.GUARD_END
    rows = (f"orderheal status --rule {rule.name}", f"orderheal incidents list --rule {rule.name}") if begin else ()
    context = {"why": held.why.value, "broken": held.broken, "limit": held.limit, "population": held.population}
    return _news(rule, kind, "guard", held.since, now, words, "\n".join(said), rows, held.broken, context)


def blind_notice(
    rule: Rule, reason: str, count: int, begin: bool, now: datetime, since: datetime | None = None, words: Words = RUSSIAN
) -> Notice:
    """A rule that knows nothing of ``count`` subjects (or of its source), and why. ``since``: when that began."""
    kind = NoticeKind.BLIND if begin else NoticeKind.BLIND_END
    said = words.say("blind", subjects=words.subjects(count), reason=reason) if begin else words.say("blind_end")
    rows = ("orderheal doctor", f"orderheal status --rule {rule.name}") if begin else ()
    return _news(rule, kind, "blind", since or now, now, words, said, rows, count, {"reason": reason})


def ill_notice(
    connector: str, illness: Illness, begin: bool, now: datetime, contact: str, words: Words = RUSSIAN, rule: str = ""
) -> Notice:
    """A connector that refuses us: one message for it, none for its orders. ``rule``: who met it first."""
    kind = NoticeKind.CONNECTOR_ILL if begin else NoticeKind.CONNECTOR_WELL
    text = words.say("ill" if begin else "well", connector=connector, time=words.time(illness.since), reason=illness.reason)
    return Notice(
        id=f"connector/{connector}#{illness.since.isoformat()}-{kind}",
        problem=f"connector/{connector}",
        rule=rule,
        episode=int(illness.since.timestamp()),
        kind=kind,
        sequence=1 if begin else 2,
        contact=contact,
        severity=Severity.WARNING,
        at=now,
        title=words.say(f"title_{kind}", title=connector),
        text=text,
        ours="orderheal doctor" if begin else "",
        group=connector,
        context={"connector": connector, "since": illness.since.isoformat(), "reason": illness.reason},
    )


def fault_notice(rule: Rule, sentence: str, now: datetime, words: Words = RUSSIAN) -> Notice:
    """Something a rule wanted and could not do: an argument that cannot be said, a spent follow-up, cycles that never end.

    The same sentence is one problem; each time it is told is an episode of its own.
    """
    problem = f"fault/{blake2b(sentence.encode(), digest_size=6).hexdigest()}"
    return _news(rule, NoticeKind.FAULT, problem, now, now, words, sentence, (f"orderheal rules show {rule.name}",))


def parked_notice(rule: str, contact: str, severity: Severity, count: int, now: datetime, words: Words = RUSSIAN) -> Notice:
    """A rule is gone or disabled while subjects of it are open (law 11). There is no ``Rule`` to ask any more."""
    return Notice(
        id=f"{rule}/parked#{now.isoformat()}-{NoticeKind.FAULT}",
        problem=f"{rule}/parked",
        rule=rule,
        episode=int(now.timestamp()),
        kind=NoticeKind.FAULT,
        sequence=1,
        contact=contact,
        severity=severity,
        at=now,
        title=words.say("title_parked", title=rule),
        text=words.say("parked", subjects=words.subjects(count)),
        ours=f"orderheal incidents list --rule {rule}",
        group="parked",
        count=count,
        context={"count": count},
    )


def _news(
    rule: Rule, kind: NoticeKind, group: str, since: datetime, now: datetime, words: Words, text: str,
    commands: Sequence[str] = (), count: int = 0, context: Mapping[str, Any] | None = None,
) -> Notice:  # fmt: skip
    """A notice about the rule itself, to its owner. Its episode is named by when it began, so both its ends agree on it."""
    ours = [words.say("runbook", runbook=rule.runbook), *([words.say("commands"), *commands] if commands else [])]
    return Notice(
        id=f"{rule.name}/{group}#{since.isoformat()}-{kind}",
        problem=f"{rule.name}/{group}",
        rule=rule.name,
        episode=int(since.timestamp()),
        kind=kind,
        sequence=2 if kind in (NoticeKind.GUARD_END, NoticeKind.BLIND_END) else 1,
        contact=rule.owner,
        severity=rule.severity,
        at=now,
        title=words.say(f"title_{kind}", title=rule.title),
        text=text,
        ours="\n".join(ours),
        group=group,
        count=count,
        runbook=rule.runbook,
        context={"since": since.isoformat(), **(context or {})},
    )


_UNMIRRORED = (NoticeKind.GROWTH, NoticeKind.DEADLINE, NoticeKind.REMINDER)
"""Kinds that are neither begin nor end of anything, so ``alerts.via`` does not get them."""

PATIENCE = 6
"""Tries of one channel with ``later`` or an unknown outcome before the next one is asked as well."""


def route(notice: Notice, contact: Contact, contacts: Mapping[str, Contact], now: datetime, alerts_via: str | None) -> tuple[Dispatch, ...]:
    """Where a notice goes first: to whom, by which channels, not before when; and the copy for ``alerts.via``."""
    unwanted = notice.kind is NoticeKind.END and not contact.send_resolved
    told = () if unwanted else _dispatches(notice, *_reachable(notice, contact, contacts, now))
    if alerts_via is None or notice.kind in _UNMIRRORED or any(one.via == alerts_via for one in told):
        return told
    mirror = Dispatch(f"{notice.id}>{alerts_via}", notice, contact.name, alerts_via, {}, mirror=True)
    return (*told, mirror)


def _reachable(notice: Notice, contact: Contact, contacts: Mapping[str, Contact], now: datetime) -> tuple[Contact, datetime | None]:
    """Who is told, and not before when: the contact, or by its hours whoever stands in for it.

    If nobody who stands in works either, the first is told at once: a page is not lost to a calendar.
    """
    for one in (contact, *_stand_ins(contact, contacts)):
        opens = one.hours.opens(now)
        if opens is not None and opens <= now:
            return one, None
        if notice.severity is Severity.CRITICAL and not one.external:
            return one, None
        if opens is not None and not _presses(notice, one, opens, now):
            return one, opens
    return contact, None


def _presses(notice: Notice, contact: Contact, opens: datetime, now: datetime) -> bool:
    """Whether it cannot wait for these hours: critical, or a deadline would pass meanwhile. The end of something can."""
    if notice.kind is NoticeKind.END:
        return False
    missed = notice.deadline is not None and now < notice.deadline <= opens
    return missed or notice.severity is Severity.CRITICAL


def _stand_ins(contact: Contact, contacts: Mapping[str, Contact]) -> Iterator[Contact]:
    """The fallback, its fallback, and so on, each once. An external contact never stands in: it may not see what we write."""
    seen, one = {contact.name}, contact
    while one.fallback is not None and one.fallback not in seen and one.fallback in contacts:
        one = contacts[one.fallback]
        seen.add(one.name)
        if not one.external:
            yield one


def _dispatches(notice: Notice, contact: Contact, not_before: datetime | None, reason: str = "") -> tuple[Dispatch, ...]:
    """The first channel of the contact; all of them at once when it is critical."""
    wanted = contact.channels if notice.severity is Severity.CRITICAL else contact.channels[:1]
    return tuple(_dispatch(notice, contact, place, not_before, reason) for place in range(len(wanted)))


def _dispatch(notice: Notice, contact: Contact, place: int, not_before: datetime | None, reason: str = "") -> Dispatch:
    channel = contact.channels[place]
    return Dispatch(
        id=f"{notice.id}>{contact.name}.{place}",
        notice=notice,
        contact=contact.name,
        via=channel.via,
        address=channel.address,
        position=place,
        not_before=not_before,
        reason=reason,
    )


def after_failure(
    dispatch: Dispatch, outcome: Outcome, contacts: Mapping[str, Contact], now: datetime, again: datetime, beside: int = 0
) -> tuple[Dispatch, tuple[Dispatch, ...]]:
    """What becomes of a dispatch by its outcome, and who is told instead of or beside it.

    ``again``: when another try of the same channel is worth it (rule time; the edge knows ``Retry-After``). A channel that
    keeps answering ``later`` is tried on for ever, the next one is asked as well after ``PATIENCE`` tries: nothing is lost.
    ``beside``: how often what leaves with it was tried before; who joins does not begin to wait anew.
    """
    tries = max(dispatch.tries, beside) + (outcome.result is not Result.NOT_SENT)
    tried = replace(dispatch, tries=tries, reason=outcome.reason)
    match outcome.result:
        case Result.DONE:
            return replace(tried, state=DeliveryState.DONE), ()
        case Result.NOT_SENT:
            return replace(tried, not_before=again), ()
        case Result.REFUSED:
            return replace(tried, state=DeliveryState.FAILED), _following(dispatch, outcome, contacts, now)
        case Result.UNKNOWN if dispatch.notice.delivery is Delivery.AT_MOST_ONCE:
            return replace(tried, state=DeliveryState.FAILED, reason=f"unknown: {outcome.reason}"), ()
    following = _following(dispatch, outcome, contacts, now) if dispatch.tries < PATIENCE <= tries else ()
    return replace(tried, not_before=again), following


def _following(dispatch: Dispatch, outcome: Outcome, contacts: Mapping[str, Contact], now: datetime) -> tuple[Dispatch, ...]:
    """The contact's next channel; after its last, whoever stands in for it; after them, nobody: it is known as undelivered."""
    contact, notice = contacts.get(dispatch.contact), dispatch.notice
    if dispatch.mirror or contact is None:
        return ()
    reason = f"{dispatch.via}: {outcome.reason or outcome.result.value}"
    place = dispatch.position + 1
    if place < len(contact.channels):
        # Critical went out by all channels at once.
        return () if notice.severity is Severity.CRITICAL else (_dispatch(notice, contact, place, None, reason),)
    asked = contacts.get(notice.contact, contact)
    chain = [asked, *_stand_ins(asked, contacts)]
    names = [one.name for one in chain]
    after = chain[names.index(contact.name) + 1 :] if contact.name in names else []
    return _dispatches(notice, *_reachable(notice, after[0], contacts, now), reason) if after else ()
