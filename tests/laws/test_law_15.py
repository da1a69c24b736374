"""Law 15: visits before scans, in slices with their cursor in a row."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from builders import field, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.incident import Resolution
from daemon.domain.rule import Guard, Lookup
from daemon.engine.events import Scanned

MANY = Guard(max_broken=1000, max_broken_percent=100)


class Slow(Wrapped):
    """A source whose every page and every batch takes a while."""

    def __init__(self, inner: Any, stage: Any, page: float = 0, ask: float = 0) -> None:
        super().__init__(inner)
        self.stage, self.seconds = stage, (page, ask)
        self.asked: list[tuple[str, Any]] = []

    async def list(self, records: str, where: Any, since: Any, cursor: Any, now: Any, size: int, hold: bool) -> AsyncIterator[Any]:
        self.asked.append(("list", cursor))
        self.held = hold
        async for page in self.inner.list(records, where, since, cursor, now, size, hold):
            self.stage().clock._now += self.seconds[0]
            self.asked.append(("page", page.cursor))
            yield page

    async def ask(self, records: str, by: str, keys: Any, fresh: bool) -> Any:
        self.asked.append(("ask", len(keys)))
        self.stage().clock._now += self.seconds[1]
        return await self.inner.ask(records, by, keys, fresh)


def slow_stage(*rules: Any, **seconds: float) -> tuple[Stage, Slow]:
    held: list[Stage] = []
    sources: list[Slow] = []

    def wrapped(inner: Any) -> Slow:
        sources.append(Slow(inner, lambda: held[0], **seconds))
        return sources[0]

    held.append(Stage(*rules, page=2, lease=minutes(10), wrap=wrapping(shop=wrapped)))
    return held[0], sources[0]


@pytest.mark.law("15.1")
async def test_in_one_cycle_open_incidents_are_asked_for_before_new_ones_are_listed() -> None:
    stage, source = slow_stage(rule(guard=MANY))
    stage.plant("N1", "N2", "N3")
    await stage.begin(1)
    await stage.wait(4)
    source.asked.clear()
    await stage.clock.move(60)
    await stage.engines[0].run_cycle()
    kinds = [kind for kind, _ in source.asked]
    assert kinds[:2] == ["ask", "ask"]
    assert kinds.index("list") > max(place for place, kind in enumerate(kinds) if kind == "ask")


@pytest.mark.law("15.2")
async def test_a_long_scan_goes_on_in_slices_from_the_cursor_in_the_rules_row() -> None:
    stage, source = slow_stage(rule(guard=MANY), page=25)
    stage.plant(*(f"N{n}" for n in range(10)))
    await stage.begin(1)
    engine = stage.engines[0]
    before = stage.clock.monotonic()
    await engine.run_cycle()
    assert stage.clock.monotonic() - before <= 60 + 25
    progress = stage.store.tables.rules["stuck"].state.progress
    assert progress.cursor == source.asked[-1][1] is not None
    assert not [event for event in stage.events if isinstance(event, Scanned)], "a scan is complete when its last slice is"
    while await engine.run_cycle():
        pass
    starts = [cursor for kind, cursor in source.asked if kind == "list"]
    assert starts[:2] == [None, progress.cursor]
    assert len([kind for kind, _ in source.asked if kind == "page"]) == 5, "no page is read twice"
    (whole,) = [event for event in stage.events if isinstance(event, Scanned)]
    assert (whole.complete, whole.candidates, whole.broken) == (True, 10, 10)
    assert len(stage.store.tables.incidents) == 10


@pytest.mark.law("15.2")
async def test_another_replica_goes_on_where_a_dead_one_stopped() -> None:
    stage, source = slow_stage(rule(guard=MANY), page=25)
    stage.plant(*(f"N{n}" for n in range(10)))
    await stage.begin(1)
    await stage.engines[0].run_cycle()
    cursor = stage.store.tables.rules["stuck"].state.progress.cursor
    source.asked.clear()
    await stage.engine("next").run_cycle()
    assert ("list", cursor) in source.asked


@pytest.mark.law("15.2")
async def test_open_incidents_are_visited_between_the_slices_of_a_long_scan() -> None:
    stage, source = slow_stage(rule(guard=MANY, grace=minutes(0)), page=25)
    for n in range(10):
        stage.plant(f"N{n}", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.settle()
    kinds = [kind for kind, _ in source.asked]
    first_call = kinds.index("ask")
    assert "page" in kinds[first_call:], "healing did not wait for the end of the scan"


@pytest.mark.law("15.2")
async def test_visits_too_end_with_their_slice_and_the_rest_stays_due() -> None:
    stage, source = slow_stage(rule(guard=MANY), ask=25)
    stage.plant(*(f"N{n}" for n in range(10)))
    await stage.begin(1)
    await stage.engines[0].run_cycle()
    source.asked.clear()
    await stage.engines[0].run_cycle()
    assert [kind for kind, _ in source.asked].count("ask") == 3, "three batches fill a minute"
    while len([kind for kind, _ in source.asked if kind == "ask"]) < 5:
        assert await stage.engines[0].run_cycle(), "the other batches are still due"
    last = sorted({one.last for one in stage.store.tables.incidents.values()})
    assert len(last) == 5, "each was looked at, batch by batch"


@pytest.mark.law("15.3")
@pytest.mark.parametrize("lookups", [False, True])
async def test_a_statement_may_stay_open_between_pages_only_when_nothing_is_asked_in_between(lookups: bool) -> None:
    deal = Lookup("crm_deal", "crm", "deals", "id", (field("deal"),))
    stage, source = slow_stage(rule(lookups=(deal,) if lookups else ()))
    stage.plant("N1", deal="D1")
    await stage.begin(1)
    await stage.wait(1)
    assert source.held is not lookups


@pytest.mark.law("15.4")
async def test_a_guard_lets_go_only_when_the_last_slice_is_through() -> None:
    stage, _ = slow_stage(rule(guard=Guard(max_broken=4, max_broken_percent=100)), page=25)
    stage.plant(*(f"N{n}" for n in range(8)))
    await stage.begin(1)
    await stage.settle()
    assert stage.store.tables.rules["stuck"].state.held is not None
    for n in range(6):
        stage.set(f"N{n}", bad=False)
    await stage.wait(12)
    scans = [event for event in stage.events if isinstance(event, Scanned)]
    assert len(scans) >= 2
    assert stage.store.tables.rules["stuck"].state.held is None
    assert stage.incident("N1").resolution is Resolution.SELF_HEALED
