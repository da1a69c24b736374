"""Law 6: a percentage needs a population and a floor."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from builders import minutes, rule
from laws.stage import Moving, Stage, Wrapped, called, wrapping

from daemon.domain.incident import Why
from daemon.domain.notice import NoticeKind
from daemon.domain.rule import Guard
from daemon.engine.events import Scanned

FIFTH = Guard(max_broken=100, max_broken_percent=20)


async def with_broken(broken: int, well: int, guard: Guard = FIFTH, records: str = "orders", connector: str = "shop", **more: object) -> Stage:
    stage = Stage(rule(guard=guard, connector=connector, records=records), **more)
    for n in range(broken):
        stage.plant(f"B{n}", records=f"{connector}.orders")
    for n in range(well):
        stage.plant(f"W{n}", bad=False, records=f"{connector}.orders")
    await stage.begin(1)
    await stage.wait(20)
    return stage


@pytest.mark.law("6.1")
@pytest.mark.parametrize(("broken", "well", "held"), [(10, 30, True), (10, 40, False), (9, 0, False), (10, 0, True)])
async def test_a_percentage_counts_from_ten_broken_on(broken: int, well: int, held: bool) -> None:
    stage = await with_broken(broken, well)
    state = stage.store.tables.rules["stuck"].state
    assert state.population == broken + well
    assert (state.held.why if state.held else None) is (Why.MAX_BROKEN_PERCENT if held else None)
    assert bool(called(stage)) is not held


@pytest.mark.law("6.2")
async def test_where_the_source_cannot_count_those_that_match_are_the_population() -> None:
    stage = await with_broken(10, 30, connector="feed")
    assert stage.store.tables.rules["stuck"].state.population == 40
    assert stage.store.tables.rules["stuck"].state.held.why is Why.MAX_BROKEN_PERCENT


@pytest.mark.law("6.2")
@pytest.mark.parametrize(("number", "held"), [(20, None), (15, Why.MAX_BROKEN)])
async def test_without_a_population_only_the_number_applies(number: int, held: Why | None) -> None:
    class Uncounted(Wrapped):
        async def count(self, records: str, now: object) -> None:
            return None

    stage = await with_broken(16, 0, Guard(max_broken=number, max_broken_percent=1), wrap=wrapping(shop=Uncounted))
    state = stage.store.tables.rules["stuck"].state
    assert (state.population, state.held.why if state.held else None) == (None, held)


@pytest.mark.law("6.1")
async def test_a_held_rule_calls_nothing_tells_it_once_and_lets_go_after_a_complete_scan_within() -> None:
    stage = await with_broken(10, 20)
    await stage.wait(60)
    assert not [one for one in stage.world.calls if one.call == "api.upload"]
    assert stage.kinds() == ["guard"]
    for n in range(5):
        stage.set(f"B{n}", bad=False)
    await stage.wait(20)
    assert [one.kind for one in stage.notices()][:2] == [NoticeKind.GUARD, NoticeKind.GUARD_END]
    assert stage.store.tables.rules["stuck"].state.held is None
    assert stage.calls("B9") > 0


@pytest.mark.law("6.2")
async def test_those_that_match_are_counted_over_all_slices_of_a_scan() -> None:
    class Slow(Wrapped):
        async def list(self, *asked: Any) -> AsyncIterator[Any]:
            async for page in self.inner.list(*asked):
                stage.clock._now += 25
                yield page

    stage = Stage(rule(guard=FIFTH, connector="feed"), page=5, lease=minutes(10), wrap=wrapping(feed=Slow))
    stage.plant(*(f"A{n}" for n in range(40)), ours=False, records="feed.orders")
    stage.plant(*(f"B{n}" for n in range(10)), records="feed.orders")
    await stage.begin(1)
    await stage.wait(12)
    state = stage.store.tables.rules["stuck"].state
    assert state.population == 10
    assert state.held.why is Why.MAX_BROKEN_PERCENT
    (whole, *_) = [event for event in stage.events if isinstance(event, Scanned)]
    assert (whole.candidates, whole.broken, whole.out) == (50, 10, 40)


@pytest.mark.law("6.2")
async def test_a_scan_of_what_moved_is_no_population() -> None:
    stage = Stage(rule(guard=FIFTH, connector="feed"), wrap=wrapping(feed=Moving))
    stage.plant(*(f"B{n}" for n in range(10)), records="feed.orders", deadline=stage.start)
    stage.plant(*(f"W{n}" for n in range(90)), bad=False, records="feed.orders", deadline=stage.start)
    await stage.begin(1)
    await stage.wait(7)
    stage.plant("W99", bad=False, records="feed.orders", deadline=stage.now)
    await stage.wait(7)
    state = stage.store.tables.rules["stuck"].state
    assert (state.population, state.held) == (100, None)
