"""What becomes of an incident by looks, attempts, people's words and time: the whole value, as tables with a sentence per row."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from builders import T0, UPLOAD, at, attempt, incident, minutes, rule, sight, state

from daemon.domain.attempt import Outcome, Reply, Result
from daemon.domain.decide import Wait, decide
from daemon.domain.directive import Directive, DirectiveKind
from daemon.domain.incident import (
    HALF_LIFE,
    Incident,
    Mark,
    Marks,
    Phase,
    Resolution,
    StepState,
    Why,
    begun,
    expired,
    forgotten,
    given_up,
    obeyed,
    opened,
    recorded,
    retried,
    scope_of,
    sighted,
    stopped_by_illness,
    waiting,
)
from daemon.domain.rule import Diagnose, Guard, Step
from daemon.domain.sight import Verdict
from daemon.domain.value import Money

RULE = rule(guard=Guard(relapse=timedelta(days=1)))
OTHER = Step(id="other", connector="api", call="other", attempts=2)
CLAIMED = Marks(claimed_by="ann", reason="mine")
ENDED = incident(
    phase=Phase.RESOLVED, resolution=Resolution.HEALED, why=Why.PROVED, ended=T0, proved_at=T0, credit=True, handled=True, total=5, relapses=1,
    levels={"team": T0}, marks=CLAIMED, cause="address", undiagnosed_since=T0, since=T0, digest="d0",
    steps={"upload": state(tries=2, result=Result.UNKNOWN, settle_until=at(3), retry_at=at(4), laters=3, ill_since=at(1), known=1, spent=True)},
)  # fmt: skip


def broken(when: datetime, **changes: object) -> Incident | None:
    """What a scan makes of a broken subject that had ``ENDED`` before."""
    return opened(RULE, sight(Verdict.BROKEN, when), replace(ENDED, **changes), "i2")


class TestOpened:
    def test_a_subject_without_a_past_begins_at_its_sighting_and_as_old_as_it_says(self) -> None:
        young = opened(RULE, sight(Verdict.BROKEN, at(9), since=at(2)), None, "i2")
        assert young == incident(id="i2", opened=at(9), since=at(2), last=at(9), seen=at(9), due=at(9))
        ahead = opened(RULE, sight(Verdict.BROKEN, at(9), since=at(20)), None, "i2")
        assert ahead is not None
        assert ahead.since == at(9), "nothing is broken since tomorrow"

    def test_a_relapse_goes_on_with_the_attempts_left_and_as_nobodys(self) -> None:
        assert broken(at(60)) == incident(
            opened=T0, since=at(60), last=at(60), seen=at(60), due=at(60), relapses=2, relapse_at=at(60), total=5, why=Why.GRACE,
            steps={"upload": state(began=at(60), tries=2, result=Result.UNKNOWN, known=2, spent=True)},
        )  # fmt: skip

    def test_only_what_was_unknown_gets_a_new_idempotency_key_by_a_relapse(self) -> None:
        found = broken(at(60), steps={"upload": state(tries=2, result=Result.DONE, known=2)})
        assert found is not None
        assert found.steps["upload"].known == 2

    def test_the_window_of_relapse_ends_sharply(self) -> None:
        last = broken(T0 + timedelta(days=1) - timedelta(seconds=1))
        past = broken(T0 + timedelta(days=1))
        assert last is not None
        assert past is not None
        assert (last.id, past.id, past.relapses) == ("i1", "i2", 0)

    @pytest.mark.parametrize(("well", "left"), [(HALF_LIFE - minutes(1), 5), (HALF_LIFE, 2), (2 * HALF_LIFE, 1), (400 * HALF_LIFE, 0)])
    def test_the_lifetime_count_halves_with_every_week_of_health(self, well: timedelta, left: int) -> None:
        found = broken(T0 + well)
        assert found is not None
        assert found.total == left

    def test_a_told_subject_keeps_its_key_while_it_is_listed(self) -> None:
        told = {"resolution": Resolution.TOLD, "last": T0}
        assert broken(at(6 * 60), **told) is None, "noted four times per window, not at every scan"
        assert broken(at(6 * 60 + 1), **told) == replace(ENDED, resolution=Resolution.TOLD, last=at(6 * 60 + 1))
        fresh = broken(T0 + timedelta(days=1), **told)
        assert fresh is not None
        assert fresh.id == "i2"

    def test_a_told_subject_seen_well_gives_its_key_free_once(self) -> None:
        told = replace(ENDED, resolution=Resolution.TOLD)
        free = forgotten(told)
        assert free == replace(told, last=None)
        assert free is not None
        assert forgotten(free) is None
        assert forgotten(ENDED) is None
        again = opened(RULE, sight(Verdict.BROKEN, at(60)), free, "i2")
        assert again is not None
        assert again.id == "i2"


class TestSighted:
    @pytest.mark.parametrize(
        ("says", "before", "verdict", "changes"),
        [
            ("an older look changes nothing", incident(last=at(9)), Verdict.CLEAN, {}),
            ("an unknown one concludes nothing and is dated", incident(), Verdict.UNKNOWN,
             {"last": at(5), "verdict": Verdict.UNKNOWN, "unknown_since": at(5)}),
            ("the second unknown one keeps the date of the first", incident(unknown_since=at(2)), Verdict.UNKNOWN,
             {"last": at(5), "verdict": Verdict.UNKNOWN, "unknown_since": at(2)}),
            ("what is gone keeps the facts it had", incident(unknown_since=at(2)), Verdict.GONE,
             {"last": at(5), "seen": at(5), "verdict": Verdict.GONE, "unknown_since": None}),
            ("a clean one brings its facts", incident(), Verdict.CLEAN,
             {"last": at(5), "seen": at(5), "verdict": Verdict.CLEAN, "facts": {"number": "N1", "bad": False, "ours": True}}),
            ("a parked one whose rule is back is open again", incident(phase=Phase.PARKED), Verdict.BROKEN, {"last": at(5), "seen": at(5), "phase": Phase.OPEN}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )  # fmt: skip
    def test_a_look(self, says: str, before: Incident, verdict: Verdict, changes: dict[str, object]) -> None:
        assert sighted(RULE, before, sight(verdict, at(5))) == replace(before, **changes), says

    def test_a_proved_one_seen_broken_goes_on_as_a_relapse(self) -> None:
        before = replace(ENDED, phase=Phase.PROVED, ended=None, marks=Marks(), cause=None, undiagnosed_since=None)
        assert sighted(RULE, before, sight(Verdict.BROKEN, at(5))) == replace(
            before, phase=Phase.OPEN, why=Why.GRACE, relapses=2, relapse_at=at(5), proved_at=None, resolution=None, credit=False, handled=False, levels={},
            steps={"upload": state(began=at(5), tries=2, result=Result.UNKNOWN, known=2, spent=True)}, last=at(5), seen=at(5), since=at(5), digest="d1",
        )  # fmt: skip


class TestRungs:
    def test_an_attempt_let_through_begins_its_rung_once(self) -> None:
        first = begun(incident(), UPLOAD, at(5), "a1")
        assert first == incident(steps={"upload": StepState(began=at(5))}, why=Why.SETTLING, flight="a1")
        assert begun(first, UPLOAD, at(9), "a2").steps == first.steps

    def test_the_time_of_a_rung_stands_still_while_its_connector_is_ill(self) -> None:
        open_ = incident(steps={"other": state(), "upload": state()})
        ill = stopped_by_illness(open_, UPLOAD, at(5))
        assert ill == replace(open_, steps={"other": state(), "upload": state(ill_since=at(5))})
        assert stopped_by_illness(ill, UPLOAD, at(9)) is ill
        assert stopped_by_illness(incident(), UPLOAD, at(5)) == incident()
        well = begun(ill, UPLOAD, at(25))
        assert well.steps == {"other": state(), "upload": state(began=at(20))}

    def test_a_rung_that_waits_begins(self) -> None:
        before = incident(steps={"upload": state(tries=3)})
        assert waiting(before, OTHER, at(5)) == replace(before, steps={"upload": state(tries=3), "other": StepState(began=at(5))})

    def test_a_rung_given_up_keeps_what_it_had_and_why(self) -> None:
        before = incident(steps={"upload": state(tries=1, at=at(2))})
        assert given_up(before, UPLOAD, "no number", at(5)).steps == {"upload": state(tries=1, at=at(2), spent=True, reason="no number")}
        assert given_up(before, OTHER, "no number", at(5)).steps["other"] == StepState(began=at(5), at=at(5), spent=True, reason="no number")

    def test_what_was_not_sent_uses_nothing_up(self) -> None:
        before = incident(flight="a1", steps={"upload": state()})
        assert recorded(before, UPLOAD, attempt(Result.NOT_SENT, at(2)), None) == replace(before, flight=None, due=at(2))

    def test_a_refusal_spends_the_rung_without_credit(self) -> None:
        before = incident(flight="a1", steps={"upload": state(laters=2, ill_since=at(1), tries=1, known=1)})
        reply = Reply(422, body="no such order")
        ended = replace(attempt(Result.REFUSED, at(2)), outcome=Outcome(Result.REFUSED, "status 422", reply=reply))
        assert recorded(before, UPLOAD, ended, None) == replace(
            before, flight=None, total=1, due=at(2), why=Why.REFUSED,
            steps={"upload": state(tries=2, known=2, result=Result.REFUSED, reason="status 422", at=at(2), spent=True,
                                   response={"status": 422, "body": reply.body})},
        )  # fmt: skip

    @pytest.mark.parametrize(("result", "follow_up", "credit"), [
        (Result.DONE, False, True), (Result.UNKNOWN, False, True), (Result.REFUSED, False, False), (Result.LATER, False, False), (Result.DONE, True, False),
    ])  # fmt: skip
    def test_credit_needs_an_attempt_of_the_ladder_that_may_have_arrived(self, result: Result, follow_up: bool, credit: bool) -> None:
        after = recorded(incident(), UPLOAD, attempt(result, at(2), follow_up=follow_up), None)
        assert (after.credit, after.total) == (credit, int(result is not Result.LATER))


class TestPeople:
    ALL = Marks("ann", at(10), "bob", at(20), "eve", at(30), "because")

    @pytest.mark.parametrize(
        ("now", "left"),
        [
            (9, ALL),
            (10, Marks(None, None, "bob", at(20), "eve", at(30), "because")),
            (20, Marks(None, None, None, None, "eve", at(30), "because")),
            (30, Marks(reason="because")),
        ],
    )
    def test_a_mark_is_over_at_its_end(self, now: float, left: Marks) -> None:
        assert expired(incident(marks=self.ALL), at(now)) == incident(marks=left)
        assert self.ALL.in_force(at(now)) == left.in_force(at(now))

    def test_a_mark_without_an_end_stays(self) -> None:
        marks = Marks("ann", None, "bob", None, "eve", None, "because")
        assert expired(incident(marks=marks), at(9000)).marks == marks
        assert marks.in_force(at(9000)) == (Mark(Why.EXCLUDED, "eve", None), Mark(Why.DISMISSED, "bob", None), Mark(Why.CLAIMED, "ann", None))

    @pytest.mark.parametrize(
        ("kind", "after"),
        [
            (DirectiveKind.CLAIM, lambda one: replace(one, marks=replace(one.marks, claimed_by="zoe", claimed_until=at(60), reason="why"), handled=True)),
            (DirectiveKind.RELEASE, lambda one: replace(one, marks=Marks(reason="why"))),
            (DirectiveKind.DISMISS, lambda one: replace(one, marks=replace(one.marks, dismissed_by="zoe", dismissed_until=at(60), reason="why"))),
            (DirectiveKind.EXCLUDE, lambda one: replace(one, marks=replace(one.marks, excluded_by="zoe", excluded_until=at(60), reason="why"))),
        ],
        ids=lambda value: value.value if isinstance(value, DirectiveKind) else "",
    )
    def test_a_word_is_kept_with_author_end_and_reason_and_makes_due(self, kind: DirectiveKind, after: Callable[[Incident], Incident]) -> None:
        before = incident(marks=self.ALL, due=at(50))
        said = Directive("x", kind, "stuck", "i1", "zoe", "why", T0, at(60))
        assert obeyed(RULE, before, said, at(5)) == replace(after(before), due=at(5))

    def test_a_retry_of_an_open_one_only_shortens_its_wait(self) -> None:
        before = incident(steps={"upload": state(tries=1, retry_at=at(40), settle_until=at(30))}, due=at(30))
        assert retried(RULE, before, at(5)) == replace(before, steps={"upload": state(tries=1, settle_until=at(30))}, due=at(5))

    @pytest.mark.parametrize("phase", [Phase.ESCALATED, Phase.QUARANTINED])
    def test_a_retry_of_a_spent_ladder_gives_its_last_call_one_more_attempt(self, phase: Phase) -> None:
        two = replace(RULE, ladder=(UPLOAD, OTHER, Step(id="pause", wait=minutes(5))))
        spent = state(tries=3, spent=True, retry_at=at(9), laters=2, ill_since=at(1), known=3, settle_until=at(8))
        before = incident(phase=phase, steps={"upload": state(tries=3), "other": spent, "pause": state()}, relapses=2, relapse_at=T0)
        again = state(began=at(60), tries=1, known=3, settle_until=at(8))
        climbed = {"upload": state(tries=3), "other": again}  # the wait behind it begins anew
        assert retried(two, before, at(60)) == replace(before, phase=Phase.OPEN, due=at(60), relapse_at=None, steps=climbed)
        crashed = replace(before, steps={**before.steps, "other": replace(spent, extra=True)})
        assert retried(two, crashed, at(60)).steps["other"].tries == 2

    def test_a_retry_without_a_call_begun_opens_it(self) -> None:
        before = incident(phase=Phase.ESCALATED, relapses=2, relapse_at=T0)
        assert retried(RULE, before, at(5)) == replace(before, phase=Phase.OPEN, due=at(5), relapse_at=None)


def test_an_expression_sees_the_facts_and_what_was_tried() -> None:
    steps = {
        "upload": state(tries=2, result=Result.REFUSED, reason="status 422", at=at(2), response={"status": 422}),
        "other": state(result=Result.DONE, at=at(1)),
        "pause": state(),
    }
    one = incident(steps=steps, cause="address", total=4, resolution=Resolution.HEALED, since=at(-5), value=Money(Decimal(7), "RUB"), deadline=at(60))
    assert scope_of(one, at(9)) == {
        **one.facts, "now": at(9), "cause": "address", "resolution": "healed",
        "incident": {"opened_at": T0, "since": at(-5), "attempts": 4, "value": Decimal(7), "deadline": at(60), "last_error": "status 422"},
        "steps": {
            "upload": {"outcome": "refused", "at": at(2), "attempts": 2, "response": {"status": 422}},
            "other": {"outcome": "done", "at": at(1), "attempts": 0, "response": None},
            "pause": {"outcome": None, "at": None, "attempts": 0, "response": None},
        },
    }  # fmt: skip
    healthier = scope_of(replace(one, resolution=None, value=None, steps={"upload": state(result=Result.DONE, reason="well", at=at(1))}), at(9))
    assert healthier["resolution"] is None
    assert {name for name, value in healthier["incident"].items() if value is None} == {"last_error", "value"}


def test_who_breaks_again_before_its_follow_ups_ended_begins_anew_like_any_relapse() -> None:
    well = incident(
        phase=Phase.PROVED, resolution=Resolution.HANDLED, proved_at=at(30), last=at(30), seen=at(30), verdict=Verdict.CLEAN, since=at(-60),
        marks=Marks(claimed_by="ann", reason="mine"), handled=True, levels={"team": T0}, cause="region", undiagnosed_since=at(-30),
    )  # fmt: skip
    diagnosing = rule(diagnose=Diagnose())
    again = sighted(diagnosing, well, sight(Verdict.BROKEN, at(40)))
    assert (again.phase, again.relapses, again.since, again.levels) == (Phase.OPEN, 1, at(40), {})
    assert (again.marks, again.handled) == (Marks(), False), "a claim holds until the subject is seen well"
    assert (again.cause, again.undiagnosed_since) == (None, at(40)), "the diagnosis has its whole time again"
    assert decide(diagnosing, again, None, at(41)) == Wait(at(55), Why.GRACE)
    assert sighted(rule(), well, sight(Verdict.BROKEN, at(40), since=at(35))).since == at(35)


@pytest.mark.parametrize("phase", [Phase.PROVED, Phase.RESOLVED])
def test_what_an_attempt_may_still_do_and_when_a_service_wants_no_call_outlast_a_moment_of_health(phase: Phase) -> None:
    before = replace(
        ENDED, phase=phase, marks=Marks(), steps={"upload": state(tries=1, result=Result.DONE, settle_until=at(9), retry_at=at(8), known=1)}
    )
    again = sighted(RULE, before, sight(Verdict.BROKEN, at(5))) if phase is Phase.PROVED else opened(RULE, sight(Verdict.BROKEN, at(5)), before, "i2")
    assert again is not None
    assert (again.steps["upload"].settle_until, again.steps["upload"].retry_at) == (at(9), at(8))
