"""Notices about a rule or a connector itself, word for word: what the owner gets and by what their two ends are known as one."""

from builders import T0, at, minutes, rule

from daemon.domain.incident import Why
from daemon.domain.notice import Notice, NoticeKind, blind_notice, fault_notice, guard_notice, ill_notice, parked_notice
from daemon.domain.rule import Severity
from daemon.domain.standing import Held, Illness
from daemon.domain.words import Words

ENGLISH = Words("en", "UTC")
RULE = rule(severity=Severity.CRITICAL)
RUNBOOK = "Runbook: docs/runbooks/stuck.md"
SINCE = {"since": T0.isoformat()}
EPISODE = int(T0.timestamp())


def about(kind: NoticeKind, group: str, **changes: object) -> Notice:
    """A notice of this rule about itself, that began at T0 and is told at the tenth minute."""
    given = {
        "id": f"stuck/{group}#{T0.isoformat()}-{kind}", "problem": f"stuck/{group}", "rule": "stuck", "episode": EPISODE, "kind": kind, "sequence": 1,
        "contact": "team", "severity": Severity.CRITICAL, "at": at(10), "ours": RUNBOOK, "group": group, "runbook": "docs/runbooks/stuck.md", "context": SINCE,
    }  # fmt: skip
    return Notice(**{**given, **changes})


def test_a_trip_by_number() -> None:
    held = Held(T0, Why.MAX_BROKEN, 120, 100)
    assert guard_notice(RULE, held, True, at(10), ENGLISH) == about(
        NoticeKind.GUARD, "guard", title="Held by its guard: Stuck orders", count=120,
        text="120 are broken, the limit is 100: attempts and messages are held until a complete scan is within it.",
        ours=f"{RUNBOOK}\nCommands:\norderheal status --rule stuck\norderheal incidents list --rule stuck",
        context={**SINCE, "why": "max_broken", "broken": 120, "limit": 100, "population": None},
    )  # fmt: skip


def test_a_trip_by_percentage_and_its_end() -> None:
    held = Held(T0, Why.MAX_BROKEN_PERCENT, 30, 12.5, 100)
    context = {**SINCE, "why": "max_broken_percent", "broken": 30, "limit": 12.5, "population": 100}
    began = guard_notice(RULE, held, True, at(10), ENGLISH)
    assert began.text == "30 of 100 are broken, the limit is 12.5 %: attempts and messages are held until a scan is within it."
    assert began.context == context
    assert guard_notice(RULE, held, False, at(10), ENGLISH) == about(
        NoticeKind.GUARD_END, "guard", sequence=2, title="Guard released: Stuck orders", count=30, context=context,
        text=f"Within the limits again: attempts and messages go on.\nIt was held from {ENGLISH.time(T0)}, for 10m.",
    )  # fmt: skip


def test_a_rule_that_is_blind_and_sees_again() -> None:
    assert blind_notice(RULE, "refused", 2, True, at(10), T0, ENGLISH) == about(
        NoticeKind.BLIND, "blind", title="Blind: Stuck orders", text="Nothing is known of 2 subjects. Last reason: refused.", count=2,
        ours=f"{RUNBOOK}\nCommands:\norderheal doctor\norderheal status --rule stuck", context={**SINCE, "reason": "refused"},
    )  # fmt: skip
    assert blind_notice(RULE, "refused", 2, False, at(10), T0, ENGLISH) == about(
        NoticeKind.BLIND_END, "blind", sequence=2, title="Can see again: Stuck orders", text="Answers are coming again.", count=2,
        context={**SINCE, "reason": "refused"},
    )  # fmt: skip
    assert blind_notice(RULE, "refused", 2, True, at(10)).episode == EPISODE + minutes(10).seconds, "it began when it was met"


def test_a_connector_that_refuses_us_and_lets_us_in_again() -> None:
    illness = Illness("cdek", T0, "status 401", at(15))
    context = {"connector": "cdek", "since": T0.isoformat(), "reason": "status 401"}
    common = {
        "problem": "connector/cdek", "rule": "stuck", "contact": "ops", "severity": Severity.WARNING, "context": context, "runbook": "",
    }  # fmt: skip
    begun, ended = (ill_notice("cdek", illness, begin, at(10), "ops", ENGLISH, "stuck") for begin in (True, False))
    assert begun == about(
        NoticeKind.CONNECTOR_ILL, "cdek", id=f"connector/cdek#{T0.isoformat()}-connector_ill", title="Connector refuses us: cdek",
        text=ENGLISH.say("ill", connector="cdek", time=ENGLISH.time(T0), reason="status 401"), ours="orderheal doctor", **common,
    )  # fmt: skip
    assert ended == about(
        NoticeKind.CONNECTOR_WELL, "cdek", id=f"connector/cdek#{T0.isoformat()}-connector_well", title="Connector lets us in again: cdek", sequence=2,
        text=ENGLISH.say("well", connector="cdek", time=ENGLISH.time(T0), reason="status 401"), ours="", **common,
    )  # fmt: skip
    assert ill_notice("cdek", illness, True, at(10), "ops", ENGLISH).rule == ""


def test_a_fault_of_a_rule() -> None:
    told = fault_notice(RULE, "its argument cannot be said", at(10), ENGLISH)
    assert told == about(
        NoticeKind.FAULT, told.group, id=f"stuck/{told.group}#{at(10).isoformat()}-fault", episode=EPISODE + 600, title="Fault of a rule: Stuck orders",
        text="its argument cannot be said", ours=f"{RUNBOOK}\nCommands:\norderheal rules show stuck", context={"since": at(10).isoformat()},
    )  # fmt: skip
    assert told.group.startswith("fault/")


def test_subjects_of_a_rule_that_is_gone() -> None:
    assert parked_notice("stuck", "team", Severity.WARNING, 3, at(10), ENGLISH) == about(
        NoticeKind.FAULT, "parked", id=f"stuck/parked#{at(10).isoformat()}-fault", episode=EPISODE + 600, severity=Severity.WARNING, runbook="",
        title="Rule is gone, its subjects are parked: stuck", text=ENGLISH.say("parked", subjects=ENGLISH.subjects(3)), count=3, context={"count": 3},
        ours="orderheal incidents list --rule stuck",
    )  # fmt: skip
