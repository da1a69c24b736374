"""The life of one incident under any order of sightings, outcomes, directives and time, as a state machine."""

from dataclasses import replace
from datetime import timedelta

from builders import T0, UPLOAD, attempt, incident, minutes, rule, sight
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition
from hypothesis.stateful import rule as transition

from daemon.domain.attempt import CONNECTOR_ILL, CRASHED, Outcome, Result
from daemon.domain.decide import Act, Close, decide, last_end
from daemon.domain.directive import Directive, DirectiveKind
from daemon.domain.incident import Incident, Phase, Resolution, begun, expired, obeyed, opened, recorded, sighted
from daemon.domain.rule import Delivery, Step
from daemon.domain.sight import Verdict
from daemon.engine.propose import applied

SECOND = Step(id="second", connector="api", call="second", attempts=2, delivery=Delivery.AT_LEAST_ONCE)
PAUSE = Step(id="pause", wait=minutes(30))
COMMENT = Step(id="comment", connector="api", call="comment", attempts=1)
LADDER = (UPLOAD, PAUSE, SECOND)
STEPS = {step.id: step for step in (*LADDER, COMMENT)}


class Life(RuleBasedStateMachine):
    """One subject, watched by one rule; the machine plays the world, the people and the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.rule = rule(ladder=LADDER, on_resolved=(COMMENT,))
        self.now = T0
        self.incident: Incident = incident()
        self.flight = None
        self.acting: Act | None = None
        self.arrived: list[tuple[str, Result]] = []
        self.retries = 0
        self.wanted: object = None

    @initialize(grace=st.sampled_from([0, 15]))
    def begins(self, grace: int) -> None:
        self.rule = rule(ladder=LADDER, on_resolved=(COMMENT,), grace=minutes(grace))

    @transition(length=st.sampled_from([1, 60, 300, 900, 3600, 30000]))
    def time_passes(self, length: int) -> None:
        self.now += timedelta(seconds=length)
        self.incident = expired(self.incident, self.now)

    @precondition(lambda self: self.incident.live and self.flight is None)
    @transition(verdict=st.sampled_from([Verdict.BROKEN] * 4 + [Verdict.CLEAN, Verdict.GONE, Verdict.UNKNOWN]), late=st.booleans())
    def is_looked_at(self, verdict: Verdict, late: bool) -> None:
        when = self.now - timedelta(seconds=90 if late else 0)
        before = self.incident
        self.incident = sighted(self.rule, self.incident, sight(verdict, when, reason="absent" if verdict is Verdict.GONE else ""))
        decision = decide(self.rule, self.incident, None, self.now)
        self.checks(before, decision)
        self.incident = applied(self.rule, self.incident, decision, self.now)
        if self.incident.phase is Phase.ESCALATED:
            self.incident = replace(self.incident, handled=True)
        if isinstance(decision, Act):
            self.acting = decision
            self.incident = begun(self.incident, decision.step, self.now)
            self.flight = attempt(step=decision.step.id, begun=self.now, ends_by=self.now + minutes(1), follow_up=decision.follow_up)

    def checks(self, before: Incident, decision: object) -> None:
        looked = self.incident
        if isinstance(decision, Act):
            expected = Verdict.CLEAN if decision.follow_up else Verdict.BROKEN
            assert looked.verdict is expected, "never acts on a clean, gone or unknown subject"
            assert not (looked.marks.claimed_by or looked.marks.dismissed_by or looked.marks.excluded_by) or decision.follow_up
            settling = [state.settle_until for state in looked.steps.values() if state.settle_until]
            assert decision.follow_up or all(looked.seen >= until for until in settling), "acts only on a look after settle"
        if isinstance(decision, Close) and decision.resolution is Resolution.HEALED and looked.verdict is Verdict.CLEAN:
            ended = last_end(looked)
            assert before.phase is Phase.PROVED or (ended is not None and looked.seen > ended), "healing is proved by a later look"
            assert any(result in (Result.DONE, Result.UNKNOWN) for _, result in self.arrived), "credit needs an attempt of ours"

    @precondition(lambda self: self.flight is not None)
    @transition(result=st.sampled_from(list(Result)), reason=st.sampled_from(["", CRASHED, CONNECTOR_ILL]), took=st.integers(1, 50))
    def an_attempt_ends(self, result: Result, reason: str, took: int) -> None:
        if (reason == CRASHED and result is not Result.UNKNOWN) or (reason == CONNECTOR_ILL and result is not Result.LATER):
            reason = ""
        self.now += timedelta(seconds=took)
        step = STEPS[self.flight.step]
        ended = replace(self.flight, outcome=Outcome(result, reason), ended=self.now)
        self.incident = recorded(self.incident, step, ended, None)
        if result in (Result.DONE, Result.UNKNOWN, Result.REFUSED):
            self.arrived.append((step.id, result))
        self.flight = self.acting = None

    @precondition(lambda self: self.incident.live)
    @transition(kind=st.sampled_from(list(DirectiveKind)), lasts=st.sampled_from([None, 30]))
    def a_person_speaks(self, kind: DirectiveKind, lasts: int | None) -> None:
        until = self.now + minutes(lasts) if lasts else None
        said = Directive("d", kind, "stuck", "i1", "ann", "", self.now, until)
        self.retries += kind is DirectiveKind.RETRY
        self.incident = obeyed(self.rule, self.incident, said, self.now)

    @precondition(lambda self: not self.incident.live)
    @transition()
    def it_breaks_again(self) -> None:
        again = opened(self.rule, sight(Verdict.BROKEN, self.now), self.incident, "i1")
        assert again is not None
        if again.relapses == 0:
            self.arrived.clear()
            self.retries = 0
        self.incident = again
        self.arrived = [one for one in self.arrived if again.relapses]

    @invariant()
    def attempts_are_bounded(self) -> None:
        for step in LADDER:
            made = sum(id == step.id for id, _ in self.arrived)
            extra = step.delivery is Delivery.AT_LEAST_ONCE
            assert made <= step.attempts + extra + self.retries, "never exceeds attempts, the one extra try and a person's word apart"
        assert self.incident.total <= self.rule.guard.max_attempts + len([one for one in self.arrived if one[0] == "comment"])

    @invariant()
    def a_follow_up_runs_once(self) -> None:
        assert sum(id == "comment" for id, _ in self.arrived) <= 1

    @invariant()
    def it_ends_or_waits_for_a_named_reason(self) -> None:
        if self.incident.live:
            assert self.incident.why is not None
        else:
            assert self.incident.resolution is not None
            assert self.incident.ended is not None


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestLife = Life.TestCase
