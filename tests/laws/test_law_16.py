"""Law 16: the fence covers decisions, not facts."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import UPLOAD, attempt, contacts, incident, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.attempt import Outcome, Result
from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.rule import Delivery, Guard
from daemon.engine.act import ROOM
from daemon.engine.change import Change, Conclusion, GiveBack, Intent
from daemon.engine.events import CycleEnded
from daemon.engine.propose import Surroundings, propose
from daemon.rehearsal import version_of
from daemon.store.migrations import migrate
from daemon.store.postgres import PostgresStore

AGAIN = replace(UPLOAD, delivery=Delivery.AT_LEAST_ONCE)
CHECKED = rule(ladder=(AGAIN,), guard=Guard(max_broken=100, max_broken_percent=100))


async def due(*numbers: str, calls: Any = "done", **more: Any) -> Stage:
    """A stage whose first cycle from now on acts."""
    stage = Stage(CHECKED, **more)
    stage.plant(*(numbers or ("N1",)), calls={"api.upload": calls})
    await stage.begin(1)
    await stage.wait(14)
    await stage.clock.move(90)
    return stage


class Sleepy(Wrapped):
    """A port that is stopped for a while in the middle of something, as by SIGSTOP."""

    def __init__(self, inner: Any, **asleep: float) -> None:
        super().__init__(inner)
        self.asleep = asleep

    async def _sleep(self, name: str) -> None:
        if name in self.asleep:
            self.clock._now += self.asleep.pop(name)

    async def ask(self, *args: Any) -> Any:
        answers = await self.inner.ask(*args)
        await self._sleep("fresh look" if args[-1] else "look")
        return answers

    async def perform(self, request: Any) -> Any:
        outcome = await self.inner.perform(request)
        await self._sleep("perform")
        return outcome

    async def admit(self, *args: Any) -> Any:
        refused = await self.inner.admit(*args)
        await self._sleep("admit")
        return refused


async def stopped_in(where: str, seconds: float, **more: float) -> Stage:
    ports: list[Sleepy] = []

    def sleepy(inner: Any) -> Sleepy:
        ports.append(Sleepy(inner))
        return ports[-1]

    stage = await due(wrap=wrapping(shop=sleepy, api=sleepy))
    store = Sleepy(stage.store)
    stage.engines = [stage.engine("sleepy", store)]
    for port in (*ports, store):
        port.clock, port.asleep = stage.clock, {where: seconds, **more}
    return stage


@pytest.mark.law("16.1")
@pytest.mark.parametrize("where", ["look", "fresh look"])
async def test_a_replica_whose_lease_ran_out_decides_nothing_and_sends_nothing(where: str) -> None:
    stage = await stopped_in(where, 40)
    before = stage.incident()
    await stage.engines[0].run_cycle()
    assert stage.events[-1].fate == "fenced"
    assert isinstance(stage.events[-1], CycleEnded)
    assert (stage.calls(), stage.attempts(), stage.incident().steps) == (0, [], {})
    assert where != "look" or stage.incident() == before
    await stage.wait(30)
    assert (stage.calls(), stage.incident().resolution) == (1, Resolution.HEALED), "whoever has the rule next does it"


@pytest.mark.law("16.1")
async def test_with_too_little_of_the_lease_left_nobody_is_let_in() -> None:
    stage = await stopped_in("fresh look", 26)
    assert timedelta(seconds=4) < ROOM
    await stage.engines[0].run_cycle()
    assert (stage.calls(), stage.attempts(), stage.incident().why) == (0, [], Why.LEASE_SHORT)


@pytest.mark.law("16.1")
@pytest.mark.parametrize("seconds", [6, 40], ids=["past the bound", "past the lease"])
async def test_a_replica_stopped_between_the_gate_and_the_first_byte_sends_nothing(seconds: float) -> None:
    stage = await stopped_in("admit", seconds)
    await stage.engines[0].run_cycle()
    (made,) = stage.attempts()
    assert (stage.calls(), made.outcome) == (0, Outcome(Result.NOT_SENT, Why.LEASE_SHORT))
    await stage.wait(60)
    assert (stage.calls(), stage.incident().total, stage.incident().resolution) == (1, 1, Resolution.HEALED)


@pytest.mark.law("16.1")
async def test_just_let_in_and_then_short_of_lease_it_sends_nothing() -> None:
    stage = await stopped_in("fresh look", 24.5, admit=4)
    await stage.engines[0].run_cycle()
    (made,) = stage.attempts()
    assert (stage.calls(), made.outcome) == (0, Outcome(Result.NOT_SENT, Why.LEASE_SHORT))


class Late(Wrapped):
    """A store that renews only after the cycle under way has ended and the next one of the rule has begun."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner, here=asyncio.Event(), open=asyncio.Event(), cycles=[])

    async def standing(self, *args: Any) -> Any:
        self.here.set()
        await self.open.wait()
        return await self.inner.standing(*args)

    async def begin(self) -> None:
        self.here.clear()
        self.open.clear()
        self.cycles.append(asyncio.create_task(self.engine.run_cycle()))
        await self.here.wait()

    async def renew(self, *args: Any) -> Any:
        self.open.set()
        await self.cycles[-1]
        await self.begin()
        return await self.inner.renew(*args)


@pytest.mark.law("16.1")
async def test_a_renewal_that_comes_too_late_for_one_cycle_takes_nothing_from_the_next() -> None:
    stage = Stage(replace(CHECKED, detect=replace(CHECKED.detect, grace=minutes(0))))
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    store = Late(stage.store)
    store.engine = stage.engine("late", store=store)
    await store.begin()
    await store.engine.renew()
    store.open.set()
    await store.cycles[-1]
    assert (len(store.cycles), stage.calls()) == (2, 1)


@pytest.mark.law("16.2")
async def test_each_attempt_has_ends_by_and_a_successor_waits_for_it() -> None:
    class Killed(BaseException):
        pass

    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            raise Killed

        def timeout(self, call: str) -> timedelta:
            return minutes(20)

    stage = await due(wrap=wrapping(api=lambda inner: Wrapped(inner, timeout=lambda call: minutes(20))))
    dying = stage.engine("dying", connectors={**stage.connectors, "api": Service(stage.connectors["api"])})
    with pytest.raises(Killed):
        await dying.run_cycle()
    (open_one,) = stage.attempts()
    stage.engines = [stage.engine("next")]
    await stage.run(open_one.ends_by - stage.now - minutes(1))
    assert (stage.calls(), stage.incident().why) == (0, Why.SETTLING), "it is in flight for the successor too"
    assert stage.attempts()[0].outcome is None
    await stage.wait(30)
    (first, second) = stage.attempts()
    assert first.outcome.reason == "crashed"
    assert second.begun >= first.ends_by + AGAIN.settle


@pytest.mark.law("16.3")
async def test_a_late_outcome_is_accepted_and_taken_up_by_the_next_cycle() -> None:
    """The answer came after the lease, but before anybody gave the attempt up: it is not tried again within settle."""
    stage = await stopped_in("perform", 40)
    stage.set("N1", bad=True)
    await stage.engines[0].run_cycle()
    (made,) = stage.attempts()
    assert (made.outcome.result, stage.incident().steps["upload"].tries) == (Result.DONE, 0)
    stage.set("N1", bad=True)  # the effect does not show
    await stage.wait(4)
    assert (stage.calls(), stage.incident().steps["upload"].tries, stage.incident().why) == (1, 1, Why.SETTLING)
    await stage.wait(60)
    (first, second) = stage.attempts()
    assert second.begun >= first.ended + AGAIN.settle
    assert second.number == 2


@pytest.mark.law("16.3")
async def test_an_outcome_that_comes_after_the_attempt_was_given_up_changes_nothing_by_itself() -> None:
    gate, sent = asyncio.Event(), asyncio.Event()

    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            sent.set()
            await gate.wait()
            return Outcome(Result.REFUSED, "late")

    stage = await due(calls="no_effect")
    slow = stage.engine("slow", connectors={**stage.connectors, "api": Service(stage.connectors["api"])})
    cycle = asyncio.ensure_future(slow.run_cycle())
    await sent.wait()
    stage.engines = [stage.engine("next")]
    await stage.wait(3)
    assert stage.attempts()[0].outcome.reason == "crashed"
    before = stage.incident()
    gate.set()
    await cycle
    assert stage.attempts()[0].outcome.reason == "late", "the ledger tells what really happened"
    assert stage.incident() == before
    assert not before.steps["upload"].spent


@pytest.mark.law("16.4")
@pytest.mark.parametrize("grace", [20.0, 0.0], ids=["answered in time", "not answered in time"])
async def test_sigterm_records_what_is_in_flight_before_the_rule_is_given_back(grace: float) -> None:
    gate, sent = asyncio.Event(), asyncio.Semaphore(0)
    order: list[str] = []
    turns: list[int] = []

    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            sent.release()
            await gate.wait()
            return await self.inner.perform(request)

    class Store(Wrapped):
        async def conclude(self, *args: Any) -> Any:
            turns.append(3 + 60 * len(turns))
            for _ in range(turns[-1]):
                await asyncio.sleep(0)  # a statement takes its time, each a different one
            recorded = await self.inner.conclude(*args)
            order.append("recorded")
            return recorded

        async def give_back(self, *args: Any) -> Any:
            order.append("given back")
            return await self.inner.give_back(*args)

    stage = await due("N1", "N2", "N3")
    engine = stage.engine("stopping", Store(stage.store), {**stage.connectors, "api": Service(stage.connectors["api"])})
    cycle = asyncio.ensure_future(engine.run_cycle())
    for _ in range(3):
        await sent.acquire()
    stopping = asyncio.ensure_future(engine.stop(grace))
    if grace:
        gate.set()
    await stopping
    await asyncio.gather(cycle, return_exceptions=True)
    assert order == ["recorded"] * 3 + ["given back"]
    assert {one.outcome.result for one in stage.attempts()} == {Result.DONE if grace else Result.UNKNOWN}
    assert {stage.incident(number).steps["upload"].tries for number in ("N1", "N2", "N3")} == {1}
    assert stage.store.tables.rules["stuck"].holder is None
    assert not await engine.run_cycle(), "and it takes nothing more"


@pytest.mark.law("16.4")
async def test_after_sigterm_nothing_new_is_sent() -> None:
    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            engines[0]._stopping = True
            return await self.inner.perform(request)

    stage = await due("N1", "N2", "N3", wrap=wrapping(api=lambda inner: Wrapped(inner, slots=1)))
    engines = [stage.engine("stopping", connectors={**stage.connectors, "api": Service(stage.connectors["api"])})]
    await engines[0].run_cycle()
    assert len(stage.attempts()) == 1
    stage.engines = [stage.engine("next")]
    await stage.wait(30)
    assert all(stage.calls(number) == 1 for number in ("N1", "N2", "N3"))


@pytest.mark.law("16.5")
async def test_the_residue_is_one_send_that_was_checked_in_time() -> None:
    """Stopped after the last check and before the first byte: it still goes out, once, and is within `ends_by` of nobody else."""

    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            stage.clock._now += 300
            return await self.inner.perform(request)

    stage = await due("N1", "N2", wrap=wrapping(api=lambda inner: Wrapped(inner, slots=1)))
    slow = stage.engine("slow", connectors={**stage.connectors, "api": Service(stage.connectors["api"])})
    await slow.run_cycle()
    assert stage.calls("N1") + stage.calls("N2") == 1, "one, and none of the next slice"
    assert stage.incident().phase is Phase.OPEN


@pytest.mark.law("16.3")
async def test_the_next_cycle_finds_a_late_outcome_in_the_rows(database: str) -> None:
    migrate(database)
    async with PostgresStore(database, size=2) as store:
        await store.activate([version_of(rule())], 1)
        tenure = await store.take({"stuck": "d1"}, "me", minutes(1))
        fresh = incident()
        await store.commit(Change("stuck", incidents=(fresh,)), tenure)
        sent = attempt(holder="me", epoch=tenure.epoch)
        admitted = replace(fresh, version=1, flight=sent.id)
        assert await store.admit([Intent(sent, admitted)], tenure, ROOM) == {}
        await store.give_back(tenure, GiveBack())
        late = attempt(Result.DONE, holder="me", epoch=tenure.epoch)
        assert not await store.conclude([Conclusion(late, replace(admitted, version=2, flight=None))], tenure)
        standing = await store.standing("stuck", await store.now())
        assert standing.attempts["i1"].outcome == late.outcome
        proposal = propose(rule(), standing, {}, Surroundings(contacts("team"), {}), standing.now)
        assert proposal.incidents["i1"].steps["upload"].tries == 1
        assert proposal.incidents["i1"].flight is None
