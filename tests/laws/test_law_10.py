"""Law 10: proved, then done."""

from dataclasses import replace
from typing import Any

import pytest
from builders import UPLOAD, Expression, clause, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.directive import DirectiveKind
from daemon.domain.incident import Phase, Resolution
from daemon.domain.notice import NoticeKind
from daemon.domain.rule import Cause, Delivery, Diagnose, Step

COMMENT = Step(id="comment", connector="api", call="comment", args=UPLOAD.args, attempts=2, delivery=Delivery.AT_MOST_ONCE)
FOLLOWED = rule(on_resolved=(COMMENT,))


async def played(calls: Any, checked: Any = FOLLOWED, length: float = 60, **more: Any) -> Stage:
    stage = Stage(checked, **more)
    stage.plant("N1", calls=calls)
    await stage.begin(1)
    await stage.wait(length)
    return stage


@pytest.mark.law("10.1")
async def test_a_proved_one_stays_open_until_its_follow_ups_ended() -> None:
    stage = await played({"api.upload": "done", "api.comment": [*["later"] * 3, "done"]}, length=22)
    proved = stage.incident()
    assert (proved.phase, proved.resolution, proved.live) == (Phase.PROVED, Resolution.HEALED, True)
    await stage.wait(60)
    assert (stage.incident().phase, stage.incident().resolution) == (Phase.RESOLVED, Resolution.HEALED)
    assert stage.calls(call="api.comment") == 4


@pytest.mark.law("10.2")
async def test_follow_ups_are_attempts_of_the_ledger() -> None:
    stage = await played({"api.upload": "done", "api.comment": "done"})
    assert [(one.step, one.follow_up) for one in stage.attempts()] == [("upload", False), ("comment", True)]


@pytest.mark.law("10.2")
async def test_a_follow_up_runs_once_per_incident_over_all_relapses() -> None:
    stage = await played({"api.upload": "done", "api.comment": "done"})
    assert stage.incident().resolution is Resolution.HEALED
    stage.set("N1", bad=True)
    await stage.wait(60)
    (only,) = stage.incidents()
    assert (only.relapses, only.resolution) == (1, Resolution.HEALED)
    assert (stage.calls(), stage.calls(call="api.comment")) == (2, 1)


@pytest.mark.law("10.3")
@pytest.mark.parametrize(
    ("answer", "resolution"),
    [("done", Resolution.HEALED), ("timeout_after_effect", Resolution.HEALED), ("later", Resolution.SELF_HEALED), ("refused", Resolution.HANDLED)],
)
async def test_healed_needs_an_attempt_that_was_done_or_unknown(answer: str, resolution: Resolution) -> None:
    stage = await played({"api.upload": answer}, rule(), 17)
    stage.set("N1", bad=False)
    await stage.wait(30)
    assert stage.incident().resolution is resolution


@pytest.mark.law("10.3")
async def test_a_claim_before_makes_it_handled() -> None:
    stage = await played({"api.upload": "no_effect"}, rule(), 17)
    await stage.say(DirectiveKind.CLAIM, until=stage.now + minutes(10))
    await stage.wait(12)
    stage.set("N1", bad=False)
    await stage.wait(30)
    assert stage.incident().resolution is Resolution.HANDLED


@pytest.mark.law("10.3")
async def test_who_was_told_before_its_cause_changed_was_told() -> None:
    known = Cause(Expression(lambda scope: scope["deal"]), clause(lambda scope: True))
    stage = Stage(rule(diagnose=Diagnose((), (known,))))
    stage.plant("N1", deal="region", calls={"api.upload": ["refused", "done"]})
    await stage.begin(1)
    await stage.wait(20)
    assert [one.group for one in stage.notices(NoticeKind.BEGIN)] == ["region"]
    stage.set("N1", deal="city")
    await stage.say(DirectiveKind.RETRY)
    await stage.wait(30)
    assert (stage.incident().cause, stage.incident().resolution, stage.calls()) == ("city", Resolution.HANDLED, 2)


@pytest.mark.law("10.3")
async def test_a_message_that_reached_nobody_makes_nothing_handled() -> None:
    class Silent(Wrapped):
        async def deliver(self, dispatch: Any) -> Any:
            from daemon.domain.attempt import Outcome, Result

            return Outcome(Result.LATER, "away")

    stage = Stage(rule())
    stage.notifier.channels["chat"] = Silent(stage.channels["chat"])
    stage.plant("N1", calls={"api.upload": ["no_effect", "refused"]})
    await stage.begin(1)
    await stage.wait(25)
    assert stage.incident().phase is Phase.ESCALATED
    stage.set("N1", bad=False)
    await stage.wait(10)
    assert stage.incident().resolution is Resolution.HEALED


@pytest.mark.law("10.4")
@pytest.mark.parametrize("answer", ["refused", "timeout"])
async def test_a_follow_up_that_is_refused_or_spent_is_told_to_the_owner_and_ends(answer: str) -> None:
    stage = await played({"api.upload": "done", "api.comment": answer})
    assert (stage.incident().phase, stage.incident().resolution) == (Phase.RESOLVED, Resolution.HEALED)
    assert stage.calls(call="api.comment") == 1
    (fault,) = stage.notices(NoticeKind.FAULT)
    assert (fault.contact, "comment" in fault.text, "N1" in fault.text) == ("team", True, True)


@pytest.mark.law("10.4")
async def test_a_follow_up_whose_argument_cannot_be_said_is_told_and_ends() -> None:
    silent = replace(COMMENT, args={"id": Expression(lambda scope: None)})
    stage = await played({"api.upload": "done"}, rule(on_resolved=(silent,)))
    assert stage.incident().phase is Phase.RESOLVED
    assert len(stage.notices(NoticeKind.FAULT)) == 1
    assert wrapping() is not None


@pytest.mark.law("10.4")
@pytest.mark.parametrize("answer", ["refused", "later"])
async def test_a_follow_up_that_failed_is_told_once_over_all_relapses(answer: str) -> None:
    short = replace(COMMENT, timeout=minutes(10))
    stage = await played({"api.upload": "done", "api.comment": answer}, rule(on_resolved=(short,)))
    assert len(stage.notices(NoticeKind.FAULT)) == 1
    asked = stage.calls(call="api.comment")
    stage.set("N1", bad=True)
    await stage.wait(120)
    assert (stage.incident().relapses, stage.incident().phase, stage.calls()) == (1, Phase.RESOLVED, 2)
    assert (len(stage.notices(NoticeKind.FAULT)), stage.calls(call="api.comment")) == (1, asked)
