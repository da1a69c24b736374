"""Any order of failures, healings, claims, holds, deadlines and deliveries: episodes stay whole and nobody is forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daemon.domain.incident import Incident, Marks, Phase, Resolution
from daemon.domain.notice import Notice, NoticeKind, Problem, tell
from daemon.domain.rule import GroupBy, Level
from daemon.domain.words import Words
from tests import builders

HOUR = timedelta(hours=1)
CONTACTS = builders.contacts("team", "boss")
CHOICES = st.integers(0, 5)


class Telling(RuleBasedStateMachine):
    """A rule with two levels, six subjects of two causes, and everything that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = builders.T0
        self.held = False
        self.incidents: dict[str, Incident] = {}
        self.problems: dict[str, Problem] = {}
        self.notices: list[Notice] = []
        self.due: datetime | None = None

    @initialize(group_by=st.sampled_from(GroupBy), repeat=st.sampled_from([None, 3 * HOUR]))
    def write_the_rule(self, group_by: GroupBy, repeat: timedelta | None) -> None:
        team = Level("team", "team", group_by=group_by, repeat=repeat)
        self.rule = builders.rule(escalate=(team, Level("boss", "boss", after=4 * HOUR, group_by=group_by)))

    @rule(number=CHOICES, deadline=st.sampled_from([None, 1, 3, 30]))
    def opens(self, number: int, deadline: int | None) -> None:
        id = f"i{number}"
        if id not in self.incidents:
            due = None if deadline is None else self.now + deadline * HOUR
            self.incidents[id] = builders.incident(
                id=id, key=f"N{number}", object=f"o{number}", cause=f"c{number % 2}", since=self.now, deadline=due
            )

    @rule(number=CHOICES, phase=st.sampled_from([Phase.OPEN, Phase.ESCALATED, Phase.QUARANTINED, Phase.PROVED]))
    def moves(self, number: int, phase: Phase) -> None:
        self._change(number, phase=phase)

    @rule(number=CHOICES, cause=st.sampled_from(["c0", "c1"]))
    def is_diagnosed(self, number: int, cause: str) -> None:
        self._change(number, cause=cause)

    @rule(number=CHOICES, claimed=st.booleans())
    def is_claimed_or_released(self, number: int, claimed: bool) -> None:
        self._change(number, marks=Marks(claimed_by="ann") if claimed else Marks())

    @rule(number=CHOICES)
    def ends(self, number: int) -> None:
        self._change(number, phase=Phase.RESOLVED, resolution=Resolution.HEALED)

    @rule()
    def the_guard_turns(self) -> None:
        self.held = not self.held

    @rule(hours=st.sampled_from([0.5, 1, 4, 24]))
    def time_passes(self, hours: float) -> None:
        self.now += hours * HOUR

    @precondition(lambda self: self.due is not None)
    @rule()
    def time_passes_until_due(self) -> None:
        assert self.due is not None
        self.now = max(self.now, self.due)

    @rule()
    def all_is_delivered(self) -> None:
        self.problems = {id: replace(one, delivered=one.delivered or self.now) if one.active else one for id, one in self.problems.items()}

    @rule()
    def a_cycle_tells(self) -> None:
        told = self._tell()
        self.notices += told.notices
        self.problems |= {one.id: one for one in told.problems}
        self.incidents = {id: replace(one, levels=told.levels.get(id, one.levels)) for id, one in self.incidents.items() if one.live}
        self.due = told.due
        self._nothing_more_is_said()
        self._who_needs_a_person_has_one()
        assert told.due is None or told.due > self.now

    def _nothing_more_is_said(self) -> None:
        """The next cycle of the same moment has nothing to add, but for a level that follows at once."""
        again = self._tell()
        assert again.notices == ()
        assert again.levels == {}

    def _who_needs_a_person_has_one(self) -> None:
        """Nobody is lost: whoever needs a person is named by a level of an active problem, unless held or claimed."""
        for one in self.incidents.values():
            near = one.deadline is not None and one.deadline - 2 * HOUR <= self.now and one.phase is not Phase.PROVED
            free = not self.held and not one.marks.claimed_by and one.phase in (Phase.ESCALATED, Phase.QUARANTINED)
            if near or free:
                assert "team" in one.levels
                assert self._problem("team", one).active
            if near:
                assert "team@deadline" in one.levels

    def _problem(self, level: str, one: Incident) -> Problem:
        group_by = self.rule.escalate[0].group_by
        group = {GroupBy.CAUSE: one.cause, GroupBy.RULE: "", GroupBy.SUBJECT: one.key}[group_by]
        return self.problems["/".join(part for part in ("stuck", level, group) if part)]

    @invariant()
    def episodes_are_whole(self) -> None:
        """Per problem: begin, then the others, then one end, and so on; numbered without a gap; ids never twice."""
        assert len({notice.id for notice in self.notices}) == len(self.notices)
        for id, problem in self.problems.items():
            mine = [notice for notice in self.notices if notice.problem == id]
            for before, notice in zip([None, *mine], mine, strict=False):
                if notice.kind is NoticeKind.BEGIN:
                    assert before is None or before.kind is NoticeKind.END
                    assert notice.episode == (before.episode + 1 if before else 1)
                    assert notice.sequence == 1
                else:
                    assert before is not None
                    assert before.kind is not NoticeKind.END
                    assert (notice.episode, notice.sequence) == (before.episode, before.sequence + 1)
            assert problem.active == bool(mine and mine[-1].kind is not NoticeKind.END)

    @invariant()
    def growth_doubles(self) -> None:
        by_problem: dict[str, int] = {}
        for notice in self.notices:
            if notice.kind is NoticeKind.GROWTH:
                assert notice.count >= 2 * by_problem[notice.problem]
            if notice.kind is NoticeKind.DEADLINE:
                by_problem[notice.problem] = max(by_problem[notice.problem], notice.count)
            elif notice.kind is not NoticeKind.END:
                by_problem[notice.problem] = notice.count

    @invariant()
    def a_held_rule_speaks_of_deadlines_alone(self) -> None:
        assert all(notice.incidents or notice.kind is NoticeKind.END for notice in self.notices)

    def _tell(self):  # type: ignore[no-untyped-def]
        incidents, problems = list(self.incidents.values()), list(self.problems.values())
        return tell(self.rule, CONTACTS, incidents, problems, (), self.now, Words("en"), held=self.held)

    def _change(self, number: int, **changes: object) -> None:
        one = self.incidents.get(f"i{number}")
        if one is not None and one.live:
            self.incidents[one.id] = replace(one, **changes)  # type: ignore[arg-type]


TestTelling = Telling.TestCase
TestTelling.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
