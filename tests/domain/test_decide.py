"""The decision for one incident, as a table with a sentence per row."""

from dataclasses import dataclass, replace
from unittest.mock import ANY

import pytest
from builders import UPLOAD, Expression, at, attempt, constant, incident, minutes, rule, seen, sight, state

from daemon.domain.attempt import CONNECTOR_ILL, CRASHED, Outcome, Reply, Result
from daemon.domain.decide import Act, Close, Decision, Escalate, Wait, decide, idempotency_key
from daemon.domain.directive import Directive, DirectiveKind
from daemon.domain.incident import (
    Incident,
    Marks,
    Phase,
    Resolution,
    Why,
    begun,
    given_up,
    obeyed,
    opened,
    recorded,
    sighted,
)
from daemon.domain.rule import Backoff, Delivery, Diagnose, Rule, Step
from daemon.domain.sight import Verdict
from daemon.domain.value import Unknown

GRACED = at(20)
"""After the grace of 15 minutes."""

WAIT = Step(id="wait", wait=minutes(45))
COMMENT = Step(id="comment", connector="api", call="comment")


PLAIN = rule()


@dataclass(frozen=True)
class Row:
    says: str
    incident: Incident
    expect: Decision
    rule: Rule = PLAIN
    now: object = GRACED
    flight: object = None


TABLE = [
    Row("within the grace nothing is done", seen(at(5)), Wait(at(15), Why.GRACE), now=at(5)),
    Row("after the grace the first rung is climbed", seen(GRACED), Act(UPLOAD, 1)),
    Row("the grace counts from since, not from the first look", seen(at(1), since=at(-30)), Act(UPLOAD, 1), now=at(1)),
    Row(
        "an attempt without an outcome is waited for until it can no longer arrive",
        seen(GRACED), Wait(at(25), Why.SETTLING, detail="an attempt is on its way"), flight=attempt(ends_by=at(25)),
    ),
    Row("an unknown look concludes nothing", seen(GRACED, verdict=Verdict.UNKNOWN), Wait(at(25), Why.UNKNOWN)),
    Row(
        "an unknown look concludes nothing even about a subject that once was clean",
        seen(GRACED, verdict=Verdict.UNKNOWN, phase=Phase.PROVED, resolution=Resolution.HEALED), Wait(at(25), Why.UNKNOWN),
    ),
    Row("absent is gone, never healed", seen(GRACED, verdict=Verdict.GONE, reason="absent", credit=True), Close(Resolution.GONE, Why.ABSENT)),
    Row(
        "out of scope is gone, never healed",
        seen(GRACED, verdict=Verdict.GONE, reason="out_of_scope", credit=True), Close(Resolution.GONE, Why.OUT_OF_SCOPE),
    ),
    Row("clean without anybody's doing healed by itself", seen(GRACED, verdict=Verdict.CLEAN), Close(Resolution.SELF_HEALED, Why.PROVED)),
    Row(
        "clean after an attempt of ours that may have arrived is healed",
        seen(GRACED, verdict=Verdict.CLEAN, credit=True, steps={"upload": state(result=Result.DONE, at=at(18))}),
        Close(Resolution.HEALED, Why.PROVED),
    ),
    Row(
        "clean after a refused attempt is nobody's healing",
        seen(GRACED, verdict=Verdict.CLEAN, steps={"upload": state(result=Result.REFUSED, at=at(18))}),
        Close(Resolution.SELF_HEALED, Why.PROVED),
    ),
    Row("clean after a person was told is handled", seen(GRACED, verdict=Verdict.CLEAN, credit=True, handled=True), Close(Resolution.HANDLED, Why.PROVED)),
    Row("clean after a claim is handled", seen(GRACED, verdict=Verdict.CLEAN, credit=True, handled=True), Close(Resolution.HANDLED, Why.PROVED)),
    Row(
        "clean under a dismissal is dismissed",
        seen(GRACED, verdict=Verdict.CLEAN, credit=True, marks=Marks(dismissed_by="ann")), Close(Resolution.DISMISSED, Why.PROVED),
    ),
    Row(
        "gone under a dismissal is dismissed",
        seen(GRACED, verdict=Verdict.GONE, reason="absent", marks=Marks(dismissed_by="ann")), Close(Resolution.DISMISSED, Why.ABSENT),
    ),
    Row(
        "a clean look that began before the attempt ended proves nothing",
        seen(GRACED, verdict=Verdict.CLEAN, credit=True, steps={"upload": state(result=Result.DONE, at=GRACED)}),
        Wait(at(21), Why.WAITING, detail="seen clean before the last attempt ended"),
    ),
    Row(
        "a broken look before the end of settle allows nothing",
        seen(at(19), steps={"upload": state(tries=1, result=Result.DONE, at=at(16), settle_until=at(21))}), Wait(at(21), Why.SETTLING),
    ),
    Row(
        "passing time alone allows nothing: settle is over but nobody has looked since",
        seen(at(19), steps={"upload": state(tries=1, result=Result.DONE, at=at(14), settle_until=at(19.5))}), Wait(at(19.5), Why.SETTLING),
    ),
    Row(
        "a broken look after settle allows the next attempt",
        seen(GRACED, steps={"upload": state(tries=1, result=Result.DONE, at=at(14), settle_until=at(19))}), Act(UPLOAD, 2),
    ),
    Row(
        "attempts are bounded: after the last one the ladder is spent",
        seen(GRACED, steps={"upload": state(tries=3, result=Result.DONE, at=at(14), settle_until=at(19))}), Escalate(Why.LADDER_SPENT),
    ),
    Row(
        "after the last attempt settle is waited for before people are called",
        seen(at(18), steps={"upload": state(tries=3, result=Result.DONE, at=at(14), settle_until=at(19))}), Wait(at(19), Why.SETTLING), now=at(18),
    ),
    Row(
        "one attempt more after our own crash, once",
        seen(GRACED, steps={"upload": state(tries=3, extra=True, result=Result.UNKNOWN, at=at(14), settle_until=at(19))}), Act(UPLOAD, 4),
    ),
    Row(
        "the extra attempt is one only",
        seen(GRACED, steps={"upload": state(tries=4, extra=True, result=Result.UNKNOWN, at=at(14), settle_until=at(19))}),
        Escalate(Why.LADDER_SPENT),
    ),
    Row(
        "a refusal is done with at once",
        seen(GRACED, steps={"upload": state(tries=1, spent=True, result=Result.REFUSED, at=at(19))}), Escalate(Why.REFUSED),
    ),
    Row(
        "after `later` the backoff is waited for",
        seen(GRACED, steps={"upload": state(laters=1, result=Result.LATER, reason="503", at=at(19), retry_at=at(22))}),
        Wait(at(22), Why.BACKOFF, detail="503"),
    ),
    Row(
        "after the backoff the same attempt is made, none used up",
        seen(at(23), steps={"upload": state(laters=1, result=Result.LATER, at=at(19), retry_at=at(22))}), Act(UPLOAD, 1), now=at(23),
    ),
    Row(
        "`later` for ever ends with the step's timeout",
        seen(at(400), steps={"upload": state(laters=9, result=Result.LATER, at=at(380), retry_at=at(390))}), Escalate(Why.LADDER_SPENT), now=at(400),
    ),
    Row(
        "the timeout stands still while the connector is ill",
        seen(at(400), steps={"upload": state(result=Result.LATER, reason=CONNECTOR_ILL, at=at(30), ill_since=at(30), retry_at=at(390))}),
        Act(UPLOAD, 1), now=at(400),
    ),
    Row(
        "an ill connector is named as the reason to wait",
        seen(GRACED, steps={"upload": state(result=Result.LATER, reason=CONNECTOR_ILL, at=at(19), ill_since=at(19), retry_at=at(21))}),
        Wait(at(21), Why.CONNECTOR_ILL, detail=CONNECTOR_ILL),
    ),
    Row("the lifetime cap sets the subject aside", seen(GRACED, total=10), Escalate(Why.QUARANTINED, quarantine=True)),
    Row("an empty ladder calls people", seen(GRACED), Escalate(Why.LADDER_SPENT), rule(ladder=())),
    Row("an escalated subject waits for people", seen(GRACED, phase=Phase.ESCALATED), Wait(at(25), Why.TOLD)),
    Row("a quarantined subject waits for people", seen(GRACED, phase=Phase.QUARANTINED), Wait(at(25), Why.QUARANTINED)),
    Row("a claimed one is left alone", seen(GRACED, marks=Marks(claimed_by="ann", claimed_until=at(60))), Wait(at(60), Why.CLAIMED, detail="ann")),
    Row("a dismissed one is left alone", seen(GRACED, marks=Marks(dismissed_by="ann")), Wait(at(25), Why.DISMISSED, detail="ann")),
    Row("an excluded one is left alone", seen(GRACED, marks=Marks(excluded_by="ann")), Wait(at(25), Why.EXCLUDED, detail="ann")),
    Row("a `wait` begins with the rung", seen(GRACED), Wait(at(65), Why.WAITING, begins=WAIT), rule(ladder=(WAIT, UPLOAD))),
    Row(
        "a `wait` is waited for", seen(at(30), steps={"wait": state(began=GRACED)}), Wait(at(65), Why.WAITING),
        rule(ladder=(WAIT, UPLOAD)), now=at(30),
    ),
    Row(
        "a `wait` that is over is looked at before the next rung",
        seen(at(30), steps={"wait": state(began=GRACED)}), Wait(at(65), Why.WAITING), rule(ladder=(WAIT, UPLOAD)), now=at(66),
    ),
    Row(
        "after a `wait` and a look the next rung is climbed",
        seen(at(66), steps={"wait": state(began=GRACED)}), Act(UPLOAD, 1), rule(ladder=(WAIT, UPLOAD)), now=at(66),
    ),
    Row(
        "a step whose `if` is false is passed over", seen(GRACED), Act(UPLOAD, 1),
        rule(ladder=(replace(WAIT, when=constant(False)), UPLOAD)),
    ),
    Row(
        "a step whose `if` cannot be known holds the ladder up", seen(GRACED), Wait(at(25), Why.UNKNOWN, detail="upload: no answer"),
        rule(ladder=(replace(UPLOAD, when=constant(Unknown("no answer"))),)),
    ),
    Row(
        "a step whose `if` is no condition holds the ladder up", seen(GRACED), Wait(at(25), Why.UNKNOWN, detail="upload: neither true nor false"),
        rule(ladder=(replace(UPLOAD, when=constant("yes")),)),
    ),
    Row(
        "the ladder is not climbed down again when an earlier `if` turns true",
        seen(GRACED, steps={"second": state(tries=1, result=Result.DONE, at=at(14), settle_until=at(19))}),
        Act(replace(UPLOAD, id="second"), 2), rule(ladder=(UPLOAD, replace(UPLOAD, id="second"))),
    ),
    Row(
        "the position is found by the step's identity when the rule changed under it",
        seen(GRACED, steps={"upload": state(tries=1, result=Result.DONE, at=at(14), settle_until=at(19))}),
        Act(UPLOAD, 2), rule(ladder=(replace(UPLOAD, id="new"), UPLOAD)),
    ),
    Row(
        "a step that the rule lost is forgotten, its successors are climbed from the top",
        seen(GRACED, steps={"lost": state(tries=3, result=Result.DONE, at=at(14), settle_until=at(19))}), Act(UPLOAD, 1),
    ),
    Row("an undiagnosed subject is waited for", seen(GRACED, undiagnosed_since=at(10)), Wait(at(40), Why.DIAGNOSING), rule(diagnose=Diagnose())),
    Row("a diagnosed subject is remediated", seen(GRACED, cause="region"), Act(UPLOAD, 1), rule(diagnose=Diagnose())),
    Row("the first relapse goes on with the attempts left", seen(GRACED, relapses=1, relapse_at=at(0)), Act(UPLOAD, 1)),
    Row("the second relapse calls people, not services", seen(GRACED, relapses=2, relapse_at=at(0)), Escalate(Why.LADDER_SPENT)),
    Row(
        "proved, its follow-ups run",
        seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED),
        Act(COMMENT, 1, follow_up=True), rule(on_resolved=(COMMENT,)),
    ),
    Row(
        "a follow-up runs once", rule=rule(on_resolved=(COMMENT,)),
        incident=seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED, steps={"comment": state(result=Result.DONE, at=at(18), tries=1)}),
        expect=Close(Resolution.HEALED, Why.PROVED),
    ),
    Row(
        "a follow-up that does not apply is passed over", rule=rule(on_resolved=(replace(COMMENT, when=constant(False)),)),
        incident=seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED), expect=Close(Resolution.HEALED, Why.PROVED),
    ),
    Row(
        "a follow-up that cannot be judged is waited for", rule=rule(on_resolved=(replace(COMMENT, when=constant(Unknown("?"))),)),
        incident=seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED),
        expect=Wait(at(25), Why.UNKNOWN, detail="comment: ?"),
    ),
    Row(
        "a follow-up waits for its backoff", rule=rule(on_resolved=(COMMENT,)),
        incident=seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED, steps={"comment": state(result=Result.LATER, at=at(18), retry_at=at(30))}),
        expect=Wait(at(30), Why.BACKOFF),
    ),
    Row(
        "a refused follow-up ends", rule=rule(on_resolved=(COMMENT,)),
        incident=seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED, steps={"comment": state(result=Result.REFUSED, at=at(18), spent=True)}),
        expect=Close(Resolution.HEALED, Why.PROVED),
    ),
    Row(
        "gone after it was proved keeps its resolution and runs nothing more", rule=rule(on_resolved=(COMMENT,)),
        incident=seen(GRACED, verdict=Verdict.GONE, reason="absent", phase=Phase.PROVED, resolution=Resolution.HEALED),
        expect=Close(Resolution.HEALED, Why.ABSENT),
    ),
    Row("the grace is over at its end", seen(at(15)), Act(UPLOAD, 1), now=at(15)),
    Row("an unknown look says why", seen(GRACED, verdict=Verdict.UNKNOWN, reason="timed out"), Wait(at(25), Why.UNKNOWN, detail="timed out")),
    Row(
        "a look at the end of settle allows the next attempt",
        seen(at(21), steps={"upload": state(tries=1, result=Result.DONE, at=at(16), settle_until=at(21))}), Act(UPLOAD, 2), now=at(21),
    ),
    Row(
        "a backoff is over at its end",
        seen(GRACED, steps={"upload": state(tries=1, result=Result.LATER, at=at(16), retry_at=GRACED)}), Act(UPLOAD, 2),
    ),
    Row(
        "a step's time is over at its end",
        seen(GRACED, steps={"upload": state(began=GRACED - UPLOAD.timeout, tries=1)}), Escalate(Why.LADDER_SPENT),
    ),
    Row(
        "a wait is over when it was looked at its end", rule=rule(ladder=(WAIT, UPLOAD)),
        incident=seen(at(45), steps={"wait": state()}), expect=Act(UPLOAD, 1), now=at(45),
    ),
    Row(
        "a rung's condition sees the record, the time and what was tried",
        rule=rule(ladder=(UPLOAD, replace(COMMENT, when=Expression(lambda s: (s["number"], s["now"], s["steps"]["upload"]["attempts"]) == ("N1", GRACED, 3))))),
        incident=seen(GRACED, steps={"upload": state(tries=3)}), expect=Act(replace(COMMENT, when=ANY), 1),
    ),
    Row(
        "a follow-up's condition sees the resolution and the time; those that ended or are not wanted let the next one run",
        rule=rule(on_resolved=(
            COMMENT, replace(COMMENT, id="not", when=constant(False)),
            replace(COMMENT, id="next", when=Expression(lambda s: (s["resolution"], s["now"]) == ("healed", GRACED))),
        )),
        incident=seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED, steps={"comment": state(result=Result.DONE, at=at(18))}),
        expect=Act(replace(COMMENT, id="next", when=ANY), 1, follow_up=True),
    ),
    Row(
        "a follow-up tried again is a follow-up still", rule=rule(on_resolved=(COMMENT,)),
        incident=seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED, steps={"comment": state(tries=1, result=Result.UNKNOWN, at=at(18))}),
        expect=Act(COMMENT, 2, follow_up=True),
    ),
    Row(
        "a follow-up whose condition is no yes or no waits and says so", rule=rule(on_resolved=(replace(COMMENT, when=constant(7)),)),
        incident=seen(GRACED, verdict=Verdict.CLEAN, phase=Phase.PROVED, resolution=Resolution.HEALED),
        expect=Wait(at(25), Why.UNKNOWN, detail="comment: neither true nor false"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.says)
def test_decision(row: Row) -> None:
    assert decide(row.rule, row.incident, row.flight, row.now) == row.expect


def concluded(result: Result, step: Step = UPLOAD, reason: str = "", before: Incident | None = None) -> Incident:
    ended = attempt(result, at(21), outcome=Outcome(result, reason))
    return recorded(before or begun(seen(GRACED), step, GRACED), step, ended, None)


def test_done_uses_an_attempt_and_settles_from_the_end_of_the_answer() -> None:
    after = concluded(Result.DONE)
    assert (after.steps["upload"].tries, after.total, after.credit) == (1, 1, True)
    assert after.steps["upload"].settle_until == after.due == at(26)


def test_refused_uses_an_attempt_gives_no_credit_and_is_looked_at_at_once() -> None:
    after = concluded(Result.REFUSED)
    assert (after.steps["upload"].tries, after.total, after.credit, after.steps["upload"].spent) == (1, 1, False, True)
    assert after.due == at(21)


def test_later_uses_time_not_attempts() -> None:
    after = concluded(Result.LATER)
    assert (after.steps["upload"].tries, after.total, after.credit) == (0, 0, False)
    assert at(21) <= after.steps["upload"].retry_at <= at(22)


def test_retry_after_wins_over_the_backoff() -> None:
    after = recorded(begun(seen(GRACED), UPLOAD, GRACED), UPLOAD, attempt(Result.LATER, at(21)), at(50))
    assert after.steps["upload"].retry_at == after.due == at(50)


def test_backoff_grows_and_is_bounded() -> None:
    backoff = Backoff(minutes(1), 2, minutes(30))
    assert [backoff.ceiling(n) for n in (1, 2, 3, 6, 7, 500)] == [minutes(m) for m in (1, 2, 4, 30, 30, 30)]


def test_unknown_uses_an_attempt_and_may_have_had_its_effect() -> None:
    step = replace(UPLOAD, delivery=Delivery.AT_LEAST_ONCE)
    after = concluded(Result.UNKNOWN, step)
    assert (after.steps["upload"].tries, after.credit, after.steps["upload"].spent) == (1, True, False)


def test_unknown_is_never_repeated_where_twice_is_worse() -> None:
    assert concluded(Result.UNKNOWN, replace(UPLOAD, delivery=Delivery.AT_MOST_ONCE)).steps["upload"].spent


def test_our_own_crash_gives_one_more_try_where_the_call_may_be_repeated() -> None:
    again = concluded(Result.UNKNOWN, replace(UPLOAD, delivery=Delivery.AT_LEAST_ONCE), CRASHED)
    never = concluded(Result.UNKNOWN, replace(UPLOAD, delivery=Delivery.AT_MOST_ONCE), CRASHED)
    assert (again.steps["upload"].extra, never.steps["upload"].extra) == (True, False)


def test_not_sent_uses_nothing_up() -> None:
    before = begun(seen(GRACED), UPLOAD, GRACED)
    after = concluded(Result.NOT_SENT, before=before)
    assert replace(after, due=None) == replace(before, due=None)


def test_an_ill_connector_stops_the_steps_time_and_its_backoff_does_not_grow() -> None:
    ill = concluded(Result.LATER, reason=CONNECTOR_ILL)
    assert (ill.steps["upload"].laters, ill.steps["upload"].ill_since) == (0, at(21))
    assert begun(ill, UPLOAD, at(51)).steps["upload"].began == GRACED + minutes(30)


def test_the_idempotency_key_stays_after_unknown_and_changes_after_a_known_outcome() -> None:
    first = idempotency_key(seen(GRACED), UPLOAD)
    assert idempotency_key(concluded(Result.UNKNOWN), UPLOAD) == first
    assert len({first, *(idempotency_key(concluded(result), UPLOAD) for result in (Result.DONE, Result.REFUSED))}) == 2
    assert idempotency_key(concluded(Result.LATER), UPLOAD) == first, "`later` is the same attempt again"
    after_unknown = concluded(Result.UNKNOWN)
    assert idempotency_key(concluded(Result.LATER, before=after_unknown), UPLOAD) == first, "what was unknown stays so"


def test_a_relapse_begins_with_a_new_idempotency_key_because_the_unknown_was_answered_by_proof() -> None:
    healed = replace(ENDED, steps={"upload": state(tries=1, result=Result.UNKNOWN, at=at(20))})
    again = opened(rule(), sight(Verdict.BROKEN, at(60)), healed, "new")
    assert idempotency_key(again, UPLOAD) != idempotency_key(healed, UPLOAD)


def test_without_an_answer_settle_runs_from_when_nothing_can_arrive_any_more() -> None:
    silent = recorded(begun(seen(GRACED), UPLOAD, GRACED), UPLOAD, attempt(Result.UNKNOWN, at(21), ends_by=at(22)), None)
    assert silent.steps["upload"].settle_until == at(27)
    answered = attempt(Result.UNKNOWN, at(21), ends_by=at(22), outcome=Outcome(Result.UNKNOWN, "HTML", reply=Reply(200)))
    assert recorded(begun(seen(GRACED), UPLOAD, GRACED), UPLOAD, answered, None).steps["upload"].settle_until == at(26)


def test_a_follow_up_gives_no_credit() -> None:
    after = recorded(seen(GRACED), COMMENT, attempt(Result.DONE, at(21), follow_up=True), None)
    assert not after.credit


def test_a_step_given_up_is_passed() -> None:
    stopped = given_up(seen(GRACED), UPLOAD, "argument id: is null", GRACED)
    assert decide(rule(), stopped, None, GRACED) == Escalate(Why.LADDER_SPENT)


def test_an_older_look_changes_nothing() -> None:
    newer = seen(at(30))
    assert sighted(rule(), newer, sight(Verdict.CLEAN, at(29))) == newer


def test_since_is_the_earliest_value_seen_so_a_moving_one_cannot_postpone() -> None:
    first = sighted(rule(), seen(at(1), since=at(0)), sight(Verdict.BROKEN, at(2), since=at(10)))
    assert first.since == at(0)
    assert sighted(rule(), first, sight(Verdict.BROKEN, at(3), since=at(-60))).since == at(-60)


def test_an_undiagnosed_subject_gets_that_cause_after_the_timeout() -> None:
    ill = rule(diagnose=Diagnose(timeout=minutes(30)))
    waiting = sighted(ill, seen(at(1)), sight(Verdict.BROKEN, at(2), undiagnosed="database down"))
    assert (waiting.cause, waiting.undiagnosed_since) == (None, at(2))
    assert sighted(ill, waiting, sight(Verdict.BROKEN, at(31), undiagnosed="database down")).cause is None
    assert sighted(ill, waiting, sight(Verdict.BROKEN, at(32), undiagnosed="database down")).cause == "undiagnosed"
    assert sighted(ill, waiting, sight(Verdict.BROKEN, at(33), cause="region")).cause == "region"


def test_a_proved_one_that_is_seen_broken_is_open_again() -> None:
    proved = seen(at(30), phase=Phase.PROVED, resolution=Resolution.HEALED, proved_at=at(30), verdict=Verdict.CLEAN, credit=True)
    again = sighted(rule(), proved, sight(Verdict.BROKEN, at(31)))
    assert (again.phase, again.resolution, again.relapses, again.credit) == (Phase.OPEN, None, 1, False)


def test_a_parked_one_that_is_looked_at_again_is_open() -> None:
    assert sighted(rule(), seen(at(1), phase=Phase.PARKED), sight(Verdict.BROKEN, at(2))).phase is Phase.OPEN


ENDED = incident(phase=Phase.RESOLVED, resolution=Resolution.HEALED, ended=at(30), total=3, steps={"upload": state(tries=2, settle_until=at(29))}, version=4)


def test_broken_again_soon_after_the_end_the_same_incident_goes_on() -> None:
    again = opened(rule(), sight(Verdict.BROKEN, at(60)), ENDED, "new")
    assert (again.id, again.phase, again.relapses, again.version) == ("i1", Phase.OPEN, 1, 4)
    assert (again.steps["upload"].tries, again.steps["upload"].settle_until) == (2, None)


def test_broken_again_long_after_the_end_a_new_incident_begins_and_the_lifetime_count_goes_on() -> None:
    fresh = opened(rule(), sight(Verdict.BROKEN, at(30 + 60 * 25)), ENDED, "new")
    assert (fresh.id, fresh.relapses, fresh.total, fresh.steps) == ("new", 0, 3, {})


def test_the_lifetime_count_halves_with_each_week_of_health() -> None:
    weeks = [opened(rule(), sight(Verdict.BROKEN, at(30 + 60 * 24 * 7 * n)), replace(ENDED, total=9), "new").total for n in (1, 2, 3, 9)]
    assert weeks == [4, 2, 1, 0]


def test_a_told_event_keeps_its_key_while_it_is_listed() -> None:
    told = replace(ENDED, resolution=Resolution.TOLD, last=at(30))
    assert opened(rule(), sight(Verdict.BROKEN, at(40)), told, "new") is None
    noted = opened(rule(), sight(Verdict.BROKEN, at(30 + 60 * 12)), told, "new")
    assert (noted.live, noted.last) == (False, at(30 + 60 * 12))
    assert opened(rule(), sight(Verdict.BROKEN, at(30 + 60 * 25)), told, "new").id == "new"


def said(kind: DirectiveKind, **more: object) -> Directive:
    return Directive("d", kind, "stuck", "i1", "ann", "because", at(40), **more)


def test_a_claim_stops_acts_and_counts_as_handled_even_after_its_release() -> None:
    claimed = obeyed(rule(), seen(GRACED), said(DirectiveKind.CLAIM, until=at(100)), at(40))
    assert (claimed.marks.claimed_by, claimed.handled, claimed.due) == ("ann", True, at(40))
    released = obeyed(rule(), claimed, said(DirectiveKind.RELEASE), at(41))
    assert (released.marks.claimed_by, released.handled) == (None, True)


def test_retry_gives_a_spent_ladder_one_more_attempt_of_its_last_call() -> None:
    spent = seen(at(40), phase=Phase.ESCALATED, total=3, steps={"upload": state(tries=3, result=Result.DONE, at=at(30), settle_until=at(35))})
    again = obeyed(rule(), spent, said(DirectiveKind.RETRY), at(40))
    assert decide(rule(), again, None, at(40)) == Act(UPLOAD, 3)
    after = recorded(begun(again, UPLOAD, at(40)), UPLOAD, attempt(Result.DONE, at(41)), None)
    assert decide(rule(), replace(after, seen=at(50), last=at(50)), None, at(50)) == Escalate(Why.LADDER_SPENT)


def test_retry_after_the_second_relapse_is_obeyed() -> None:
    spent = seen(at(40), phase=Phase.ESCALATED, relapses=2, relapse_at=at(20), steps={"upload": state(tries=1)})
    assert decide(rule(), obeyed(rule(), spent, said(DirectiveKind.RETRY), at(40)), None, at(40)) == Act(UPLOAD, 2)


def test_retry_stays_within_the_lifetime_cap() -> None:
    spent = seen(at(40), phase=Phase.QUARANTINED, total=10, steps={"upload": state(tries=3)})
    assert decide(rule(), obeyed(rule(), spent, said(DirectiveKind.RETRY), at(40)), None, at(40)) == Escalate(Why.QUARANTINED, quarantine=True)


def test_retry_skips_a_backoff() -> None:
    waiting = seen(at(40), steps={"upload": state(laters=3, result=Result.LATER, at=at(39), retry_at=at(60))})
    assert decide(rule(), obeyed(rule(), waiting, said(DirectiveKind.RETRY), at(40)), None, at(40)) == Act(UPLOAD, 1)
