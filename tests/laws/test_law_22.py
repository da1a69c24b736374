"""Law 22: commands are replicas or directives."""

from dataclasses import replace
from typing import Any

import pytest
from builders import UPLOAD, minutes, rule
from laws.stage import Stage, Wrapped, called

from daemon.domain.decide import Act
from daemon.domain.directive import DirectiveKind
from daemon.domain.incident import Phase, Resolution
from daemon.domain.rule import Guard, Step
from daemon.domain.sight import Verdict

WRITES = ("take", "renew", "give_back", "commit", "admit", "conclude", "direct", "pause", "resume", "park", "activate", "settle", "lease", "reserve", "push")


class ReadOnly(Wrapped):
    """A store that may only be read."""

    def __getattr__(self, name: str) -> Any:
        assert name not in WRITES, f"{name} takes or writes"
        return getattr(self.inner, name)


@pytest.mark.law("22.1")
async def test_heal_takes_a_rule_like_any_replica() -> None:
    stage = Stage(rule(), rule(name="other"))
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    busy = await stage.store.take({"stuck": "d1"}, "somebody", minutes(1))
    assert busy is not None
    heal = stage.engine("heal")
    assert not await heal.run_cycle(only={"stuck"}), "somebody has it"
    assert await heal.run_cycle(only={"other"})
    assert not await heal.run_cycle(only={"other"}) or True
    assert {one.rule for one in stage.store.tables.incidents.values()} == {"other"}


@pytest.mark.law("22.2")
@pytest.mark.law("22.3")
async def test_plan_and_scan_neither_take_nor_write_nor_call() -> None:
    stage = Stage(rule())
    stage.plant("N1", "N2", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(16)
    stage.plant("N3")
    before = (dict(stage.store.tables.incidents), dict(stage.store.tables.attempts), stage.store.tables.rules["stuck"].epoch, called(stage))
    looking = stage.engine("plan", ReadOnly(stage.store))
    looking._quota = ReadOnly(stage.store)
    proposal, scan = await looking.propose("stuck"), await looking.look_once("stuck")
    after = (dict(stage.store.tables.incidents), dict(stage.store.tables.attempts), stage.store.tables.rules["stuck"].epoch, called(stage))
    assert before == after
    assert {(one.key, one.verdict) for one in scan.sightings} == {(f"N{n}", Verdict.BROKEN) for n in (1, 2, 3)}
    assert {incident.key for incident, _ in proposal.decisions} == {"N1", "N2", "N3"}


@pytest.mark.law("22.3")
async def test_a_plan_is_what_the_next_cycle_sends() -> None:
    stage = Stage(rule())
    stage.plant("N1", "N2", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(14)
    await stage.clock.move(90)
    proposal = await stage.engine("plan").propose("stuck")
    planned = {incident.key: proposal.requests[incident.id] for incident, decision in proposal.decisions if isinstance(decision, Act)}
    await stage.settle()
    sent = {one.request.args["id"]: one.request for one in stage.attempts()}
    assert planned == sent
    assert set(sent) == {"N1", "N2"}


async def spent(guard: Guard | None = None, answers: Any = "no_effect") -> Stage:
    stage = Stage(rule(guard=guard or Guard()))
    stage.plant("N1", calls={"api.upload": answers})
    await stage.begin(1)
    await stage.wait(60)
    assert stage.incident().phase in (Phase.ESCALATED, Phase.QUARANTINED)
    return stage


@pytest.mark.law("22.4")
async def test_retry_makes_due_now() -> None:
    stage = Stage(rule(ladder=(replace(UPLOAD, timeout=minutes(9000)),)))
    stage.plant("N1", calls={"api.upload": [{"answer": "later", "retry_after": "3h"}, "done"]})
    await stage.begin(1)
    await stage.wait(20)
    assert stage.calls() == 1
    await stage.say(DirectiveKind.RETRY)
    await stage.settle()
    assert stage.calls() == 2


@pytest.mark.law("22.5")
async def test_retry_gives_a_spent_ladder_one_more_attempt_of_its_last_call() -> None:
    stage = await spent()
    assert stage.calls() == 3
    await stage.say(DirectiveKind.RETRY)
    await stage.wait(60)
    assert (stage.calls(), stage.incident().phase) == (4, Phase.ESCALATED)
    assert stage.kinds() == ["begin"]


@pytest.mark.law("22.5")
async def test_retry_finds_the_last_call_before_a_wait_too() -> None:
    stage = Stage(rule(ladder=(UPLOAD, Step("patience", wait=minutes(10)))))
    stage.plant("N1", calls={"api.upload": "no_effect"})
    await stage.begin(1)
    await stage.wait(90)
    assert (stage.calls(), stage.incident().phase) == (3, Phase.ESCALATED)
    await stage.say(DirectiveKind.RETRY)
    await stage.wait(8)
    assert (stage.calls(), stage.incident().phase) == (4, Phase.OPEN)
    await stage.wait(60)
    assert (stage.calls(), stage.incident().phase) == (4, Phase.ESCALATED)


@pytest.mark.law("22.5")
async def test_retry_climbs_a_ladder_that_was_not_begun_because_the_subject_broke_for_the_third_time() -> None:
    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    for _ in range(2):
        await stage.wait(6)
        stage.set("N1", bad=False)
        await stage.wait(12)
        stage.set("N1", bad=True)
    await stage.wait(30)
    assert (stage.incident().relapses, stage.incident().phase, stage.calls()) == (2, Phase.ESCALATED, 0)
    await stage.say(DirectiveKind.RETRY)
    await stage.wait(10)
    assert (stage.calls(), stage.incident().resolution) == (1, Resolution.HANDLED)


@pytest.mark.law("22.5")
async def test_a_retry_that_helps_is_the_persons_doing() -> None:
    stage = await spent(answers=["no_effect", "no_effect", "no_effect", "done"])
    await stage.say(DirectiveKind.RETRY)
    await stage.wait(60)
    assert stage.incident().resolution is Resolution.HANDLED


@pytest.mark.law("22.5")
async def test_retry_stays_within_the_lifetime_cap() -> None:
    stage = await spent(Guard(max_attempts=4))
    for _ in range(3):
        await stage.say(DirectiveKind.RETRY)
        await stage.wait(60)
    assert (stage.calls(), stage.incident().phase) == (4, Phase.QUARANTINED)
