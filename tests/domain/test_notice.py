"""Who is told what, when: a table per question, a sentence per row (laws 7, 13, 21)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from daemon.domain.attempt import Result
from daemon.domain.incident import Incident, Marks, Phase, Resolution
from daemon.domain.notice import NoticeKind, Problem, Told, tell, was_told
from daemon.domain.rule import Contact, GroupBy, Level, Mode, ResolveOn, Rule, Severity
from daemon.domain.standing import Telling
from daemon.domain.value import Money, Unknown
from daemon.domain.words import Words
from daemon.language.hours import parse_hours
from tests.builders import T0, Expression, at, contacts, incident, minutes, rule, state
from tests.builders import Words as Text

HOUR = timedelta(hours=1)
PEOPLE = contacts("team", "boss", "cdek")
OFFICE = replace(PEOPLE["cdek"], hours=parse_hours("Mo-Fr 09:00-18:00", "Europe/Moscow"))
"""Open at T0 (noon in Moscow) for six hours more."""


def stuck(number: int = 1, **changes: Any) -> Incident:
    """A subject that needs a person."""
    given = {"phase": Phase.ESCALATED, "id": f"i{number}", "key": f"N{number}", "object": f"order/N{number}", **changes}
    return incident(**given)


def say(
    incidents: Sequence[Incident], now: datetime = T0, problems: Sequence[Problem] = (), of: Rule | None = None,
    people: Mapping[str, Contact] = PEOPLE, tellings: Sequence[Telling] = (), held: bool = False,
) -> Told:  # fmt: skip
    """Tell, with the usual surroundings."""
    return tell(of or rule(), people, incidents, problems, tellings, now, Words("en"), held=held)


def later(told: Told, incidents: Sequence[Incident]) -> list[Incident]:
    """The incidents as the engine keeps them after telling."""
    return [replace(one, levels=told.levels.get(one.id, one.levels)) for one in incidents]


def problem(**changes: Any) -> Problem:
    """The problem of `rule()`, active, told of one subject at T0 and delivered a minute later."""
    base = Problem("stuck/team", "stuck", "team", "", "team", 1, True, 1, 1, T0, T0, None, at(1))
    return replace(base, **changes)


KNOWN = {"team": T0}


def kinds(told: Told) -> list[str]:
    return [f"{notice.contact} {notice.kind.value}" for notice in told.notices]


# Who needs a person


@pytest.mark.parametrize(
    ("sentence", "subject", "said"),
    [
        ("an escalated subject is told", {"phase": Phase.ESCALATED}, ["team begin"]),
        ("a quarantined one is told", {"phase": Phase.QUARANTINED}, ["team begin"]),
        ("a parked one is told", {"phase": Phase.PARKED}, ["team begin"]),
        ("the opening of an incident tells nobody", {"phase": Phase.OPEN}, []),
        ("a proved one is told no more", {"phase": Phase.PROVED}, []),
        ("an ended one tells nobody", {"phase": Phase.RESOLVED}, []),
        ("a claimed one is silent", {"marks": Marks(claimed_by="ann")}, []),
        ("a dismissed one is silent", {"marks": Marks(dismissed_by="ann")}, []),
        ("an excluded one is silent", {"marks": Marks(excluded_by="ann")}, []),
        ("a claim that is over is not", {"marks": Marks(claimed_by="ann", claimed_until=T0)}, ["team begin"]),
        ("one that lasts is", {"marks": Marks(claimed_by="ann", claimed_until=at(1))}, []),
    ],
)
def test_a_problem_begins_with_its_first_subject_that_needs_a_person(sentence: str, subject: dict[str, Any], said: list[str]) -> None:
    assert kinds(say([stuck(**subject)])) == said, sentence


@pytest.mark.parametrize(
    ("sentence", "subject", "said"),
    [
        ("exactly two hours before it an open one is told", {"deadline": T0 + 2 * HOUR}, ["team begin"]),
        ("a second earlier it is not", {"deadline": T0 + 2 * HOUR + timedelta(seconds=1)}, []),
        ("a deadline that has passed is told too", {"deadline": T0 - HOUR}, ["team begin"]),
        ("a claim does not stop it", {"deadline": T0 + HOUR, "marks": Marks(claimed_by="ann")}, ["team begin"]),
        ("a dismissal does not stop it", {"deadline": T0 + HOUR, "marks": Marks(dismissed_by="ann")}, ["team begin"]),
        ("proof does", {"deadline": T0 + HOUR, "phase": Phase.PROVED}, []),
        ("an end does", {"deadline": T0 + HOUR, "phase": Phase.RESOLVED}, []),
    ],
)
@pytest.mark.parametrize("held", [False, True], ids=["free", "held by a guard"])
def test_near_its_deadline_a_person_is_told_whatever_step_pause_or_hold(
    sentence: str, subject: dict[str, Any], said: list[str], held: bool
) -> None:
    """Law 21."""
    assert kinds(say([stuck(**{"phase": Phase.OPEN, **subject})], held=held)) == said, sentence


def test_before_a_deadline_it_is_due_when_the_lead_begins() -> None:
    assert say([stuck(phase=Phase.OPEN, deadline=T0 + 5 * HOUR)]).due == T0 + 3 * HOUR


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.DISABLED])
def test_a_rule_that_observes_tells_nobody_not_even_of_a_deadline(mode: Mode) -> None:
    assert say([stuck(deadline=T0)], of=rule(mode=mode)) == Told()


def test_a_guard_holds_messages_but_nothing_is_lost_by_it() -> None:
    many = [stuck(number) for number in range(1, 4)]
    assert say(many, held=True) == Told()
    assert kinds(say(many)) == ["team begin"]


# Levels

BOTH = (Level("team", "team"), Level("boss", "boss", after=6 * HOUR))


def two(**changes: Any) -> Rule:
    """The team, six hours later the boss."""
    return rule(escalate=(BOTH[0], replace(BOTH[1], **changes)))


@pytest.mark.parametrize(
    ("sentence", "when", "expected"),
    [
        ("the level whose condition holds is told", lambda s: True, ["team begin"]),
        ("one that does not concern the subject is passed over", lambda s: False, []),
        ("one that cannot be known counts as true: a page is never lost", lambda s: Unknown("no answer"), ["team begin"]),
        ("a name that is missing is not known either", lambda s: s["nothing"], ["team begin"]),
        ("null is not false", lambda s: None, ["team begin"]),
    ],
)
def test_a_level_concerns_whom_its_condition_says(sentence: str, when: Any, expected: list[str]) -> None:
    assert kinds(say([stuck()], of=rule(escalate=(Level("team", "team", when=Expression(when)),)))) == expected, sentence


def test_a_subject_that_the_first_level_does_not_concern_goes_to_the_next_at_once() -> None:
    only_boss = rule(escalate=(Level("team", "team", when=Expression(lambda s: False)), BOTH[1]))
    assert kinds(say([stuck()], of=only_boss)) == ["boss begin"]
    assert kinds(say([stuck(phase=Phase.OPEN, deadline=T0 + 2 * HOUR)], of=only_boss)) == ["boss begin"]


def test_a_rule_without_levels_tells_its_owner() -> None:
    assert kinds(say([stuck()], of=rule(escalate=()))) == ["team begin"]


@pytest.mark.parametrize(
    ("sentence", "now", "delivered", "joined", "said"),
    [
        ("six hours after the delivery the boss is told", at(361), at(1), T0, ["boss begin"]),
        ("a minute earlier not", at(360), at(1), T0, []),
        ("who joined later has its own six hours", at(361), at(1), at(30), []),
        ("from when it joined", at(390), at(1), at(30), ["boss begin"]),
        ("undelivered, an hour is waited for delivery", at(419), None, T0, []),
        ("and then the next must not wait for a broken channel", at(420), None, T0, ["boss begin"]),
    ],
)
def test_the_next_level_follows_the_delivery_to_the_one_before(
    sentence: str, now: datetime, delivered: datetime | None, joined: datetime, said: list[str]
) -> None:
    told = say([stuck(levels={"team": joined})], now, [problem(delivered=delivered)], two())
    assert kinds(told) == said, sentence


@pytest.mark.parametrize(
    ("sentence", "delivered", "due"),
    [
        ("after a delivery the time is certain", at(1), at(361)),
        ("before it, no sooner than if it were delivered now", None, at(10) + 6 * HOUR),
    ],
)
def test_the_next_level_is_due(sentence: str, delivered: datetime | None, due: datetime) -> None:
    assert say([stuck(levels=KNOWN)], at(10), [problem(delivered=delivered)], two()).due == due, sentence


def test_after_is_counted_in_the_hours_of_the_level_before() -> None:
    levels = (Level("cdek", "cdek"), Level("team", "team", after=8 * HOUR))
    told = problem(id="stuck/cdek", level="cdek", contact="cdek", delivered=T0)
    subject = stuck(levels={"cdek": T0})
    people = {**PEOPLE, "cdek": OFFICE}
    # six hours on Monday until 18:00, two on Tuesday from 09:00 in Moscow
    tuesday = at(60 * 23)
    assert say([subject], at(60 * 8), [told], rule(escalate=levels), people).due == tuesday
    assert kinds(say([subject], tuesday, [told], rule(escalate=levels), people)) == ["team begin"]


def test_levels_without_after_are_told_together() -> None:
    told = say([stuck()], of=two(after=timedelta(0)))
    assert kinds(told) == ["boss begin", "team begin"]
    assert told.levels == {"i1": {"team": T0, "boss": T0}}


@pytest.mark.parametrize(
    ("sentence", "deadline", "said"),
    [
        ("the second level's lead comes before its after", T0 + 3 * HOUR, ["boss begin"]),
        ("not a minute sooner", T0 + 3 * HOUR + minutes(1), []),
    ],
)
def test_before_deadline_goes_above_after(sentence: str, deadline: datetime, said: list[str]) -> None:
    subject = stuck(levels=KNOWN, deadline=deadline)
    assert kinds(say([subject], T0, [problem()], two(before_deadline=3 * HOUR))) == said, sentence


def test_a_second_level_without_a_lead_has_none() -> None:
    told = say([stuck(levels={"team": T0, "team@deadline": T0}, deadline=at(60))], T0, [problem()], two())
    assert kinds(told) == []


def test_who_is_tried_once_more_stays_with_those_who_were_told_until_it_ends() -> None:
    retried = stuck(levels={"team": T0, "boss": T0}, phase=Phase.OPEN)
    problems = [problem(), problem(id="stuck/boss", level="boss", contact="boss")]
    assert kinds(say([retried], at(10), problems, two())) == []
    assert kinds(say([replace(retried, phase=Phase.ESCALATED)], at(20), problems, two())) == []
    healed = replace(retried, phase=Phase.RESOLVED, resolution=Resolution.HANDLED)
    assert kinds(say([healed], at(30), problems, two())) == ["boss end", "team end"]


# Episodes


def test_an_episode_begins_once_and_counts() -> None:
    told = say([stuck(1), stuck(2)])
    assert told.problems == (
        Problem("stuck/team", "stuck", "team", "", "team", 1, True, 1, 2, T0, T0),
    )  # fmt: skip
    assert told.levels == {"i1": {"team": T0}, "i2": {"team": T0}}
    assert told.notices[0].incidents == ("i1", "i2")
    again = say(later(told, [stuck(1), stuck(2)]), at(5), told.problems)
    assert again == Told()


@pytest.mark.parametrize(
    ("sentence", "told", "now", "said"),
    [
        ("twice as many are told", 2, 4, ["team growth"]),
        ("one fewer is not", 2, 3, []),
        ("from one to two is a doubling", 1, 2, ["team growth"]),
        ("fewer than told is no news", 4, 3, []),
    ],
)
def test_growth_is_told_at_each_doubling(sentence: str, told: int, now: int, said: list[str]) -> None:
    answer = say([stuck(n, levels=KNOWN) for n in range(now)], at(5), [problem(told=told)])
    assert kinds(answer) == said, sentence
    assert [one.told for one in answer.problems] == [now] * len(said)


def test_claimed_subjects_do_not_count_as_growth_nor_end_the_episode() -> None:
    claimed = [stuck(n, levels=KNOWN, marks=Marks(claimed_by="ann")) for n in range(5)]
    assert say(claimed, at(5), [problem()]) == Told()


def test_a_deadline_is_told_once_per_subject() -> None:
    subjects = [stuck(1, levels=KNOWN, deadline=T0 + 3 * HOUR), stuck(2, levels=KNOWN, deadline=T0 + 4 * HOUR)]
    standing = [problem(told=2)]
    assert say(subjects, at(59), standing).due == at(60)
    first = say(subjects, at(60), standing)
    assert kinds(first) == ["team deadline"]
    assert first.levels == {"i1": {"team": T0, "team@deadline": at(60)}}
    assert first.problems[0].deadline_told == at(60)
    subjects = later(first, subjects)
    assert say(subjects, at(61), first.problems) == Told(due=at(120))
    second = say(subjects, at(120), first.problems)
    assert kinds(second) == ["team deadline"]
    assert second.problems[0].sequence == 3


def test_a_deadline_that_moves_away_is_told_again_when_it_comes_back() -> None:
    marked = stuck(levels={"team": T0, "team@deadline": T0}, deadline=T0 + 5 * HOUR)
    moved = say([marked], at(1), [problem()])
    assert moved.levels == {"i1": {"team": T0}}
    assert kinds(say(later(moved, [marked]), at(180), [problem()])) == ["team deadline"]


def test_the_first_message_speaks_of_its_deadlines_already() -> None:
    begun = say([stuck(deadline=T0 + HOUR)])
    assert begun.levels == {"i1": {"team": T0, "team@deadline": T0}}
    assert say(later(begun, [stuck(deadline=T0 + HOUR)]), at(1), begun.problems) == Told()


def test_a_claimed_subject_is_told_of_near_its_deadline_in_the_same_thread() -> None:
    claimed = stuck(levels=KNOWN, marks=Marks(claimed_by="ann"), deadline=T0 + 3 * HOUR)
    assert kinds(say([claimed], at(60), [problem()])) == ["team deadline"]


def test_a_deadline_message_does_not_make_growth_out_of_old_news() -> None:
    subjects = [stuck(n, levels=KNOWN) for n in range(3)] + [stuck(9, levels=KNOWN, deadline=at(60))]
    told = say(subjects, at(1), [problem(told=4)], held=True)
    assert kinds(told) == ["team deadline"]
    assert told.problems[0].told == 4
    assert told.notices[0].count == 1
    assert kinds(say(later(told, subjects), at(2), told.problems)) == []


REPEAT = rule(escalate=(Level("team", "team", repeat=2 * HOUR),))


@pytest.mark.parametrize(
    ("sentence", "subject", "now", "said"),
    [
        ("two hours after the last message", {}, at(120), ["team reminder"]),
        ("not sooner", {}, at(119), []),
        ("never of a claimed one", {"marks": Marks(claimed_by="ann")}, at(120), []),
    ],
)
def test_reminders_repeat_until_proof_or_claim(sentence: str, subject: dict[str, Any], now: datetime, said: list[str]) -> None:
    told = say([stuck(levels=KNOWN, **subject)], now, [problem()], REPEAT)
    assert kinds(told) == said, sentence


def test_a_reminder_is_counted_from_the_last_message_of_any_kind() -> None:
    told = say([stuck(levels=KNOWN)], at(130), [problem(last=at(60))], REPEAT)
    assert told == Told(due=at(180))


def test_reminders_keep_to_the_hours_of_the_contact() -> None:
    people = {**PEOPLE, "team": replace(OFFICE, name="team")}
    of = rule(escalate=(Level("team", "team", repeat=6 * HOUR),))
    # six hours from noon end at closing time; a reminder then waits for the morning
    assert say([stuck(levels=KNOWN)], at(1), [problem()], of, people).due == at(60 * 21)


def test_a_guard_holds_growth_reminders_and_ends() -> None:
    many = [stuck(n, levels=KNOWN) for n in range(9)]
    assert say(many, at(500), [problem()], REPEAT, held=True).notices == ()
    assert say([], at(500), [problem()], REPEAT, held=True).problems == ()
    assert kinds(say([], at(500), [problem()], REPEAT)) == ["team end"]


@pytest.mark.parametrize(
    ("sentence", "ended", "title", "way"),
    [
        ("healed by us", {"phase": Phase.RESOLVED, "resolution": Resolution.HEALED}, "Well again", "healed by us 1"),
        ("handled", {"phase": Phase.RESOLVED, "resolution": Resolution.HANDLED}, "Well again", "handled with your help 1"),
        ("gone is an end too", {"phase": Phase.RESOLVED, "resolution": Resolution.GONE}, "Well again", "out of scope 1"),
        ("proof is enough, follow-ups may run", {"phase": Phase.PROVED}, "Well again", "seen clean 1"),
    ],
)
def test_an_episode_ends_when_nobody_is_told_of_any_more(sentence: str, ended: dict[str, Any], title: str, way: str) -> None:
    english = {"team": replace(PEOPLE["team"], language="en")}
    told = say([stuck(levels=KNOWN, **ended)], at(90), [problem()], people=english)
    (notice,) = told.notices
    assert notice.kind is NoticeKind.END, sentence
    assert notice.title.startswith(title)
    assert way in notice.text
    assert "1 subject, from 2026-03-02 09:00 UTC, for 1h 30m" in notice.text
    assert (told.problems[0].active, told.problems[0].ended) == (False, at(90))
    assert say([], at(91), told.problems) == Told()


def test_who_moved_to_another_group_is_told_there_and_not_called_well_here() -> None:
    english = {"team": replace(PEOPLE["team"], language="en")}
    told = say([stuck(levels=KNOWN, cause="region")], at(90), [problem()], people=english)
    assert kinds(told) == ["team end", "team begin"]
    assert told.notices[0].title.startswith("No longer with you")


def test_one_of_two_well_ends_nothing() -> None:
    well = stuck(2, levels=KNOWN, phase=Phase.RESOLVED, resolution=Resolution.HEALED)
    assert say([stuck(1, levels=KNOWN), well], at(90), [problem(told=2)]) == Told()


def test_an_event_that_ends_by_being_told_has_no_end_to_tell() -> None:
    of = rule(resolve_on=ResolveOn.DELIVERY)
    told = say([], at(90), [problem()], of)
    assert told.notices == ()
    assert not told.problems[0].active


def test_every_event_is_spoken_of_without_waiting_for_a_doubling() -> None:
    of = rule(resolve_on=ResolveOn.DELIVERY)
    known = [stuck(n, levels=KNOWN) for n in range(8)]
    assert kinds(say([*known, stuck(9)], at(2), [problem(told=8)], of)) == ["team growth"]
    assert kinds(say([*known, stuck(9)], at(2), [problem(told=8)])) == []


# What one message is about


@pytest.mark.parametrize(
    ("sentence", "group_by", "problems"),
    [
        ("one message per cause", GroupBy.CAUSE, ["stuck/team/address", "stuck/team/region"]),
        ("one per rule", GroupBy.RULE, ["stuck/team"]),
        ("one per subject", GroupBy.SUBJECT, ["stuck/team/N1", "stuck/team/N2", "stuck/team/N3"]),
    ],
)
def test_subjects_are_grouped(sentence: str, group_by: GroupBy, problems: list[str]) -> None:
    subjects = [stuck(1, cause="address"), stuck(2, cause="region"), stuck(3, cause="address")]
    told = say(subjects, of=rule(escalate=(Level("team", "team", group_by=group_by),)))
    assert [one.id for one in told.problems] == problems, sentence
    assert sorted(id for notice in told.notices for id in notice.incidents) == ["i1", "i2", "i3"]


def test_a_subject_whose_cause_changes_moves_to_the_other_problem() -> None:
    old = problem(id="stuck/team/address", group="address")
    told = say([stuck(cause="region", levels=KNOWN)], at(5), [old])
    assert [(one.problem, one.kind) for one in told.notices] == [
        ("stuck/team/address", NoticeKind.END),
        ("stuck/team/region", NoticeKind.BEGIN),
    ]
    assert told.notices[0].title.startswith("Больше не у вас")


def test_a_level_that_the_rule_lost_ends_with_the_owner_as_its_level() -> None:
    told = say([stuck()], at(5), [problem(id="stuck/old", level="old", contact="boss")])
    assert kinds(told) == ["boss end", "team begin"]


def test_an_end_whose_contact_is_gone_goes_to_whom_the_level_tells_now() -> None:
    well = stuck(levels=KNOWN, phase=Phase.RESOLVED, resolution=Resolution.HEALED)
    told = say([well], at(90), [problem(contact="gone")])
    assert kinds(told) == ["team end"]
    assert not told.problems[0].active


# One object, several rules (detect.object)


@pytest.mark.parametrize(
    ("sentence", "other", "said"),
    [
        ("a more severe rule speaks for us", Telling("order/N1", "other", 0, at(9)), []),
        ("an older one of our severity does", Telling("order/N1", "other", 1, at(-1)), []),
        ("of two of one moment the first name does", Telling("order/N1", "aaa", 1, T0), []),
        ("a younger one does not", Telling("order/N1", "other", 1, at(1)), ["team begin"]),
        ("a milder one does not", Telling("order/N1", "other", 2, at(-1)), ["team begin"]),
        ("one on another object does not", Telling("order/N2", "other", 0, at(-1)), ["team begin"]),
    ],
)
def test_of_several_rules_on_one_object_one_tells(sentence: str, other: Telling, said: list[str]) -> None:
    assert kinds(say([stuck()], tellings=[other])) == said, sentence


def test_who_speaks_names_the_others() -> None:
    told = say([stuck()], tellings=[Telling("order/N1", "milder", 2, T0), Telling("order/N2", "elsewhere", 2, T0)])
    assert "milder" in told.notices[0].ours
    assert "elsewhere" not in told.notices[0].ours


def test_another_rule_never_speaks_for_a_deadline() -> None:
    assert kinds(say([stuck(deadline=at(60))], tellings=[Telling("order/N1", "other", 0, T0)])) == ["team begin"]


def test_who_was_told_already_is_not_taken_back_by_another_rule() -> None:
    other = Telling("order/N1", "other", 0, T0)
    assert say([stuck(levels=KNOWN)], at(5), [problem()], tellings=[other]) == Told()


def steps_of_telling(count: int) -> int:
    """How many functions are called to tell of so many subjects, each a problem of its own that another rule knows too."""
    subjects = [stuck(id=f"i{n}", key=f"N{n}", object=f"o{n}") for n in range(count)]
    others = [Telling(f"o{n}", "milder", 2, T0) for n in range(count)]
    known = [problem(id=f"stuck/team/N{n}", group=f"N{n}") for n in range(0, count, 2)]
    called = 0

    def count_calls(frame: object, event: str, arg: object) -> None:
        nonlocal called
        called += event == "call"

    sys.setprofile(count_calls)
    try:
        told = tell(rule(escalate=(Level("team", "team", group_by=GroupBy.SUBJECT),)), PEOPLE, subjects, known, others, at(5), Words("en"))
    finally:
        sys.setprofile(None)
    assert len(told.notices) >= count / 2
    return called


def test_telling_of_twice_as_many_subjects_takes_twice_the_steps() -> None:
    assert steps_of_telling(200) < 2.5 * steps_of_telling(100)


# Whether a person knows


@pytest.mark.parametrize(
    ("sentence", "levels", "changes", "told"),
    [
        ("delivered after it was told", {"team": T0}, {}, True),
        ("not delivered yet", {"team": T0}, {"delivered": None}, False),
        ("joined after the last message", {"team": at(5)}, {}, False),
        ("joined, and a later message spoke of it", {"team": at(5)}, {"last": at(5)}, True),
        ("never told", {}, {}, False),
    ],
)
def test_told_means_that_a_message_about_it_arrived(
    sentence: str, levels: dict[str, datetime], changes: dict[str, Any], told: bool
) -> None:
    assert was_told(rule(), stuck(levels=levels), {"stuck/team": problem(**changes)}) is told, sentence


# The words


def said(**changes: Any) -> Any:
    """The one notice about three subjects, in English, their attempts refused."""
    failed = {"upload": state(tries=3, result=Result.REFUSED, reason="404: no such order", at=at(-5))}
    subjects = [
        stuck(n, steps=failed, since=at(-60), value=Money(Decimal(1500 * n), "RUB"), deadline=T0 + n * 3 * HOUR, **changes)
        for n in (3, 1, 2)
    ]
    english = {name: replace(one, language="en", timezone="Europe/Moscow") for name, one in PEOPLE.items()}
    return say(subjects, of=two(), people=english).notices[0]


def test_the_text_has_a_line_per_subject_the_most_urgent_first() -> None:
    assert said().text.splitlines()[1:] == [
        "N1, 1,500\N{NO-BREAK SPACE}₽, until 2026-03-02 15:00 MSK",
        "N2, 3,000\N{NO-BREAK SPACE}₽, until 2026-03-02 18:00 MSK",
        "N3, 4,500\N{NO-BREAK SPACE}₽, until 2026-03-02 21:00 MSK",
    ]


def test_the_engine_says_what_it_knows() -> None:
    assert said(cause="address").ours.splitlines() == [
        "Now 3 subjects.",
        "At risk: 9,000\N{NO-BREAK SPACE}₽.",
        "First deadline: 2026-03-02 15:00 MSK, 3h left.",
        "Broken since 2026-03-02 11:00 MSK (1h).",
        "Cause: address.",
        "It looks like api: all failed there last.",
        "Tried: upload × 9, refused (404: no such order).",
        "Without you: no more attempts, we keep looking every 5m.",
        "If that does not help, boss is called 2026-03-02 18:00 MSK.",
        "Runbook: docs/runbooks/stuck.md",
        "Commands:",
        "orderheal incidents claim i1 i2 i3",
        "orderheal incidents retry i1 i2 i3",
        "orderheal incidents show i1 --requests",
        "orderheal explain N1",
    ]


def test_a_message_in_russian() -> None:
    told = say([stuck(n, since=at(-135)) for n in range(12)])
    (notice,) = told.notices
    assert notice.title == "Stuck orders"
    assert notice.text.splitlines()[0].startswith("Сам orderheal с этим не справился")
    assert notice.text.splitlines()[-1] == "… и ещё 2"
    assert len(notice.text.splitlines()) == 12
    assert notice.ours.splitlines()[:3] == [
        "Сейчас 12 объектов.",
        "Сломано с 02.03.2026 06:45 UTC (2 ч 15 мин).",
        "Ничего не пробовали.",
    ]
    assert notice.count == 12
    assert len(notice.incidents) == 12


@pytest.mark.parametrize(("before", "said"), [(2, "Now 4 subjects, before 2: rising."), (9, "Now 4 subjects, before 9: falling.")])
def test_rising_and_falling_are_said(before: int, said: str) -> None:
    english = {"team": replace(PEOPLE["team"], language="en")}
    of = rule(escalate=(Level("team", "team", repeat=HOUR),))
    told = say([stuck(n, levels=KNOWN) for n in range(4)], at(90), [problem(told=before)], of, english)
    assert told.notices[0].ours.splitlines()[0] == said


def test_an_open_subject_near_its_deadline_says_that_we_are_on_it() -> None:
    english = {"team": replace(PEOPLE["team"], language="en")}
    told = say([stuck(phase=Phase.OPEN, deadline=at(60), due=at(12))], people=english)
    assert told.notices[0].text.startswith("The deadline is near and this is not mended yet.")
    assert "Without you: next move 2026-03-02 09:12 UTC." in told.notices[0].ours


def test_a_rules_own_message_stands_once_with_its_line_per_subject() -> None:
    level = Level("team", "team", message=Text("Look at ${number}${cause}."), line=Text("Order ${number} of ${cause}"))
    told = say([stuck(1, cause="address"), stuck(2, cause="address")], of=rule(escalate=(level,)))
    # `message` of several subjects sees no record, but a cause that they share
    assert told.notices[0].text == "Look at ${number}address.\nOrder N1 of address\nOrder N1 of address"


def test_only_a_message_about_one_subject_reads_its_record() -> None:
    level = Level("team", "team", message=Text("Please make ${number}."), group_by=GroupBy.SUBJECT)
    told = say([stuck(1)], of=rule(escalate=(level,)))
    assert told.notices[0].text == "Please make N1."


def test_an_external_contact_is_told_no_money_by_a_line_that_we_make() -> None:
    stranger = {"team": replace(PEOPLE["team"], external=True)}
    told = say([stuck(value=Money(Decimal(5), "RUB"))], people=stranger)
    assert "₽" not in told.notices[0].text


def test_the_evidence_is_plain_data() -> None:
    import json

    evidence = json.loads(json.dumps(said().context))
    assert evidence["value"] == {"RUB": "9000"}
    assert [one["key"] for one in evidence["subjects"]] == ["N1", "N2", "N3"]
    assert evidence["subjects"][0]["steps"] == [
        {"step": "upload", "attempts": 3, "outcome": "refused", "reason": "404: no such order", "at": at(-5).isoformat()}
    ]
    assert evidence["last_request"]["call"] == "api.upload"
    assert evidence["commands"][0] == "orderheal incidents claim i1 i2 i3"
    assert evidence["deadline"] == (T0 + 3 * HOUR).isoformat()


def test_the_evidence_holds_ten_subjects_and_a_bounded_answer() -> None:
    answered = state(result=Result.UNKNOWN, at=at(-1), response={"status": 500, "body": "x" * 4000})
    told = say([stuck(n, steps={"upload": answered}) for n in range(30)])
    context = told.notices[0].context
    assert len(context["subjects"]) == 10
    assert context["count"] == 30
    assert context["last_reply"]["body"] == "x" * 2000 + "…"


def test_a_deadline_that_can_still_be_kept_goes_before_one_that_cannot() -> None:
    told = say([stuck(1, deadline=at(-60)), stuck(2, deadline=at(60))])
    assert told.notices[0].deadline == at(60)
    assert say([stuck(1, deadline=at(-60)), stuck(2, deadline=at(-30))]).notices[0].deadline == at(-60)


def test_notices_are_the_same_whoever_computes_them() -> None:
    subjects = [stuck(n, cause=str(n % 2)) for n in range(6)]
    assert say(subjects) == say(list(reversed(subjects)))


def test_severity_and_delivery_travel_with_the_notice() -> None:
    (notice,) = say([stuck()], of=rule(severity=Severity.CRITICAL)).notices
    assert (notice.severity, notice.delivery, notice.runbook) == (
        Severity.CRITICAL,
        Level("x", "y").delivery,
        "docs/runbooks/stuck.md",
    )
    assert notice.id == "stuck/team#1.1-begin"
