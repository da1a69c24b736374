"""Law 13: telling is a row. The words and levels are held by tests/domain/test_notice.py, the outbox by tests/store."""

from dataclasses import replace
from typing import Any

import pytest
from builders import field, minutes, rule
from laws.stage import Stage, Wrapped, person, wrapping

from daemon.domain.attempt import Outcome, Result
from daemon.domain.directive import DirectiveKind
from daemon.domain.incident import Phase, Resolution
from daemon.domain.notice import DeliveryState, NoticeKind
from daemon.domain.rule import Guard, Level, Mode

QUIET = rule(ladder=(), guard=Guard(max_broken=100, max_broken_percent=100))


class Post(Wrapped):
    """A channel that answers as the test wants."""

    async def deliver(self, dispatch: Any) -> Outcome:
        asked.append(dispatch)
        return answer[0] if answer else await self.inner.deliver(dispatch)


asked: list[Any] = []
answer: list[Outcome] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    asked.clear()
    answer.clear()


async def stage_of(checked: Any = QUIET, numbers: tuple[str, ...] = ("N1",), length: float = 20, **more: Any) -> Stage:
    stage = Stage(checked, **more)
    stage.notifier.channels["chat"] = Post(stage.channels["chat"])
    stage.plant(*numbers)
    await stage.begin(1)
    await stage.wait(length)
    return stage


@pytest.mark.law("13.1")
async def test_a_notice_is_a_row_per_problem_episode_kind_and_sequence_and_channel() -> None:
    stage = await stage_of()
    stage.set("N1", bad=False)
    await stage.wait(10)
    stage.set("N1", bad=True)
    await stage.wait(30)
    rows = [(one.problem, one.episode, one.kind.value, one.sequence) for one in stage.notices()]
    assert rows == [("stuck/team", 1, "begin", 1), ("stuck/team", 1, "end", 2), ("stuck/team", 2, "begin", 1)]
    assert [one.dispatch.via for one in stage.store.tables.dispatches.values()] == ["chat"] * 3


@pytest.mark.law("13.2")
async def test_at_least_once_and_done_only_on_an_awaited_answer() -> None:
    answer.append(Outcome(Result.UNKNOWN, "timeout"))
    stage = await stage_of()
    assert len(asked) > 1, "it is said again"
    assert {one.dispatch.state for one in stage.store.tables.dispatches.values()} == {DeliveryState.PENDING}
    assert stage.store.tables.delivered == {}
    answer.clear()
    await stage.wait(10)
    assert {one.dispatch.state for one in stage.store.tables.dispatches.values()} == {DeliveryState.DONE}
    assert "stuck/team" in stage.store.tables.delivered


@pytest.mark.law("13.2")
async def test_a_notifier_that_dies_after_sending_loses_no_message() -> None:
    class Dies(BaseException):
        pass

    class Deadly(Wrapped):
        async def deliver(self, dispatch: Any) -> Outcome:
            raise Dies

    stage = Stage(QUIET)
    chat = stage.channels["chat"]
    stage.notifier.channels["chat"] = Deadly(chat)
    stage.plant("N1")
    await stage.begin(1)
    with pytest.raises(Dies):
        await stage.wait(20)
    stage.notifier.channels["chat"] = chat
    await stage.wait(5)
    assert [one.via for one in stage.world.messages] == ["chat"]


@pytest.mark.law("13.3")
async def test_the_opening_of_an_incident_tells_nobody() -> None:
    stage = await stage_of(length=14)
    assert stage.incident().phase is Phase.OPEN
    assert stage.notices() == []


@pytest.mark.law("13.3")
@pytest.mark.parametrize("how", ["escalated", "quarantined"])
async def test_the_first_who_needs_a_person_begins_a_problem(how: str) -> None:
    quarantine = rule(guard=Guard(max_attempts=0))
    stage = await stage_of(QUIET if how == "escalated" else quarantine)
    assert stage.incident().phase.value == how
    assert stage.kinds() == ["begin"]


@pytest.mark.law("13.3")
async def test_held_subjects_are_told_by_the_guards_one_notice() -> None:
    stage = await stage_of(rule(guard=Guard(max_broken=2)), ("N1", "N2", "N3"), 60)
    assert stage.kinds() == ["guard"]


@pytest.mark.law("13.4")
async def test_a_problem_is_told_again_at_each_doubling() -> None:
    stage = await stage_of()
    for n in range(2, 10):
        stage.plant(f"N{n}")
        await stage.wait(25)
    assert [(one.kind.value, one.count) for one in stage.notices()] == [("begin", 1), ("growth", 2), ("growth", 4), ("growth", 8)]


@pytest.mark.law("13.5")
async def test_a_problem_is_told_near_a_deadline_and_at_reminders() -> None:
    from builders import field

    level = Level(id="team", to="team", repeat=minutes(120))
    stage = Stage(replace(QUIET, escalate=(level,), detect=replace(QUIET.detect, deadline=field("deadline"))))
    stage.plant("N1", deadline="+5h")
    await stage.begin(1)
    await stage.wait(4 * 60)
    minute = [(one.kind.value, round((one.at - stage.start).total_seconds() / 60)) for one in stage.notices()]
    assert minute == [("begin", 15), ("reminder", 135), ("deadline", 180)]


@pytest.mark.law("13.6")
async def test_a_problem_is_told_at_its_end() -> None:
    stage = await stage_of()
    stage.set("N1", bad=False)
    await stage.wait(10)
    assert stage.kinds() == ["begin", "end"]
    assert "N1" in stage.notices()[-1].text


@pytest.mark.law("13.6")
async def test_one_who_is_tried_once_more_is_not_called_well() -> None:
    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "refused"})
    await stage.begin(1)
    await stage.wait(20)
    await stage.say(DirectiveKind.RETRY)
    await stage.wait(20)
    assert stage.calls() == 2
    assert stage.kinds() == ["begin"]
    stage.set("N1", bad=False)
    await stage.wait(10)
    assert stage.kinds() == ["begin", "end"]
    assert stage.incident().resolution.value == "handled"


@pytest.mark.law("13.6")
async def test_the_message_about_the_end_names_one_that_was_seen_well_right_before_its_next_attempt() -> None:
    class Mended(Wrapped):
        async def ask(self, *args: Any) -> Any:
            if args[-1] and asked:
                stage.set("N1", bad=False)
            return await self.inner.ask(*args)

    stage = Stage(rule(), wrap=wrapping(shop=Mended))
    stage.notifier.channels["chat"] = Post(stage.channels["chat"])
    stage.plant("N1", calls={"api.upload": "refused"})
    await stage.begin(1)
    await stage.wait(20)
    await stage.say(DirectiveKind.RETRY)
    await stage.wait(15)
    (end,) = stage.notices(NoticeKind.END)
    assert (end.incidents, stage.calls(), stage.incident().resolution) == ((stage.incident().id,), 1, Resolution.HANDLED)


@pytest.mark.law("13.7")
async def test_a_guards_trip_is_told_at_its_begin_and_its_end() -> None:
    stage = await stage_of(rule(guard=Guard(max_broken=2)), ("N1", "N2", "N3"))
    stage.set("N1", bad=False)
    await stage.wait(20)
    assert stage.kinds()[:2] == ["guard", "guard_end"]


@pytest.mark.law("13.7")
async def test_a_blind_rule_is_told_after_an_hour_once_and_when_it_sees_again() -> None:
    stage = Stage(rule())
    stage.world.switch("shop", up=False)
    await stage.begin(1)
    await stage.wait(50)
    assert stage.kinds() == []
    await stage.wait(180)
    assert stage.kinds() == ["blind"]
    stage.world.switch("shop", up=True)
    await stage.wait(10)
    assert stage.kinds() == ["blind", "blind_end"]


@pytest.mark.law("13.7")
async def test_what_began_while_a_rule_only_observed_is_told_when_it_may_tell() -> None:
    stage = await stage_of(rule(mode=Mode.OBSERVE, guard=Guard(max_broken=2)), ("N1", "N2", "N3"))
    assert (stage.kinds(), stage.store.tables.rules["stuck"].state.held is not None) == ([], True)
    stage.rules["stuck"] = rule(digest="d2", guard=Guard(max_broken=2))
    await stage.begin(2)
    await stage.wait(30)
    assert stage.kinds() == ["guard"]
    stage.set("N1", bad=False)
    await stage.wait(20)
    assert stage.kinds()[:2] == ["guard", "guard_end"]


@pytest.mark.law("13.7")
async def test_a_rule_that_was_blind_while_it_only_observed_is_told_when_it_may_tell() -> None:
    stage = Stage(rule(mode=Mode.OBSERVE))
    stage.world.switch("shop", up=False)
    await stage.begin(1)
    await stage.wait(120)
    stage.rules["stuck"] = rule(digest="d2")
    await stage.begin(2)
    await stage.wait(10)
    assert stage.kinds() == ["blind"]


@pytest.mark.law("13.3")
async def test_a_rule_that_only_observes_speaks_for_no_other_on_its_object() -> None:
    loud, low = (replace(QUIET, name=name, detect=replace(QUIET.detect, object=field("order"))) for name in "ab")
    low = replace(low, detect=replace(low.detect, grace=minutes(90)))
    stage = Stage(loud, low)
    stage.plant("N1")
    await stage.begin(1)
    await stage.wait(60)
    stage.rules["a"] = replace(loud, digest="d2", mode=Mode.OBSERVE)
    await stage.begin(2)
    await stage.wait(60)
    assert [one.rule for one in stage.notices(NoticeKind.BEGIN)] == ["a", "b"]


@pytest.mark.law("13.8")
async def test_what_cannot_be_delivered_goes_to_the_fallback() -> None:
    people = {"team": person("team", "chat", fallback="boss"), "boss": person("boss", "sentry")}
    answer.append(Outcome(Result.REFUSED, "chat not found"))
    stage = await stage_of(people=people)
    assert [(one.via, one.to) for one in stage.world.messages] == [("sentry", "boss")]
    assert stage.notices(NoticeKind.BEGIN)[0].contact == "team"
