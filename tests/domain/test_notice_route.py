"""Where a notice goes, and where it goes next when it could not be delivered (law 13); and the notices about rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from daemon.domain.attempt import Outcome, Result
from daemon.domain.incident import Why
from daemon.domain.notice import (
    PATIENCE,
    DeliveryState,
    Dispatch,
    Notice,
    NoticeKind,
    after_failure,
    blind_notice,
    fault_notice,
    guard_notice,
    ill_notice,
    parked_notice,
    route,
)
from daemon.domain.rule import ChannelRef, Contact, Delivery, Severity
from daemon.domain.standing import Held, Illness
from daemon.domain.words import Words
from daemon.language.hours import parse_hours
from tests.builders import T0, Always, at, rule

NIGHT = T0 + timedelta(hours=14)
"""Two at night in Moscow; the next morning begins seven hours later."""
MORNING = T0 + timedelta(hours=21)

OFFICE, NEVER = parse_hours("Mo-Fr 09:00-18:00", "Europe/Moscow"), parse_hours("2020 10:00-12:00", "UTC")


def contact(name: str, *vias: str, **changes: Any) -> Contact:
    channels = tuple(ChannelRef(via, {"chat": f"{name}-{via}"}) for via in vias or ("chat",))
    return Contact(name, name, channels, **{"hours": Always(), **changes})


def book(**changes: Any) -> dict[str, Contact]:
    """The shop's contacts: `cdek` is external, works in the day and has `team` to stand in, which has `boss`."""
    cdek = contact("cdek", hours=OFFICE, external=True, fallback="team")
    return {
        "cdek": replace(cdek, **changes),
        "team": contact("team", "sentry", "chat", fallback="boss"),
        "boss": contact("boss"),
    }


def notice(**changes: Any) -> Notice:
    base = Notice("n1", "p1", "stuck", 1, NoticeKind.BEGIN, 1, "cdek", Severity.WARNING, T0, "Title", "Text")
    return replace(base, **changes)


def ways(dispatches: tuple[Dispatch, ...]) -> list[str]:
    """Contact and channel of each, with a plus for a copy."""
    return [f"{one.contact} {one.via}" + ("+" if one.mirror else "") for one in dispatches]


CRITICAL = {"severity": Severity.CRITICAL}


@pytest.mark.parametrize(
    ("sentence", "given", "people", "now", "expected", "not_before"),
    [
        ("in its hours the contact is told at once", {}, {}, T0, ["cdek chat"], None),
        ("outside them the message waits", {}, {}, NIGHT, ["cdek chat"], MORNING),
        ("a deadline after the morning can wait", {"deadline": MORNING + timedelta(seconds=1)}, {}, NIGHT, ["cdek chat"], MORNING),
        ("one that would pass meanwhile goes to the fallback", {"deadline": MORNING}, {}, NIGHT, ["team sentry"], None),
        ("one that has passed already can wait", {"deadline": NIGHT}, {}, NIGHT, ["cdek chat"], MORNING),
        ("critical does not wait for an external one", CRITICAL, {}, NIGHT, ["team sentry", "team chat"], None),
        ("critical reaches an internal one at night", CRITICAL, {"external": False}, NIGHT, ["cdek chat"], None),
        ("critical in hours is told to it", CRITICAL, {}, T0, ["cdek chat"], None),
        ("without a fallback a deadline does not wait", {"deadline": MORNING}, {"fallback": None}, NIGHT, ["cdek chat"], None),
        ("who never works again has its fallback told", {}, {"hours": NEVER}, T0, ["team sentry"], None),
        ("or is told all the same", {}, {"hours": NEVER, "fallback": None}, T0, ["cdek chat"], None),
        ("a fallback that is unknown is none", {"deadline": MORNING}, {"fallback": "gone"}, NIGHT, ["cdek chat"], None),
        ("an end waits, whatever the severity", {"kind": NoticeKind.END, **CRITICAL}, {}, NIGHT, ["cdek chat"], MORNING),
        ("who wants no ends gets none", {"kind": NoticeKind.END}, {"send_resolved": False}, T0, [], None),
        ("but begins", {}, {"send_resolved": False}, T0, ["cdek chat"], None),
    ],
)  # fmt: skip
def test_hours_and_severity_decide_who_is_told_and_when(
    sentence: str,
    given: dict[str, Any],
    people: dict[str, Any],
    now: datetime,
    expected: list[str],
    not_before: datetime | None,
) -> None:
    contacts = book(**people)
    told = route(notice(**given), contacts["cdek"], contacts, now, None)
    assert ways(told) == expected, sentence
    assert {one.not_before for one in told} <= {not_before}, sentence
    assert all(one.address == {"chat": f"{one.contact}-{one.via}"} for one in told)


@pytest.mark.parametrize(
    ("sentence", "to", "given", "expected"),
    [
        ("a begin goes to alerts.via too", "cdek", {}, ["cdek chat", "sentry sentry+"]),
        ("an end too", "cdek", {"kind": NoticeKind.END}, ["cdek chat", "sentry sentry+"]),
        ("a guard's trip too", "cdek", {"kind": NoticeKind.GUARD}, ["cdek chat", "sentry sentry+"]),
        ("growth does not", "cdek", {"kind": NoticeKind.GROWTH}, ["cdek chat"]),
        ("a deadline does not", "cdek", {"kind": NoticeKind.DEADLINE}, ["cdek chat"]),
        ("a reminder does not", "cdek", {"kind": NoticeKind.REMINDER}, ["cdek chat"]),
        ("not twice to whom it tells already", "team", {}, ["team sentry"]),
        ("critical goes by all channels, no copy is needed", "team", CRITICAL, ["team sentry", "team chat"]),
    ],
)
def test_every_begin_and_end_is_on_record(sentence: str, to: str, given: dict[str, Any], expected: list[str]) -> None:
    contacts = book()
    told = route(notice(contact=to, **given), contacts[to], contacts, T0, "sentry")
    assert [way.replace("cdek sentry+", "sentry sentry+") for way in ways(told)] == expected, sentence
    assert all(one.not_before is None and one.address == {} for one in told if one.mirror)


def test_the_record_is_kept_even_if_the_contact_wants_no_ends() -> None:
    contacts = book(send_resolved=False)
    assert ways(route(notice(kind=NoticeKind.END), contacts["cdek"], contacts, T0, "sentry")) == ["cdek sentry+"]


def test_an_external_contact_stands_in_for_nobody() -> None:
    contacts = {
        "cdek": contact("cdek", hours=NEVER, fallback="stranger"),
        "stranger": contact("stranger", external=True, fallback="boss"),
        "boss": contact("boss"),
    }
    assert ways(route(notice(), contacts["cdek"], contacts, T0, None)) == ["boss chat"]


def test_fallbacks_in_a_circle_end() -> None:
    contacts = {
        "cdek": contact("cdek", hours=NEVER, fallback="team"),
        "team": contact("team", hours=NEVER, fallback="cdek"),
    }
    assert ways(route(notice(), contacts["cdek"], contacts, T0, None)) == ["cdek chat"]


def test_dispatches_have_names_of_their_own() -> None:
    contacts = book()
    told = route(notice(contact="team", severity=Severity.CRITICAL), contacts["team"], contacts, T0, "other")
    assert [one.id for one in told] == ["n1>team.0", "n1>team.1", "n1>other"]


# After a failure

AGAIN = at(7)


def after(
    result: Result, to: str = "cdek", place: int = 0, tries: int = 0, contacts: dict[str, Contact] | None = None,
    mirror: bool = False, **given: Any,
) -> tuple[Dispatch, list[str]]:  # fmt: skip
    people = contacts or book()
    channel = people[to].channels[place] if to in people else ChannelRef("chat", {})
    sent = Dispatch("d1", notice(**given), to, channel.via, channel.address, place, mirror, tries=tries)
    became, following = after_failure(sent, Outcome(result, "because"), people, T0, AGAIN)
    return became, ways(following)


@pytest.mark.parametrize(
    ("sentence", "result", "given", "state", "tries", "next_try", "following"),
    [
        ("done is done", Result.DONE, {}, "done", 1, None, []),
        ("refused: whoever stands in", Result.REFUSED, {}, "failed", 1, None, ["team sentry"]),
        ("refused on the first of two: the next channel", Result.REFUSED, {"to": "team"}, "failed", 1, None, ["team chat"]),
        ("refused on the last: the next fallback", Result.REFUSED, {"to": "team", "place": 1}, "failed", 1, None, ["boss chat"]),
        ("after the last fallback it is undelivered", Result.REFUSED, {"to": "boss"}, "failed", 1, None, []),
        ("later: again", Result.LATER, {}, "pending", 1, AGAIN, []),
        ("later for too long: the next one as well", Result.LATER, {"tries": PATIENCE - 1}, "pending", PATIENCE, AGAIN, ["team sentry"]),
        ("and only once", Result.LATER, {"tries": PATIENCE}, "pending", PATIENCE + 1, AGAIN, []),
        ("unknown: twice is better than never", Result.UNKNOWN, {}, "pending", 1, AGAIN, []),
        ("unknown, where twice is worse: never", Result.UNKNOWN, {"delivery": Delivery.AT_MOST_ONCE}, "failed", 1, None, []),
        ("not sent for our own reason uses nothing up", Result.NOT_SENT, {}, "pending", 0, AGAIN, []),
        ("a copy has no other way", Result.REFUSED, {"mirror": True}, "failed", 1, None, []),
        ("of a contact that is gone nothing follows", Result.REFUSED, {"to": "gone"}, "failed", 1, None, []),
    ],
)  # fmt: skip
def test_an_outcome_decides_what_follows(
    sentence: str, result: Result, given: dict[str, Any], state: str, tries: int, next_try: datetime | None, following: list[str]
) -> None:  # fmt: skip
    became, ways_on = after(result, **given)
    assert (became.state, became.tries, became.not_before) == (DeliveryState(state), tries, next_try), sentence
    assert ways_on == following, sentence


def test_critical_goes_on_to_the_fallback_after_the_last_channel_only() -> None:
    assert after(Result.REFUSED, "team", 0, **CRITICAL)[1] == []
    assert after(Result.REFUSED, "team", 1, **CRITICAL)[1] == ["boss chat"]


def test_what_follows_says_why_and_keeps_to_hours() -> None:
    people = book()
    people["team"] = replace(people["team"], hours=OFFICE, fallback=None)
    sent = Dispatch("d1", notice(), "cdek", "chat", {})
    _, (following,) = after_failure(sent, Outcome(Result.REFUSED, "kicked"), people, NIGHT, NIGHT)
    assert (following.reason, following.not_before, following.position) == ("chat: kicked", MORNING, 0)
    assert following.notice == sent.notice


# Notices about rules and connectors

ENGLISH = Words("en")
HELD = Held(T0, Why.MAX_BROKEN, 140, 100.0, 5000)


def test_a_trip_and_its_end_are_one_episode_of_one_problem() -> None:
    begin = guard_notice(rule(), HELD, True, T0, ENGLISH)
    end = guard_notice(rule(), HELD, False, at(90), ENGLISH)
    assert (begin.problem, begin.episode, begin.contact) == (end.problem, end.episode, "team")
    assert (begin.kind, end.kind) == (NoticeKind.GUARD, NoticeKind.GUARD_END)
    assert begin.id != end.id
    assert begin.sequence < end.sequence
    assert begin.text.startswith("140 are broken, the limit is 100:")
    assert "for 1h 30m" in end.text
    assert begin.count == 140


def test_a_percentage_is_said_with_its_population() -> None:
    held = replace(HELD, why=Why.MAX_BROKEN_PERCENT, limit=20.0, broken=40, population=100)
    assert guard_notice(rule(), held, True, T0, ENGLISH).text.startswith("40 of 100 are broken, the limit is 20 %:")


def test_a_later_trip_is_another_episode() -> None:
    again = replace(HELD, since=at(60))
    assert guard_notice(rule(), HELD, True, T0).episode < guard_notice(rule(), again, True, at(60)).episode


def test_a_blind_rule_names_the_reason() -> None:
    begin = blind_notice(rule(), "shop: timed out", 7, True, at(60), T0, ENGLISH)
    end = blind_notice(rule(), "", 0, False, at(90), T0, ENGLISH)
    assert "7 subjects" in begin.text
    assert "shop: timed out" in begin.text
    assert (begin.problem, begin.episode) == (end.problem, end.episode)
    assert end.kind is NoticeKind.BLIND_END


def test_an_ill_connector_is_told_once_whoever_meets_it() -> None:
    illness = Illness("ozon", T0, "status 401", at(5))
    first = ill_notice("ozon", illness, True, at(1), "team", ENGLISH, "one")
    second = ill_notice("ozon", illness, True, at(2), "team", ENGLISH, "two")
    assert first.id == second.id
    assert "status 401" in first.text
    assert ill_notice("ozon", illness, False, at(9), "team").kind is NoticeKind.CONNECTOR_WELL


def test_the_same_fault_is_the_same_problem() -> None:
    first, second = fault_notice(rule(), "upload: id is null", T0), fault_notice(rule(), "upload: id is null", at(1))
    assert first.problem == second.problem != fault_notice(rule(), "upload: refused", T0).problem
    assert first.id != second.id
    assert first.text == "upload: id is null"


def test_parked_subjects_are_told_without_a_rule() -> None:
    told = parked_notice("gone", "team", Severity.WARNING, 3, T0, ENGLISH)
    assert "3 subjects" in told.text
    assert (told.rule, told.contact, told.kind) == ("gone", "team", NoticeKind.FAULT)
