"""The crash walk: kill -9 at every store statement and at five points of every call, then go on; alone and with two replicas.

The ports are wrapped (rule of the house 6). Each store method is one transaction, so a process can die before it (nothing
written) or after it (written, but nobody was told); a call can be admitted, about to be sent, sent, answered or recorded.
The points are counted in an undisturbed run; every one is visited, and the two numbers are printed and must be equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from datetime import datetime
from typing import Any

import pytest
from builders import Expression, clause, contacts, field, minutes, rule

from daemon.domain.incident import Phase, Resolution
from daemon.domain.rule import Delivery, Rule, Step
from daemon.domain.shape import Call, Field, FieldType, Records, Shape
from daemon.domain.value import Unknown
from daemon.engine.ports import Connector
from daemon.rehearsal import Rehearsal
from daemon.sandbox.scenario import parse_all
from daemon.sandbox.world import Change, Stock, World

ORDERS = Records(
    fields={"number": Field(FieldType.STRING), "state": Field(FieldType.STRING)}, key="number", by=frozenset({"number"}),
)  # fmt: skip
SYSTEMS = {
    "shop": Shape(records={"orders": ORDERS}),
    "api": Shape(calls={"upload": Call(frozenset({"id"}), idempotent=True), "pay": Call(frozenset({"id"})), "comment": Call(frozenset({"id"}))}),
    "chat": Shape(channel=True),
    "sentry": Shape(channel=True),
}
SCENARIOS = parse_all(
    [
        {"name": "heals", "world": {"shop.orders": [{"number": "HEALS"}]}, "calls": {"api.upload": ["500", "done"]}},
        {"name": "pays", "world": {"shop.orders": [{"number": "PAYS", "state": "unpaid"}]}, "calls": {"api.pay": "done"}},
        {"name": "never", "world": {"shop.orders": [{"number": "NEVER"}]}, "calls": {"api.upload": "refused"}},
        {
            "name": "itself", "world": {"shop.orders": [{"number": "ITSELF"}]}, "calls": {"api.upload": "no_effect"},
            "then": [{"after": "called", "at": "2m", "remove": {"shop.orders": "ITSELF"}}],
        },
    ]
)  # fmt: skip


def deed(world: World, args: Mapping[str, Any]) -> Any:
    return {"shop.orders": ({"number": args["id"], "state": "well"},)}


def shop(start: datetime, on_change: Callable[[Change], None]) -> World:
    return World({"shop.orders": Stock(ORDERS, {"state": "stuck"})}, {"api.upload": deed, "api.pay": deed, "api.comment": lambda w, a: {}}, start, on_change)


def state_is(*states: str) -> Any:
    def judged(scope: Any) -> Any:
        return scope["state"] if isinstance(scope["state"], Unknown) else scope["state"] in states

    return clause(judged, text=f"state in {states}")


def rules() -> list[Rule]:
    comment = Step(id="comment", connector="api", call="comment", args={"id": field("number")}, delivery=Delivery.AT_MOST_ONCE)
    common: dict[str, Any] = {"grace": minutes(1), "every": minutes(20), "match": (clause(lambda s: s["state"] != "gone"),), "object": Expression(lambda s: f"order/{s['number']}")}
    upload = Step(id="upload", connector="api", call="upload", args={"id": field("number")}, delivery=Delivery.AT_LEAST_ONCE)
    pay = Step(id="pay", connector="api", call="pay", args={"id": field("number")}, delivery=Delivery.AT_MOST_ONCE)
    return [
        rule(name="stuck", broken=(state_is("stuck"),), ladder=(upload,), on_resolved=(comment,), **common),
        rule(name="unpaid", broken=(state_is("unpaid"),), ladder=(pay,), on_resolved=(comment,), **common),
    ]


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Reaper:
    """Counts the points of one process and ends it at the chosen one; a dead process does nothing more."""

    at: int | None = None
    count: int = 0
    dead: bool = False
    met: Counter[str] = attribute(default_factory=Counter)

    def point(self, name: str) -> None:
        if self.dead:
            raise Killed
        self.met[name] += 1
        self.count += 1
        if self.count == self.at:
            self.dead = True
            raise Killed


class Store:
    """Every statement of the store, before and after."""

    NAMES: Mapping[str, tuple[str, str]] = {"admit": ("before admit", "admitted"), "conclude": ("answered", "recorded")}

    def __init__(self, inner: Any, reaper: Reaper) -> None:
        self.inner, self.reaper = inner, reaper

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        before, after = self.NAMES.get(name, (f"before {name}", f"after {name}"))

        async def interrupted(*args: Any, **more: Any) -> Any:
            self.reaper.point(before)
            answer = await method(*args, **more)
            self.reaper.point(after)
            return answer

        return interrupted


class Wire:
    """A connector whose calls may find their sender dead before the first byte, or after the last one."""

    def __init__(self, inner: Connector, reaper: Reaper) -> None:
        self.inner, self.reaper = inner, reaper

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def perform(self, request: Any) -> Any:
        self.reaper.point("before the first byte")
        outcome = await self.inner.perform(request)
        self.reaper.point("sent")
        return outcome


async def lived(at: int | None, second: bool) -> tuple[Rehearsal, Reaper]:
    """One run of all scenarios to their ends, the first process killed at that point and started anew."""
    stage = Rehearsal(rules(), contacts("team"), world=shop, systems=SYSTEMS)
    reaper = Reaper(at)
    stage.engines = [stage.engine("first", Store(stage.store, reaper), {n: Wire(c, reaper) for n, c in stage.connectors.items()})]
    if second:
        stage.engines.append(stage.engine("second"))
    await stage.store.activate([], 0)
    for scenario in SCENARIOS:
        stage.world.plant(scenario, stage.now)
    end = stage.now + minutes(50)
    await begun(stage)
    while stage.now < end:
        try:
            await stage.run(end - stage.now)
        except Killed:
            stage.engines = [*stage.engines[1:], stage.engine("third")]
    return stage, reaper


async def begun(stage: Rehearsal) -> None:
    from daemon.rehearsal import version_of

    await stage.store.activate([version_of(one) for one in stage.rules.values()], 1)


def check(stage: Rehearsal, killed: bool) -> None:
    incidents = {one.key: one for one in stage.store.tables.incidents.values()}
    assert set(incidents) == {"HEALS", "PAYS", "NEVER", "ITSELF"}, "no incident is lost"
    row = stage.world.rows["shop.orders"]
    ends = {key: one.resolution or one.phase for key, one in incidents.items()}
    assert ends["HEALS"] is Resolution.HEALED
    assert row["HEALS"]["state"] == "well"
    assert ends["NEVER"] is Phase.ESCALATED
    assert ends["ITSELF"] is Resolution.GONE
    paid = stage.world.called("PAYS", "api.pay")
    assert len(paid) <= 1, "what must not be repeated is not repeated"
    assert ends["PAYS"] is (Resolution.HEALED if paid else Phase.ESCALATED), "a resolution tells the truth"
    for key in incidents:
        assert len(stage.world.called(key, "api.comment")) <= 1, "a follow-up that must not be repeated is not repeated"
    assert len(stage.world.effected("HEALS")) == 1
    assert len(stage.world.called("HEALS", "api.upload")) <= 2 + killed
    told = [message for message in stage.world.messages if "NEVER" in message.text and message.via == "chat"]
    assert told, "a person is told"


@pytest.mark.parametrize("second", [False, True], ids=["alone", "two replicas"])
async def test_crash_walk(second: bool) -> None:
    stage, quiet = await lived(None, second)
    check(stage, killed=False)
    assert not (missing := {"admitted", "before the first byte", "sent", "answered", "recorded"} - set(quiet.met)), missing
    visited = 0
    for at in range(1, quiet.count + 1):
        stage, reaper = await lived(at, second)
        assert reaper.dead, f"point {at} was not met"
        try:
            check(stage, killed=True)
        except AssertionError as error:
            raise AssertionError(f"killed at point {at} ({list(reaper.met)[-1]}): {error}") from error
        visited += 1
    print(f"crash walk, {'two replicas' if second else 'alone'}: {quiet.count} points counted, {visited} visited")
    assert visited == quiet.count
