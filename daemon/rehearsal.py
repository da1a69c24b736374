"""The rehearsing composition root: engines under a hand clock, the simulated world, and the store in memory (or any other).

    act until nothing is due ─▶ move the clock to the next moment at which anything may happen ─▶ act …

Hours pass in milliseconds, and nothing is left to chance: rule tests, engine tests and replay run on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from daemon.clock import HandClock
from daemon.domain.rule import Contact, Rule
from daemon.domain.shape import Shape
from daemon.engine.change import RuleVersion
from daemon.engine.cycle import Engine, EngineSettings
from daemon.engine.deliver import Notifier
from daemon.engine.events import Event
from daemon.engine.ports import Channel, Connector, Store
from daemon.sandbox.inside import InsideConnector, by_hand
from daemon.sandbox.shops import shapes, shop_world
from daemon.sandbox.world import Change, World
from daemon.store.memory import MemoryStore

MONDAY_NOON = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""When rehearsals begin: a Monday at 12:00 in Moscow."""


def version_of(rule: Rule) -> RuleVersion:
    """What the store is told of a rule."""
    return RuleVersion(
        rule.name, rule.digest, rule.every, rule.guard.max_calls_per_hour, rule.severity.rank, rule.owner, rule.mode.value
    )


class Rehearsal:
    """Some replicas of the daemon in one simulated world.

    ``wrap`` is put around each connector, so that a test can interrupt at a port (rule of the house 6); ``engine`` makes one
    more replica, with ports of its own if they are given. ``factor``: how much faster than the world's time the rules' runs;
    ``run`` is for rehearsals in which they are one.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        contacts: Mapping[str, Contact],
        *,
        world: Callable[[datetime, Callable[[Change], None]], World] = shop_world,
        replicas: int = 1,
        systems: Mapping[str, Shape] | None = None,
        wrap: Callable[[Connector], Connector] = lambda connector: connector,
        alerts_via: str | None = "sentry",
        lease: timedelta = timedelta(seconds=30),
        page: int = 1000,
        factor: float = 1.0,
    ) -> None:
        self.clock = HandClock()
        self.start = MONDAY_NOON
        self.world = world(self.start, lambda change: None)
        self.store = MemoryStore(self.clock, self.start, factor)
        self.events: list[Event] = []
        self.rules = {rule.name: rule for rule in rules}
        self.contacts = contacts
        self._now = by_hand(self.start, self.clock)
        inside = {name: InsideConnector(name, shape, self.world, self._now) for name, shape in (systems or shapes()).items()}
        self.connectors: dict[str, Connector] = {name: wrap(connector) for name, connector in inside.items()}
        self.channels: dict[str, Channel] = {name: one for name, one in inside.items() if one.shape.channel}
        self._settings = EngineSettings("", lease=lease, page=page, alerts_via=alerts_via)
        self.engines = [self.engine(f"replica-{number}") for number in range(1, replicas + 1)]
        self.notifier = Notifier(self.store, self.channels, contacts, self.clock, self.events.append, holder="replica-1")

    @property
    def now(self) -> datetime:
        """The world's time, database time and rule time in one."""
        return self._now()

    def engine(self, holder: str, store: Store | None = None, connectors: Mapping[str, Connector] | None = None) -> Engine:
        """One more replica, as after a restart."""
        return Engine(
            store or self.store, self.store, connectors or self.connectors, self.rules, self.contacts, self.clock, self.events.append,
            replace(self._settings, holder=holder),
        )  # fmt: skip

    async def begin(self, revision: int | None = None) -> None:
        """Activate the rules, as a replica does at its start."""
        gone = await self.store.activate([version_of(rule) for rule in self.rules.values()], revision)
        await self.engines[0].park_removed(gone)

    async def settle(self) -> None:
        """Run everything that is due now."""
        self.world.advance(self.now)
        busy = True
        while busy:
            busy = False
            for engine in self.engines:
                busy = await engine.run_cycle() or busy
            while await self.notifier.run_once():
                busy = True

    async def run(self, length: timedelta) -> None:
        """Let that much time pass, stopping at every moment at which something may happen."""
        until = self.now + length
        await self.settle()
        while self.now < until:
            await self.clock.move(max((min(await self._next(), until) - self.now).total_seconds(), 0.001))
            await self.settle()

    async def _next(self) -> datetime:
        """The earliest moment ahead at which a rule is due, a message may go, or the world moves."""
        rows = await self.store.rules()
        dues = [due for row in rows if row.active for due in (row.next_scan_at, row.next_visit_at) if due]
        world = self.world.next_due()
        ahead = [due for due in (*dues, world) if due is not None and due > self.now]
        return min(*ahead, self.now + timedelta(minutes=1)) if ahead else self.now + timedelta(minutes=1)
