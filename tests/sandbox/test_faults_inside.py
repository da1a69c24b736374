"""Every fault comes to the end that its scenario gives: the engine, the memory store and the world under a hand clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import Always, Expression, field, minutes, rule

from daemon.clock import HandClock
from daemon.domain.notice import DeliveryState
from daemon.domain.rule import ChannelRef, Clause, Contact, Delivery, Level, Rule, Step
from daemon.domain.value import Scope, Unknown, Value
from daemon.engine.change import RuleVersion
from daemon.engine.cycle import Engine, EngineSettings
from daemon.sandbox.faults import faults
from daemon.sandbox.inside import InsideConnector, by_hand
from daemon.sandbox.judge import judge, seen
from daemon.sandbox.scenario import Scenario
from daemon.sandbox.shops import NOT_SENT, SHOPS, Shop, shapes, shop_world
from daemon.store.memory import MemoryStore

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
CONTACTS = {"integration-team": Contact("integration-team", "", (ChannelRef("telegram", {}),), Always())}


def known(name: str, judged: Callable[[Any], bool]) -> Clause:
    def value(scope: Scope) -> Value:
        return scope[name] if isinstance(scope[name], Unknown) else judged(scope[name])

    return Clause(Expression(value, name))


def order_not_sent(shop: Shop) -> Rule:
    """The rule that is shipped, as a value."""
    step = Step(
        id=shop.method, connector=shop.service, call=shop.method, delivery=Delivery.AT_LEAST_ONCE,
        args={"id": field("posting_number"), "number_type": Expression(lambda scope: "posting_number")},
    )  # fmt: skip
    return rule(
        name=f"{shop.name}-order-not-sent", digest="d", owner="integration-team", connector=shop.connector, records="orders",
        match=(known("status", lambda status: status != "cancelled"),),
        broken=(known("bitrix_order_id", lambda deal: deal in NOT_SENT),),
        key=field("posting_number"), object=Expression(lambda scope: f"{shop.name}/order/{scope['market_order_id']}"),
        since=field("created_at"), ladder=(step,), escalate=(Level(id="team", to="integration-team"),),
    )  # fmt: skip


class Stage:
    """Everything that takes part, under one clock."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.store = MemoryStore(self.clock, START)
        self.world = shop_world(START)
        now = by_hand(START, self.clock)
        self.connectors = {name: InsideConnector(name, shape, self.world, now) for name, shape in shapes().items()}
        self.rules = {f"{shop.name}-order-not-sent": order_not_sent(shop) for shop in SHOPS}
        self.engine = Engine(
            self.store, self.store, self.connectors, self.rules, CONTACTS, self.clock, lambda event: None, EngineSettings("me")
        )

    async def activate(self) -> None:
        await self.store.activate(
            [RuleVersion(one.name, one.digest, one.every, 200, 1, one.owner, one.mode.value) for one in self.rules.values()], 1
        )

    async def play(self, lasting: timedelta, step: timedelta = timedelta(seconds=30)) -> None:
        """Let everybody do what is due, and time pass, until so much of it has."""
        end = self.clock.monotonic() + lasting.total_seconds()
        while self.clock.monotonic() < end:
            while await self.engine.run_cycle():
                pass
            await self.deliver()
            await self.clock.move(step.total_seconds())

    async def deliver(self) -> None:
        for dispatch in await self.store.lease("me", 100, minutes(1)):
            outcome = await self.connectors[dispatch.via].deliver(dispatch)
            assert await self.store.settle(replace(dispatch, state=DeliveryState.DONE), outcome, (), await self.store.now())


async def differences(scenario: Scenario, lasting: timedelta) -> tuple[str, ...]:
    stage = Stage()
    await stage.activate()
    subjects = stage.world.plant(scenario, START)
    await stage.play(lasting)
    gauges = await stage.store.gauges()
    held = frozenset(one.row.name for one in gauges.rules if one.row.state.held)
    incidents = {one.key: one for one in stage.store.tables.incidents.values()}
    pages = {scenario.rule: len(await stage.store.notices())}
    return judge(scenario, subjects, seen(stage.world, incidents, held, pages)).differs


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
async def test_a_fault_ends_as_its_scenario_says(fault: Scenario) -> None:
    assert not await differences(fault.model_copy(update={"count": min(fault.count, 150)}), minutes(75))
