"""Law 7: one object, one actor."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from builders import UPLOAD, clause, field, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.incident import Why
from daemon.domain.rule import Guard, Severity

SAME = {"object": field("order")}
SECOND = replace(UPLOAD, id="second", call="second")


def apart(stage: Stage) -> bool:
    """Whether no attempt on an object began before the one before it had settled."""
    by_object: dict[str, list[Any]] = {}
    for one in stage.attempts():
        by_object.setdefault(one.object, []).append(one)
    return all(
        later.begun >= earlier.settled for some in by_object.values() for earlier, later in itertools.pairwise(some) if earlier.settled
    )


@pytest.mark.law("7.1")
async def test_two_subjects_of_one_rule_on_one_object_act_one_after_the_other() -> None:
    stage = Stage(rule(**SAME))
    stage.plant("N1", "N2", order="order/7", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(16)
    waiting = {one.why for one in stage.store.tables.incidents.values()}
    assert (len(stage.attempts()), waiting) == (1, {Why.SETTLING, Why.OBJECT_BUSY})
    await stage.wait(120)
    assert apart(stage)
    assert {one.request.args["id"] for one in stage.attempts()} == {"N1", "N2"}


@pytest.mark.law("7.1")
@pytest.mark.parametrize("replicas", [1, 2])
async def test_two_rules_on_one_object_act_one_after_the_other(replicas: int) -> None:
    stage = Stage(rule(**SAME), rule(name="late", ladder=(SECOND,), **SAME), replicas=replicas)
    stage.plant("N1", calls={"api.upload": "no_effect", "api.second": "no_effect"})
    await stage.begin(1)
    await stage.wait(16)
    assert len(stage.attempts()) == 1
    assert {stage.incident().why, stage.incident(rule="late").why} == {Why.SETTLING, Why.OBJECT_BUSY}
    await stage.wait(120)
    assert apart(stage)
    assert {one.rule for one in stage.attempts()} == {"stuck", "late"}


@pytest.mark.law("7.1")
async def test_an_attempt_that_may_still_arrive_keeps_others_away() -> None:
    class Killed(BaseException):
        pass

    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            raise Killed

    stage = Stage(rule(**SAME), rule(name="late", ladder=(SECOND,), every=minutes(1), grace=minutes(15.1), **SAME))
    dying = {**stage.connectors, "api": Service(stage.connectors["api"])}
    stage.plant("N1", calls={"api.second": "no_effect"})
    await stage.begin(1)
    await stage.wait(14)
    stage.engines = [stage.engine("dying", connectors=dying)]
    with pytest.raises(Killed):
        await stage.wait(2)
    stage.engines = [stage.engine("next")]
    await stage.wait(120)
    (first, second, *_) = sorted(stage.attempts(), key=lambda one: one.begun)
    assert (first.rule, first.outcome.reason, second.rule) == ("stuck", "crashed", "late")
    assert second.begun >= first.settled > first.ends_by


@pytest.mark.law("7.2")
async def test_acts_go_in_order_of_deadline_and_age() -> None:
    stage = Stage(
        rule(deadline=field("deadline"), guard=Guard(max_broken=100, max_broken_percent=100)),
        wrap=wrapping(api=lambda inner: Wrapped(inner, slots=1)),
    )
    stage.plant("OLD", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(5)
    stage.plant("NEW", calls={"api.upload": "done"})
    stage.plant("SOON", deadline="+1d", calls={"api.upload": "done"})
    stage.plant("SOONER", deadline="+10h", calls={"api.upload": "done"})
    await stage.pause(until=stage.now + minutes(30))
    await stage.wait(60)
    assert [one.object for one in stage.world.calls if one.call == "api.upload"] == ["SOONER", "SOON", "OLD", "NEW"]


@pytest.mark.law("7.2")
async def test_of_two_rules_that_are_due_alike_the_more_severe_goes_first() -> None:
    severe = rule(name="z-severe", severity=Severity.CRITICAL, **SAME, ladder=(SECOND,))
    stage = Stage(rule(name="a-mild", severity=Severity.INFO, match=(clause(lambda s: s["ours"]),), **SAME), severe)
    stage.plant("N1", calls={"api.upload": "no_effect", "api.second": "no_effect"})
    await stage.begin(1)
    await stage.wait(16)
    assert [one.rule for one in stage.attempts()] == ["z-severe"]
