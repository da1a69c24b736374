"""The whole world on the wire: databases behind gates, services, receivers, control page, opened and shut together."""

from __future__ import annotations

import asyncio
import importlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from aiohttp import web

from daemon.engine.ports import Clock
from daemon.sandbox.scenario import Scenario
from daemon.sandbox.shops import LOGISTIC, SHOPS, WINDOW, Shop, shop_world
from daemon.sandbox.systems import bitrix24, systems
from daemon.sandbox.systems.bitrix24 import DEALS
from daemon.sandbox.tables import Gate, Tables, gates
from daemon.sandbox.wire import control, sentry, service, telegram
from daemon.sandbox.wire.listener import Listener
from daemon.sandbox.world import Change, Changed, Message, Said, Spoken, Subject, Switched, World

T = TypeVar("T")
HEALTHY: Final = 25_000
"""Orders per shop with which all is well."""
_TICK: Final = 0.05  # seconds between two looks at what is due in the world
_PROJECT: Final = "1"


class Sandbox:
    """The world, and the systems through which others see it. ``now`` gives rule time.

    ``contacts`` says whose chat is whose, so that what is told is known by the contact's name. Every act goes through
    ``live``: one at a time, and carried to the databases before anybody gets an answer.
    """

    def __init__(self, tables: Tables, ways: Mapping[str, Gate], now: Callable[[], datetime], contacts: Mapping[str, str]):
        self._changes: list[Change] = []
        self._lock = asyncio.Lock()
        self._tables, self._now, self._contacts = tables, now, contacts
        self._token = secrets.token_hex(16)
        self.world = shop_world(now(), self._changes.append)
        self.world.contacts = contacts
        self._gates = ways
        self._wires = {name: wire for name in systems() if (wire := _wire(name)) is not None}
        self._services = {shop.service: Listener(partial(self._service, shop)) for shop in SHOPS}
        self._others = {name: Listener(partial(wire.application, self.see, self._token)) for name, wire in self._wires.items()}
        self._telegram = Listener(partial(telegram.application, f"1:{self._token}", self._chat))
        self._sentry = Listener(partial(sentry.application, _PROJECT, self._token, self._event))
        self._control = Listener(partial(control.application, self.world, self.see))

    @property
    def systems(self) -> Mapping[str, Gate | Listener]:
        """Every system that can go up and down, by its connector's name."""
        return {**self._gates, **self._services, **self._others, "telegram": self._telegram, "sentry": self._sentry}

    @property
    def control(self) -> str:
        """The address of the control page."""
        return self._control.url

    @property
    def environment(self) -> Mapping[str, str]:
        """Every address and secret under the name by which ``config.yaml`` asks for it."""
        names: dict[str, str] = {}
        for shop in SHOPS:
            names[f"{shop.name}_DB_URL".upper()] = self._gates[shop.connector].url
            names[f"{shop.name}_INTEGRATION_URL".upper()] = self._services[shop.service].url
            names[f"{shop.name}_INTEGRATION_TOKEN".upper()] = self._token
        for name, wire in self._wires.items():
            names |= wire.environment(self._others[name].url, self._token)
        return names | {
            f"{LOGISTIC}_V2_URL".upper(): self._gates[LOGISTIC].url,
            "DRILL_URL": self._control.url,
            "TELEGRAM_URL": self._telegram.url,
            "TELEGRAM_TOKEN": f"1:{self._token}",
            "SENTRY_DSN": self._sentry.url.replace("://", f"://{self._token}@") + f"/{_PROJECT}",
        }

    async def open(self) -> None:
        """Let others in."""
        for system in (*self.systems.values(), self._control):
            await system.open()

    async def shut(self) -> None:
        """Let nobody in any more."""
        for system in (*self.systems.values(), self._control):
            await system.shut()

    async def run(self, clock: Clock) -> None:
        """Let the world's time pass, for ever."""
        while True:
            await self.live(lambda: None)
            await clock.sleep(_TICK)

    async def plant(self, *scenarios: Scenario) -> Sequence[Subject]:
        """Let scenarios begin now; each shop sees its share of them at once."""
        return await self.live(lambda: [one for each in scenarios for one in self.world.plant(each, self._now())])

    async def see(self, look: Callable[[World], T]) -> T:
        """Look at the world, or act in it, as ``live`` does."""
        return await self.live(lambda: look(self.world))

    async def live(self, act: Callable[[], T]) -> T:
        """Do something in the world, now, and carry what has changed to where others see it. Cannot be cut in two."""
        return await asyncio.shield(self._live(act))

    async def _live(self, act: Callable[[], T]) -> T:
        async with self._lock:
            self.world.advance(self._now())
            result = act()
            changes, self._changes[:] = list(self._changes), []
            rows = [change for change in changes if isinstance(change, Changed) and self._tables.holds(change.records)]
            await self._tables.write(sorted(rows, key=lambda change: change.records))
            for switch in (change for change in changes if isinstance(change, Switched)):
                system = self.systems[switch.connector]
                await (system.open() if switch.up else system.shut())
            return result

    def _service(self, shop: Shop) -> web.Application:
        """A shop's service, with what only this shop's can do."""
        app = service.application(shop, self._token, self._perform)
        extend = getattr(self._wires.get(shop.name), "extend", None)
        if extend is not None:
            extend(app, self.see, self._token)
        return app

    async def _perform(self, call: str, args: Mapping[str, Any], idempotency_key: str) -> Said:
        return await self.live(lambda: self.world.perform(call, args, idempotency_key, self._now()))

    async def _chat(self, chat: str, text: str, body: Mapping[str, Any]) -> Said:
        return await self.live(lambda: self._told(Message("telegram", self._contacts.get(chat, chat), text, self._now(), body)))

    async def _event(self, event: Mapping[str, Any]) -> Said:
        return await self.live(lambda: self._told(Message("sentry", "", sentry.text(event), self._now(), event)))

    def _told(self, message: Message) -> Said:
        said = self.world.perform(f"{message.via}.deliver", {}, "", message.at)
        if isinstance(said, Spoken) and said.status == 200:
            self.world.tell(message)
        return said


def _wire(name: str) -> ModuleType | None:
    """How a system looks on the wire; ``None``: not at all, it is only seen inside."""
    path = f"daemon.sandbox.wire.{name}"
    wire = importlib.import_module(path) if find_spec(path) else None
    return wire if hasattr(wire, "application") else None


@asynccontextmanager
async def open_sandbox(
    owners: Mapping[str, str],
    folder: Path,
    now: Callable[[], datetime],
    *,
    healthy: int = HEALTHY,
    contacts: Mapping[str, str] | None = None,
) -> AsyncIterator[Sandbox]:
    """Fill the empty databases and open everything; shut and let go of it at the end.

    ``owners``: the addresses of the databases for their owner, by whose they are (``DATABASES``); ``folder`` gets the
    gates' sockets and must have a short path.
    """
    async with AsyncExitStack() as stack:
        tables = Tables(owners)
        stack.push_async_callback(tables.close)
        await tables.make(now(), healthy)
        sandbox = Sandbox(tables, gates(folder, owners), now, contacts or {})
        for shop in SHOPS[:-1]:  # no rule asks for the deals of storms, and none for those of orders that no scan reads
            scanned = min(healthy, WINDOW // shop.apart + 1)
            sandbox.world.rows[DEALS].update(bitrix24.healthy(shop.name, shop.deals_from, scanned, now(), shop.apart))
        stack.push_async_callback(sandbox.shut)
        await sandbox.open()
        yield sandbox
