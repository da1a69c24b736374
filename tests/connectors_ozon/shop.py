"""A shop on Ozon, opened against a scripted server or against the sandbox's."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from daemon.connectors.ozon import CarrierSettings, OzonConnector, OzonSettings
from daemon.sandbox.systems.ozon import SYSTEM
from daemon.sandbox.wire.listener import Listener, See
from daemon.sandbox.wire.ozon import application, environment
from daemon.sandbox.world import World as Simulated
from daemon.settings import Secret
from tests.net.loopback import NOW, Server, World, Write, answer, serving

DATA = Path(__file__).parents[1] / "data" / "ozon"
TOKEN = "t0ken-of-the-shop"
CARRIERS = {"cdek": CarrierSettings(delivery_method_ids=["1020000123456000"], provider_names=["CDEK", "СДЭК"])}
ERRORS: Mapping[str, Any] = json.loads((DATA / "composed_error_bodies.json").read_text("utf-8"))
NOT_FOUND = answer(404, ERRORS["posting_not_found_404"])


def load(name: str) -> Any:
    return json.loads((DATA / name).read_text("utf-8"))


def settings(url: str, **changes: Any) -> OzonSettings:
    keys = environment(url, TOKEN)
    own = {"client_id": Secret(keys["OZON_CLIENT_ID"]), "api_key": Secret(keys["OZON_API_KEY"])}
    return OzonSettings(**({"url": url, "carriers": CARRIERS} | own | changes))


@asynccontextmanager
async def shop(*answers: Write, **changes: Any) -> AsyncIterator[tuple[OzonConnector, Server, World]]:
    """The connector, a server that answers as it is told, and what the connector did with its tools."""
    world = World()
    async with serving(*answers) as server:
        connector = OzonConnector("ozon", settings(changes.pop("url", server.address), **changes), world.tools)
        try:
            yield connector, server, world
        finally:
            await connector.close()


Planted = Mapping[str, list[Mapping[str, Any]]]
Wrap = Callable[[web.Application], web.Application]


@asynccontextmanager
async def simulated(rows: Planted, wrap: Wrap = lambda app: app, **changes: Any) -> AsyncIterator[tuple[OzonConnector, Simulated]]:
    """The connector before the sandbox's Ozon, in which these rows are planted; ``wrap`` may spoil what it says."""
    world = Simulated(SYSTEM.stocks, SYSTEM.deeds, NOW)
    world.change({kind: tuple(some) for kind, some in rows.items()})
    listener = Listener(lambda: wrap(application(_see(world), TOKEN)))
    await listener.open()
    connector = OzonConnector("ozon", settings(listener.url, **changes), World().tools)
    try:
        yield connector, world
    finally:
        await connector.close()
        await listener.shut()


def _see(world: Simulated) -> See:
    async def see(look: Callable[[Simulated], Any]) -> Any:
        return look(world)

    return see


async def listed(
    connector: OzonConnector, records: str, size: int = 100, cursor: str | None = None, **where: Any
) -> list[Mapping[str, Any]]:
    """Everything that a listing gives."""
    return [record async for page in connector.list(records, where, None, cursor, NOW, size, False) for record in page.records]


def page(*postings: Mapping[str, Any], cursor: str = "") -> Write:
    return answer(200, {"postings": list(postings), "has_next": bool(cursor), "cursor": cursor})


def item(number: str = "0001-1", **changes: Any) -> dict[str, Any]:
    """A posting as v4 has it."""
    template: dict[str, Any] = load("composed_v4_list_rfbs_cdek_200.json")["postings"][1]
    return template | {"posting_number": number, "order_number": number.rpartition("-")[0]} | changes


DAY = timedelta(days=1)
