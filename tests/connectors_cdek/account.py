"""An account of CDEK, opened against a scripted server or against the sandbox's."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from daemon.connectors.cdek import CdekConnector, CdekSettings
from daemon.sandbox.systems.cdek import SYSTEM
from daemon.sandbox.wire.cdek import LASTS, application, environment
from daemon.sandbox.wire.listener import Listener
from daemon.sandbox.world import World as Simulated
from daemon.settings import Secret
from tests.net.loopback import NOW, Server, World, Write, answer, serving

DATA = Path(__file__).parents[1] / "data" / "cdek"
BODIES: Mapping[str, Any] = json.loads((DATA / "composed_bodies.json").read_text("utf-8"))
NUMBER = "OZ-0000000000-0000-1"
KEYS = environment("", "t0ken-of-the-account")
TOKEN = answer(200, BODIES["token_200"]["body"] | {"access_token": "a.b.c"})


def said(name: str) -> Write:
    """A composed answer, as its status and body have it."""
    return answer(BODIES[name]["http_status"], BODIES[name]["body"])


def settings(url: str, **changes: Any) -> CdekSettings:
    own = {"client_id": Secret(KEYS["CDEK_ID"]), "client_secret": Secret(KEYS["CDEK_SECRET"])}
    return CdekSettings(**({"url": url} | own | changes))


@asynccontextmanager
async def account(*answers: Write, **changes: Any) -> AsyncIterator[tuple[CdekConnector, Server, World]]:
    """The connector, a server that answers as it is told, and what the connector did with its tools."""
    world = World(*KEYS.values())
    async with serving(*answers) as server:
        connector = CdekConnector("cdek", settings(changes.pop("url", server.address), **changes), world.tools)
        try:
            yield connector, server, world
        finally:
            await connector.close()


@asynccontextmanager
async def simulated(
    *rows: Mapping[str, Any],
    wrap: Callable[[web.Application], web.Application] = lambda app: app,
    lasts: float = LASTS,
    **changes: Any,
) -> AsyncIterator[tuple[CdekConnector, Simulated]]:
    """The connector before the sandbox's CDEK, in which these orders are planted; ``wrap`` may spoil what it says."""
    world = Simulated(SYSTEM.stocks, SYSTEM.deeds, NOW)
    world.change({"cdek.orders": tuple(rows)})

    async def see(look: Callable[[Simulated], Any]) -> Any:
        return look(world)

    listener = Listener(lambda: wrap(application(see, "t0ken-of-the-account", lasts=lasts)))
    await listener.open()
    connector = CdekConnector("cdek", settings(listener.url, **changes), World().tools)
    try:
        yield connector, world
    finally:
        await connector.close()
        await listener.shut()
