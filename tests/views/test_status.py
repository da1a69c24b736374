"""The one screen: what needs a person stands first, and is what makes the exit code."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from daemon.domain.incident import Incident, Marks, Phase, Why
from daemon.domain.notice import Notice, NoticeKind
from daemon.domain.rule import Severity
from daemon.domain.standing import Held, Illness, Pause, RuleState
from daemon.domain.value import Money
from daemon.engine.archive import RuleRow, Told, Way
from daemon.views.status import Status, lines, status

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROW = RuleRow(
    "r", "d", 1, True, "enforce", "team", 1, timedelta(minutes=5), 200, None, None, None, None, 0, None,
    RuleState(last_complete=NOW - timedelta(minutes=4)),
)  # fmt: skip
OPEN = Incident(
    "i1", "r", "d", "OZ-1", "OZ-1", "ozon/order/1", NOW - timedelta(hours=1), NOW - timedelta(hours=2),
    value=Money(Decimal(100), "RUB"), due=NOW + timedelta(minutes=3), why=Why.SETTLING,
)  # fmt: skip
TOLD = replace(OPEN, id="i2", key="OZ-2", phase=Phase.ESCALATED, why=Why.LADDER_SPENT)
CLAIMED = replace(TOLD, id="i3", key="OZ-3", marks=Marks(claimed_by="anna"))
DISMISSED = replace(TOLD, id="i5", key="OZ-5", marks=Marks(dismissed_by="anna", dismissed_until=NOW + timedelta(hours=1)))
NOTICE = Notice("n", "p", "r", 1, NoticeKind.BEGIN, 1, "team", Severity.WARNING, NOW, "t", "x")
MISSED = Told(NOTICE, (Way("team", "telegram", False, 0, "failed", 3, None, "403", "", NOW),))


def screen(rows=(ROW,), incidents=(), pauses=(), ill=(), undelivered=()) -> Status:
    return status(NOW, rows, incidents, pauses, ill, undelivered)


def text(answer: Status) -> str:
    return "\n".join(line.text for line in lines(answer, UTC))


def failing(**state: object) -> RuleRow:
    return replace(ROW, state=replace(ROW.state, **state))


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (screen(), False),
        (screen(incidents=[OPEN]), False),
        (screen(incidents=[CLAIMED]), False),
        (screen(incidents=[DISMISSED]), False),
        (screen(incidents=[replace(DISMISSED, marks=Marks(dismissed_by="anna", dismissed_until=NOW))]), True),
        (screen(pauses=[Pause("p", "ops", "deploy", NOW)]), False),
        (screen(incidents=[TOLD]), True),
        (screen(rows=[failing(held=Held(NOW, Why.MAX_BROKEN, 101, 100))]), True),
        (screen(rows=[failing(failed="refused")]), True),
        (screen(rows=[failing(last_complete=None)]), True),
        (screen(rows=[failing(last_complete=NOW - timedelta(hours=1))]), True),
        (screen(rows=[replace(failing(last_complete=None), active=False)]), False),
        (screen(ill=[Illness("cdek", NOW, "401", NOW)]), True),
        (screen(undelivered=[MISSED]), True),
    ],
    ids=[
        "nothing at all does not call",
        "what we work on does not call",
        "what somebody took does not call",
        "what somebody dismissed does not call",
        "what somebody dismissed until now calls again",
        "a pause does not call",
        "an escalated one calls",
        "a guard calls",
        "a rule that cannot look calls",
        "a rule that never looked calls",
        "a rule that has not looked for long calls",
        "an inactive rule does not call",
        "a system that refuses us calls",
        "an undelivered message calls",
    ],
)
def test_it_calls_a_person_only_for_what_a_person_can_do(answer: Status, calls: bool) -> None:
    assert answer.calls_you is calls
    assert ("Nothing needs you." in text(answer)) is not calls


def test_incidents_alike_are_one_row_with_their_money_and_next_look() -> None:
    other = replace(OPEN, id="i4", value=Money(Decimal(20), "AED"), due=NOW + timedelta(minutes=1))
    answer = screen(incidents=[OPEN, other, TOLD])
    assert [(bunch.count, bunch.value) for bunch in answer.working] == [(2, {"RUB": Decimal(100), "AED": Decimal(20)})]
    row = next(line for line in text(answer).splitlines() if "settling" in line)
    assert " ".join(row.split()) == "r 2 open settling oldest 1h 20.00 AED, 100.00 RUB next look in 1m"


def test_what_people_set_aside_stands_apart_with_their_name() -> None:
    answer = screen(incidents=[OPEN, TOLD, CLAIMED, DISMISSED])
    assert [(bunch.why, bunch.author) for bunch in answer.aside] == [("claimed", "anna"), ("dismissed", "anna")]
    assert (len(answer.needs_you), len(answer.working)) == (1, 1)
    assert "Set aside by people" in text(answer)


def test_the_screen_says_why_and_how_long() -> None:
    answer = screen(
        rows=[failing(held=Held(NOW - timedelta(minutes=5), Why.MAX_BROKEN_PERCENT, 30, 20.0, 100))],
        incidents=[TOLD],
        pauses=[Pause("p", "ops", "deploy", NOW, NOW + timedelta(hours=2), connector="ozon-integration")],
        ill=[Illness("cdek", NOW - timedelta(minutes=9), "401", NOW + timedelta(minutes=1))],
        undelivered=[MISSED],
    )
    said = text(answer)
    for part in (
        "max_broken_percent: 30 of 100 broken, the limit is 20",
        "connector ozon-integration  ends in 2h  ops: deploy",
        "cdek  401  since 9m, tried again in 1m",
        "team by telegram  403",
        "orderheal incidents list --rule r",
    ):
        assert part in said
