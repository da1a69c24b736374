"""Law 11: rules change under open incidents. Activation by digest and revision is held by tests/store/test_tenures.py."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from builders import UPLOAD, clause, contacts, field, minutes, rule
from laws.stage import Moving, Stage, Wrapped, wrapping

from daemon.domain.attempt import Result
from daemon.domain.incident import Phase, Resolution
from daemon.domain.notice import NoticeKind
from daemon.domain.rule import Delivery, Guard, Level, Mode
from daemon.rehearsal import version_of

FIRST = replace(UPLOAD, delivery=Delivery.AT_LEAST_ONCE)
SECOND = replace(FIRST, id="second", call="second")


async def in_the_middle(checked: Any, length: float = 21) -> Stage:
    stage = Stage(checked, people=contacts("chief", "team"))
    stage.plant("N1", calls={"api.upload": "no_effect", "api.second": "no_effect"})
    await stage.begin(1)
    await stage.wait(length)
    return stage


async def changed(stage: Stage, new: Any, revision: int = 2) -> None:
    stage.rules.clear()
    stage.rules.update({new.name: new})
    await stage.begin(revision)


@pytest.mark.law("11.1")
@pytest.mark.law("11.2")
async def test_a_replica_that_holds_another_version_takes_nothing() -> None:
    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.store.activate([version_of(rule(digest="d2"))], 2)
    await stage.wait(60)
    assert not stage.store.tables.incidents
    stage.rules["stuck"] = rule(digest="d2")
    await stage.wait(60)
    assert stage.incident().resolution is Resolution.HEALED


@pytest.mark.law("11.2")
async def test_a_lower_revision_changes_nothing() -> None:
    stage = await in_the_middle(rule(digest="new"))
    await stage.store.activate([version_of(rule(digest="old"))], 0)
    assert stage.store.tables.rules["stuck"].version.digest == "new"


@pytest.mark.law("11.1")
async def test_a_scan_that_another_version_began_begins_anew() -> None:
    class Slow(Wrapped):
        async def list(self, *asked: Any) -> AsyncIterator[Any]:
            cursors.append(asked[3])
            async for page in self.inner.list(*asked):
                stage.clock._now += 50
                yield page

    cursors: list[Any] = []
    stage = Stage(rule(broken=(clause(lambda s: False),)), page=1, lease=minutes(10), wrap=wrapping(shop=Slow))
    stage.plant("N1", "N2", "N3", "N4")
    await stage.begin(1)
    await stage.engines[0].run_cycle()
    assert stage.store.tables.rules["stuck"].state.progress.cursor == "N2"
    await changed(stage, rule(digest="d2"))
    await stage.engines[0].run_cycle()
    assert cursors == [None, None]
    assert len(stage.incidents("N1")) == 1


@pytest.mark.law("11.1")
async def test_another_version_looks_at_all_first_and_not_only_at_what_moved() -> None:
    stage = Stage(rule(connector="feed", broken=(clause(lambda s: False),)), wrap=wrapping(feed=Moving))
    stage.plant("N1", records="feed.orders", deadline=stage.start)
    stage.plant("N2", records="feed.orders", deadline=stage.start + minutes(9))
    await stage.begin(1)
    await stage.wait(12)
    await changed(stage, rule(digest="d2", connector="feed"))
    await stage.wait(1)
    assert len(stage.incidents("N1")) == 1


@pytest.mark.law("11.3")
async def test_the_position_is_found_by_the_steps_identity_when_steps_move() -> None:
    stage = await in_the_middle(rule(ladder=(FIRST, SECOND)))
    assert stage.incident().steps["upload"].tries == 2
    await changed(stage, rule(digest="d2", ladder=(SECOND, FIRST)))
    await stage.wait(120)
    assert (stage.calls(), stage.calls(call="api.second")) == (3, 0), "upload goes on with the attempt it had left; second lies behind"
    assert stage.incident().phase is Phase.ESCALATED


@pytest.mark.law("11.3")
async def test_a_step_that_is_called_otherwise_now_is_a_new_one() -> None:
    stage = await in_the_middle(rule(ladder=(FIRST,)))
    await changed(stage, rule(digest="d2", ladder=(replace(FIRST, id="resend"),)))
    await stage.wait(120)
    assert stage.calls() == 2 + 3


@pytest.mark.law("11.4")
async def test_the_lifetime_cap_spans_versions() -> None:
    stage = await in_the_middle(rule(ladder=(FIRST,), guard=Guard(max_attempts=4)))
    await changed(stage, rule(digest="d2", ladder=(SECOND,), guard=Guard(max_attempts=4)))
    await stage.wait(120)
    assert (stage.incident().phase, stage.incident().total) == (Phase.QUARANTINED, 4)


@pytest.mark.law("11.5")
@pytest.mark.parametrize("how", ["removed", "disabled"])
async def test_incidents_of_a_removed_rule_are_parked_and_its_owner_is_told(how: str) -> None:
    stage = await in_the_middle(rule())
    nobody = (clause(lambda s: False),)
    await changed(stage, rule(name="other", match=nobody) if how == "removed" else rule(digest="d2", mode=Mode.DISABLED))
    await stage.wait(120)
    parked = stage.incident()
    assert (parked.phase, parked.due, stage.calls()) == (Phase.PARKED, None, 2)
    (told,) = [one for one in stage.notices(NoticeKind.FAULT) if one.rule == "stuck"]
    assert (told.contact, told.count) == ("team", 1)


@pytest.mark.law("11.5")
async def test_when_the_rule_comes_back_its_incidents_go_on_where_they_were() -> None:
    stage = await in_the_middle(rule())
    await changed(stage, rule(digest="d2", mode=Mode.DISABLED))
    await stage.wait(120)
    await changed(stage, rule(), 3)
    await stage.wait(60)
    (only,) = stage.incidents()
    assert (only.phase, stage.calls()) == (Phase.ESCALATED, 3)


@pytest.mark.law("11.5")
async def test_an_attempt_of_a_removed_rule_keeps_its_object_from_others_only_while_it_may_arrive() -> None:
    class Killed(BaseException):
        pass

    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            raise Killed

    same = {"object": field("order")}
    stage = Stage(rule(**same))
    stage.plant("N1", calls={"api.second": "done"})
    await stage.begin(1)
    await stage.wait(14)
    stage.engines = [stage.engine("dying", connectors={**stage.connectors, "api": Service(stage.connectors["api"])})]
    with pytest.raises(Killed):
        await stage.wait(2)
    stage.engines = [stage.engine("next")]
    await changed(stage, rule(name="other", ladder=(SECOND,), grace=minutes(0), **same))
    assert (stage.incident().phase, stage.notices(NoticeKind.FAULT)) == (Phase.OPEN, []), "it may still arrive"
    await stage.wait(2)
    await stage.engines[0].park_removed(["stuck"])
    assert stage.incident().phase is Phase.PARKED
    await stage.wait(20)
    first, second = stage.attempts()
    assert (first.outcome.reason, second.rule) == ("crashed", "other")
    assert second.begun >= first.settled > first.ends_by
    await changed(stage, rule(**same), 3)
    await stage.wait(1)
    assert (stage.incident().steps["upload"].result, stage.incident().total) == (Result.UNKNOWN, 1), "taken up when the rule is back"


@pytest.mark.law("11.3")
async def test_a_contact_that_is_gone_stops_no_rule() -> None:
    stage = await in_the_middle(rule(ladder=()))
    stage.contacts = contacts("chief", "crew")
    renamed = rule(digest="d2", owner="crew", ladder=(), escalate=(Level(id="crew", to="crew"),))
    stage.rules.clear()
    stage.rules.update({"stuck": renamed})
    stage.engines = [stage.engine("next")]
    await stage.begin(2)
    await stage.wait(20)
    assert [(one.kind, one.contact) for one in stage.notices()] == [
        (NoticeKind.BEGIN, "team"), (NoticeKind.BEGIN, "crew"), (NoticeKind.END, "crew"),
    ]  # fmt: skip


@pytest.mark.law("11.1")
async def test_a_version_that_comes_during_a_cycle_is_taken_when_that_ends() -> None:
    class Store(Wrapped):
        async def admit(self, *asked: Any) -> Any:
            await self.inner.activate([version_of(rule(digest="d2"))], 2)
            return await self.inner.admit(*asked)

    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(14)
    await stage.clock.move(90)
    await stage.engine("old", Store(stage.store)).run_cycle()
    stage.rules["stuck"] = rule(digest="d2")
    assert await stage.engine("new").run_cycle(), "at once, not when the lease is over"
    assert stage.calls() == 1
