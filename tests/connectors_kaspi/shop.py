"""The connector before Kaspi on loopback: the sandbox's own, or one that answers byte by byte as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from daemon.connectors.kaspi import KaspiConnector, KaspiSettings
from daemon.domain.value import Record
from daemon.sandbox.shops import shop_world
from daemon.sandbox.wire import kaspi as wire
from daemon.sandbox.wire.listener import Listener
from daemon.sandbox.world import World as Sandworld
from daemon.settings import Secret, parse_duration
from tests.net.loopback import NOW, Server, World, Write, serving

DATA = Path(__file__).parents[1] / "data" / "kaspi"
TOKEN = "canary-token-of-kaspi"


def recorded(name: str) -> Any:
    """An answer as it was documented."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def settings(url: str, **changes: Any) -> KaspiSettings:
    return KaspiSettings(**{"url": url, "token": Secret(TOKEN), "timeout": "2s", **changes})


@asynccontextmanager
async def told(*answers: Write, **changes: Any) -> AsyncIterator[tuple[KaspiConnector, Server, World]]:
    """The connector, a server that answers so, and what was done."""
    world = World(TOKEN)
    async with serving(*answers) as server:
        connector = KaspiConnector("kaspi", settings(server.address, **changes), world.tools)
        try:
            yield connector, server, world
        finally:
            await connector.close()


class Shop:
    """A world with orders at Kaspi; ``asked`` are the requests that came."""

    def __init__(self) -> None:
        self.world: Sandworld = shop_world(NOW)
        self.looks = 0
        self.meanwhile: Callable[[int], None] = lambda look: None

    async def see(self, look: Callable[[Sandworld], Any]) -> Any:
        await asyncio.sleep(0)
        self.looks += 1
        self.meanwhile(self.looks)
        return look(self.world)

    def orders(self, *rows: Mapping[str, Any]) -> None:
        self.world.change({"kaspi.orders": rows})


@asynccontextmanager
async def simulated(**changes: Any) -> AsyncIterator[tuple[KaspiConnector, Shop]]:
    """The connector and the sandbox's Kaspi, over a real socket."""
    shop, world = Shop(), World(TOKEN)
    listener = Listener(lambda: wire.application(shop.see, TOKEN))
    await listener.open()
    connector = KaspiConnector("kaspi", settings(wire.environment(listener.url, TOKEN)["KASPI_URL"], **changes), world.tools)
    try:
        yield connector, shop
    finally:
        await connector.close()
        await listener.shut()


async def listed(connector: KaspiConnector, within: str = "14d", size: int = 1000, **where: Any) -> list[Record]:
    """All records of a listing."""
    pages = connector.list("orders", {"within": parse_duration(within), **where}, None, None, NOW, size, False)
    return [record async for page in pages for record in page.records]
