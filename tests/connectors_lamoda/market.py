"""The connector before a SellerCenter on loopback: the sandbox's own, or one that answers byte by byte as it is told."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from daemon.connectors.lamoda import LamodaConnector, LamodaSettings
from daemon.domain.value import Record
from daemon.kinds import Tools
from daemon.sandbox.shops import shop_world
from daemon.sandbox.wire import lamoda as wire
from daemon.sandbox.wire.listener import Listener
from daemon.sandbox.world import World as Sandworld
from daemon.settings import Secret, parse_duration
from tests.net.loopback import NOW, Server, World, Write, serving

DATA = Path(__file__).parents[1] / "data" / "lamoda"
KEY = "canary-key-of-sellercenter"


def recorded(name: str) -> str:
    """An answer as it was recorded or documented."""
    return (DATA / name).read_text(encoding="utf-8")


def settings(url: str, **changes: Any) -> LamodaSettings:
    given = {"url": url, "user": Secret(wire.USER), "api_key": Secret(KEY), "timezone": "Asia/Almaty", "currency": "KZT"}
    return LamodaSettings(**{**given, "timeout": "2s", **changes})


def tools(world: World, now: Callable[[], datetime] = lambda: NOW) -> Tools:
    return dataclasses.replace(world.tools, database_now=now)


@asynccontextmanager
async def told(*answers: Write, now: Callable[[], datetime] = lambda: NOW, **changes: Any) -> AsyncIterator[tuple[LamodaConnector, Server, World]]:
    """The connector, a server that answers so, and what was done."""
    world = World(KEY, wire.USER)
    async with serving(*answers) as server:
        connector = LamodaConnector("lamoda", settings(server.address, **changes), tools(world, now))
        try:
            yield connector, server, world
        finally:
            await connector.close()


class Market:
    """The sandbox's SellerCenter with a world of its own, whose time stands still."""

    def __init__(self) -> None:
        self.world: Sandworld = shop_world(NOW)
        self.wall = NOW

    async def see(self, look: Callable[[Sandworld], Any]) -> Any:
        await asyncio.sleep(0)
        return look(self.world)

    def orders(self, *rows: Mapping[str, Any]) -> None:
        self.world.change({"lamoda.orders": rows})

    def feeds(self, *rows: Mapping[str, Any]) -> None:
        self.world.change({"lamoda.feed_status": rows})
        self.world.change({"lamoda.feeds": tuple({name: each for name, each in row.items() if name != "errors"} for row in rows)})


@asynccontextmanager
async def simulated(**changes: Any) -> AsyncIterator[tuple[LamodaConnector, Market]]:
    """The connector and the sandbox's SellerCenter, over a real socket."""
    market, world = Market(), World(KEY)
    listener = Listener(lambda: wire.application(market.see, KEY, lambda: market.wall))
    await listener.open()
    connector = LamodaConnector("lamoda", settings(listener.url, **changes), tools(world))
    try:
        yield connector, market
    finally:
        await connector.close()
        await listener.shut()


async def listed(connector: LamodaConnector, records: str, within: str = "30d", size: int = 1000) -> list[Record]:
    """All records of a listing."""
    where = {"within": parse_duration(within)}
    found = connector.list(records, where, None, None, NOW, size, False)
    return [record async for page in found for record in page.records]
