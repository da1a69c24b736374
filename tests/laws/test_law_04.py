"""Law 4: slices. Request tokens, look, admit, send at once, conclude."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from builders import UPLOAD, clause, field, minutes, rule
from laws.stage import Stage, Wrapped, wrapping

from daemon.domain.attempt import CRASHED, NOT_CONNECTED, Outcome, Result
from daemon.domain.incident import Phase, Resolution, Why
from daemon.domain.rule import Delivery, Guard

MANY = Guard(max_broken=100, max_broken_percent=100)
AGAIN = replace(UPLOAD, delivery=Delivery.AT_LEAST_ONCE)


class Diary:
    """What happened at the ports, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []

    def store(self, inner: Any) -> Any:
        lines = self.lines

        class Store(Wrapped):
            async def admit(self, intents: Any, tenure: Any, room: Any) -> Any:
                lines.append(("admit", tuple(sorted(one.attempt.request.args["id"] for one in intents))))
                return await self.inner.admit(intents, tenure, room)

            async def conclude(self, conclusions: Any, tenure: Any) -> Any:
                lines.extend(("conclude", one.attempt.request.args["id"]) for one in conclusions)
                return await self.inner.conclude(conclusions, tenure)

            async def reserve(self, target: str, rate: float, burst: int, tokens: int) -> float:
                lines.append(("tokens", tokens))
                return await self.inner.reserve(target, rate, burst, tokens)

        return Store(inner)

    def shop(self, inner: Any) -> Any:
        lines = self.lines

        class Source(Wrapped):
            async def ask(self, records: str, by: str, keys: Any, fresh: bool) -> Any:
                lines.append(("fresh look" if fresh else "look", tuple(sorted(keys))))
                return await self.inner.ask(records, by, keys, fresh)

        return Source(inner)

    def api(self, inner: Any) -> Any:
        lines = self.lines

        class Service(Wrapped):
            async def perform(self, request: Any) -> Any:
                lines.append(("send", request.args["id"]))
                return await self.inner.perform(request)

        return Service(inner, slots=2, rate=(1000.0, 5))


@pytest.mark.law("4.1")
@pytest.mark.law("4.2")
async def test_a_slice_is_no_larger_than_the_slots_and_goes_tokens_look_admit_send_conclude() -> None:
    diary = Diary()
    stage = Stage(rule(guard=MANY, deadline=field("deadline")), wrap=wrapping(shop=diary.shop, api=diary.api))
    store = diary.store(stage.store)
    stage.engines = [stage.engine("one", store)]
    stage.engines[0]._quota = store
    for n in (3, 1, 5, 2, 4):
        stage.plant(f"N{n}", calls={"api.upload": "done"}, deadline=f"+{n}d")
    await stage.begin(1)
    await stage.wait(15)
    lines = [line for line in diary.lines if line[0] != "look"]
    for pair in (("N1", "N2"), ("N3", "N4"), ("N5",)):
        part, lines = lines[: 3 + 2 * len(pair)], lines[3 + 2 * len(pair) :]
        assert part[:3] == [("tokens", len(pair)), ("fresh look", pair), ("admit", pair)]
        assert sorted(part[3:]) == sorted([("send", one) for one in pair] + [("conclude", one) for one in pair])


@pytest.mark.law("4.1")
async def test_the_slots_of_a_connector_are_shared_by_all_rules_of_a_replica() -> None:
    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            going.append(request)
            most.append(len(going))
            for _ in range(20):
                await asyncio.sleep(0)  # others may begin
            going.remove(request)
            return await self.inner.perform(request)

    going: list[Any] = []
    most: list[int] = []
    rules = [rule(name=name, match=(clause(lambda s, name=name: s["order"].startswith(name)),), guard=MANY) for name in ("a", "b", "c")]
    stage = Stage(*rules, wrap=wrapping(api=lambda inner: Service(inner, slots=4)))
    for name in ("a", "b", "c"):
        for n in range(5):
            stage.plant(f"{name}{n}", order=f"{name}/{n}", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(14)
    await stage.clock.move(90)
    while any(await asyncio.gather(*(stage.engines[0].run_cycle() for _ in rules))):
        pass
    assert (len(stage.world.calls), max(most)) == (15, 4)


@pytest.mark.law("4.2")
async def test_what_got_well_before_its_slice_is_not_called_for() -> None:
    class Service(Wrapped):
        async def perform(self, request: Any) -> Any:
            stage.set("N2", bad=False)  # somebody mends the other one meanwhile
            return await self.inner.perform(request)

    stage = Stage(rule(), wrap=wrapping(api=lambda inner: Service(inner, slots=1)))
    stage.plant("N1", "N2", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(30)
    assert (stage.calls("N1"), stage.calls("N2")) == (1, 0)
    assert stage.incident("N2").resolution is Resolution.SELF_HEALED


@pytest.mark.law("4.2")
async def test_without_tokens_a_slice_gives_way_and_uses_nothing_up() -> None:
    stage = Stage(rule(), wrap=wrapping(api=lambda inner: Wrapped(inner, rate=(1.0, 1))))
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.store.push("api", stage.now + minutes(20))
    await stage.wait(16)
    assert (stage.calls(), stage.incident().why, stage.incident().steps) == (0, Why.RATE, {})
    await stage.wait(20)
    assert stage.incident().resolution is Resolution.HEALED


@pytest.mark.law("4.3")
async def test_not_connected_uses_no_attempt() -> None:
    stage = Stage(rule())
    stage.plant("N1", calls={"api.upload": "done"})
    stage.world.switch("api", up=False)
    await stage.begin(1)
    await stage.wait(60)
    tried = stage.attempts()
    assert len(tried) > 3
    assert {(one.outcome.result, one.outcome.reason) for one in tried} == {(Result.LATER, NOT_CONNECTED)}
    assert (stage.incident().steps["upload"].tries, stage.incident().total, stage.incident().phase) == (0, 0, Phase.OPEN)
    stage.world.switch("api", up=True)
    await stage.wait(60)
    assert (stage.incident().resolution, stage.incident().total) == (Resolution.HEALED, 1)


@pytest.mark.law("4.3")
async def test_not_sent_for_our_own_reason_uses_no_attempt() -> None:
    class Store(Wrapped):
        async def admit(self, intents: Any, tenure: Any, room: Any) -> Any:
            refused = await self.inner.admit(intents, tenure, room)
            if short.pop() if short else False:
                await stage.clock.move(26)  # the lease is nearly over when the gate has opened
            return refused

    short = [True]
    stage = Stage(rule())
    stage.engines = [stage.engine("one", Store(stage.store))]
    stage.plant("N1", calls={"api.upload": "done"})
    await stage.begin(1)
    await stage.wait(15)
    assert stage.attempts()[0].outcome == Outcome(Result.NOT_SENT, Why.LEASE_SHORT)
    await stage.wait(30)
    assert [one.outcome.result for one in stage.attempts()] == [Result.NOT_SENT, Result.DONE]
    assert (stage.incident().resolution, stage.incident().total, stage.calls()) == (Resolution.HEALED, 1, 1)


class Killed(BaseException):
    """The process is no more."""


async def crashed(checked: Any, times: int, words: Any = "no_effect") -> Stage:
    """A stage on which the first sends die before their outcome is recorded."""

    class Store(Wrapped):
        async def conclude(self, conclusions: Any, tenure: Any) -> Any:
            if len(deaths) < times:
                deaths.append(tenure)
                raise Killed
            return await self.inner.conclude(conclusions, tenure)

    deaths: list[Any] = []
    stage = Stage(checked)
    stage.engines = [stage.engine("one", Store(stage.store))]
    stage.plant("N1", calls={"api.upload": words})
    await stage.begin(1)
    end = stage.now + minutes(120)
    while stage.now < end:
        try:
            await stage.run(end - stage.now)
        except Killed:
            stage.engines = [stage.engine(f"again-{len(deaths)}", Store(stage.store))]
    return stage


@pytest.mark.law("4.4")
@pytest.mark.parametrize(("deaths", "calls"), [(0, 3), (1, 4), (2, 4), (3, 4)])
async def test_unknown_through_our_own_crash_gets_one_extra_try(deaths: int, calls: int) -> None:
    stage = await crashed(rule(ladder=(AGAIN,)), deaths)
    assert Counter(one.outcome.reason == CRASHED for one in stage.attempts())[True] == deaths
    assert (stage.calls(), stage.incident().phase) == (calls, Phase.ESCALATED)


@pytest.mark.law("4.4")
async def test_a_call_that_may_not_be_repeated_gets_none_even_then() -> None:
    stage = await crashed(rule(ladder=(replace(UPLOAD, delivery=Delivery.AT_MOST_ONCE),)), 1)
    assert (stage.calls(), stage.incident().phase) == (1, Phase.ESCALATED)


@pytest.mark.law("4.4")
async def test_an_effect_before_the_crash_is_seen_and_not_repeated() -> None:
    stage = await crashed(rule(ladder=(AGAIN,)), 1, "done")
    assert (stage.calls(), stage.incident().resolution) == (1, Resolution.HEALED)
