"""Law 21: `later` uses time, relapses, ill connectors, deadlines."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from builders import UPLOAD, at, field, minutes, rule, seen, state
from laws.stage import Stage, Wrapped, person, wrapping

from daemon.domain.attempt import CONNECTOR_ILL, Outcome, Reply, Result
from daemon.domain.decide import timed_out
from daemon.domain.directive import DirectiveKind
from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.notice import NoticeKind
from daemon.domain.rule import Guard, Level, Step
from daemon.domain.standing import Illness, Standing
from daemon.engine.propose import Surroundings, resolve
from daemon.language.hours import parse_hours

MANY = Guard(max_broken=100, max_broken_percent=100)


@pytest.mark.law("21.1")
async def test_later_uses_time_and_no_attempts_until_the_steps_timeout() -> None:
    stage = Stage(rule(ladder=(replace(UPLOAD, timeout=minutes(90)),)))
    stage.plant("N1", calls={"api.upload": "later"})
    await stage.begin(1)
    await stage.wait(100)
    assert stage.calls() > 4
    assert (stage.incident().total, stage.incident().phase) == (0, Phase.OPEN)
    await stage.wait(40)
    assert stage.incident().phase is Phase.ESCALATED
    last = stage.attempts()[-1]
    assert last.begun < stage.start + minutes(15 + 90)


async def relapsing(times: int, attempts: int = 3) -> Stage:
    stage = Stage(rule(ladder=(replace(UPLOAD, attempts=attempts),)))
    stage.plant("N1", calls={"api.upload": ["no_effect", "done", "done"]})
    await stage.begin(1)
    await stage.wait(40)
    for _ in range(times):
        assert stage.incident().resolution is Resolution.HEALED
        stage.set("N1", bad=True)
        await stage.wait(60)
    return stage


@pytest.mark.law("21.2")
async def test_the_first_relapse_goes_on_with_the_attempts_left() -> None:
    stage = await relapsing(1)
    (only,) = stage.incidents()
    assert (only.relapses, only.resolution, stage.calls(), only.steps["upload"].tries) == (1, Resolution.HEALED, 3, 3)


@pytest.mark.law("21.2")
async def test_the_first_relapse_goes_on_however_long_ago_its_step_began() -> None:
    stage = await relapsing(0)
    await stage.wait(60 * 8)
    stage.set("N1", bad=True)
    await stage.wait(60)
    (only,) = stage.incidents()
    assert UPLOAD.timeout < minutes(60 * 8), "the step's own time ran while the order was well"
    assert (only.relapses, only.resolution, stage.calls()) == (1, Resolution.HEALED, 3)


@pytest.mark.law("21.2")
async def test_the_second_relapse_within_the_window_goes_to_people() -> None:
    stage = await relapsing(2, attempts=9)
    (only,) = stage.incidents()
    assert (only.relapses, only.phase, stage.calls()) == (2, Phase.ESCALATED, 3)
    assert stage.kinds() == ["begin"]


@pytest.mark.law("21.2")
async def test_after_the_window_a_new_incident_begins() -> None:
    stage = await relapsing(0)
    await stage.wait(25 * 60)
    stage.set("N1", bad=True)
    await stage.wait(60)
    assert [(one.relapses, one.resolution) for one in stage.incidents()] == [(0, Resolution.HEALED)] * 2


class Ill(Wrapped):
    """A service that refuses us as long as `refuses`."""

    async def perform(self, request: Any) -> Outcome:
        if refuses:
            asked.append(request)
            return Outcome(Result.LATER, CONNECTOR_ILL, reply=Reply(401))
        return await self.inner.perform(request)


refuses: list[bool] = []
asked: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    refuses[:], asked[:] = [True], []


async def ill(*rules: Any, numbers: int = 30, length: float = 60) -> Stage:
    stage = Stage(*(rules or (rule(guard=MANY),)), wrap=wrapping(api=Ill))
    stage.plant(*(f"N{n}" for n in range(numbers)), calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(length)
    return stage


@pytest.mark.law("21.3")
async def test_a_connector_that_refuses_us_is_one_notice_and_no_attempt_of_any_order() -> None:
    stage = await ill()
    assert stage.kinds() == ["connector_ill"]
    assert {one.total for one in stage.store.tables.incidents.values()} == {0}
    assert {one.why for one in stage.store.tables.incidents.values()} == {Why.CONNECTOR_ILL}
    assert len(asked) < 10 + 150, "it is left alone but for one try now and then"
    refuses.clear()
    await stage.wait(60)
    assert stage.kinds() == ["connector_ill", "connector_well"]
    assert {one.resolution for one in stage.store.tables.incidents.values()} == {Resolution.HEALED}


@pytest.mark.law("21.3")
async def test_two_rules_that_meet_it_tell_it_once() -> None:
    stage = await ill(rule(guard=MANY), rule(name="late", guard=MANY), numbers=3, length=180)
    assert [kind for kind in stage.kinds() if kind == "connector_ill"] == ["connector_ill"]


@pytest.mark.law("21.3")
async def test_two_rules_that_meet_it_in_the_same_moment_tell_it_once() -> None:
    class Both(Wrapped):
        async def perform(self, request: Any) -> Outcome:
            met.append(request)
            if len(met) == 1:
                await over.wait()
                stage.clock._now += 2
            return Outcome(Result.LATER, CONNECTOR_ILL, reply=Reply(401))

    async def cycle(engine: Any) -> None:
        await engine.run_cycle()
        over.set()

    met: list[Any] = []
    over = asyncio.Event()
    stage = Stage(rule(guard=MANY), rule(name="late", guard=MANY), replicas=2, wrap=wrapping(api=Both))
    stage.plant("N1")
    await stage.begin(1)
    await stage.wait(14)
    await stage.clock.move(90)
    await asyncio.gather(*(cycle(engine) for engine in stage.engines))
    assert len(met) == 2
    assert stage.kinds() == ["connector_ill"]
    assert len(stage.store.tables.dispatches) == 1


@pytest.mark.law("21.4")
async def test_the_time_of_a_step_stands_still_meanwhile() -> None:
    stage = await ill(rule(ladder=(replace(UPLOAD, timeout=minutes(60)),)), numbers=2, length=600)
    assert {one.phase for one in stage.store.tables.incidents.values()} == {Phase.OPEN}
    refuses.clear()
    await stage.wait(60)
    assert {one.resolution for one in stage.store.tables.incidents.values()} == {Resolution.HEALED}


@pytest.mark.law("21.4")
async def test_it_stands_still_too_for_one_who_had_begun_before_and_only_waits() -> None:
    refuses.clear()
    checked = rule(ladder=(replace(UPLOAD, timeout=minutes(60)),), guard=MANY)
    stage = Stage(checked, wrap=wrapping(api=Ill))
    stage.plant("N1", "N2", calls={"api.upload": ["no_effect", "done"]})
    await stage.begin(1)
    await stage.wait(17)
    refuses.append(True)
    await stage.wait(600)
    refuses.clear()
    await stage.wait(60)
    assert {stage.incident(number).resolution for number in ("N1", "N2")} == {Resolution.HEALED}


@pytest.mark.law("21.4")
def test_who_only_waits_for_an_ill_connector_has_its_time_stopped_too() -> None:
    begun = seen(at(30), steps={"upload": state(tries=1, result=Result.DONE, at=at(20), settle_until=at(25))})
    standing = Standing("stuck", at(30), illnesses={"api": Illness("api", at(28), "HTTP 401", at(40))})
    waits = resolve(rule(), begun, standing, 0, Surroundings({}, {}), at(30)).incident
    assert (waits.why, waits.steps["upload"].ill_since) == (Why.CONNECTOR_ILL, at(30))
    assert not timed_out(UPLOAD, waits.steps["upload"], at(10_000))


HOW = ["at its step", "paused", "held", "claimed", "backing off", "escalated long ago"]


@pytest.mark.law("21.5")
@pytest.mark.parametrize("how", HOW)
async def test_before_the_deadline_a_person_is_told_whatever_the_step_pause_or_hold(how: str) -> None:
    wait = Step(id="wait", wait=minutes(2000))
    ladder = {"at its step": (wait, UPLOAD), "escalated long ago": ()}.get(how, (replace(UPLOAD, timeout=minutes(2000)),))
    guard = Guard(max_broken=1, max_broken_percent=100) if how == "held" else MANY
    stage = Stage(rule(ladder=ladder, deadline=field("deadline"), guard=guard))
    stage.plant("N1", deadline="+10h", calls={"api.upload": "later"})
    stage.plant("N2", "N3", deadline="+90h")
    await stage.begin(1)
    if how == "paused":
        await stage.pause()
    await stage.wait(20)
    if how == "claimed":
        await stage.say(DirectiveKind.CLAIM, until=stage.now + minutes(6000))
    await stage.wait(7 * 60 + 30)
    about = [one for one in stage.notices(NoticeKind.BEGIN, NoticeKind.DEADLINE) if one.deadline == stage.start + minutes(600)]
    assert len(about) == (how == "escalated long ago"), "not yet, but for what began otherwise"
    await stage.wait(15)
    told = [one for one in stage.notices(NoticeKind.BEGIN, NoticeKind.DEADLINE) if stage.incident().id in one.incidents]
    assert told[-1].at == stage.start + minutes(600 - 120)
    assert told[-1].contact == "team"


@pytest.mark.law("21.5")
async def test_a_level_may_say_how_long_before() -> None:
    level = Level(id="team", to="boss", before_deadline=minutes(180))
    stage = Stage(rule(ladder=(Step(id="wait", wait=minutes(2000)),), deadline=field("deadline"), escalate=(level,)))
    stage.plant("N1", deadline="+10h")
    await stage.begin(1)
    await stage.wait(600)
    (told,) = stage.notices()
    assert (told.at, told.contact) == (stage.start + minutes(600 - 180), "boss")


@pytest.mark.law("21.5")
async def test_a_message_that_waits_for_working_hours_keeps_back_none_about_a_deadline() -> None:
    office = person("team", "chat")
    stage = Stage(
        rule(ladder=(), deadline=field("deadline"), guard=Guard(max_broken_percent=100)),
        people={"team": replace(office, hours=parse_hours("Tu 09:00-18:00", "Europe/Moscow"))},
    )
    stage.plant("N1")
    await stage.begin(1)
    await stage.wait(30)
    assert (stage.kinds(), stage.world.messages) == (["begin"], [])
    stage.plant("N2", deadline="+3h")
    await stage.wait(70)
    assert stage.kinds() == ["begin", "growth", "deadline"]
    assert len(stage.world.messages) == 2, "what speaks of the deadline is told at once, the begin with it"
