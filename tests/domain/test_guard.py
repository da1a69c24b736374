"""Guards: each turns an act, or an escalation, into a wait with its own reason, and nothing else."""

from dataclasses import replace

import pytest
from builders import T0, UPLOAD, at, incident, minutes, rule

from daemon.domain.decide import Act, Close, Escalate, Wait
from daemon.domain.guard import Census, census, guarded, hold, pausing, trip
from daemon.domain.incident import Marks, Phase, Resolution, Why
from daemon.domain.rule import Guard, Mode
from daemon.domain.sight import Verdict
from daemon.domain.standing import Held, Illness, Pause, RuleState, Standing

ACT = Act(UPLOAD, 1)
HELD = Held(T0, Why.MAX_BROKEN, 150, 100)
PLAIN = Standing("stuck", T0)


def pause(**scope: object) -> Pause:
    return Pause("p", "ann", "release", T0, **scope)


WAITS = {
    "in observe nothing is called": (rule(mode=Mode.OBSERVE), PLAIN, 0, Wait(at(5), Why.MODE_OBSERVE, detail="would call upload")),
    "in approve a person is waited for": (rule(mode=Mode.APPROVE), PLAIN, 0, Wait(at(5), Why.MODE_APPROVE, detail="would call upload")),
    "a pause of all stops acts": (rule(), replace(PLAIN, pauses=(pause(),)), 0, Wait(at(5), Why.PAUSED, detail="ann: release")),
    "a pause of the rule stops acts": (rule(), replace(PLAIN, pauses=(pause(rule="stuck"),)), 0, Wait(at(5), Why.PAUSED, detail="ann: release")),
    "a pause of the connector stops acts": (rule(), replace(PLAIN, pauses=(pause(connector="api"),)), 0, Wait(at(5), Why.PAUSED, detail="ann: release")),
    "a pause that ends sooner is waited out": (
        rule(), replace(PLAIN, pauses=(pause(until=at(2)),)), 0, Wait(at(2), Why.PAUSED, detail="ann: release"),
    ),
    "a tripped guard holds acts": (rule(), replace(PLAIN, state=RuleState(held=HELD)), 0, Wait(at(5), Why.MAX_BROKEN)),
    "an ill connector is left alone until it may be tried": (
        rule(), replace(PLAIN, illnesses={"api": Illness("api", T0, "HTTP 401", at(1))}), 0, Wait(at(1), Why.CONNECTOR_ILL, detail="HTTP 401"),
    ),
    "of an ill connector one at a time asks whether it is well again": (
        rule(), replace(PLAIN, illnesses={"api": Illness("api", T0, "HTTP 401", T0)}), 1, Wait(at(5), Why.CONNECTOR_ILL, detail="HTTP 401"),
    ),
    "another actor on the object is waited for": (rule(), replace(PLAIN, busy={"order/N1": at(3)}), 0, Wait(at(3), Why.OBJECT_BUSY)),
    "the hour's calls are bounded": (
        rule(guard=Guard(max_calls_per_hour=2)), replace(PLAIN, calls=(at(-30), at(-10))), 0, Wait(at(30), Why.CALLS_PER_HOUR),
    ),
    "the calls of this cycle count too": (rule(guard=Guard(max_calls_per_hour=2)), replace(PLAIN, calls=(at(-30),)), 1, Wait(at(30), Why.CALLS_PER_HOUR)),
    "the calls of this cycle alone may fill the hour": (rule(guard=Guard(max_calls_per_hour=1)), PLAIN, 1, Wait(at(60), Why.CALLS_PER_HOUR)),
}  # fmt: skip


@pytest.mark.parametrize("row", WAITS.values(), ids=WAITS)
def test_an_act_becomes_a_wait(row: tuple) -> None:
    checked, standing, used, expect = row
    assert guarded(checked, incident(), ACT, standing, used, T0) == expect


PASSES = {
    "without a reason against it an act is let through": (rule(), PLAIN),
    "a pause of another rule stops nothing": (rule(), replace(PLAIN, pauses=(pause(rule="other"),))),
    "a pause of another connector stops nothing": (rule(), replace(PLAIN, pauses=(pause(connector="other"),))),
    "a pause that is over stops nothing": (rule(), replace(PLAIN, pauses=(pause(until=T0),))),
    "an illness that may be tried again stops nothing": (rule(), replace(PLAIN, illnesses={"api": Illness("api", T0, "401", T0)})),
    "an actor who is through stops nothing": (rule(), replace(PLAIN, busy={"order/N1": T0})),
    "calls older than an hour do not count": (rule(guard=Guard(max_calls_per_hour=1)), replace(PLAIN, calls=(at(-60),))),
}


@pytest.mark.parametrize("row", PASSES.values(), ids=PASSES)
def test_an_act_is_let_through(row: tuple) -> None:
    assert guarded(row[0], incident(), ACT, row[1], 0, T0) == ACT


def test_a_follow_up_of_a_proved_healing_is_not_held_by_a_storm() -> None:
    act = replace(ACT, follow_up=True)
    assert guarded(rule(), incident(), act, replace(PLAIN, state=RuleState(held=HELD)), 0, T0) == act


def test_messages_of_a_held_or_observing_rule_are_held_too() -> None:
    decision = Escalate(Why.LADDER_SPENT)
    held = replace(PLAIN, state=RuleState(held=HELD))
    assert guarded(rule(), incident(), decision, held, 0, T0) == Wait(at(5), Why.MAX_BROKEN, detail="ladder_spent")
    assert guarded(rule(mode=Mode.OBSERVE), incident(), decision, PLAIN, 0, T0) == Wait(at(5), Why.MODE_OBSERVE, detail="ladder_spent")
    assert guarded(rule(), incident(), decision, PLAIN, 0, T0) == decision


def test_an_end_is_never_held() -> None:
    close = Close(Resolution.HEALED, Why.PROVED)
    assert guarded(rule(mode=Mode.OBSERVE), incident(), close, replace(PLAIN, state=RuleState(held=HELD)), 0, T0) == close


@pytest.mark.parametrize(
    ("broken", "population", "why"),
    [
        (100, None, None), (101, None, Why.MAX_BROKEN), (9, 9, None), (10, 49, Why.MAX_BROKEN_PERCENT), (10, 50, None), (10, None, None),
        (10, 0, None), (101, 10**6, Why.MAX_BROKEN),
    ],
)  # fmt: skip
def test_a_percentage_needs_a_population_and_ten_broken(broken: int, population: int | None, why: Why | None) -> None:
    held = trip(Guard(), Census(broken, population), T0)
    assert (held.why if held else None) is why


def test_a_guard_lets_go_only_after_a_complete_scan_within_both() -> None:
    within = Census(5, 1000)
    assert hold(rule(), HELD, within, False, at(5)) == HELD
    assert hold(rule(), HELD, within, True, at(5)) is None
    assert hold(rule(), HELD, Census(200, 1000), True, at(5)).since == T0
    assert hold(rule(), None, Census(200, 1000), False, at(5)).since == at(5)


@pytest.mark.parametrize(("mode", "before", "told"), [("enforce", None, True), ("observe", None, False), ("observe", True, True), ("enforce", False, True)])
def test_whoever_only_observes_tells_nobody_and_later_it_is_known_whether_people_were(mode: str, before: bool | None, told: bool) -> None:
    held = None if before is None else replace(HELD, told=before)
    assert hold(rule(mode=Mode(mode)), held, Census(200, 1000), False, at(5)).told is told


def test_all_open_broken_subjects_count_but_those_that_people_set_aside_do_not() -> None:
    some = [
        incident(), incident(phase=Phase.ESCALATED), incident(verdict=Verdict.UNKNOWN), incident(phase=Phase.QUARANTINED),
        incident(phase=Phase.RESOLVED), incident(phase=Phase.PROVED), incident(verdict=Verdict.CLEAN),
        incident(marks=Marks(dismissed_by="ann")), incident(marks=Marks(excluded_by="ann")), incident(marks=Marks(claimed_by="ann")),
    ]  # fmt: skip
    assert census(some, 7) == Census(5, 7)


def test_the_pause_that_applies_is_found() -> None:
    assert pausing([pause(rule="x"), pause(connector="api")], "stuck", "api", T0).connector == "api"
    assert pausing([], "stuck", None, T0) is None
    assert minutes(1) + T0 == at(1)


def test_a_tripped_guard_says_on_which_numbers() -> None:
    assert trip(Guard(), Census(101, 5000), T0) == Held(T0, Why.MAX_BROKEN, 101, 100, 5000)
    assert trip(Guard(), Census(11, 50), T0) == Held(T0, Why.MAX_BROKEN_PERCENT, 11, 20.0, 50)
    assert trip(Guard(max_broken=100, max_broken_percent=50), Census(100, 100), T0) == Held(T0, Why.MAX_BROKEN_PERCENT, 100, 50, 100)
