"""A small shop for the laws: orders, the deals they name, a service that mends them, two ways to people; and its replicas.

Rules are values from `builders`: an order is broken while `bad`, ours while `ours`; `api.upload` makes it well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from builders import Always, contacts, minutes

from daemon.domain.attempt import Attempt
from daemon.domain.directive import Directive, DirectiveKind
from daemon.domain.incident import Incident
from daemon.domain.notice import Notice, NoticeKind
from daemon.domain.rule import ChannelRef, Contact, Rule
from daemon.domain.shape import Call, Field, FieldType, Incremental, Page, Records, Shape
from daemon.domain.standing import Pause
from daemon.engine.ports import Connector
from daemon.rehearsal import Rehearsal
from daemon.sandbox.scenario import parse
from daemon.sandbox.world import Change, Stock, World

MINUTE = timedelta(minutes=1)
TEXT, MAYBE = Field(FieldType.STRING), Field(FieldType.STRING, nullable=True)
ORDERS = Records(
    fields={
        "number": TEXT, "bad": Field(FieldType.BOOL), "ours": Field(FieldType.BOOL), "order": TEXT, "deal": MAYBE,
        "deadline": Field(FieldType.TIMESTAMP, nullable=True),
    },
    key="number", by=frozenset({"number", "order"}), population=True,
)  # fmt: skip
DEALS = Records(fields={"id": TEXT, "owner": MAYBE}, key="id", by=frozenset({"id"}))
EVERYONE = Records(fields=ORDERS.fields, key="number", by=frozenset({"number"}))
"""Orders of a source that cannot count what it has."""
ONE = Call(frozenset({"id"}), idempotent=True)
SYSTEMS: Mapping[str, Shape] = {
    "shop": Shape(records={"orders": ORDERS}),
    "feed": Shape(records={"orders": EVERYONE}),
    "crm": Shape(records={"deals": DEALS}),
    "api": Shape(calls={"upload": ONE, "second": ONE, "comment": Call(frozenset({"id"}))}),
    "chat": Shape(channel=True),
    "sentry": Shape(channel=True),
}
EXAMPLE = {"bad": True, "ours": True, "order": "order/{key}"}
TEAM = contacts("team", "boss")


def mended(world: World, args: Mapping[str, Any]) -> Any:
    """The service's deed: the order is well."""
    return {"shop.orders": ({"number": args["id"], "bad": False},)}


def small_shop(start: datetime, on_change: Callable[[Change], None]) -> World:
    """The world, with nothing in it yet."""
    stocks = {
        "shop.orders": Stock(ORDERS, EXAMPLE, lambda row, now: row["order"] != "unlisted"), "feed.orders": Stock(EVERYONE, EXAMPLE),
        "crm.deals": Stock(DEALS, {}),
    }  # fmt: skip
    return World(stocks, {"api.upload": mended, "api.second": mended, "api.comment": lambda world, args: {}}, start, on_change)


class Wrapped:
    """A port with some of its parts replaced: `Wrapped(inner, lag=…)`, or a subclass."""

    def __init__(self, inner: Any, **replaced: Any) -> None:
        self.inner = inner
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def wrapping(**by_name: Callable[[Connector], Any]) -> Callable[[Connector], Connector]:
    """What to put around which connector."""
    return lambda connector: by_name[connector.name](connector) if connector.name in by_name else connector


class Moving(Wrapped):
    """A source that can list what moved since: here an order moves at its `deadline`."""

    def __init__(self, inner: Any) -> None:
        orders = replace(inner.shape.records["orders"], incremental=Incremental("deadline", MINUTE, timedelta(hours=6)))
        super().__init__(inner, shape=Shape(records={"orders": orders}))

    async def list(self, records: str, where: Any, since: datetime | None, *rest: Any) -> AsyncIterator[Page]:
        async for page in self.inner.list(records, where, None, *rest):
            yield replace(page, records=tuple(row for row in page.records if since is None or row["deadline"] >= since))


class Stage(Rehearsal):
    """A rehearsal in the small shop. A rule that stays due at one moment for ever is a failure."""

    def __init__(self, *rules: Rule, people: Mapping[str, Contact] = TEAM, **more: Any) -> None:
        super().__init__(rules, people, world=small_shop, systems=SYSTEMS, alerts_via=more.pop("alerts_via", None), **more)
        self.clock.sleep = self._sleep  # type: ignore[method-assign]

    async def _sleep(self, seconds: float) -> None:
        """Whoever sleeps within a cycle moves the clock: nobody else would."""
        self.clock._now += max(seconds, 0.0)

    async def settle(self) -> None:
        self.world.advance(self.now)
        for _ in range(400):
            busy = [await engine.run_cycle() for engine in self.engines]
            while await self.notifier.run_once():
                busy.append(True)
            if not any(busy):
                return
        raise AssertionError("somebody is always due: time stands still and work does not end")

    async def wait(self, number: float) -> None:
        """Let so many minutes pass."""
        await self.run(minutes(number))

    def plant(self, *numbers: str, calls: Mapping[str, Any] | None = None, then: Any = (), records: str = "shop.orders", **row: Any) -> None:
        """Broken orders, the answers they get, and what happens to them."""
        for number in numbers:
            plain = {"name": number, "world": {records: [{"number": number, **row}]}, "calls": calls or {}, "then": then}
            self.world.plant(parse(plain), self.now)

    def set(self, number: str, **row: Any) -> None:
        """Somebody changes an order."""
        self.world.change({"shop.orders": ({"number": number, **row},)})

    def incident(self, number: str = "N1", rule: str = "stuck") -> Incident:
        """The newest incident of an order."""
        found = [one for one in self.store.tables.incidents.values() if one.key == number and one.rule == rule]
        return max(found, key=lambda one: one.opened)

    def incidents(self, number: str = "N1") -> list[Incident]:
        """All incidents of an order."""
        return [one for one in self.store.tables.incidents.values() if one.key == number]

    def attempts(self, number: str | None = None) -> list[Attempt]:
        """The ledger, oldest first."""
        ids = {one.id for one in self.store.tables.incidents.values() if number in (None, one.key)}
        return sorted((one for one in self.store.tables.attempts.values() if one.incident in ids), key=lambda one: (one.begun, one.ends_by))

    def notices(self, *kinds: NoticeKind) -> list[Notice]:
        """What was written for people, of these kinds or of any."""
        return [one for one in self.store.tables.notices.values() if not kinds or one.kind in kinds]

    def kinds(self) -> list[str]:
        """The kinds of what was written for people, in order."""
        return [one.kind.value for one in self.notices()]

    def calls(self, number: str = "N1", call: str = "api.upload") -> int:
        """How many requests about an order the service got."""
        return len(self.world.called(number, call))

    async def say(self, kind: DirectiveKind, number: str = "N1", until: datetime | None = None) -> None:
        """A person's word."""
        incident = self.incident(number)
        id = f"w{len(self.store.tables.directives)}"
        await self.store.direct(Directive(id, kind, incident.rule, incident.id, "ann", "because", await self.store.now(), until))

    async def pause(self, until: datetime | None = None, **scope: str) -> None:
        """A person pauses acts."""
        await self.store.pause(Pause(f"p{len(self.store.tables.pauses)}", "ann", "release", await self.store.now(), until, **scope))


def called(stage: Stage) -> list[tuple[str, str]]:
    """Every request that reached a service, in order: which call about which order."""
    return [(one.call.partition(".")[2], one.object) for one in stage.world.calls if not one.call.endswith(".deliver")]


def person(name: str, *via: str, **more: Any) -> Contact:
    """A contact told by these channels."""
    return Contact(name, name, tuple(ChannelRef(one, {"room": name}) for one in via), Always(), **more)
