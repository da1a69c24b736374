"""Law 18: a rule that kills its process, and commits without an answer. Delays and ids are held by tests/store too."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from builders import UPLOAD, clause, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.attempt import Result
from daemon.domain.incident import Resolution
from daemon.domain.notice import NoticeKind
from daemon.domain.rule import Delivery, Mode
from daemon.engine.ports import Unreachable


class Killed(BaseException):
    """The process is no more."""


async def deadly(checked: Any, deaths: int, length: float = 90) -> tuple[Stage, list[float]]:
    """Every visit kills its process, as often as said; when it did so (seconds)."""

    class Source(Wrapped):
        async def ask(self, *args: Any) -> Any:
            if len(died) < deaths:
                died.append(stage.clock.monotonic())
                raise Killed
            return await self.inner.ask(*args)

    died: list[float] = []
    stage = Stage(checked, rule(name="other", match=(clause(lambda s: False),)), wrap=wrapping(shop=Source))
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    end = stage.now + minutes(length)
    while stage.now < end:
        try:
            await stage.run(end - stage.now)
        except Killed:
            stage.engines = [stage.engine(f"next-{len(died)}")]
    return stage, died


@pytest.mark.law("18.1")
async def test_it_is_taken_with_growing_delay_and_others_go_on() -> None:
    stage, died = await deadly(rule(), 7, 30)
    waits = [round(later - earlier) for earlier, later in itertools.pairwise(died)]
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]
    ended = [event for event in stage.events if type(event).__name__ == "CycleEnded" and event.rule == "other"]
    assert len(ended) >= 6, "every five minutes"
    assert {event.fate for event in ended} == {"finished"}


@pytest.mark.law("18.2")
@pytest.mark.parametrize(("deaths", "told"), [(2, 0), (3, 1), (6, 1)])
async def test_it_is_told_once_after_three_unfinished_cycles(deaths: int, told: int) -> None:
    stage, _ = await deadly(rule(), deaths)
    faults = stage.notices(NoticeKind.FAULT)
    assert len(faults) == told
    assert all(one.rule == "stuck" and one.contact == "team" for one in faults)
    assert stage.incident().resolution is Resolution.HEALED, "and it goes on once it can"


@pytest.mark.law("18.2")
async def test_the_next_streak_is_told_again_and_observing_rules_tell_nobody() -> None:
    stage, died = await deadly(rule(), 3)
    died.clear()
    stage.plant("N2", calls={"api.upload": "done"})
    end = stage.now + minutes(60)
    while stage.now < end:
        try:
            await stage.run(end - stage.now)
        except Killed:
            stage.engines = [stage.engine(f"again-{len(died)}")]
    assert len(stage.notices(NoticeKind.FAULT)) == 2
    quiet, _ = await deadly(rule(mode=Mode.OBSERVE), 4)
    assert quiet.notices() == []


@pytest.mark.law("18.3")
@pytest.mark.parametrize("written", [True, False], ids=["written but not answered", "not written"])
async def test_a_commit_without_an_answer_is_read_back_by_its_id(written: bool) -> None:
    class Store(Wrapped):
        async def commit(self, change: Any, tenure: Any) -> None:
            ids.append(change.id)
            if ids.count(change.id) == 1:
                if written:
                    await self.inner.commit(change, tenure)
                raise Unreachable("the store: connection lost")
            await self.inner.commit(change, tenure)

    ids: list[str] = []
    stage = Stage(rule())
    stage.engines = [stage.engine("one", Store(stage.store))]
    stage.plant("N1", calls={"api.upload": ["no_effect", "done"]})
    await stage.begin(1)
    await stage.wait(60)
    (only,) = stage.incidents()
    assert (only.resolution, stage.calls()) == (Resolution.HEALED, 2)
    assert all(ids.count(id) == 2 for id in ids), "each was asked for once more, by the same id"
    assert not [event for event in stage.events if type(event).__name__ == "CycleEnded" and event.fate != "finished"]


class Cut(Wrapped):
    """A store whose connection is cut once in the middle of a statement."""

    def __init__(self, inner: Any, statement: str, written: bool) -> None:
        super().__init__(inner)
        self.statement, self.written = statement, written

    def __getattr__(self, name: str) -> Any:
        return self._cut if name == self.statement else super().__getattr__(name)

    async def _cut(self, *asked: Any) -> Any:
        statement, self.statement = self.statement, ""
        if self.written:
            await getattr(self.inner, statement)(*asked)
        raise Unreachable("the store: connection lost")


@pytest.mark.law("18.3")
@pytest.mark.parametrize("written", [True, False], ids=["written but not answered", "not written"])
async def test_an_outcome_that_we_know_is_not_lost_by_a_cut(written: bool) -> None:
    stage = Stage(rule(ladder=(replace(UPLOAD, delivery=Delivery.AT_MOST_ONCE),)))
    stage.engines = [stage.engine("one", Cut(stage.store, "conclude", written))]
    stage.plant("N1", calls={"api.upload": ["no_effect", "done"]})
    await stage.begin(1)
    await stage.wait(60)
    assert [one.outcome.result for one in stage.attempts()] == [Result.DONE, Result.DONE]
    assert (stage.incident().resolution, stage.incident().total) == (Resolution.HEALED, 2)


@pytest.mark.law("18.3")
@pytest.mark.parametrize("written", [True, False], ids=["written but not answered", "not written"])
async def test_a_gate_without_an_answer_sends_nothing_and_uses_nothing_up(written: bool) -> None:
    stage = Stage(rule(ladder=(replace(UPLOAD, delivery=Delivery.AT_MOST_ONCE, attempts=1),)))
    stage.engines = [stage.engine("one", Cut(stage.store, "admit", written))]
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(14)
    with pytest.raises(Unreachable):
        await stage.wait(2)
    assert [one.outcome.result for one in stage.attempts()] == [Result.NOT_SENT] * written
    await stage.wait(60)
    assert (stage.calls(), stage.incident().resolution, stage.incident().total) == (1, Resolution.HEALED, 1)
